//! A replica that dies with calls open, a Redis that dies and comes back empty, and what that may cost.

use stiver::ledger::entry::Outcome;
use stiver::ledger::verify::{VerifyAsk, rebuild};
use stiver::ledger::{HoldError, LedgerConfig, WhenAway};
use stiver::money::NanoUsd;

use crate::fleet::{Fleet, budget, ended, eventually, send, shared_config, team};

fn is_away(refused: &HoldError) -> bool {
    matches!(refused, HoldError::SharedAway { .. })
}

/// What each replica may spend without Redis.
fn may_spend_20(config: &mut LedgerConfig) {
    config.when_shared_store_is_away = WhenAway::FailOpen(NanoUsd::new(20));
}

/// As `stiver ledger rebuild` does.
async fn put_right(fleet: &Fleet) {
    let ask = VerifyAsk {
        budgets: vec![(team(), fleet.budgets.to_vec())],
        shared: shared_config(&fleet.redis, 5_000),
        now_ms: fleet.clock.now_ms(),
        since_ms: None,
    };
    rebuild(&fleet.config(0), &ask).await.unwrap();
}

#[tokio::test]
async fn a_dead_replicas_money_is_free_after_its_lease_and_its_rows_still_count() {
    let Some(mut fleet) = Fleet::start(2, &[budget(100)]).await else { return };
    let mut open = fleet.hold(0, 60).await.unwrap();
    send(&mut open);
    // Dead: it neither settles nor shows life, and what it left is in its journal.
    std::mem::forget(open);
    fleet.ledgers[0].close().await.unwrap();

    let refused = fleet.hold(1, 100).await;
    assert!(refused.is_err(), "the lease still lasts");
    eventually("the lease is over", async || fleet.hold(1, 100).await.is_ok()).await;
    assert_eq!(fleet.settled().await, (0, 0));
    fleet.spend(1, 100).await;
    fleet.ledgers[0] = fleet.open(0).await;

    let rows = fleet.rows().await;
    let interrupted: Vec<_> = rows.iter().filter(|row| row.outcome == Outcome::Interrupted).collect();
    assert_eq!((interrupted.len(), interrupted[0].cost), (1, Some(NanoUsd::new(60))));
    // The bound: the budget, and the ceilings of the calls that were open on the replica that died.
    assert_eq!(fleet.settled().await, (160, 0));
    assert!(fleet.hold(1, 1).await.is_err());
    fleet.check_that_all_adds_up().await;
    fleet.close().await;
}

#[tokio::test]
async fn a_live_replica_keeps_its_money_far_beyond_a_lease() {
    let Some(fleet) = Fleet::start(2, &[budget(100)]).await else { return };
    let open = fleet.hold(0, 60).await.unwrap();

    tokio::time::sleep(std::time::Duration::from_millis(3 * crate::fleet::LEASE_MS)).await;

    assert!(fleet.hold(1, 41).await.is_err());
    drop(open);
    assert_eq!(fleet.settled().await, (0, 0));
    fleet.close().await;
}

#[tokio::test]
async fn without_redis_calls_are_refused_and_with_it_back_nothing_is_forgotten() {
    let Some(mut fleet) = Fleet::start(2, &[budget(100)]).await else { return };
    fleet.spend(0, 30).await;
    let mut open = fleet.hold(0, 50).await.unwrap();
    send(&mut open);
    assert_eq!(fleet.settled().await, (30, 50));

    fleet.redis.kill();
    let refused = fleet.hold(1, 1).await.unwrap_err();
    assert!(is_away(&refused), "{refused}");
    fleet.rows().await;
    fleet.redis.restart();

    eventually("it answers again", async || match fleet.hold(1, 71).await {
        Ok(_) => panic!("30 of 100 are spent"),
        Err(refused) => !is_away(&refused),
    })
    .await;
    // The call in flight is held again with the next sign of life.
    eventually("what was open is held again", async || fleet.hold(1, 21).await.is_err()).await;
    let entry = ended(&open, 45);
    open.post(entry);
    assert_eq!(fleet.settled().await, (75, 0));
    assert!(fleet.hold(1, 25).await.is_ok());
    fleet.check_that_all_adds_up().await;
    fleet.close().await;
}

#[tokio::test]
async fn a_call_that_ends_while_redis_is_away_is_settled_when_it_is_back() {
    let Some(mut fleet) = Fleet::start(1, &[budget(100)]).await else { return };
    let mut open = fleet.hold(0, 50).await.unwrap();
    send(&mut open);
    fleet.redis.kill();

    let entry = ended(&open, 45);
    open.post(entry);
    assert_eq!(fleet.ledgers[0].n_unsettled(), 1);
    fleet.redis.restart();

    assert_eq!(fleet.settled().await, (45, 0));
    eventually("it answers again", async || fleet.hold(0, 55).await.is_ok()).await;
    assert!(fleet.hold(0, 56).await.is_err());
    fleet.close().await;
}

#[tokio::test]
async fn each_replica_spends_its_allowance_without_redis_and_all_of_it_is_told_afterwards() {
    let Some(mut fleet) = Fleet::start_with(2, &[budget(1_000)], may_spend_20).await else { return };
    fleet.spend(0, 500).await;
    fleet.spend(1, 100).await;
    assert_eq!(fleet.settled().await, (600, 0));

    fleet.redis.kill();
    for nth in 0..2 {
        fleet.spend(nth, 12).await;
        assert!(is_away(&fleet.hold(nth, 9).await.unwrap_err()), "12 of 20 are spent");
        fleet.spend(nth, 8).await;
        assert!(is_away(&fleet.hold(nth, 1).await.unwrap_err()), "the allowance is spent");
    }
    fleet.rows().await;
    fleet.redis.restart();
    eventually("it answers again", async || fleet.hold(0, 1).await.is_ok()).await;

    // The bound: the allowance of each replica beyond what Redis would have granted.
    let (spent, held) = fleet.settled().await;
    assert_eq!(held, 0);
    // An account that is read again while rows are on their way may count some of them twice, never less than once.
    assert!((640..=680).contains(&spent), "{spent}");
    put_right(&fleet).await;
    assert_eq!(fleet.settled().await, (640, 0));
    fleet.check_that_all_adds_up().await;
    fleet.close().await;
}

#[tokio::test]
async fn an_allowance_is_not_for_a_budget_that_was_spent_already() {
    let Some(mut fleet) = Fleet::start_with(1, &[budget(100)], may_spend_20).await else { return };
    fleet.spend(0, 95).await;
    assert_eq!(fleet.settled().await, (95, 0));
    assert!(fleet.hold(0, 6).await.is_err(), "it hears of the balance");
    fleet.redis.kill();

    assert!(is_away(&fleet.hold(0, 6).await.unwrap_err()));
    assert!(fleet.hold(0, 5).await.is_ok());
    fleet.redis.restart();
    fleet.settled().await;
    fleet.close().await;
}

#[tokio::test]
async fn at_the_bound_of_ended_calls_that_redis_has_not_heard_of_no_further_one_is_let_in() {
    let budgets = [budget(1_000)];
    let started = Fleet::start_with(1, &budgets, |config| {
        may_spend_20(config);
        config.max_unsettled_calls = 3;
    });
    let Some(mut fleet) = started.await else { return };
    let mut in_flight = fleet.hold(0, 100).await.unwrap();
    send(&mut in_flight);
    assert_eq!(fleet.settled().await, (0, 100));
    fleet.redis.kill();

    // Below the bound, where each of them waits.
    for n_before in 0..3 {
        assert_eq!(fleet.ledgers[0].n_unsettled(), n_before);
        fleet.spend(0, 1).await;
    }
    // At it: the allowance is not spent, and yet nobody is let in. What is in flight still ends.
    let refused = fleet.hold(0, 1).await.unwrap_err();
    let entry = ended(&in_flight, 90);
    assert!(in_flight.post(entry).durable);

    assert!(is_away(&refused) && refused.to_string().contains("`ledger.max_unsettled_calls`"), "{refused}");
    assert_eq!(fleet.ledgers[0].n_unsettled(), 4);
    let unready = fleet.ledgers[0].shared_readiness().await.unwrap().unwrap_err();
    assert!(unready.contains("4 ended calls wait"), "{unready}");
    assert_eq!(fleet.rows().await.len(), 4, "the database has them all");
    fleet.redis.restart();
    let (spent, held) = fleet.settled().await;
    assert_eq!(held, 0);
    // Redis came back empty: what is read again while it is told may count twice, never less than once.
    assert!((93..=186).contains(&spent), "{spent}");
    eventually("calls are let in again", async || fleet.hold(0, 1).await.is_ok()).await;
    put_right(&fleet).await;
    assert_eq!(fleet.settled().await, (93, 0));
    fleet.check_that_all_adds_up().await;
    fleet.close().await;
}

#[tokio::test]
async fn calls_that_are_refused_without_asking_redis_do_not_wait_to_be_told_to_it() {
    let Some(mut fleet) = Fleet::start(1, &[budget(100)]).await else { return };
    fleet.redis.kill();

    for _ in 0..1_000 {
        assert!(is_away(&fleet.hold(0, 1).await.unwrap_err()));
    }

    // A request that was sent may have been heard; for a moment after it failed none is sent.
    let n_unsettled = fleet.ledgers[0].n_unsettled();
    assert!((1..100).contains(&n_unsettled), "{n_unsettled}");
    fleet.redis.restart();
    assert_eq!(fleet.settled().await, (0, 0));
    fleet.close().await;
}
