//! A smaller model guesses what the model will say.
//!
//! Its pages have the same numbers as the model's and are shared, kept and freed with them, so that one
//! table serves both. It reads every token of a sequence sooner or later, at the latest when a block fills,
//! because a block that others may hit must hold the draft model's keys and values, too.
//!
//! Invariants: whatever it guesses, the answer is the same; when it fails, nobody guesses.

use crate::backend::{BLOCK_TOKENS, Backend, BackendError, Chunk, Logits};
use crate::sequence::Sequence;

/// The draft model.
pub struct Drafter {
    backend: Box<dyn Backend>,
    logits: Logits,
    /// Tokens that both models know.
    n_vocab: usize,
}

impl std::fmt::Debug for Drafter {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Drafter").field("n_vocab", &self.n_vocab).finish_non_exhaustive()
    }
}

impl Drafter {
    pub fn new(backend: Box<dyn Backend>, n_vocab: usize) -> Self {
        Self { backend, logits: Logits::default(), n_vocab }
    }

    /// Fills in the guesses of this step's shares.
    pub fn guess(&mut self, batch: &mut [Sequence]) -> Result<(), BackendError> {
        let mut guessing = self.catch_up(batch)?;
        while !guessing.is_empty() {
            let mut row_idx = 0;
            guessing.retain(|idx| {
                let sequence = &mut batch[*idx];
                let position = sequence.tokens.with_drafts().len();
                let row = &mut self.logits.row_mut(row_idx)[..self.n_vocab];
                row_idx += 1;
                let token = sequence.answer.sampler().choose(row, position, None, None).token;
                sequence.tokens.draft(token);
                let n_drafts = sequence.tokens.drafts().len();
                n_drafts < sequence.share.n_drafts && !sequence.answer.is_end(token)
            });
            self.go_on(batch, &guessing)?;
        }
        for sequence in batch {
            sequence.share.n_drafts = sequence.share.n_drafts.min(sequence.tokens.drafts().len());
        }
        Ok(())
    }

    /// Reads what it has not read of those that it guesses for and of those that fill a block. Leaves a row
    /// for each that it guesses for, and says which these are.
    fn catch_up(&mut self, batch: &mut [Sequence]) -> Result<Vec<usize>, BackendError> {
        let is_guessing =
            |sequence: &Sequence| sequence.share.n_drafts > 0 && sequence.drafting.wants_model();
        let mut chunks = Vec::new();
        let mut readers = Vec::new();
        for (idx, sequence) in batch.iter().enumerate() {
            let (n_read, n_known) = (sequence.table.n_followed(), end(sequence));
            let is_filling = n_known / BLOCK_TOKENS > n_read / BLOCK_TOKENS;
            if sequence.share.n_tokens > 0 && (is_guessing(sequence) || is_filling) {
                let n_logits = usize::from(is_guessing(sequence));
                let tokens = &sequence.tokens.known()[n_read..n_known];
                let blocks = sequence.table.blocks();
                chunks.push(Chunk { tokens, start: n_read, blocks, n_logits });
                readers.push(idx);
            }
        }
        if !chunks.is_empty() {
            self.backend.forward(&chunks, &mut self.logits)?;
        }
        for idx in &readers {
            let n_known = end(&batch[*idx]);
            batch[*idx].table.follow(n_known);
        }
        readers.retain(|idx| is_guessing(&batch[*idx]));
        Ok(readers)
    }

    /// Reads the last guess of each.
    fn go_on(&mut self, batch: &mut [Sequence], guessing: &[usize]) -> Result<(), BackendError> {
        if guessing.is_empty() {
            return Ok(());
        }
        let chunk = |idx: &usize| {
            let sequence = &batch[*idx];
            let tokens = sequence.tokens.with_drafts();
            let start = tokens.len() - 1;
            Chunk { tokens: &tokens[start..], start, blocks: sequence.table.blocks(), n_logits: 1 }
        };
        let chunks: Vec<Chunk<'_>> = guessing.iter().map(chunk).collect();
        self.backend.forward(&chunks, &mut self.logits)?;
        for idx in guessing {
            let n_read = batch[*idx].tokens.with_drafts().len();
            batch[*idx].table.follow(n_read);
        }
        Ok(())
    }
}

/// Up to where the model computes known tokens in this step.
fn end(sequence: &Sequence) -> usize {
    sequence.table.n_computed() + sequence.share.n_tokens
}
