//! In which order those who wait want in.
//!
//! Pure, and lazy: nobody is looked at before somebody asks for the next.
//!
//! Invariants: everybody comes exactly once; those who gave way come before new ones; nobody is overtaken
//! without bound.

use std::cmp::Reverse;
use std::collections::HashMap;

use serde::Deserialize;

use super::Served;
use crate::sequence::Turn;

/// Who goes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Who came first.
    #[default]
    Fcfs,
    /// The greatest priority; of equals, who came first. Low priorities may wait for as long as there are
    /// higher ones: that is what they are for.
    Priority,
    /// The tenant who has been served the fewest tokens.
    Fair,
    /// Whose prompt begins with the most that is cached.
    LongestPrefix,
}

/// Under `longest_prefix` whoever was overtaken so often goes first.
const MAX_OVERTAKEN: u32 = 32;

/// Under `longest_prefix` only so many are compared, because each costs a look into the cache.
const MAX_COMPARED: usize = 64;

/// One who waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    pub turn: Turn,
    pub is_preempted: bool,
    pub n_known: usize,
}

/// The greater goes later: a class, then what the policy goes by, then the arrival.
type Key = (bool, Reverse<i64>, u64);

/// Places in the queue, in the order of a policy. The queue itself is in the order of arrival.
pub struct Order<W> {
    n_waiting: usize,
    n_taken: usize,
    waiting: W,
    /// None when the order is that of the queue.
    keys: Option<Vec<Option<Key>>>,
    /// For `fair`: what those taken so far will cost their tenants.
    charged: Option<HashMap<u64, i64>>,
}

impl<W: Fn(usize) -> Waiting> Order<W> {
    /// `waiting` looks at a place in the queue, `n_cached` says how much of its text is in the cache.
    pub fn new(
        policy: Policy,
        n_waiting: usize,
        waiting: W,
        served: &Served,
        n_cached: impl Fn(usize) -> usize,
    ) -> Self {
        let key = |idx: usize| {
            let Waiting { turn, is_preempted, .. } = waiting(idx);
            let (is_late, weight) = match policy {
                Policy::Fcfs => (false, 0),
                Policy::Priority => (false, i64::from(turn.priority)),
                Policy::Fair => (!is_preempted, -served.n_tokens(turn.tenant)),
                Policy::LongestPrefix if is_preempted || turn.n_overtaken >= MAX_OVERTAKEN => (false, 0),
                Policy::LongestPrefix if idx >= MAX_COMPARED => (true, -1),
                Policy::LongestPrefix => (true, n_cached(idx) as i64),
            };
            Some((is_late, Reverse(weight), turn.arrival))
        };
        let keys = (policy != Policy::Fcfs).then(|| (0..n_waiting).map(key).collect());
        let charged = (policy == Policy::Fair).then(HashMap::new);
        Self { n_waiting, n_taken: 0, waiting, keys, charged }
    }
}

impl<W: Fn(usize) -> Waiting> Iterator for Order<W> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let Some(keys) = &mut self.keys else {
            let idx = self.n_taken;
            self.n_taken += 1;
            return (idx < self.n_waiting).then_some(idx);
        };
        let tenant_of = |idx: usize| (self.waiting)(idx).turn.tenant;
        let charged = |idx: usize| {
            self.charged.as_ref().and_then(|charged| charged.get(&tenant_of(idx))).copied().unwrap_or(0)
        };
        let key = |idx: usize, key: &Option<Key>| {
            key.map(|(is_late, Reverse(weight), arrival)| (is_late, Reverse(weight - charged(idx)), arrival))
        };
        let best = keys.iter().enumerate().filter_map(|(idx, entry)| Some((key(idx, entry)?, idx))).min();
        let (_, idx) = best?;
        keys[idx] = None;
        if let Some(charged) = &mut self.charged {
            let waiting = (self.waiting)(idx);
            *charged.entry(waiting.turn.tenant).or_insert(0) += waiting.n_known as i64;
        }
        Some(idx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(arrival: u64) -> Waiting {
        let turn = Turn { arrival, priority: 0, tenant: 0, n_overtaken: 0 };
        Waiting { turn, is_preempted: false, n_known: 10 }
    }

    fn order(policy: Policy, queue: &[Waiting], served: &Served, cached: &[usize]) -> Vec<u64> {
        let cached = |idx: usize| cached.get(idx).copied().unwrap_or(0);
        Order::new(policy, queue.len(), |idx| queue[idx], served, cached)
            .map(|idx| queue[idx].turn.arrival)
            .collect()
    }

    #[test]
    fn first_come_is_first_served() {
        let queue = [3, 5, 9].map(waiting);

        assert_eq!(order(Policy::Fcfs, &queue, &Served::default(), &[]), [3, 5, 9]);
    }

    #[test]
    fn the_greatest_priority_goes_first_and_equals_in_order() {
        let mut queue = [1, 2, 3, 4].map(waiting);
        for (waiting, priority) in queue.iter_mut().zip([0, 5, -1, 5]) {
            waiting.turn.priority = priority;
        }

        assert_eq!(order(Policy::Priority, &queue, &Served::default(), &[]), [2, 4, 1, 3]);
    }

    #[test]
    fn tenants_take_turns_by_what_they_were_served() {
        let mut queue = [1, 2, 3, 4, 5].map(waiting);
        for (waiting, tenant) in queue.iter_mut().zip([1, 1, 1, 2, 2]) {
            waiting.turn.tenant = tenant;
        }
        let mut served = Served::default();
        [1, 2].into_iter().for_each(|tenant| served.arrive(tenant));

        assert_eq!(order(Policy::Fair, &queue, &served, &[]), [1, 4, 2, 5, 3]);
        served.charge(1, 15);
        assert_eq!(order(Policy::Fair, &queue, &served, &[]), [4, 5, 1, 2, 3]);
        queue[2].is_preempted = true;
        assert_eq!(order(Policy::Fair, &queue, &served, &[]), [3, 4, 5, 1, 2]);
    }

    #[test]
    fn the_longest_cached_prefix_goes_first_until_somebody_was_overtaken_too_often() {
        let mut queue = [1, 2, 3].map(waiting);
        let cached = [0, 16, 32];
        let served = Served::default();

        queue[0].turn.n_overtaken = MAX_OVERTAKEN - 1;
        assert_eq!(order(Policy::LongestPrefix, &queue, &served, &cached), [3, 2, 1]);
        queue[0].turn.n_overtaken = MAX_OVERTAKEN;
        assert_eq!(order(Policy::LongestPrefix, &queue, &served, &cached), [1, 3, 2]);
    }
}
