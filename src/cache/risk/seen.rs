//! What an account was asked and what its audits showed: figures to look at.
//!
//! Nothing is decided by them; the bound needs none.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) n_hits: u64,
    /// Audits whose coin came up, whatever became of them.
    pub(super) n_audits: u64,
    pub(super) n_wrong_audits: u64,
    /// Wrong answers among all hits, as audits let one guess: each found one stands for those that were as
    /// likely to be audited and were not.
    pub(super) n_wrong_estimated: f64,
}

impl Seen {
    pub(super) fn find_wrong(&mut self, share: f64) {
        self.n_wrong_audits += 1;
        self.n_wrong_estimated += 1.0 / share;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.n_hits += other.n_hits;
        self.n_audits += other.n_audits;
        self.n_wrong_audits += other.n_wrong_audits;
        self.n_wrong_estimated += other.n_wrong_estimated;
    }
}
