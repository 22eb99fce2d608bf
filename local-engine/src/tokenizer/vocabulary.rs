//! What each token is in bytes.
//!
//! Knows no text longer than a token.

use crate::request::TokenId;

/// The bytes of every token of a model.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    tokens: Vec<Box<[u8]>>,
    /// Marks such as the end of a turn, which are no text; sorted.
    specials: Vec<TokenId>,
}

impl Vocabulary {
    /// A number that is no token has no bytes.
    pub fn new(tokens: Vec<Box<[u8]>>, mut specials: Vec<TokenId>) -> Self {
        specials.sort_unstable();
        specials.dedup();
        Self { tokens, specials }
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// None for a number that is no token.
    pub fn bytes(&self, token: TokenId) -> Option<&[u8]> {
        self.tokens.get(token as usize).map(AsRef::as_ref)
    }

    pub fn is_special(&self, token: TokenId) -> bool {
        self.specials.binary_search(&token).is_ok()
    }
}
