//! Turns a text into a vector whose angle to another's tells how alike the two are.
//!
//! Does not compare vectors and keeps none.
//!
//! Invariants: vectors have length 1 and always the same number of dimensions.

mod sentence;

pub use sentence::{Sentence, SentenceError};

use std::sync::Arc;

use futures_util::future::BoxFuture;

/// What every embedder can do.
pub trait Embed: Send + Sync {
    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>>;
    /// Changes whenever the same text would get another vector: entries of another embedder are
    /// never compared with.
    fn id(&self) -> &str;
    fn n_dims(&self) -> usize;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// Not a failure: what lies beyond the window would not be compared.
    #[error("the text has {n_tokens} tokens; the embedder reads {max_tokens}")]
    TooLong { n_tokens: usize, max_tokens: usize },
    #[error(
        "the embedder took longer than {deadline_ms} ms; raise `cache.semantic.threads` or `deadline_ms`"
    )]
    Deadline { deadline_ms: u64 },
    #[error("the embedder failed: {0}")]
    Failed(String),
}

/// Makes a vector's length 1; a vector without a direction has no likeness to anything.
pub fn of_length_one(mut vector: Vec<f32>) -> Option<Arc<[f32]>> {
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length < f64::EPSILON {
        return None;
    }
    vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    Some(vector.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_brought_to_length_one() {
        assert_eq!(of_length_one(vec![3.0, 4.0]).unwrap()[..], [0.6, 0.8]);
    }

    #[test]
    fn a_vector_without_a_direction_is_none() {
        assert_eq!(of_length_one(vec![0.0, 0.0]), None);
        assert_eq!(of_length_one(vec![f32::NAN, 1.0]), None);
        assert_eq!(of_length_one(vec![f32::INFINITY, 1.0]), None);
    }
}
