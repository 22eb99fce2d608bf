//! Whether an answer only says that the question is not the model's.
//!
//! Knows the words that a model was taught to say so with, and nothing else of its language.

/// Letters and digits that may come before the words: an apology, a name.
const MOST_BEFORE: usize = 64;

/// The words, as an operator configured them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decline {
    /// Letters and digits alone, in lower case.
    words: String,
}

/// What the beginning of an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// Too little has been said.
    Open,
    Declines,
    Answers,
}

impl Decline {
    /// None for words without a letter or digit: every answer would have them.
    pub(super) fn try_new(words: &str) -> Option<Self> {
        let words = bare(words);
        (!words.is_empty()).then_some(Self { words })
    }

    pub(super) fn read(&self, text: &str, is_over: bool) -> Reading {
        let text = bare(text);
        match text.find(&self.words) {
            Some(at) if text[..at].chars().count() <= MOST_BEFORE => Reading::Declines,
            Some(_) => Reading::Answers,
            // Cut off in the middle of the words, by a limit or a stop string.
            None if is_over && !text.is_empty() && self.words.starts_with(&text) => Reading::Declines,
            None if is_over || text.chars().count() >= MOST_BEFORE + self.words.chars().count() => {
                Reading::Answers
            }
            None => Reading::Open,
        }
    }
}

fn bare(text: &str) -> String {
    text.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_declines_once_all_words_are_there_and_not_before() {
        let decline = Decline::try_new("I can only help with").unwrap();

        assert_eq!(decline.read("", false), Reading::Open);
        assert_eq!(decline.read("I can only help wit", false), Reading::Open);
        assert_eq!(decline.read("I can only help wit", true), Reading::Declines);
        assert_eq!(decline.read("I can", true), Reading::Declines);
        assert_eq!(decline.read("", true), Reading::Answers);
        assert_eq!(decline.read("I can do that", true), Reading::Answers);
        assert_eq!(decline.read("i can ONLY help, with", false), Reading::Declines);
        assert_eq!(decline.read("I am sorry, I can only help with orders", false), Reading::Declines);
    }

    #[test]
    fn the_words_count_at_the_beginning_only() {
        let decline = Decline::try_new("I can only help with").unwrap();
        let after = |n: usize| format!("{} I can only help with", "x".repeat(n));

        assert_eq!(decline.read(&after(MOST_BEFORE), false), Reading::Declines);
        assert_eq!(decline.read(&after(MOST_BEFORE + 1), false), Reading::Answers);
        assert_eq!(decline.read(&"x".repeat(MOST_BEFORE + 15), false), Reading::Open);
        assert_eq!(decline.read(&"x".repeat(MOST_BEFORE + 16), false), Reading::Answers);
    }

    #[test]
    fn words_without_a_letter_are_none() {
        assert_eq!(Decline::try_new(" ... "), None);
    }
}
