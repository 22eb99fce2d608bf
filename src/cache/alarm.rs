//! Raises the failures of the cache's parts: a counter for each, a log line now and then.
//!
//! Does not decide what a failure means for a call; to the cache it is always a miss.
//!
//! Invariants: at most one log line per [`QUIET`] and part, however many calls fail.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const QUIET: Duration = Duration::from_secs(5);

/// The alarm of one part, such as `redis` or `embedder`.
#[derive(Debug)]
pub(super) struct Alarm {
    part: &'static str,
    n_raised: AtomicU64,
    last_line: Mutex<Option<Instant>>,
}

impl Alarm {
    pub(super) const fn of(part: &'static str) -> Self {
        Self { part, n_raised: AtomicU64::new(0), last_line: Mutex::new(None) }
    }

    pub(super) fn raise(&self, error: &dyn Display) {
        let n_raised = self.n_raised.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::counter!("stiver_cache_errors_total", "store" => self.part).increment(1);
        if self.is_due(Instant::now()) {
            tracing::warn!(cache.part = self.part, cache.n_errors = n_raised, %error, "the cache's {} fails; calls go on without it", self.part);
        }
    }

    pub(super) fn n_raised(&self) -> u64 {
        self.n_raised.load(Ordering::Relaxed)
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut last_line = self.last_line.lock();
        let due = last_line.is_none_or(|last| now.duration_since(last) >= QUIET);
        if due {
            *last_line = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_counted_and_one_in_a_while_is_logged() {
        let alarm = Alarm::of("redis");
        let start = Instant::now();

        alarm.raise(&"down");
        alarm.raise(&"down");

        assert_eq!(alarm.n_raised(), 2);
        let last = alarm.last_line.lock().unwrap();
        assert!(last >= start);
        assert!(!alarm.is_due(last + QUIET - Duration::from_millis(1)));
        assert!(alarm.is_due(last + QUIET));
    }
}
