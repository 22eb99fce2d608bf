//! Tests with the process gone: the journal as it lay on disk at that moment is opened again.
//!
//! Invariants: a crash is a copy of the journal and of the database; the holds of the dead process are
//! forgotten, so that none of their destructors runs.

use super::*;

/// The state on disk at this moment, in a folder of its own, as a `kill -9` would leave it.
pub(super) async fn disk_now(book: &Book) -> (TempDir, LedgerConfig) {
    let dir = tempfile::tempdir().unwrap();
    let config = LedgerConfig { path: dir.path().join("ledger.sqlite"), ..config_in(dir.path()) };
    std::fs::create_dir(&config.journal_dir).unwrap();
    // The journal first: a segment that goes meanwhile was committed, and the database is copied after.
    for name in segment_names(&book.config.journal_dir) {
        drop(std::fs::copy(book.config.journal_dir.join(&name), config.journal_dir.join(&name)));
    }
    let mut connection = SqliteConnectOptions::new().filename(&book.config.path).connect().await.unwrap();
    let copy = format!("VACUUM INTO '{}'", config.path.display());
    sqlx::query(sqlx::AssertSqlSafe(copy)).execute(&mut connection).await.unwrap();
    (dir, config)
}

/// Kills the book with `holds` in flight and opens what it left.
pub(super) async fn crash(book: Book, holds: Vec<Hold>) -> Book {
    let (dir, config) = disk_now(&book).await;
    holds.into_iter().for_each(std::mem::forget);
    book.ledger.close().await.unwrap();
    let ledger = Ledger::open(&config, book.clock.clone(), TaskTracker::new()).await.unwrap();
    Book { _dir: dir, config, clock: book.clock.clone(), ledger }
}

#[tokio::test]
async fn a_crash_before_sending_leaves_no_row() {
    let book = Book::new().await;
    let hold = hold_now(&book.ledger, ask(100, &per_day(100))).unwrap();

    let book = crash(book, vec![hold]).await;

    assert_eq!(book.rows().await, []);
    assert_eq!(book.ledger.remaining(&Payer::of_team(&team()), &per_day(100)), Some(NanoUsd::new(100)));
    book.close().await;
}

#[tokio::test]
async fn a_crash_after_sending_charges_the_ceiling() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(100, &per_day(100))).unwrap();
    send(&mut hold);

    let book = crash(book, vec![hold]).await;

    let row = book.rows().await.remove(0);
    assert_eq!((row.cost, row.outcome, row.estimated), (Some(NanoUsd::new(100)), Outcome::Interrupted, true));
    assert_eq!(row.upstream, Some(UpstreamName::from("large")));
    assert_eq!(book.ledger.balance(&team(), Window::Day).spent, NanoUsd::new(100));
    book.close().await;
}

#[tokio::test]
async fn a_crash_mid_stream_charges_what_was_last_journalled() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(100, &per_day(100))).unwrap();
    send(&mut hold);
    hold.progress(used(1), NanoUsd::new(1));
    book.clock.advance(249);
    hold.progress(used(2), NanoUsd::new(2));
    book.clock.advance(1);
    hold.progress(used(3), NanoUsd::new(3));
    book.clock.advance(249);
    hold.progress(used(4), NanoUsd::new(4));

    let book = crash(book, vec![hold]).await;

    let row = book.rows().await.remove(0);
    assert_eq!((row.cost, row.usage, row.outcome), (Some(NanoUsd::new(3)), used(3), Outcome::Interrupted));
    book.close().await;
}

#[tokio::test]
async fn a_crash_between_attempts_names_the_last_one() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(100, &[])).unwrap();
    send(&mut hold);
    hold.sent(&UpstreamName::from("spare"), "claude", 2).unwrap();

    let book = crash(book, vec![hold]).await;

    let row = book.rows().await.remove(0);
    assert_eq!((row.upstream, row.attempts), (Some(UpstreamName::from("spare")), 2));
    book.close().await;
}

#[tokio::test]
async fn a_crash_in_a_further_attempt_charges_the_ceiling_until_that_one_is_metered() {
    for (is_metered, cost) in [(false, 100), (true, 31)] {
        let book = Book::new().await;
        let mut hold = hold_now(&book.ledger, ask(100, &[])).unwrap();
        send(&mut hold);
        hold.progress(used(1), NanoUsd::new(30));
        hold.sent(&UpstreamName::from("spare"), "claude", 2).unwrap();
        if is_metered {
            hold.progress(used(2), NanoUsd::new(31));
        }

        let book = crash(book, vec![hold]).await;

        assert_eq!(book.rows().await[0].cost, Some(NanoUsd::new(cost)));
        book.close().await;
    }
}

#[tokio::test]
async fn an_unpriced_call_that_crashes_stays_unpriced() {
    let book = Book::new().await;
    let mut unpriced = ask(0, &[]);
    unpriced.entry_draft.cost = None;
    let mut hold = hold_now(&book.ledger, unpriced).unwrap();
    send(&mut hold);

    let book = crash(book, vec![hold]).await;

    assert_eq!(book.rows().await[0].cost, None);
    book.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_open_across_many_journal_files_is_still_posted_after_a_crash() {
    let book = Book::with(|config| config.segment_bytes = 4 << 10).await;
    let mut hold = hold_now(&book.ledger, ask(100, &[])).unwrap();
    send(&mut hold);
    hold.progress(used(9), NanoUsd::new(60));
    for _ in 0..100 {
        book.ledger.record(draft(NOW_MS)).unwrap();
    }
    book.ledger.flushed().await;
    // The first file, where the call was opened, is gone by now.
    assert!(!segment_names(&book.config.journal_dir).contains(&"00000001.wal".to_owned()));

    let book = crash(book, vec![hold]).await;

    let rows = book.rows().await;
    let interrupted: Vec<_> =
        rows.iter().filter(|row| row.outcome == Outcome::Interrupted && row.cost.is_some()).collect();
    assert_eq!(rows.len(), 101);
    assert_eq!(interrupted.len(), 1);
    assert_eq!((interrupted[0].cost, interrupted[0].usage), (Some(NanoUsd::new(60)), used(9)));
    book.close().await;
}

#[tokio::test]
async fn recovering_twice_from_the_same_journal_changes_nothing() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(100, &[])).unwrap();
    send(&mut hold);
    let (_dir, config) = disk_now(&book).await;
    let saved = tempfile::tempdir().unwrap();
    for name in segment_names(&config.journal_dir) {
        std::fs::copy(config.journal_dir.join(&name), saved.path().join(&name)).unwrap();
    }
    let open = || Ledger::open(&config, book.clock.clone(), TaskTracker::new());
    open().await.unwrap().close().await.unwrap();

    for name in segment_names(saved.path()) {
        std::fs::copy(saved.path().join(&name), config.journal_dir.join(&name)).unwrap();
    }
    let again = open().await.unwrap();

    assert_eq!(again.reports().recent(10, None).await.unwrap().len(), 1);
    assert_eq!(again.balance(&team(), Window::Day).spent, NanoUsd::new(100));
    again.close().await.unwrap();
    drop(hold);
    book.close().await;
}
