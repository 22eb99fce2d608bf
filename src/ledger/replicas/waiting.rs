//! How many calls have ended that the shared store has not been told of, and how many may.
//!
//! Counts; it keeps none of them.
//!
//! Invariants: at the bound no further call is let in; a call that was let in before is never turned away, so
//! what waits can pass the bound by the calls in flight, and by what an earlier run left in its journal.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use metrics::gauge;

#[derive(Debug)]
pub(super) struct Waiting {
    n: AtomicUsize,
    n_max: usize,
    /// Told to the operator once each time.
    is_full: AtomicBool,
}

impl Waiting {
    pub(super) fn new(n_max: usize) -> Self {
        Self { n: AtomicUsize::new(0), n_max: n_max.max(1), is_full: AtomicBool::new(false) }
    }

    pub(super) fn n(&self) -> usize {
        self.n.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self) {
        self.n.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, n_told: usize) {
        let n_left = self.n.fetch_sub(n_told, Ordering::Relaxed) - n_told;
        if n_left < self.n_max && self.is_full.swap(false, Ordering::Relaxed) {
            tracing::info!(n_left, "calls of teams with budgets are let in again");
        }
    }

    /// Whether one more call may be let in, or why not.
    pub(super) fn check_room(&self) -> Result<(), String> {
        let n = self.n();
        if n < self.n_max {
            return Ok(());
        }
        let n_max = self.n_max;
        if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::error!(
                n,
                n_max,
                "too many ended calls wait for the shared store; calls of teams with budgets are refused"
            );
        }
        Err(format!(
            "{n} ended calls wait to be told to the shared redis, the limit is {n_max}; bring it back, or raise \
             `ledger.max_unsettled_calls`"
        ))
    }

    /// For each reading of the metrics, so that no call pays for it.
    pub(super) fn report(&self) {
        gauge!("stiver_shared_settlements_waiting").set(self.n() as f64);
        gauge!("stiver_shared_settlements_limit").set(self.n_max as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_below_the_bound_and_none_at_it() {
        let waiting = Waiting::new(2);

        let mut rooms = vec![waiting.check_room().is_ok()];
        for _ in 0..3 {
            waiting.add();
            rooms.push(waiting.check_room().is_ok());
        }
        for _ in 0..3 {
            waiting.remove(1);
            rooms.push(waiting.check_room().is_ok());
        }

        assert_eq!(rooms, [true, true, false, false, false, true, true]);
    }

    #[test]
    fn a_refusal_names_the_number_the_limit_and_the_remedy() {
        let waiting = Waiting::new(1);
        waiting.add();

        let why = waiting.check_room().unwrap_err();

        for part in ["1 ended calls", "the limit is 1", "`ledger.max_unsettled_calls`"] {
            assert!(why.contains(part), "{why}");
        }
    }
}
