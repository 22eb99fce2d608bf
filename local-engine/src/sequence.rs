//! One text that is being continued, from its arrival to its end.
//!
//! Decides nothing about when it runs (`scheduler` does) and computes nothing.
//!
//! Invariants: a waiting or preempted sequence holds no blocks; drafts are never part of the known text.

mod answer;
mod presence;
mod tally;

pub use answer::{Answer, Taken};
pub use presence::Presence;
pub use tally::{Pause, Tally};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::kv::BlockTable;
use crate::request::{FinishReason, TokenId};
use crate::speculate::Drafting;

//              admit                       the last known token is computed
//   Waiting ──────────▶ Running: prefilling ──────────────────────▶ Running: decoding
//      │                  ▲   │                                       │          │
//      │            admit │   │ preempt                       preempt │          │
//      │                  │   ▼                                       │          │
//      │                 Preempted ◀──────────────────────────────────┘          │
//      │                    │                                                    │
//      └────────────────────┴──▶ Finished ◀──────────────────────────────────────┘
//        abort, deadline                   stop, length, abort, deadline, failure (from prefilling, too)
/// Where a sequence is in its life. Whether a running one prefills or decodes shows in its
/// [gap](Sequence::gap).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Waiting,
    Running,
    /// It gave its blocks back to others and will compute its text again.
    Preempted,
    Finished(FinishReason),
}

/// What a scheduler orders by.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// A number of its own, in the order in which they were queued first.
    pub arrival: u64,
    pub priority: i32,
    pub tenant: u64,
    /// How many that came later were admitted before it.
    pub n_overtaken: u32,
}

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Known tokens to compute.
    pub n_tokens: usize,
    /// Proposed tokens to compute after them.
    pub n_drafts: usize,
}

impl Share {
    pub fn n_computed(&self) -> usize {
        self.n_tokens + self.n_drafts
    }
}

/// The prompt, the answer so far, and for the length of a step what might follow.
#[derive(Debug)]
pub struct Tokens {
    ids: Vec<TokenId>,
    n_known: usize,
}

impl Tokens {
    pub fn new(prompt: &[TokenId]) -> Self {
        Self { ids: prompt.to_vec(), n_known: prompt.len() }
    }

    pub fn known(&self) -> &[TokenId] {
        &self.ids[..self.n_known]
    }

    pub fn drafts(&self) -> &[TokenId] {
        &self.ids[self.n_known..]
    }

    pub fn with_drafts(&self) -> &[TokenId] {
        &self.ids
    }

    pub fn draft(&mut self, token: TokenId) {
        self.ids.push(token);
    }

    /// Keeps the first of the drafts.
    pub fn truncate_drafts(&mut self, n_drafts: usize) {
        self.ids.truncate(self.n_known + n_drafts);
    }

    /// The next token is known; all drafts are gone but those after it, if it was the first of them.
    /// Says whether it was.
    pub fn push(&mut self, token: TokenId) -> bool {
        let is_drafted = self.drafts().first() == Some(&token);
        if !is_drafted {
            self.ids.truncate(self.n_known);
            self.ids.push(token);
        }
        self.n_known += 1;
        is_drafted
    }
}

/// How to end a sequence from outside.
#[derive(Debug)]
pub struct Leave {
    pub is_aborted: Arc<AtomicBool>,
    pub deadline: Option<Instant>,
}

/// One generation.
#[derive(Debug)]
pub struct Sequence {
    pub state: State,
    pub turn: Turn,
    pub tokens: Tokens,
    pub table: BlockTable,
    pub share: Share,
    pub drafting: Drafting,
    pub answer: Answer,
    pub leave: Leave,
    pub tally: Tally,
    /// None once it is finished.
    pub presence: Option<Presence>,
}

impl Sequence {
    /// Known tokens that are not computed: 1 while decoding, more while prefilling.
    pub fn gap(&self) -> usize {
        self.tokens.known().len() - self.table.n_computed()
    }

    /// Whether this step's share ends with the last known token, so that the next one can be chosen.
    pub fn reaches_end(&self) -> bool {
        self.share.n_tokens == self.gap()
    }

    /// Why it has to end whatever it is doing.
    pub fn expired(&self, now: Instant) -> Option<FinishReason> {
        if self.leave.is_aborted.load(Ordering::Acquire) || self.answer.is_unheard() {
            return Some(FinishReason::Aborted);
        }
        self.leave.deadline.filter(|deadline| *deadline <= now).map(|_| FinishReason::Deadline)
    }

    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished(_))
    }

    /// Tells the caller that it is over; what it holds is given back by whoever owns the blocks.
    pub fn finish(&mut self, reason: FinishReason) {
        if !self.is_finished() {
            self.state = State::Finished(reason.clone());
            // Before the caller hears of it: the next request finds the room that this one leaves.
            self.presence = None;
            self.answer.finish(reason, self.tally.usage());
        }
    }
}
