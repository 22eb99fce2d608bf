//! Checks the books: whether blocks, tables and sequences agree.
//!
//! Changes nothing; takes time in proportion to the blocks, so it is for tests and for doubt.

use std::collections::HashMap;

use super::step::{Core, rank};
use crate::backend::BLOCK_TOKENS;
use crate::kv::BlockId;
use crate::sequence::{Sequence, Share, State};

impl Core {
    /// All that does not add up, in sentences; to be asked between steps.
    pub fn audit(&self) -> Vec<String> {
        let mut faults = Vec::new();
        self.audit_blocks(&mut faults);
        for sequence in &self.running {
            self.audit_running(sequence, &mut faults);
        }
        for sequence in &self.waiting {
            if !sequence.table.blocks().is_empty() || sequence.table.n_computed() > 0 {
                faults.push(format!("sequence {} waits and holds blocks", sequence.turn.arrival));
            }
            if !matches!(sequence.state, State::Waiting | State::Preempted) {
                faults.push(format!("sequence {} waits and is {:?}", sequence.turn.arrival, sequence.state));
            }
        }
        if !self.running.is_sorted_by_key(|sequence| rank(self.rules.policy, sequence)) {
            faults.push("the running are not in rank".into());
        }
        if !self.waiting.iter().is_sorted_by_key(|sequence| sequence.turn.arrival) {
            faults.push("the waiting are not in the order of arrival".into());
        }
        if self.running.len() > self.rules.limits.max_running {
            faults.push(format!("{} are running", self.running.len()));
        }
        faults
    }

    fn audit_blocks(&self, faults: &mut Vec<String>) {
        let pool = self.kv.pool();
        let mut n_held: HashMap<BlockId, u32> = HashMap::new();
        let mut first: HashMap<BlockId, (usize, &Sequence)> = HashMap::new();
        for sequence in &self.running {
            for (idx, block) in sequence.table.blocks().iter().enumerate() {
                *n_held.entry(*block).or_default() += 1;
                let (first_idx, other) = *first.entry(*block).or_insert((idx, sequence));
                if first_idx != idx || !may_share(sequence, other, (idx + 1) * BLOCK_TOKENS) {
                    let (one, other) = (other.turn.arrival, sequence.turn.arrival);
                    faults.push(format!("sequences {one} and {other} share a block and should not"));
                }
            }
        }
        for (block, n_held) in &n_held {
            if pool.n_refs(*block) != *n_held {
                faults
                    .push(format!("{block:?} is in {n_held} tables and held {} times", pool.n_refs(*block)));
            }
        }
        if n_held.len() != pool.n_used() || pool.n_free() + pool.n_used() != pool.n_blocks() {
            faults.push(format!("{} blocks are in tables and {} are used", n_held.len(), pool.n_used()));
        }
        if pool.free().count() != pool.n_free() || pool.free().any(|block| pool.n_refs(block) > 0) {
            faults.push("the free queue holds a block that is held, or not all that are free".into());
        }
        if self.kv.prefix().is_some_and(|prefix| !prefix.is_consistent()) {
            faults.push("the prefix cache's keys and blocks do not name one another".into());
        }
    }

    fn audit_running(&self, sequence: &Sequence, faults: &mut Vec<String>) {
        let Sequence { table, tokens, .. } = sequence;
        let (n_computed, n_known) = (table.n_computed(), tokens.known().len());
        let mut fault = |text: String| faults.push(format!("sequence {}: {text}", sequence.turn.arrival));
        if sequence.state != State::Running || sequence.share != Share::default() {
            fault(format!("is {:?} with {:?} between steps", sequence.state, sequence.share));
        }
        if !tokens.drafts().is_empty() {
            fault("has drafts between steps".into());
        }
        if n_computed >= n_known || n_computed > table.blocks().len() * BLOCK_TOKENS {
            fault(format!(
                "has computed {n_computed} of {n_known} tokens in {} blocks",
                table.blocks().len()
            ));
        }
        if table.n_followed() > n_computed {
            fault(format!("the draft model has {} confirmed tokens of {n_computed}", table.n_followed()));
        }
        let Some(prefix) = self.kv.prefix() else { return };
        for (idx, block) in table.blocks().iter().enumerate() {
            let is_full = (idx + 1) * BLOCK_TOKENS <= n_computed;
            let is_shared = self.kv.pool().n_refs(*block) > 1;
            if !is_full && (is_shared || prefix.key(*block).is_some()) {
                fault(format!("block {idx} is shared or can be hit, and is not full"));
            }
        }
    }
}

/// Whether two sequences may have the same block up to that position.
fn may_share(one: &Sequence, other: &Sequence, end: usize) -> bool {
    let is_same = one.turn.arrival == other.turn.arrival;
    let is_alike = one.tokens.known().get(..end) == other.tokens.known().get(..end);
    is_same || (one.table.salt().is_some() && one.table.salt() == other.table.salt() && is_alike)
}
