//! Tokens that are added to a model's own: control tokens, marks of tool calls, and words.
//!
//! Decides which spellings in a text become such a token; encodes nothing else.
//!
//! Invariants: of spellings that begin at the same place the longest counts; what one covers is not looked
//! at again.

use std::sync::Arc;

use tokenizers::tokenizer::normalizer::Range;
use tokenizers::{AddedToken, NormalizedString, Token};

use crate::request::TokenId;

/// Marks that readers of answers look for. They are text even where a tokenizer calls them special.
const SHOWN: [&str; 12] = [
    "<tool_call>",
    "</tool_call>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
];

/// Which spellings are taken at their word; each of these includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Believed {
    /// Additions that are ordinary text, such as runs of spaces.
    Words,
    /// And marks that are part of an answer's text.
    Shown,
    /// And control tokens.
    All,
}

#[derive(Debug, Clone)]
struct Mark {
    id: TokenId,
    added: AddedToken,
    /// The least belief that takes it at its word.
    needs: Believed,
}

/// The added tokens of one tokenizer.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    /// By first byte, and among those the longest first.
    marks: Arc<[Mark]>,
}

impl Marks {
    pub(super) fn new(added: impl IntoIterator<Item = (TokenId, AddedToken)>) -> Self {
        let mut marks: Vec<Mark> = added
            .into_iter()
            .filter(|(_, added)| !added.content.is_empty())
            .map(|(id, added)| Mark { id, needs: needed_belief(&added), added })
            .collect();
        let key =
            |mark: &Mark| (mark.added.content.as_bytes()[0], usize::MAX - mark.added.content.len(), mark.id);
        marks.sort_by_key(key);
        Self { marks: marks.into() }
    }

    /// Control tokens that bring no text.
    pub(super) fn textless(&self) -> Vec<TokenId> {
        self.marks.iter().filter(|mark| mark.needs == Believed::All).map(|mark| mark.id).collect()
    }

    /// The spelling of each added token.
    pub(super) fn spellings(&self) -> impl Iterator<Item = (TokenId, &str)> {
        self.marks.iter().map(|mark| (mark.id, mark.added.content.as_str()))
    }

    /// The spellings that somebody could misuse; without trust in an answer's own marks, these too.
    pub(super) fn dangerous(&self, trusts_shown: bool) -> impl Iterator<Item = &str> {
        let needs = move |mark: &&Mark| {
            mark.needs == Believed::All
                || (mark.needs == Believed::Shown && (mark.added.special || !trusts_shown))
        };
        self.marks.iter().filter(needs).map(|mark| mark.added.content.as_str())
    }

    /// Whether a control token was found in a text because the text spells it, and not for want of a better.
    pub(super) fn is_spelled(&self, id: TokenId, text: &str) -> bool {
        let spelled = |mark: &Mark| mark.id == id && mark.added.special && text.contains(&mark.added.content);
        self.marks.iter().any(spelled)
    }

    /// Cuts a text at the spellings that are believed.
    pub(super) fn split(
        &self,
        text: &NormalizedString,
        believed: Believed,
    ) -> Vec<(NormalizedString, Option<Vec<Token>>)> {
        let slice = |from: usize, to: usize| {
            text.slice(Range::Normalized(from..to)).expect("marks are at boundaries")
        };
        let mut parts = Vec::new();
        let mut rest = 0;
        for (from, to, id) in self.find(text.get(), believed) {
            if rest < from {
                parts.push((slice(rest, from), None));
            }
            let spelling = slice(from, to);
            let token = Token::new(id, spelling.get().to_owned(), (0, to - from));
            parts.push((spelling, Some(vec![token])));
            rest = to;
        }
        if rest < text.get().len() {
            parts.push((slice(rest, text.get().len()), None));
        }
        parts
    }

    /// From where to where each believed mark reaches, with the space that it swallows.
    fn find(&self, text: &str, believed: Believed) -> Vec<(usize, usize, TokenId)> {
        let mut begins = [false; 256];
        self.marks.iter().for_each(|mark| begins[usize::from(mark.added.content.as_bytes()[0])] = true);
        let mut found: Vec<(usize, usize, TokenId)> = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let mark = if begins[usize::from(text.as_bytes()[at])] {
                self.mark_at(text, at, believed)
            } else {
                None
            };
            let Some(mark) = mark else {
                at += 1;
                continue;
            };
            let end = at + mark.added.content.len();
            let before = &text[found.last().map_or(0, |last| last.1)..at];
            let from = if mark.added.lstrip { at - (before.len() - before.trim_end().len()) } else { at };
            let after = &text[end..];
            let to = if mark.added.rstrip { end + (after.len() - after.trim_start().len()) } else { end };
            found.push((from, to, mark.id));
            at = to;
        }
        found
    }

    fn mark_at(&self, text: &str, at: usize, believed: Believed) -> Option<&Mark> {
        let first = text.as_bytes()[at];
        let start = self.marks.partition_point(|mark| mark.added.content.as_bytes()[0] < first);
        let same_start =
            self.marks[start..].iter().take_while(|mark| mark.added.content.as_bytes()[0] == first);
        // The longest is taken or nothing is: a word that may not stand here does not make room for a shorter.
        let mark = same_start
            .filter(|mark| mark.needs <= believed)
            .find(|mark| text.as_bytes()[at..].starts_with(mark.added.content.as_bytes()))?;
        let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
        let joined =
            text[..at].ends_with(is_word) || text[at + mark.added.content.len()..].starts_with(is_word);
        (!(mark.added.single_word && joined)).then_some(mark)
    }
}

/// What looks like a mark is one, whether or not the tokenizer says so; a single letter cannot be broken, so
/// it is a word.
fn needed_belief(added: &AddedToken) -> Believed {
    let spelling = added.content.as_str();
    if spelling.chars().count() == 1 {
        return Believed::Words;
    }
    let bracketed =
        |open, close| spelling.len() > 2 && spelling.starts_with(open) && spelling.ends_with(close);
    if SHOWN.contains(&spelling) {
        Believed::Shown
    } else if added.special {
        Believed::All
    } else if bracketed('<', '>') || bracketed('[', ']') {
        Believed::Shown
    } else {
        Believed::Words
    }
}
