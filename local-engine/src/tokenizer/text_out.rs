//! An answer's tokens become text: whole characters, up to a stop string.

use std::sync::Arc;

use super::Vocabulary;
use crate::request::TokenId;

/// What a token brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextPiece {
    /// Text that is certain to belong to the answer.
    pub text: String,
    /// A stop string is complete; it and what follows are cut off.
    pub stopped: bool,
}

/// The text of one answer as it grows.
#[derive(Debug, Clone)]
pub struct TextOut {
    vocabulary: Arc<Vocabulary>,
}

impl TextOut {
    pub fn new(vocabulary: Arc<Vocabulary>, _stops: Vec<String>) -> Self {
        Self { vocabulary }
    }

    pub fn push(&mut self, token: TokenId) -> TextPiece {
        let bytes = self.vocabulary.bytes(token).unwrap_or_default();
        TextPiece { text: String::from_utf8_lossy(bytes).into_owned(), stopped: false }
    }

    /// The answer is over: what was held back, with what is no character replaced.
    pub fn finish(&mut self) -> String {
        String::new()
    }
}
