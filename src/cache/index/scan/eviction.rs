//! Which entry goes when there is no room: the one that is expected to save least for its bytes.
//!
//! Greedy-dual-size-frequency: an entry's priority is the clock plus uses × worth ÷ bytes, and the clock
//! is the priority of the last that went. So what saves much stays longer, and what is not used any more
//! is overtaken by the clock, however much it saved once.
//!
//! Holds no entries, and knows no bounds. Uses are not on disk: after a restart all begin at one.
//!
//! Invariants: an entry stands once in each order; a use needs no order changed, because a priority only
//! rises: whoever is found lowest is looked at again before it goes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::partition::Row;
use super::shelf::Handle;
use crate::money::NanoUsd;

/// Parts of a nano-dollar, so that a cheap answer's worth a byte is not rounded to nothing.
const PER_NANO: u128 = 1_024;
/// What an answer is taken to be worth at least: a nano-dollar a byte, near a short answer of the cheapest
/// hosted models. Answers without a price are kept by use and size alone.
const LEAST_PER_BYTE: u64 = 1_024;

/// How one entry stands against the others.
#[derive(Debug)]
pub(super) struct Standing {
    per_byte: u64,
    n_uses: AtomicU64,
    priority: AtomicU64,
    /// Its priority when it was put in order.
    queued: AtomicU64,
}

impl Standing {
    /// Of an entry that was used `n_uses` times, being stored included.
    pub(super) fn of(worth: NanoUsd, n_bytes: u64, n_uses: u64) -> Self {
        let nanos = u128::try_from(worth.get()).unwrap_or(0);
        let per_byte = nanos * PER_NANO / u128::from(n_bytes.max(1));
        Self {
            per_byte: u64::try_from(per_byte).unwrap_or(u64::MAX).max(LEAST_PER_BYTE),
            n_uses: AtomicU64::new(n_uses),
            priority: AtomicU64::new(0),
            queued: AtomicU64::new(0),
        }
    }

    pub(super) fn n_uses(&self) -> u64 {
        self.n_uses.load(Ordering::Relaxed)
    }

    fn priority_at(&self, clock: u64, n_uses: u64) -> u64 {
        clock.saturating_add(n_uses.saturating_mul(self.per_byte))
    }
}

/// All entries by priority and by end.
#[derive(Debug, Default)]
pub(super) struct Eviction {
    clock: u64,
    /// Priority, age, entry: of equals the older goes first.
    by_priority: BTreeSet<(u64, u64, Handle)>,
    by_end: BTreeSet<(i64, Handle)>,
}

impl Eviction {
    pub(super) fn insert(&mut self, row: Row, standing: &Standing) {
        let priority = standing.priority_at(self.clock, standing.n_uses());
        standing.priority.store(priority, Ordering::Relaxed);
        standing.queued.store(priority, Ordering::Relaxed);
        self.by_priority.insert((priority, row.age, row.entry));
        self.by_end.insert((row.expires_at_ms, row.entry));
    }

    pub(super) fn remove(&mut self, row: Row, standing: &Standing) {
        self.by_priority.remove(&(standing.queued.load(Ordering::Relaxed), row.age, row.entry));
        self.by_end.remove(&(row.expires_at_ms, row.entry));
    }

    /// Counts a use; the order hears of it when it matters.
    pub(super) fn touch(&self, standing: &Standing) {
        let n_uses = standing.n_uses.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        standing.priority.fetch_max(standing.priority_at(self.clock, n_uses), Ordering::Relaxed);
    }

    /// One whose time has come.
    pub(super) fn expired(&self, now_ms: i64) -> Option<Handle> {
        self.by_end.first().filter(|(expires_at_ms, _)| *expires_at_ms <= now_ms).map(|(_, entry)| *entry)
    }

    /// The entry with the lowest priority. The clock is set to it, so it has to go.
    pub(super) fn lowest<'a>(&mut self, standing: impl Fn(Handle) -> &'a Standing) -> Option<Handle> {
        loop {
            let (queued, age, entry) = *self.by_priority.first()?;
            let standing = standing(entry);
            let priority = standing.priority.load(Ordering::Relaxed);
            if priority == queued {
                self.clock = priority;
                return Some(entry);
            }
            self.by_priority.remove(&(queued, age, entry));
            self.by_priority.insert((priority, age, entry));
            standing.queued.store(priority, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries with a worth in nano-dollars and a size; used as often as said, then let go one by one.
    fn order_of(entries: &[(i64, u64, u64)]) -> Vec<usize> {
        let mut eviction = Eviction::default();
        let standings: Vec<Standing> = entries
            .iter()
            .map(|(worth, n_bytes, _)| Standing::of(NanoUsd::new(*worth), *n_bytes, 1))
            .collect();
        let row = |idx: usize| Row { entry: Handle::new(idx), age: idx as u64, expires_at_ms: 9 };
        for (idx, (_, _, n_uses)) in entries.iter().enumerate() {
            eviction.insert(row(idx), &standings[idx]);
            (1..*n_uses).for_each(|_| eviction.touch(&standings[idx]));
        }
        let mut gone = Vec::new();
        while let Some(entry) = eviction.lowest(|entry| &standings[entry.idx()]) {
            eviction.remove(row(entry.idx()), &standings[entry.idx()]);
            gone.push(entry.idx());
        }
        assert!(eviction.by_end.is_empty());
        gone
    }

    #[test]
    fn the_cheap_the_large_and_the_unused_go_first() {
        for (entries, expected) in [
            (vec![(9_000_000, 1_000, 1), (1_000_000, 1_000, 1)], [1, 0]),
            (vec![(1_000_000, 1_000, 1), (1_000_000, 9_000, 1)], [1, 0]),
            (vec![(1_000_000, 1_000, 2), (1_000_000, 1_000, 1)], [1, 0]),
            // A cheap one used often outlasts one nine times as dear.
            (vec![(1_000_000, 1_000, 10), (9_000_000, 1_000, 1)], [1, 0]),
            (vec![(1_000_000, 1_000, 8), (9_000_000, 1_000, 1)], [0, 1]),
            // All alike: the oldest.
            (vec![(1_000_000, 1_000, 1), (1_000_000, 1_000, 1)], [0, 1]),
            // Without a price, negative or below a nano-dollar a byte: by use and age.
            (vec![(0, 9_000, 2), (0, 10, 1)], [1, 0]),
            (vec![(-5, 1_000, 1), (999, 1_000, 1)], [0, 1]),
            (vec![(2_000, 1_000, 1), (0, 1_000, 1)], [1, 0]),
        ] {
            assert_eq!(order_of(&entries), expected, "{entries:?}");
        }
    }

    #[test]
    fn what_saved_much_once_is_overtaken_by_what_comes_later() {
        let mut eviction = Eviction::default();
        let row = |idx: usize| Row { entry: Handle::new(idx), age: idx as u64, expires_at_ms: 9 };
        let standing = || Standing::of(NanoUsd::new(1_000_000), 1_000, 1);
        let once = Standing::of(NanoUsd::new(1_000_000), 1_000, 50);
        eviction.insert(row(0), &once);

        // Newcomers, one in and one out.
        let mut n_gone = 0;
        for idx in 1..100 {
            let newer = standing();
            eviction.insert(row(idx), &newer);
            let lowest = eviction.lowest(|entry| if entry.idx() == 0 { &once } else { &newer }).unwrap();
            eviction.remove(row(lowest.idx()), if lowest.idx() == 0 { &once } else { &newer });
            n_gone += 1;
            if lowest.idx() == 0 {
                break;
            }
        }

        assert_eq!(n_gone, 50);
    }

    #[test]
    fn sums_that_do_not_fit_stay_at_the_top() {
        let dear = Standing::of(NanoUsd::MAX, 1, u64::MAX);
        let mut eviction = Eviction { clock: u64::MAX, ..Eviction::default() };

        eviction.insert(Row { entry: Handle::new(0), age: 0, expires_at_ms: 9 }, &dear);
        eviction.touch(&Standing::of(NanoUsd::MAX, 0, 1));

        assert_eq!(dear.priority.load(Ordering::Relaxed), u64::MAX);
    }

    #[test]
    fn an_end_is_reached_at_its_millisecond() {
        let mut eviction = Eviction::default();
        let row = Row { entry: Handle::new(3), age: 0, expires_at_ms: 9 };
        eviction.insert(row, &Standing::of(NanoUsd::ZERO, 1, 1));

        assert_eq!(eviction.expired(8), None);
        assert_eq!(eviction.expired(9), Some(Handle::new(3)));
    }
}
