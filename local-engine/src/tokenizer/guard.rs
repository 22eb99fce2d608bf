//! Keeps a text's own words from being read as markup.
//!
//! A chat template mixes its marks with what users wrote, and only the result is encoded. So each mark that
//! a user spelled is broken beforehand, by a letter that none of the texts has, behind the first letter of
//! the mark; templates look at the text as before, and encoding takes the letter out again. What a template
//! does with a mark (drop a closed `<think>`, say) it therefore does not do with a user's.
//!
//! Does not know where texts end up: a part of a mark at the end of a text, which what follows there might
//! complete, is broken as well.
//!
//! Invariants: without the letter, a guarded text is the text; it spells no mark, and nothing that is put
//! before or behind it makes a mark of its letters.

use super::marks::Marks;

/// Code points for private use; nobody has all of them in one chat.
const PRIVATE: std::ops::RangeInclusive<char> = '\u{e000}'..='\u{f8ff}';
const MORE_PRIVATE: std::ops::RangeInclusive<char> = '\u{f0000}'..='\u{ffffd}';

/// Who wrote a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// Somebody whose marks all are words.
    Anybody,
    /// The model, whose marks of thoughts and tool calls are meant, but not those that end a turn.
    Model,
}

/// Breaks marks in texts that are to be put into one piece of markup.
#[derive(Debug, Clone)]
pub struct Guard {
    marks: Marks,
    letter: char,
}

impl Guard {
    pub(super) fn new<'a>(marks: Marks, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut taken = std::collections::HashSet::new();
        for text in texts {
            taken.extend(
                text.chars().filter(|letter| PRIVATE.contains(letter) || MORE_PRIVATE.contains(letter)),
            );
        }
        let free = PRIVATE.chain(MORE_PRIVATE).find(|letter| !taken.contains(letter));
        // With all of them taken, marks around the letter of no meaning would still be broken.
        Self { marks, letter: free.unwrap_or('\u{fdd0}') }
    }

    pub(super) fn letter(&self) -> char {
        self.letter
    }

    /// The text, with what spells a mark, or might with what comes before or behind it, broken.
    pub fn guarded(&self, text: &str, author: Author) -> String {
        let marks: Vec<&str> = self.marks.dangerous(author == Author::Model).collect();
        let mut begins = [false; 256];
        marks.iter().for_each(|mark| begins[usize::from(mark.as_bytes()[0])] = true);
        let begins_mark = |at: usize| {
            begins[usize::from(text.as_bytes()[at])]
                && marks.iter().any(|mark| begins_with(&text[at..], mark))
        };
        let spelled = text.char_indices().filter(|(at, _)| begins_mark(*at));
        let mut breaks: Vec<usize> = spelled.map(|(at, letter)| at + letter.len_utf8()).collect();
        if marks.iter().any(|mark| is_inside(text, mark)) {
            breaks.insert(0, 0);
        }
        let mut guarded = String::with_capacity(text.len() + breaks.len() * self.letter.len_utf8());
        let mut from = 0;
        for to in breaks {
            guarded.push_str(&text[from..to]);
            guarded.push(self.letter);
            from = to;
        }
        guarded + &text[from..]
    }

    /// The text without what the guard put in.
    pub fn unguarded(&self, text: &str) -> String {
        text.replace(self.letter, "")
    }
}

/// Whether a text begins with a mark, or is the beginning of one.
fn begins_with(text: &str, mark: &str) -> bool {
    text.starts_with(mark) || mark.starts_with(text)
}

/// Whether a text begins with the end of a mark that began before it, or is the middle of one.
fn is_inside(text: &str, mark: &str) -> bool {
    !text.is_empty() && mark.char_indices().skip(1).any(|(at, _)| begins_with(text, &mark[at..]))
}
