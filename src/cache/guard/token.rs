//! Parts a text into words, numbers, units and identifiers.
//!
//! Does not compare anything.
//!
//! Invariants: words are lower case, but for single letters such as `A`, and hold no apostrophes;
//! contractions are written out.

use std::collections::BTreeSet;

use super::{units, words};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word {
        text: String,
        is_capital: bool,
        opens_sentence: bool,
    },
    /// In one spelling: `1,000` and `1000.0` are `1000`.
    Number(String),
    /// The one name of a unit: `km` and `kilometres` are `km`.
    Unit(&'static str),
    /// Letters and digits mixed, addresses, paths, code.
    Identifier(String),
}

impl Token {
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word { text, .. } => Some(text),
            Self::Unit(name) => Some(name),
            Self::Number(_) | Self::Identifier(_) => None,
        }
    }

    pub(super) fn number(&self) -> Option<&str> {
        match self {
            Self::Number(text) => Some(text),
            Self::Word { .. } | Self::Unit(_) | Self::Identifier(_) => None,
        }
    }

    pub(super) fn unit(&self) -> Option<&'static str> {
        match self {
            Self::Unit(name) => Some(name),
            Self::Word { .. } | Self::Number(_) | Self::Identifier(_) => None,
        }
    }

    pub(super) fn identifier(&self) -> Option<&str> {
        match self {
            Self::Identifier(text) => Some(text),
            Self::Word { .. } | Self::Number(_) | Self::Unit(_) => None,
        }
    }
}

pub(super) fn tokens(text: &str) -> Vec<Token> {
    let text = text.replace(['\u{2019}', '\u{2018}'], "'");
    let mut tokens = Vec::new();
    let mut opens_sentence = true;
    for chunk in text.split_whitespace() {
        let bare = chunk
            .trim_start_matches(|c: char| !c.is_alphanumeric() && !units::is_unit_sign(c))
            .trim_end_matches(|c: char| !c.is_alphanumeric() && !units::is_unit_sign(c) && !"+#".contains(c));
        if !bare.is_empty() {
            read_chunk(bare, opens_sentence, &mut tokens);
            opens_sentence = false;
        }
        if chunk.ends_with(['.', '!', '?', ':', ';', '"', '(']) {
            opens_sentence = true;
        }
    }
    tokens
}

fn read_chunk(chunk: &str, opens_sentence: bool, tokens: &mut Vec<Token>) {
    if let Some((front, back)) = glued_sign(chunk) {
        read_chunk(front, opens_sentence, tokens);
        read_chunk(back, false, tokens);
        return;
    }
    if chunk.contains(['@', '_']) || chunk.ends_with(['+', '#']) || chunk.contains("://") || is_path(chunk) {
        tokens.push(Token::Identifier(chunk.to_lowercase()));
        return;
    }
    if chunk.contains(|c: char| c.is_ascii_digit()) {
        read_digits(chunk, tokens);
        return;
    }
    for part in chunk.split(|c: char| !c.is_alphanumeric() && c != '\'' && !units::is_unit_sign(c)) {
        for piece in split_signs(part) {
            read_word(piece, opens_sentence, tokens);
        }
    }
}

/// `refunding$160` is `refunding` and `$160`.
fn glued_sign(chunk: &str) -> Option<(&str, &str)> {
    let mut before = None;
    for (idx, c) in chunk.char_indices() {
        if units::is_unit_sign(c) && before.is_some_and(char::is_alphabetic) {
            return Some(chunk.split_at(idx));
        }
        before = Some(c);
    }
    None
}

/// `10%`, `$5` and `5kg` are a number and a unit; `7:30` and `2024-01-05` are one number; `A-12` is an id.
fn read_digits(chunk: &str, tokens: &mut Vec<Token>) {
    let front: String = chunk.chars().take_while(|c| units::is_unit_sign(*c)).collect();
    let rest = &chunk[front.len()..];
    let n_digits = rest.find(|c: char| c.is_alphabetic() || units::is_unit_sign(c)).unwrap_or(rest.len());
    let (digits, back) = rest.split_at(n_digits);
    let back = back.to_lowercase();
    let back_unit = units::unit(&back);
    let is_ordinal = matches!(back.as_str(), "st" | "nd" | "rd" | "th");
    if digits.is_empty() || !(back.is_empty() || back_unit.is_some() || is_ordinal) {
        tokens.push(Token::Identifier(chunk.to_lowercase()));
        return;
    }
    let number = canonical(digits);
    tokens.push(Token::Number(if is_ordinal { format!("{number}th") } else { number }));
    tokens.extend(units::unit(&front).or(back_unit).map(Token::Unit));
}

fn read_word(piece: &str, opens_sentence: bool, tokens: &mut Vec<Token>) {
    let is_capital = piece.chars().next().is_some_and(char::is_uppercase);
    // A letter that stands for a thing is kept apart from the article and the pronoun.
    let is_letter = is_capital && !opens_sentence && piece != "I" && piece.chars().count() == 1;
    let lower = if is_letter { piece.to_owned() } else { piece.to_lowercase() };
    for text in words::written_out(&lower) {
        let unit = match tokens.last() {
            Some(Token::Number(_)) => units::unit(text),
            Some(Token::Word { .. } | Token::Unit(_) | Token::Identifier(_)) | None => units::unit_word(text),
        };
        if let Some(number) = units::number(text) {
            tokens.push(Token::Number(number.to_owned()));
        } else if let Some(unit) = unit {
            tokens.push(Token::Unit(unit));
        } else if !text.is_empty() {
            tokens.push(Token::Word { text: text.to_owned(), is_capital, opens_sentence });
        }
    }
}

/// Parts `€` and its like from the letters around them.
fn split_signs(part: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = part;
    while let Some((idx, sign)) = rest.char_indices().find(|(_, c)| units::is_unit_sign(*c)) {
        let end = idx + sign.len_utf8();
        pieces.extend([&rest[..idx], &rest[idx..end]]);
        rest = &rest[end..];
    }
    pieces.push(rest);
    pieces
}

fn is_path(chunk: &str) -> bool {
    let has_dot_inside = chunk.trim_end_matches('.').contains('.');
    (chunk.contains('/') || chunk.contains('\\')) && has_dot_inside
}

/// `1,000.50` is `1000.5`; what is no plain number stays as it is.
fn canonical(digits: &str) -> String {
    let digits = digits.trim_end_matches(|c: char| !c.is_ascii_digit());
    let grouped: Vec<&str> = digits.split(',').collect();
    let is_grouped = grouped.len() > 1
        && grouped[0].len() <= 3
        && grouped[1..].iter().all(|group| group.split('.').next().is_some_and(|whole| whole.len() == 3));
    let joined = if is_grouped { grouped.concat() } else { digits.to_owned() };
    let is_decimal =
        joined.bytes().all(|b| b.is_ascii_digit() || b == b'.') && joined.matches('.').count() == 1;
    let trimmed = if is_decimal { joined.trim_end_matches('0').trim_end_matches('.') } else { &joined };
    let no_zeros = trimmed.trim_start_matches('0');
    let is_plain = trimmed.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match (is_plain, no_zeros) {
        (false, _) => trimmed.to_owned(),
        (true, "") => "0".to_owned(),
        (true, rest) if rest.starts_with('.') => format!("0{rest}"),
        (true, rest) => rest.to_owned(),
    }
}

/// What stands between quotation marks or backticks, in lower case.
pub(super) fn quotations(text: &str) -> Vec<String> {
    const PAIRS: [(char, char); 4] = [('"', '"'), ('\u{201c}', '\u{201d}'), ('`', '`'), ('\u{ab}', '\u{bb}')];
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((start, (open, close))) =
        PAIRS.iter().filter_map(|pair| rest.find(pair.0).map(|idx| (idx, *pair))).min_by_key(|(idx, _)| *idx)
    {
        rest = &rest[start + open.len_utf8()..];
        let Some(end) = rest.find(close) else { break };
        let inside = rest[..end].trim();
        if !inside.is_empty() {
            found.push(inside.to_lowercase());
        }
        rest = &rest[end + close.len_utf8()..];
    }
    found
}

/// Words in capitals that do not open a sentence. A text that capitalises most of its words, as
/// headlines do, names nothing by it.
pub(super) fn names(tokens: &[Token]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut n_capital, mut n_inside) = (0, 0);
    for token in tokens {
        let Token::Word { text, is_capital, opens_sentence: false } = token else { continue };
        n_inside += 1;
        if *is_capital {
            n_capital += 1;
            if text.chars().count() > 1 && words::is_content(text) {
                names.insert(text.clone());
            }
        }
    }
    if n_inside >= 4 && n_capital * 2 > n_inside {
        names.clear();
    }
    names
}
