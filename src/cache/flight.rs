//! Single flight: of many who miss the same answer at once, one fetches it and the others wait.
//!
//! Does not know where answers come from and sets no time limit; who waits does.
//!
//! Invariants: a key has at most one [`Leader`]; when the leader is gone, however it went, nobody
//! waits for it and the key is free.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::chat::Fingerprint;

type Waiting<T> = Mutex<HashMap<Fingerprint, watch::Receiver<Option<T>>>>;

/// All flights under way.
pub(super) struct Flights<T>(Arc<Waiting<T>>);

/// Who asked for a key: the first, or one of the others.
pub(super) enum Seat<T> {
    Leader(Leader<T>),
    Follower(Follower<T>),
}

/// Owes the followers an answer, or its own end.
pub(super) struct Leader<T> {
    key: Fingerprint,
    landed: watch::Sender<Option<T>>,
    waiting: Arc<Waiting<T>>,
}

pub(super) struct Follower<T>(watch::Receiver<Option<T>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Flights<T> {
    pub(super) fn join(&self, key: Fingerprint) -> Seat<T> {
        match self.0.lock().entry(key) {
            Entry::Occupied(flight) => Seat::Follower(Follower(flight.get().clone())),
            Entry::Vacant(free) => {
                let (landed, receiver) = watch::channel(None);
                free.insert(receiver);
                Seat::Leader(Leader { key, landed, waiting: Arc::clone(&self.0) })
            }
        }
    }

    #[cfg(test)]
    fn n_under_way(&self) -> usize {
        self.0.lock().len()
    }
}

impl<T> Leader<T> {
    /// Gives the answer to all who wait and, until the leader is dropped, to all who come.
    pub(super) fn announce(&self, answer: T) {
        self.landed.send_replace(Some(answer));
    }
}

impl<T> Drop for Leader<T> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.key);
    }
}

impl<T: Clone> Follower<T> {
    /// The leader's answer; `None` when it went without one.
    pub(super) async fn landing(mut self) -> Option<T> {
        let landed = self.0.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const KEY: Fingerprint = Fingerprint::new([7; 32]);

    fn lead(flights: &Flights<u32>) -> Leader<u32> {
        match flights.join(KEY) {
            Seat::Leader(leader) => leader,
            Seat::Follower(_) => panic!("the key was free"),
        }
    }

    fn follow(flights: &Flights<u32>) -> Follower<u32> {
        match flights.join(KEY) {
            Seat::Leader(_) => panic!("the key had a leader"),
            Seat::Follower(follower) => follower,
        }
    }

    #[tokio::test]
    async fn of_a_hundred_askers_one_leads_and_all_get_its_answer() {
        let flights = Flights::default();
        let leader = lead(&flights);
        let followers: Vec<_> = (0..99).map(|_| follow(&flights)).collect();

        leader.announce(42);

        for follower in followers {
            assert_eq!(follower.landing().await, Some(42));
        }
    }

    #[tokio::test]
    async fn a_leader_that_goes_without_an_answer_releases_its_followers() {
        let flights = Flights::default();
        let leader = lead(&flights);
        let mut landing = std::pin::pin!(follow(&flights).landing());
        assert_eq!(landing.as_mut().now_or_never(), None);

        drop(leader);

        assert_eq!(landing.await, None);
        assert_eq!(flights.n_under_way(), 0);
    }

    #[tokio::test]
    async fn who_comes_between_the_answer_and_the_leaders_end_gets_it_too() {
        let flights = Flights::default();
        let leader = lead(&flights);
        leader.announce(42);

        let late = follow(&flights);
        drop(leader);

        assert_eq!(late.landing().await, Some(42));
        let _next: Leader<u32> = lead(&flights);
    }
}
