//! Hands out the tokens of a step: who computes how many, who comes in, and who has to give way.
//!
//! Pure: looks at sequences and blocks and changes neither. There is no phase of prefill and none of
//! decoding; a sequence has a gap between what it knows and what is computed, and a step closes some of it.
//!
//! A prompt's blocks are all taken when it is admitted, so only a sequence that decodes can find that there
//! are no blocks left. Then the last in rank gives way: its blocks are freed, and it computes its text
//! again later, much of it from the prefix cache if nobody needed the blocks.
//!
//! Invariants: the budget is never exceeded; nobody is admitted in a step in which somebody gave way; the
//! first in rank always gets on, and with it everybody in the end.

mod order;
mod served;

pub use order::{Order, Policy, Waiting};
pub use served::Served;

use std::collections::HashMap;

use crate::backend::BLOCK_TOKENS;
use crate::kv::block_pool::BlockPool;
use crate::kv::{BlockId, Hits, n_blocks_for};
use crate::sequence::Share;

/// What a step may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Tokens in a step, drafts included.
    pub max_step_tokens: usize,
    /// Tokens of one prompt in a step.
    pub max_chunk_tokens: usize,
    /// Sequences that hold blocks.
    pub max_running: usize,
    /// Blocks that an admission leaves free for those who decode, unless it would be alone.
    pub n_watermark: usize,
}

/// A running sequence, as the plan sees it.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    pub n_known: usize,
    pub n_computed: usize,
    /// How many drafts it could use.
    pub n_wanted: usize,
    pub blocks: &'a [BlockId],
}

impl Load<'_> {
    fn gap(&self) -> usize {
        self.n_known - self.n_computed
    }
}

/// A sequence that wants in, as the plan sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// Its place in the queue.
    pub queue_idx: usize,
    pub n_known: usize,
    pub hits: Hits,
}

/// One step.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By running sequence, in rank; those that give way are left out.
    pub shares: Vec<Share>,
    /// How many of the last in rank give way.
    pub n_preempted: usize,
    /// Who is admitted: places in the queue, and the tokens of the first chunk.
    pub admitted: Vec<(usize, usize)>,
}

impl Plan {
    pub fn n_tokens(&self) -> usize {
        let running: usize = self.shares.iter().map(Share::n_computed).sum();
        running + self.admitted.iter().map(|(_, n_tokens)| n_tokens).sum::<usize>()
    }
}

/// Plans a step for the running sequences, in rank, and for those who want in, in the order of the policy.
pub fn plan(
    limits: &Limits,
    running: &[Load<'_>],
    pool: &BlockPool,
    candidates: impl Iterator<Item = Candidate>,
) -> Plan {
    let mut draft = Draft {
        budget: limits.max_step_tokens,
        free: Free { pool, n_free: pool.n_free(), given: HashMap::new() },
        n_kept: running.len(),
        shares: vec![Share::default(); running.len()],
    };
    draft.decode(running);
    draft.prefill(limits, running);
    draft.speculate(running);
    let n_preempted = running.len() - draft.n_kept;
    let admitted = if n_preempted == 0 { draft.admit(limits, candidates) } else { Vec::new() };
    draft.shares.truncate(draft.n_kept);
    Plan { shares: draft.shares, n_preempted, admitted }
}

/// A plan in the making, and what is left to hand out.
struct Draft<'a> {
    budget: usize,
    free: Free<'a>,
    n_kept: usize,
    shares: Vec<Share>,
}

impl Draft<'_> {
    /// One token for everybody who is that close. They come before prompts, because somebody is reading
    /// what they write.
    fn decode(&mut self, running: &[Load<'_>]) {
        let mut idx = 0;
        while idx < self.n_kept && self.budget > 0 {
            let load = &running[idx];
            if load.gap() == 1 && self.make_room(running, idx) {
                self.shares[idx].n_tokens = 1;
                self.budget -= 1;
            }
            idx += 1;
        }
    }

    /// Finds a block for the next token, if it needs one, at the cost of those behind; false if the sequence
    /// itself has to give way.
    fn make_room(&mut self, running: &[Load<'_>], idx: usize) -> bool {
        let load = &running[idx];
        let n_missing = n_blocks_for(load.n_known).saturating_sub(load.blocks.len());
        while self.free.n_free < n_missing && self.n_kept > idx {
            self.n_kept -= 1;
            self.free.give(running[self.n_kept].blocks);
        }
        if self.n_kept <= idx {
            return false;
        }
        self.free.n_free -= n_missing;
        true
    }

    fn prefill(&mut self, limits: &Limits, running: &[Load<'_>]) {
        for (load, share) in running.iter().zip(&mut self.shares).take(self.n_kept) {
            if load.gap() > 1 {
                share.n_tokens = load.gap().min(limits.max_chunk_tokens).min(self.budget);
                self.budget -= share.n_tokens;
            }
        }
    }

    /// Drafts take what is left of the budget and of the blocks, and nobody gives way for them.
    fn speculate(&mut self, running: &[Load<'_>]) {
        for (load, share) in running.iter().zip(&mut self.shares).take(self.n_kept) {
            if share.n_tokens == 0 || share.n_tokens < load.gap() {
                continue;
            }
            let n_blocks = load.blocks.len().max(n_blocks_for(load.n_known));
            let n_slots = (n_blocks + self.free.n_free) * BLOCK_TOKENS - load.n_known;
            share.n_drafts = load.n_wanted.min(self.budget).min(n_slots);
            self.budget -= share.n_drafts;
            self.free.n_free -= n_blocks_for(load.n_known + share.n_drafts).saturating_sub(n_blocks);
        }
    }

    /// Lets in whoever fits as a whole, and nobody past one who does not: it would wait for ever.
    fn admit(&mut self, limits: &Limits, candidates: impl Iterator<Item = Candidate>) -> Vec<(usize, usize)> {
        let mut admitted = Vec::new();
        for candidate in candidates.take(limits.max_running.saturating_sub(self.n_kept)) {
            let n_missing = n_blocks_for(candidate.n_known) - candidate.hits.n_held;
            let is_alone = self.n_kept + admitted.len() == 0;
            let n_watermark = if is_alone { 0 } else { limits.n_watermark };
            if self.budget == 0 || n_missing + n_watermark > self.free.n_free {
                break;
            }
            let gap = candidate.n_known - candidate.hits.n_blocks * BLOCK_TOKENS;
            let n_tokens = gap.min(limits.max_chunk_tokens).min(self.budget);
            self.budget -= n_tokens;
            self.free.n_free -= n_missing;
            admitted.push((candidate.queue_idx, n_tokens));
        }
        admitted
    }
}

/// The blocks that are free, or will be when those who give way have.
struct Free<'a> {
    pool: &'a BlockPool,
    n_free: usize,
    /// How often a block was given, because it is free only when all who hold it have.
    given: HashMap<BlockId, u32>,
}

impl Free<'_> {
    fn give(&mut self, blocks: &[BlockId]) {
        for block in blocks {
            let n_given = self.given.entry(*block).or_insert(0);
            *n_given += 1;
            self.n_free += usize::from(*n_given == self.pool.n_refs(*block));
        }
    }
}

#[cfg(test)]
mod tests;
