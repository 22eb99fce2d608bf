//! Budgets that replicas share over a real Redis: what is never overspent, and by how much it may be when a
//! replica or Redis dies.
//!
//! A replica here is a ledger with a journal of its own; all of them share one database and one Redis.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "shared_budgets/fleet.rs"]
mod fleet;
#[path = "shared_budgets/limits.rs"]
mod limits;
#[path = "shared_budgets/outages.rs"]
mod outages;
#[path = "services/redis.rs"]
mod redis_server;

use std::sync::Arc;

use fleet::{Fleet, budget, ended, eventually, send, team};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use stiver::ledger::budget::{Budget, Of, Window};
use stiver::ledger::{HoldError, Ledger};
use stiver::money::NanoUsd;
use tokio_util::task::TaskTracker;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_callers_of_eight_replicas_never_pass_the_edge() {
    let Some(fleet) = Fleet::start(8, &[budget(1_000)]).await else { return };

    let calls = (0..100).map(|nth| {
        let fleet = &fleet;
        async move {
            let Ok(mut hold) = fleet.hold(nth % 8, 17).await else { return 0 };
            send(&mut hold);
            let entry = ended(&hold, 17);
            hold.post(entry);
            17
        }
    });
    let spent: i64 = join_all(calls).await.into_iter().sum();

    assert_eq!(spent, 1_000 / 17 * 17);
    assert_eq!(fleet.settled().await, (spent, 0));
    fleet.check_that_all_adds_up().await;
    fleet.close().await;
}

const N_REPLICAS: usize = 8;
const N_STREAMS: usize = 256;
const ONE_DOLLAR: i64 = 1_000_000_000;

/// Calls of one stream of a client until the budget is spent or it has had three; what they cost.
async fn stream(ledger: Ledger, fleet: Arc<Fleet>, seed: u64) -> i64 {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut spent = 0;
    for _ in 0..3 {
        let ceiling = rng.random_range(1..2_000_000);
        let mut hold = match ledger.hold(fleet.ask(ceiling)).await {
            Ok(hold) => hold,
            Err(HoldError::BudgetExceeded { .. }) => continue,
            Err(other) => panic!("{other}"),
        };
        send(&mut hold);
        tokio::task::yield_now().await;
        let cost = ceiling - rng.random_range(0..=ceiling / 2);
        let entry = ended(&hold, cost);
        match rng.random_range(0..4) {
            0 => drop(hold.void(entry)),
            _ => {
                hold.post(entry);
                spent += cost;
            }
        }
    }
    spent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_replicas_with_256_streams_each_spend_a_dollar_and_no_more() {
    let Some(fleet) = Fleet::start(N_REPLICAS, &[budget(ONE_DOLLAR)]).await else { return };
    let fleet = Arc::new(fleet);
    let streams = TaskTracker::new();

    let running: Vec<_> = (0..N_REPLICAS * N_STREAMS)
        .map(|nth| {
            let ledger = fleet.ledgers[nth % N_REPLICAS].clone();
            streams.spawn(stream(ledger, Arc::clone(&fleet), nth as u64))
        })
        .collect();
    let spent: i64 = join_all(running).await.into_iter().map(Result::unwrap).sum();

    assert!(spent <= ONE_DOLLAR, "{spent} of a dollar");
    assert!(spent > ONE_DOLLAR * 9 / 10, "nearly all of it can be used: {spent}");
    assert_eq!(fleet.settled().await, (spent, 0));
    fleet.check_that_all_adds_up().await;
    Arc::into_inner(fleet).unwrap().close().await;
}

#[tokio::test]
async fn what_one_replica_spends_another_knows() {
    let Some(fleet) = Fleet::start(2, &[budget(100)]).await else { return };

    let held = fleet.hold(0, 60).await.unwrap();
    let over = fleet.hold(1, 41).await.unwrap_err();
    let at = fleet.hold(1, 40).await.unwrap();

    let HoldError::BudgetExceeded { spent, held: others, .. } = over else { panic!("{over}") };
    assert_eq!((spent.get(), others.get()), (0, 60));
    drop((held, at));
    assert_eq!(fleet.settled().await, (0, 0));
    fleet.close().await;
}

#[tokio::test]
async fn all_budgets_of_a_call_are_held_or_none() {
    let of_users = Budget { of: Of::EachUser, ..budget(10) };
    let Some(fleet) = Fleet::start(2, &[budget(100), of_users]).await else { return };

    let refused = fleet.hold(0, 11).await;

    assert!(refused.is_err());
    assert_eq!(fleet.settled().await, (0, 0), "the team's budget holds nothing");
    fleet.close().await;
}

#[tokio::test]
async fn a_new_replica_finds_what_was_spent_before_redis_was_there() {
    let Some(fleet) = Fleet::start(1, &[budget(100)]).await else { return };
    fleet.spend(0, 70).await;
    assert_eq!(fleet.settled().await, (70, 0));
    fleet.rows().await;
    fleet.flush_redis().await;

    let over = fleet.hold(0, 31).await;
    let at = fleet.hold(0, 30).await;

    assert!(over.is_err() && at.is_ok());
    drop(at);
    assert_eq!(fleet.settled().await, (70, 0), "read from the database, once");
    fleet.close().await;
}

#[tokio::test]
async fn a_caller_that_leaves_before_its_hold_is_there_leaves_nothing_held() {
    let Some(fleet) = Fleet::start(2, &[budget(1_000)]).await else { return };
    drop(fleet.hold(0, 1).await.unwrap());

    for _ in 0..50 {
        // Polled once: the script is on its way, and nobody waits for its answer.
        let hold = fleet.hold(0, 20);
        tokio::select! {
            biased;
            held = hold => drop(held),
            () = std::future::ready(()) => {}
        }
    }

    eventually("nothing is held", async || fleet.settled().await == (0, 0)).await;
    assert!(fleet.hold(1, 1_000).await.is_ok());
    fleet.close().await;
}

#[tokio::test]
async fn budgets_of_different_windows_have_different_accounts() {
    let month = Budget::new(NanoUsd::new(150), Window::Month);
    let Some(fleet) = Fleet::start(2, &[budget(100), month]).await else { return };

    fleet.spend(0, 100).await;
    assert!(fleet.hold(1, 1).await.is_err(), "the day is spent");
    fleet.clock.advance(86_400_000);
    assert!(fleet.hold(1, 51).await.is_err(), "of the month 50 are left");
    assert!(fleet.hold(1, 50).await.is_ok());
    fleet.close().await;
}

#[tokio::test]
async fn a_budget_that_is_changed_holds_what_was_spent_in_every_replica() {
    let Some(mut fleet) = Fleet::start(2, &[budget(100)]).await else { return };
    fleet.spend(0, 60).await;
    assert!(fleet.hold(1, 41).await.is_err());

    for (changed, left) in [
        (budget(150), 90),
        (budget(61), 1),
        (Budget::new(NanoUsd::new(80), Window::Month), 20),
        (Budget { of: Of::EachUser, ..budget(70) }, 10),
    ] {
        fleet.rows().await;
        fleet.budgets = [changed.clone()].into();
        for ledger in &fleet.ledgers {
            ledger.follow(&[(team(), vec![changed.clone()])]).await.unwrap();
        }
        for nth in 0..2 {
            assert!(fleet.hold(nth, left + 1).await.is_err(), "{changed:?} in replica {nth}");
            assert!(fleet.hold(nth, left).await.is_ok(), "{changed:?} in replica {nth}");
            assert_eq!(fleet.settled().await.1, 0, "what was held is free again");
        }
    }
    assert_eq!(fleet.settled().await.0, 60);
    fleet.close().await;
}
