//! Reads two texts together and says how likely the answer to one is right for the other.
//!
//! Decides nothing: what it says is one thing among others to go by. Knows no rules of words; those are
//! the lexical guard's.
//!
//! Invariants: a probability is finite and from 0 to 1; a text that does not fit has none.

mod cross_encoder;

pub use cross_encoder::{CrossEncoder, CrossEncoderError};

use futures_util::future::BoxFuture;

/// What every trained guard can do.
pub trait ReadPair: Send + Sync {
    /// The probability that the answer to `cached` is right for `new`. The order matters a little.
    fn p_same<'a>(&'a self, new: &'a str, cached: &'a str) -> BoxFuture<'a, Result<f64, ReadError>>;
    /// Changes whenever the same pair would get another probability.
    fn id(&self) -> &str;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not a failure: texts that differ beyond the window would be taken for the same.
    #[error("a text has {n_tokens} tokens; the guard reads {max_tokens} of each")]
    TooLong { n_tokens: usize, max_tokens: usize },
    #[error(
        "the guard took longer than {deadline_ms} ms; raise `cache.semantic.guard_threads` or `guard_deadline_ms`"
    )]
    Deadline { deadline_ms: u64 },
    #[error("the guard failed: {0}")]
    Failed(String),
}
