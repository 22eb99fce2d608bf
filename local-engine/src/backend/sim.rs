//! A model that is a hash of all it reads through the pages: for property tests of everything above it.
//!
//! Knows no language and takes no time. Like a transformer's, what it keeps of a token depends on all tokens
//! before it, and its logits depend on everything that it keeps: a wrong block, a stale prefix, a bad
//! rollback or a chunk out of order changes what it says from there on. [`Sim::row_after`] says the same
//! without pages.
//!
//! Invariants: a step that breaks the promises of [`Chunk`] is refused, not computed.

use std::collections::HashSet;

use super::{BLOCK_TOKENS, Backend, BackendError, Chunk, Logits};
use crate::request::TokenId;

/// What the model is like.
#[derive(Debug, Clone)]
pub struct Sim {
    pub n_vocab: usize,
    pub context: usize,
    /// Other weights.
    pub seed: u64,
    /// How much it likes to follow a token by the same token as the last time, against what the hash says:
    /// 0 is not at all, 1 nearly always. Without it nothing that looks at the text could guess anything.
    pub habit: f32,
}

impl Default for Sim {
    fn default() -> Self {
        Self { n_vocab: 64, context: 1024, seed: 0, habit: 0.0 }
    }
}

impl Sim {
    /// The logits after a text, straight from it.
    pub fn row_after(&self, text: &[TokenId]) -> Vec<f32> {
        let mut kept = Vec::new();
        for (position, token) in text.iter().enumerate() {
            kept.push(self.keep(kept.last().copied(), position, *token));
        }
        let mut row = vec![0.0; self.n_vocab];
        self.write_row(sum(kept.into_iter()), text[text.len() - 1], &mut row);
        row
    }

    /// What a page keeps of a token: a hash of it, of its position, and of what was kept before it.
    fn keep(&self, before: Option<u64>, position: usize, token: TokenId) -> u64 {
        let before = before.unwrap_or(self.seed ^ 0x5EED);
        mix(before ^ mix(((position as u64) << 32) | u64::from(token)))
    }

    fn write_row(&self, seen: u64, last: TokenId, row: &mut [f32]) {
        let mut state = seen ^ self.seed;
        for logit in row.iter_mut() {
            state = mix(state);
            // 24 bits, so that every value is exact, within -4 and 4.
            *logit = (state >> 40) as f32 / (1 << 21) as f32 - 4.0;
        }
        let usual = mix(u64::from(last) ^ 0xAB17) as usize % row.len();
        row[usual] += self.habit * 8.0;
    }
}

/// Everything that was kept, so that every slot counts.
fn sum(kept: impl Iterator<Item = u64>) -> u64 {
    kept.fold(0, |seen, kept| (seen ^ kept).rotate_left(5).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// What goes wrong, and when.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The step, counted from 0, that fails.
    pub fail_at: Option<usize>,
    /// The step that panics.
    pub panic_at: Option<usize>,
    /// Every step waits for one message of it, and for none once its senders are gone.
    pub gate: Option<async_channel::Receiver<()>>,
}

/// The model with its pages.
#[derive(Debug)]
pub struct SimBackend {
    sim: Sim,
    faults: Faults,
    n_steps: usize,
    slots: Vec<u64>,
}

impl SimBackend {
    pub fn new(sim: Sim) -> Self {
        Self::with_faults(sim, Faults::default())
    }

    pub fn with_faults(sim: Sim, faults: Faults) -> Self {
        Self { sim, faults, n_steps: 0, slots: Vec::new() }
    }

    fn stumble(&mut self) -> Result<(), BackendError> {
        let step = self.n_steps;
        self.n_steps += 1;
        if let Some(gate) = &self.faults.gate {
            // An error means that nobody holds the gate any more.
            let _ = gate.recv_blocking();
        }
        assert!(self.faults.panic_at != Some(step), "the simulated device panicked in step {step}");
        if self.faults.fail_at == Some(step) {
            return Err(BackendError::Unsupported(format!("the simulated device failed in step {step}")));
        }
        Ok(())
    }

    fn compute(&mut self, chunk: &Chunk<'_>) {
        let slot_of = |position: usize| {
            chunk.blocks[position / BLOCK_TOKENS].index() * BLOCK_TOKENS + position % BLOCK_TOKENS
        };
        for (position, token) in (chunk.start..).zip(chunk.tokens) {
            let before = position.checked_sub(1).map(|before| self.slots[slot_of(before)]);
            self.slots[slot_of(position)] = self.sim.keep(before, position, *token);
        }
    }

    fn write_rows(&self, chunk: &Chunk<'_>, first_row: usize, logits: &mut Logits) {
        for idx in 0..chunk.n_logits {
            let token_idx = chunk.tokens.len() - chunk.n_logits + idx;
            let n_seen = chunk.start + token_idx + 1;
            let pages = chunk
                .blocks
                .iter()
                .flat_map(|block| &self.slots[block.index() * BLOCK_TOKENS..][..BLOCK_TOKENS]);
            let seen = sum(pages.take(n_seen).copied());
            self.sim.write_row(seen, chunk.tokens[token_idx], logits.row_mut(first_row + idx));
        }
    }

    /// What is wrong with a step, if anything.
    fn broken_promise(&self, chunks: &[Chunk<'_>]) -> Option<&'static str> {
        let n_blocks = self.slots.len() / BLOCK_TOKENS;
        let mut written = HashSet::new();
        for chunk in chunks {
            let end = chunk.start + chunk.tokens.len();
            if chunk.tokens.is_empty() || chunk.n_logits > chunk.tokens.len() {
                return Some("a chunk is empty, or wants more rows than it has tokens");
            }
            if end > chunk.blocks.len() * BLOCK_TOKENS || end > self.sim.context {
                return Some("a chunk reaches past its pages or past the context");
            }
            if chunk.blocks.iter().any(|block| block.index() >= n_blocks) {
                return Some("a block is of another cache");
            }
            if chunk.tokens.iter().any(|token| *token as usize >= self.sim.n_vocab) {
                return Some("a token is not in the vocabulary");
            }
            let pages = &chunk.blocks[chunk.start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS)];
            if !pages.iter().all(|block| written.insert(*block)) {
                return Some("two chunks write the same page");
            }
        }
        let is_read = |chunk: &Chunk<'_>| {
            chunk.blocks[..chunk.start / BLOCK_TOKENS].iter().any(|block| written.contains(block))
        };
        chunks.iter().any(is_read).then_some("a chunk reads a page that another one writes")
    }
}

impl Backend for SimBackend {
    fn n_vocab(&self) -> usize {
        self.sim.n_vocab
    }

    fn context(&self) -> usize {
        self.sim.context
    }

    fn block_bytes(&self) -> usize {
        BLOCK_TOKENS * size_of::<u64>()
    }

    fn alloc_kv(&mut self, n_blocks: usize) -> Result<(), BackendError> {
        // A slot that was never written holds what nothing would ever be kept as.
        self.slots = (0..n_blocks * BLOCK_TOKENS).map(|slot| mix(slot as u64 ^ 0xDEAD_BEEF)).collect();
        Ok(())
    }

    fn forward(&mut self, chunks: &[Chunk<'_>], logits: &mut Logits) -> Result<(), BackendError> {
        self.stumble()?;
        if let Some(broken) = self.broken_promise(chunks) {
            return Err(BackendError::Unsupported(broken.into()));
        }
        logits.reset(chunks.iter().map(|chunk| chunk.n_logits).sum(), self.sim.n_vocab);
        let mut row_idx = 0;
        for chunk in chunks {
            self.compute(chunk);
            self.write_rows(chunk, row_idx, logits);
            row_idx += chunk.n_logits;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
