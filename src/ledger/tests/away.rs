//! Tests with the database taken away, and with the journal at its bound.
//!
//! Invariants: none of its own.

use super::*;

/// Holds SQLite's only write lock until it is dropped.
struct Away(SqliteConnection);

impl Away {
    async fn take(book: &Book) -> Self {
        let options = SqliteConnectOptions::new().filename(&book.config.path);
        let mut connection = options.connect().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        Self(connection)
    }

    async fn give_back(mut self) {
        sqlx::query("ROLLBACK").execute(&mut self.0).await.unwrap();
        self.0.close().await.unwrap();
    }
}

fn call(ledger: &Ledger, cost: i64) -> Result<Posted, HoldError> {
    let mut hold = hold_now(ledger, ask(cost, &[]))?;
    send(&mut hold);
    let entry = ended(&hold, cost);
    Ok(hold.post(entry))
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_posted_while_the_database_is_away_are_all_there_afterwards() {
    let book = Book::with(|config| config.segment_bytes = 16 << 10).await;
    let away = Away::take(&book).await;

    for cost in 1..=200 {
        assert!(call(&book.ledger, cost).unwrap().durable);
    }
    assert_eq!(book.ledger.n_pending(), 200);
    away.give_back().await;

    let rows = book.rows().await;
    assert_eq!(rows.len(), 200);
    assert_eq!(rows.iter().map(|row| row.charge().get()).sum::<i64>(), 200 * 201 / 2);
    book.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_refuses_new_calls_and_takes_them_again_once_it_is_written() {
    let book = Book::with(|config| config.max_journal_bytes = 64 << 10).await;
    let away = Away::take(&book).await;
    let mut in_flight = hold_now(&book.ledger, ask(1, &[])).unwrap();

    let mut n_posted = 0;
    let refused = loop {
        match call(&book.ledger, 1) {
            Ok(_) => n_posted += 1,
            Err(error) => break error,
        }
    };
    // What is already in flight still goes on: its answer is bought.
    send(&mut in_flight);
    let entry = ended(&in_flight, 1);
    assert!(in_flight.post(entry).durable);
    assert!(book.ledger.record(draft(NOW_MS)).is_err());
    away.give_back().await;
    book.ledger.flushed().await;

    let HoldError::JournalFull { size_bytes, max_bytes } = refused else {
        panic!("refused for another reason: {refused}");
    };
    assert!(size_bytes >= max_bytes && n_posted > 10, "{n_posted} posted, {size_bytes} bytes");
    assert!(call(&book.ledger, 1).is_ok());
    assert_eq!(book.rows().await.len(), n_posted + 2);
    book.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_without_a_database_leaves_the_rows_for_the_next_start() {
    let book = Book::with(|config| config.close_timeout_ms = 10).await;
    let away = Away::take(&book).await;
    call(&book.ledger, 5).unwrap();

    let closed = book.ledger.close().await.unwrap_err();
    away.give_back().await;
    let again = book.open_again().await;

    assert!(matches!(closed, LedgerError::Unflushed { n_rows: 1 }), "{closed}");
    assert_eq!(again.reports().recent(10, None).await.unwrap().len(), 1);
    assert_eq!(again.balance(&team(), Window::Day).spent, NanoUsd::new(5));
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_row_that_the_journal_cannot_take_goes_to_the_database_directly() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(10, &[])).unwrap();
    send(&mut hold);
    let too_large = Entry { tags: vec!["x".repeat(2 << 20)], ..ended(&hold, 10) };

    let posted = hold.post(too_large);

    assert!(!posted.durable);
    assert_eq!(book.rows().await.len(), 1);
    book.ledger.close().await.unwrap();
    let again = book.open_again().await;
    assert_eq!(again.balance(&team(), Window::Day).spent, NanoUsd::new(10));
    assert_eq!(again.reports().recent(10, None).await.unwrap().len(), 1);
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_call_that_cannot_be_journalled_is_not_sent() {
    let book = Book::new().await;
    let mut ask = ask(10, &per_day(10));
    ask.entry_draft.tags = vec!["x".repeat(2 << 20)];
    let mut hold = hold_now(&book.ledger, ask).unwrap();

    let refused = hold.sent(&UpstreamName::from("large"), "gpt", 1);

    assert!(matches!(refused, Err(HoldError::JournalFailed(_))));
    drop(hold);
    assert_eq!(book.rows().await, []);
    assert_eq!(book.ledger.remaining(&Payer::of_team(&team()), &per_day(10)), Some(NanoUsd::new(10)));
    book.close().await;
}
