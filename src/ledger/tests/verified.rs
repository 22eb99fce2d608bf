//! Tests that what does not add up is told, all of it, and put right from the rows.
//!
//! Invariants: none of its own.

use super::*;
use crate::ledger::budget::{Of, Zone};
use crate::ledger::verify::{Difference, VerifyAsk, rebuild, verify};

fn ask() -> VerifyAsk {
    VerifyAsk { now_ms: NOW_MS, ..VerifyAsk::default() }
}

async fn break_sums(book: &Book, sql: &'static str) {
    let mut connection = SqliteConnectOptions::new().filename(&book.config.path).connect().await.unwrap();
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn every_sum_that_is_wrong_is_told_and_made_again() {
    let book = Book::new().await;
    for (ts_ms, user) in
        [(NOW_MS, None), (NOW_MS - 3_600_000, Some("ann")), (NOW_MS - 86_400_000, Some("bob"))]
    {
        let user = user.map(str::to_owned);
        book.ledger.record(Entry { cost: Some(NanoUsd::new(7)), user, ..draft(ts_ms) }).unwrap();
    }
    book.rows().await;
    let sound = verify(&book.config, &ask()).await.unwrap();
    assert!(sound.adds_up(), "{:#?}", sound.differences);
    // Each row has a sum of its team and one of its calls, two have one of their user.
    assert_eq!(sound.n_hours, 3 * 2 + 2);

    break_sums(&book, "UPDATE subject_hours SET cost_nano_usd = 8 WHERE name = 'ann'").await;
    break_sums(&book, "DELETE FROM subject_hours WHERE name = 'bob'").await;
    break_sums(&book, "INSERT INTO subject_hours VALUES (1700000000000 - 1700000000000 % 3600000, 'ghost', 'team', '', 1, 0, 5)").await;

    let broken = verify(&book.config, &ask()).await.unwrap();
    let names: Vec<String> = broken.differences.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 3, "{names:#?}");
    for part in ["user `ann`", "user `bob`", "team `ghost`"] {
        assert!(names.iter().any(|name| name.contains(part)), "{part}: {names:#?}");
    }
    assert!(rebuild(&book.config, &ask()).await.unwrap() >= 2);
    assert!(verify(&book.config, &ask()).await.unwrap().adds_up());
    book.close().await;
}

#[tokio::test]
async fn a_row_that_is_missing_is_told_and_one_deleted_after_its_time_is_not() {
    let book = Book::new().await;
    for ts_ms in [NOW_MS, NOW_MS - 10 * 86_400_000] {
        book.ledger.record(Entry { cost: Some(NanoUsd::new(7)), ..draft(ts_ms) }).unwrap();
    }
    book.rows().await;
    let store = Store::open(&book.config).await.unwrap();
    while store.delete_some(NOW_MS - 86_400_000).await.unwrap() > 0 {}
    store.close().await;
    assert!(verify(&book.config, &ask()).await.unwrap().adds_up());

    break_sums(&book, "DELETE FROM postings").await;
    book.ledger.record(Entry { cost: Some(NanoUsd::new(1)), ..draft(NOW_MS) }).unwrap();
    book.rows().await;

    let differences = verify(&book.config, &ask()).await.unwrap().differences;
    let [Difference::Hour { rows, sums, .. }, _] = differences.as_slice() else {
        panic!("the team's and the calls': {differences:#?}");
    };
    assert_eq!((*rows, *sums), ([1, 0, 1], [2, 0, 8]));
    book.close().await;
}

#[tokio::test]
async fn balances_of_odd_zones_and_of_strangers_are_read_to_the_millisecond() {
    let book = Book::new().await;
    let kolkata = Budget { time_zone: Zone::named("Asia/Kolkata").unwrap(), ..per_day(1_000)[0].clone() };
    let span = kolkata.calendar().span(NOW_MS);
    for (ts_ms, user, cost) in [
        (span.start_ms - 1, Some("ann"), 1),
        (span.start_ms, Some("ann"), 10),
        (span.start_ms, None, 100),
        (NOW_MS, Some("bob"), 1_000),
        (NOW_MS, None, 10_000),
    ] {
        let (cost, user) = (Some(NanoUsd::new(cost)), user.map(str::to_owned));
        book.ledger.record(Entry { cost, user, ..draft(ts_ms) }).unwrap();
    }
    book.ledger.close().await.unwrap();

    let again = book.open_again().await;
    let of_users = Budget { of: Of::EachUser, ..kolkata.clone() };
    again.follow(&[(team(), vec![kolkata.clone(), of_users.clone()])]).await.unwrap();

    let spent = async |user: Option<&str>, budget: &Budget| {
        let payer = Payer { user: user.map(Arc::from), ..Payer::of_team(&team()) };
        again.balance_of_all(&payer, budget).await.unwrap().spent.get()
    };
    assert_eq!(spent(None, &kolkata).await, 11_110);
    assert_eq!(spent(Some("ann"), &of_users).await, 10);
    assert_eq!(spent(Some("bob"), &of_users).await, 1_000);
    assert_eq!(spent(None, &of_users).await, 10_100, "calls that name no user");
    let verified = again.verify_balances().await.unwrap();
    assert!(verified.adds_up(), "{:#?}", verified.differences);
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_window_that_a_reload_names_counts_what_was_spent_before() {
    let book = Book::new().await;
    for _ in 0..5 {
        book.ledger.record(Entry { cost: Some(NanoUsd::new(10)), ..draft(NOW_MS) }).unwrap();
    }
    let berlin = Budget { time_zone: Zone::named("Europe/Berlin").unwrap(), ..per_day(60)[0].clone() };

    book.ledger.follow(&[(team(), vec![berlin.clone()])]).await.unwrap();

    let asks = |ceiling| HoldAsk { budgets: [berlin.clone()].into(), ..super::ask(ceiling, &[]) };
    assert!(hold_now(&book.ledger, asks(11)).is_err());
    assert!(hold_now(&book.ledger, asks(10)).is_ok());
    book.close().await;
}
