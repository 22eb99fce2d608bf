//! Where tokens become logits: one trait, and the devices behind it.
//!
//! A backend owns weights and KV pages and knows no requests: what to compute, at which positions and in
//! which pages comes with every step.
//!
//! Invariants: the logits of a position depend on the tokens before it and on nothing else: not on how
//! they were cut into chunks, on what else was in the batch, or on the number of threads.

use crate::kv::BlockId;
use crate::request::TokenId;

pub mod cpu;
pub mod reference;
pub mod sim;

/// Tokens in one page of the KV cache.
pub const BLOCK_TOKENS: usize = 16;

/// Why a step could not be computed, or a backend not be made.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error(
        "{what} needs {needed_bytes} bytes and {available_bytes} are to be had; take a smaller model, a smaller context or raise `memory_bytes`"
    )]
    OutOfMemory { what: &'static str, needed_bytes: u64, available_bytes: u64 },
    #[error("{0}")]
    Weights(#[from] crate::weights::WeightsError),
    #[error("{0}")]
    Unsupported(String),
    #[error(
        "a task of the step panicked, so its sequences' pages are unsure; its message is on standard error"
    )]
    Panicked,
}

/// A sequence's share of one step: consecutive tokens to compute.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// The tokens to compute; at least one.
    pub tokens: &'a [TokenId],
    /// The position of the first of them: how many came before.
    pub start: usize,
    /// The pages of the whole sequence, of position 0 on; they reach past the last token of the chunk.
    pub blocks: &'a [BlockId],
    /// How many of the last tokens want a row of logits, at most all.
    pub n_logits: usize,
}

/// Rows of logits in the order of the chunks, and within a chunk of its tokens.
#[derive(Debug, Default)]
pub struct Logits {
    pub values: Vec<f32>,
    pub n_vocab: usize,
}

impl Logits {
    /// Makes room for so many rows; what was there is lost.
    pub fn reset(&mut self, n_rows: usize, n_vocab: usize) {
        self.n_vocab = n_vocab;
        self.values.clear();
        self.values.resize(n_rows * n_vocab, 0.0);
    }

    pub fn n_rows(&self) -> usize {
        self.values.len().checked_div(self.n_vocab).unwrap_or(0)
    }

    pub fn row(&self, row_idx: usize) -> &[f32] {
        &self.values[row_idx * self.n_vocab..][..self.n_vocab]
    }

    pub fn row_mut(&mut self, row_idx: usize) -> &mut [f32] {
        &mut self.values[row_idx * self.n_vocab..][..self.n_vocab]
    }
}

/// A device with a model on it.
pub trait Backend: Send {
    fn n_vocab(&self) -> usize;

    /// The greatest number of positions of a sequence.
    fn context(&self) -> usize;

    /// What one block of [`BLOCK_TOKENS`] positions takes, over all layers.
    fn block_bytes(&self) -> usize;

    /// Makes room for so many blocks; called once, before the first step.
    fn alloc_kv(&mut self, n_blocks: usize) -> Result<(), BackendError>;

    /// Computes the chunks' tokens, keeps their keys and values in their pages, and writes the rows of
    /// logits that were asked for. No two chunks write the same page.
    fn forward(&mut self, chunks: &[Chunk<'_>], logits: &mut Logits) -> Result<(), BackendError>;
}
