//! Reads Rust source as text: what of it is code, and which of the crate's paths that code names.
//!
//! Not a parser of Rust: it knows comments, literals, braces and paths, and no grammar beyond them.
//!
//! Invariants: blanking keeps every line where it was; a path is told from the crate's root on.

/// The code of a file: comments, literals and items under `#[cfg(test)]` become spaces.
pub(crate) fn code(source: &str) -> String {
    let mut code = code_with_tests(source);
    while let Some(start) = code.find(TEST_ONLY) {
        let end = start + TEST_ONLY.len();
        let end = end + item_length(&code.as_bytes()[end..]);
        code.replace_range(start..end, &blank(&code[start..end]));
    }
    code
}

const TEST_ONLY: &str = "#[cfg(test)]";

fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// The code of a file, its tests included.
pub(crate) fn code_with_tests(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let is_inside_word = code.bytes().last().is_some_and(is_word);
        let n_literal = literal_length(rest, is_inside_word);
        let (taken, left) = rest.split_at(n_literal.unwrap_or(first.len_utf8()));
        if n_literal.is_some() {
            code.push_str(&blank(taken));
        } else {
            code.push_str(taken);
        }
        rest = left;
    }
    code
}

/// How long the comment or literal is that `text` begins with, if it does.
fn literal_length(text: &str, is_inside_word: bool) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment_length(text));
    }
    if text.starts_with('"') {
        return Some(string_length(text));
    }
    if text.starts_with('\'') {
        return char_length(text);
    }
    let after_prefix = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let hashes_on = after_prefix.strip_prefix('r').filter(|_| !is_inside_word)?;
    let n_hashes = hashes_on.bytes().take_while(|byte| *byte == b'#').count();
    let inner = hashes_on[n_hashes..].strip_prefix('"')?;
    let closing = format!("\"{}", "#".repeat(n_hashes));
    let n_inner = inner.find(&closing).map_or(inner.len(), |end| end + closing.len());
    Some(text.len() - inner.len() + n_inner)
}

fn block_comment_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character in quotes; a lifetime is none.
fn char_length(text: &str) -> Option<usize> {
    let inner = text[1..].chars().next()?;
    if inner == '\\' {
        return text.get(3..)?.find('\'').map(|end| end + 4);
    }
    let end = 1 + inner.len_utf8();
    text[end..].starts_with('\'').then_some(end + 1)
}

/// Up to the `;` or the closing brace that ends the item `code` begins with.
fn item_length(code: &[u8]) -> usize {
    let (mut n_braces, mut n_others) = (0_usize, 0_usize);
    for (at, byte) in code.iter().enumerate() {
        match byte {
            b'(' | b'[' => n_others += 1,
            b')' | b']' => n_others = n_others.saturating_sub(1),
            b'{' => n_braces += 1,
            b'}' if n_braces <= 1 => return at + 1,
            b'}' => n_braces -= 1,
            b';' if n_braces == 0 && n_others == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether `word` stands in `code`, not as the end of a longer word.
pub(crate) fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].bytes().last().is_some_and(is_word))
}

/// Every path of the crate that the code of `module` names, such as `ledger::budget::Budget`.
pub(crate) fn crate_paths(code: &str, module: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].bytes().last().is_some_and(|byte| is_word(byte) || byte == b'$') {
            tree(&code[at + "crate::".len()..], &[], &mut found);
        }
    }
    for (at, _) in code.match_indices("super::") {
        let is_first = !code[..at].bytes().last().is_some_and(|byte| is_word(byte) || byte == b':');
        if is_first {
            let (mut rest, mut parent) = (&code[at..], module);
            while let Some(after) = rest.strip_prefix("super::") {
                rest = after;
                parent = parent.split_last().map_or(&[][..], |(_, parent)| parent);
            }
            tree(rest, parent, &mut found);
        }
    }
    found
}

/// Reads one `a::{b, c::d}` and returns what follows it.
fn tree<'a>(code: &'a str, prefix: &[&'a str], found: &mut Vec<String>) -> &'a str {
    let code = code.trim_start();
    if let Some(mut list) = code.strip_prefix('{') {
        loop {
            list = tree(list, prefix, found);
            let Some(end) = list.find([',', '}']) else { return "" };
            let is_last = list[end..].starts_with('}');
            list = list[end + 1..].trim_start();
            if is_last {
                return list;
            }
            if let Some(after) = list.strip_prefix('}') {
                return after;
            }
        }
    }
    let n_word = code.bytes().take_while(|byte| is_word(*byte)).count();
    let (word, after) = code.split_at(n_word);
    if matches!(word, "" | "self") {
        found.push(prefix.join("::"));
        return after;
    }
    let path = [prefix, &[word]].concat();
    let deeper = after.strip_prefix("::").filter(|deeper| {
        deeper.trim_start().bytes().next().is_some_and(|byte| is_word(byte) || byte == b'{' || byte == b'*')
    });
    match deeper {
        Some(deeper) => tree(deeper, &path, found),
        None => {
            found.push(path.join("::"));
            after
        }
    }
}
