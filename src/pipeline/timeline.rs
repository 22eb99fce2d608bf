//! When each stage of a call ended, for the call's row.
//!
//! Measures and judges nothing itself: stages say that they are done.
//!
//! Invariant: marking costs one atomic store; a stage that was not reached has no time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::ledger::entry::Stages;

/// A stage of a call, as far as it is timed before an answer is being metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Admitted,
    LookedUp,
    Scored,
    Planned,
    Held,
}

const N_STAGES: usize = 5;

/// Microseconds since the call arrived, plus one, at which its stages ended; 0 for those it has not reached.
#[derive(Debug, Default)]
pub(super) struct Timeline([AtomicU64; N_STAGES]);

impl Timeline {
    pub(super) fn mark(&self, stage: Stage, began: Instant) {
        let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.0[stage as usize].store(us + 1, Ordering::Relaxed);
    }

    pub(super) fn stages(&self) -> Stages {
        let at = |stage: Stage| self.0[stage as usize].load(Ordering::Relaxed).checked_sub(1);
        Stages {
            admitted_us: at(Stage::Admitted),
            looked_up_us: at(Stage::LookedUp),
            scored_us: at(Stage::Scored),
            planned_us: at(Stage::Planned),
            held_us: at(Stage::Held),
            ..Stages::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stages_that_were_reached_have_a_time() {
        let timeline = Timeline::default();
        timeline.mark(Stage::Admitted, Instant::now());

        let stages = timeline.stages();

        assert!(stages.admitted_us.is_some());
        assert_eq!(Stages { admitted_us: None, ..stages }, Stages::default());
    }
}
