//! Text of a given form: which tokens may come next.
//!
//! Knows neither logits nor sequences. [`GrammarFactory`] compiles what callers ask for, within limits that
//! keep a hostile grammar from taking the engine's time or memory.

mod factory;
mod limits;
mod matching;
mod repeats;
mod token_env;

pub use factory::GrammarFactory;
pub(crate) use limits::check_schema;

use crate::request::TokenId;

/// The form that an answer has to have.
#[derive(Debug, Clone, PartialEq)]
pub enum GrammarSpec {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema allows.
    JsonSchema(serde_json::Value),
    /// Text that a regular expression matches as a whole.
    Regex(String),
    /// A context-free grammar in llguidance's dialect of Lark.
    Lark(String),
}

/// What a constraint could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The caller's grammar is not one.
    #[error("{0}")]
    Invalid(String),
    /// The grammar and the text have come apart, or a limit was reached while matching.
    #[error("{0}")]
    Failed(String),
}

/// A set of tokens that may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
}

impl TokenMask {
    /// Bit `t % 32` of word `t / 32` says whether token `t` may come.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    pub fn words(&self) -> &[u32] {
        &self.words
    }

    pub fn allows(&self, token: TokenId) -> bool {
        let word = self.words.get(token as usize / 32).copied().unwrap_or(0);
        word >> (token % 32) & 1 == 1
    }
}

/// The state of a grammar along one text.
pub trait Constraint: Send + std::fmt::Debug {
    /// Which tokens may come next.
    fn mask(&mut self) -> Result<TokenMask, GrammarError>;

    /// Tells the next token, which the mask allowed.
    fn push(&mut self, token: TokenId) -> Result<(), GrammarError>;

    /// Tokens that must come next whatever the model says; often none. Changes nothing.
    fn forced(&mut self) -> Vec<TokenId>;

    /// Whether the text is complete and nothing may follow but its end.
    fn is_done(&self) -> bool;
}
