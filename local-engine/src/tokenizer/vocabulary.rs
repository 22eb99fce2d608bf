//! What each token is in bytes.

use crate::request::TokenId;

/// The bytes of every token of a model.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    tokens: Vec<Box<[u8]>>,
    /// Marks such as the end of a turn, which are no text.
    specials: Vec<TokenId>,
}

impl Vocabulary {
    pub fn new(tokens: Vec<Box<[u8]>>, specials: Vec<TokenId>) -> Self {
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
        self.specials.contains(&token)
    }
}
