//! Tests of the book as a whole, on a real SQLite file and a real journal in a folder of their own.
//!
//! Invariants: a [`Book`] checks, when it is closed, that nothing is held and nothing is unwritten.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tempfile::TempDir;

use super::budget::{Payer, Window};
use super::entry::Outcome;
use super::report::{By, SpendAsk};
use super::*;
use crate::chat::usage::Usage;
use crate::team::{CallId, RouteName, TeamName, UpstreamName};

mod audits;
mod away;
mod chance;
mod crash;
mod keys;
mod kill;
mod teams;
mod texts;
mod verified;

const NOW_MS: i64 = 1_700_000_000_000;

struct Book {
    _dir: TempDir,
    config: LedgerConfig,
    clock: Clock,
    ledger: Ledger,
}

impl Book {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut LedgerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config_in(dir.path());
        change(&mut config);
        let clock = Clock::standing_at(NOW_MS);
        let ledger = Ledger::open(&config, clock.clone(), TaskTracker::new()).await.unwrap();
        Self { _dir: dir, config, clock, ledger }
    }

    async fn open_again(&self) -> Ledger {
        Ledger::open(&self.config, self.clock.clone(), TaskTracker::new()).await.unwrap()
    }

    async fn rows(&self) -> Vec<Entry> {
        self.ledger.flushed().await;
        self.ledger.reports().recent(10_000, None).await.unwrap()
    }

    async fn close(self) {
        self.ledger.close().await.unwrap();
        for window in Window::ALL {
            assert_eq!(self.ledger.balance(&team(), window).held, NanoUsd::ZERO, "held per {window}");
        }
        assert_eq!(segment_names(&self.config.journal_dir), Vec::<String>::new());
    }
}

fn config_in(dir: &Path) -> LedgerConfig {
    LedgerConfig {
        path: dir.join("ledger.sqlite"),
        journal_dir: dir.join("journal"),
        flush_interval_ms: 1,
        fsync_interval_ms: 1,
        ..LedgerConfig::default()
    }
}

fn segment_names(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".wal"));
    names.sort();
    names
}

fn team() -> TeamName {
    TeamName::from("search")
}

fn next_id() -> CallId {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut entropy = [0; 10];
    // The first bytes make room for the version of the id.
    entropy[6..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    CallId::new(NOW_MS, entropy)
}

fn draft(ts_ms: i64) -> Entry {
    Entry::draft(next_id(), ts_ms, team(), "/v1/chat/completions", RouteName::from("auto"))
}

fn ask(ceiling: i64, budgets: &[Budget]) -> HoldAsk {
    let ceiling = NanoUsd::new(ceiling);
    let entry_draft = Entry { cost: Some(ceiling), ..draft(NOW_MS) };
    HoldAsk { entry_draft, ceiling, budgets: budgets.into() }
}

/// Books in this process do not wait.
fn hold_now(ledger: &Ledger, ask: HoldAsk) -> Result<Hold, HoldError> {
    ledger.hold(ask).now_or_never().expect("books in this process do not wait")
}

fn per_day(nanos: i64) -> [Budget; 1] {
    [Budget::new(NanoUsd::new(nanos), Window::Day)]
}

fn send(hold: &mut Hold) {
    hold.sent(&UpstreamName::from("large"), "gpt", 1).unwrap();
}

fn ended(hold: &Hold, cost: i64) -> Entry {
    let cost = Some(NanoUsd::new(cost));
    Entry { cost, outcome: Outcome::Ok, estimated: false, status: 200, ..hold.draft().clone() }
}

fn used(output: u64) -> Usage {
    Usage { input: 10, output, ..Usage::default() }
}

#[tokio::test]
async fn a_posted_call_has_one_row_with_all_its_fields() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(100, &per_day(100))).unwrap();
    send(&mut hold);
    let entry = Entry {
        user: Some("u1".to_owned()),
        tags: vec!["nightly".to_owned(), "a\"b".to_owned()],
        score: Some(0.25),
        usage: Usage { input: 7, cached_read: 3, output: 5, reasoning: 2, ..Usage::default() },
        baseline: Some(NanoUsd::new(500)),
        first_byte_ms: Some(12),
        ..ended(&hold, 42)
    };

    let posted = hold.post(entry.clone());

    assert_eq!(posted, Posted { cost: Some(NanoUsd::new(42)), durable: true });
    assert_eq!(book.rows().await, [entry]);
    assert_eq!(book.ledger.balance(&team(), Window::Day).spent, NanoUsd::new(42));
    book.close().await;
}

#[tokio::test]
async fn a_hold_within_the_budget_is_granted_and_one_nano_dollar_over_is_refused() {
    let book = Book::new().await;
    let first = hold_now(&book.ledger, ask(60, &per_day(100))).unwrap();

    let over = hold_now(&book.ledger, ask(41, &per_day(100))).unwrap_err();
    let at = hold_now(&book.ledger, ask(40, &per_day(100))).unwrap();

    let HoldError::BudgetExceeded { limit, spent, held, resets_at_ms, .. } = over else {
        panic!("refused for another reason: {over}");
    };
    assert_eq!((limit.get(), spent.get(), held.get()), (100, 0, 60));
    assert_eq!(resets_at_ms, Window::Day.bounds_ms(NOW_MS).1);
    assert_eq!(book.ledger.remaining(&Payer::of_team(&team()), &per_day(100)), Some(NanoUsd::ZERO));
    assert_eq!(book.ledger.remaining(&Payer::of_team(&team()), &[]), None);
    drop((first, at));
    book.close().await;
}

#[tokio::test]
async fn a_hold_never_sent_is_released_without_a_row() {
    let book = Book::new().await;

    drop(hold_now(&book.ledger, ask(100, &per_day(100))).unwrap());

    assert_eq!(book.ledger.remaining(&Payer::of_team(&team()), &per_day(100)), Some(NanoUsd::new(100)));
    assert_eq!(book.rows().await, []);
    book.close().await;
}

#[tokio::test]
async fn a_voided_call_keeps_its_row_and_costs_nothing() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(100, &per_day(100))).unwrap();
    send(&mut hold);
    let entry = Entry { outcome: Outcome::UpstreamError, ..ended(&hold, 77) };

    hold.void(entry);

    let rows = book.rows().await;
    assert_eq!((rows.len(), rows[0].cost, rows[0].outcome), (1, Some(NanoUsd::ZERO), Outcome::UpstreamError));
    assert_eq!(book.ledger.balance(&team(), Window::Day).spent, NanoUsd::ZERO);
    book.close().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_mid_stream_posts_what_was_metered() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(100, &per_day(100))).unwrap();
    send(&mut hold);
    hold.progress(used(5), NanoUsd::new(30));
    hold.progress(used(6), NanoUsd::new(20));
    book.clock.advance(900);

    drop(hold);

    let rows = book.rows().await;
    let [row] = rows.as_slice() else { panic!("one row, got {}", rows.len()) };
    assert_eq!((row.cost, row.outcome, row.estimated), (Some(NanoUsd::new(30)), Outcome::ClientGone, true));
    assert_eq!((row.usage, row.total_ms), (used(6), 900));
    assert_eq!(book.ledger.balance(&team(), Window::Day).spent, NanoUsd::new(30));
    book.close().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_first_byte_is_voided() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(100, &per_day(100))).unwrap();
    send(&mut hold);

    drop(hold);

    let rows = book.rows().await;
    assert_eq!((rows.len(), rows[0].cost, rows[0].outcome), (1, Some(NanoUsd::ZERO), Outcome::ClientGone));
    book.close().await;
}

#[tokio::test]
async fn a_hold_may_end_on_another_thread_and_outlive_the_book_it_came_from() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger.clone(), ask(10, &[])).unwrap();

    std::thread::spawn(move || {
        send(&mut hold);
        hold.progress(used(1), NanoUsd::new(4));
    })
    .join()
    .unwrap();

    assert_eq!(book.rows().await[0].cost, Some(NanoUsd::new(4)));
    book.close().await;
}

#[tokio::test]
async fn a_call_dearer_than_its_ceiling_is_charged_in_full() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(10, &per_day(10))).unwrap();
    send(&mut hold);
    let entry = ended(&hold, 15);

    hold.post(entry);

    assert_eq!(book.ledger.balance(&team(), Window::Day).spent, NanoUsd::new(15));
    assert!(hold_now(&book.ledger, ask(0, &per_day(10))).is_err());
    assert_eq!(book.ledger.remaining(&Payer::of_team(&team()), &per_day(10)), Some(NanoUsd::ZERO));
    book.close().await;
}

#[tokio::test]
async fn the_call_keeps_its_id_team_and_time_whatever_the_entry_says() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(10, &[])).unwrap();
    send(&mut hold);
    let expected = (hold.draft().id, hold.draft().ts_ms, team());
    let stray = Entry { id: next_id(), ts_ms: 5, team: TeamName::from("other"), ..ended(&hold, 1) };

    hold.post(stray);

    let row = book.rows().await.remove(0);
    assert_eq!((row.id, row.ts_ms, row.team), expected);
    book.close().await;
}

#[tokio::test]
async fn an_unpriced_call_is_counted_and_not_charged() {
    let book = Book::new().await;
    let mut hold = hold_now(&book.ledger, ask(10, &per_day(10))).unwrap();
    send(&mut hold);
    let entry = Entry { cost: None, ..ended(&hold, 0) };

    hold.post(entry);

    assert_eq!(book.rows().await[0].cost, None);
    let total = book.ledger.reports().spend(&SpendAsk::over(&[], 0, i64::MAX)).await.unwrap();
    assert_eq!((total[0].sums.n_calls, total[0].sums.n_unpriced, total[0].sums.cost), (1, 1, NanoUsd::ZERO));
    assert_eq!(book.ledger.balance(&team(), Window::Day).spent, NanoUsd::ZERO);
    book.close().await;
}

#[tokio::test]
async fn balances_are_read_back_from_the_windows_they_belong_to() {
    let book = Book::new().await;
    let (today_ms, _) = Window::Day.bounds_ms(NOW_MS);
    let (month_ms, _) = Window::Month.bounds_ms(NOW_MS);
    for (ts_ms, cost) in [(NOW_MS, 1), (today_ms, 10), (today_ms - 1, 100), (month_ms - 1, 1_000)] {
        book.ledger.record(Entry { cost: Some(NanoUsd::new(cost)), ..draft(ts_ms) }).unwrap();
    }
    let spent = |ledger: &Ledger| Window::ALL.map(|window| ledger.balance(&team(), window).spent.get());
    let before = spent(&book.ledger);
    book.ledger.close().await.unwrap();

    let again = book.open_again().await;

    assert_eq!(before, [11, 111, 111]);
    assert_eq!(spent(&again), before);
    again.close().await.unwrap();
}

#[tokio::test]
async fn spend_is_summed_by_what_it_is_asked_for_and_only_within_the_span() {
    let book = Book::new().await;
    for (model, ts_ms, cost, baseline) in [
        ("small", NOW_MS, Some(5), Some(50)),
        ("small", NOW_MS + 1, Some(7), None),
        ("large", NOW_MS + 2, Some(100), Some(90)),
        ("large", NOW_MS + 3, None, Some(90)),
        ("large", NOW_MS + 10, Some(1_000), None),
    ] {
        let (cost, baseline) = (cost.map(NanoUsd::new), baseline.map(NanoUsd::new));
        let model = Some(model.to_owned());
        let path = entry::AnswerPath::Upstream;
        book.ledger.record(Entry { cost, baseline, model, path, usage: used(2), ..draft(ts_ms) }).unwrap();
    }
    book.ledger.flushed().await;

    let by_model =
        book.ledger.reports().spend(&SpendAsk::over(&[By::Model], NOW_MS, NOW_MS + 10)).await.unwrap();
    let total = book.ledger.reports().spend(&SpendAsk::over(&[], NOW_MS, NOW_MS + 10)).await.unwrap();
    let none = book.ledger.reports().spend(&SpendAsk::over(&[], 0, NOW_MS)).await.unwrap();

    let seen = |row: &super::report::SpendRow| {
        let sums = &row.sums;
        let (cost, saved) = (sums.cost.get(), sums.saved.net().get());
        (row.names.concat(), sums.n_calls, sums.n_unpriced, cost, saved, sums.usage.output)
    };
    assert_eq!(seen(&by_model[0]), ("large".to_owned(), 2, 1, 100, -10, 4));
    assert_eq!(seen(&by_model[1]), ("small".to_owned(), 2, 0, 12, 45, 4));
    assert_eq!(total.iter().map(seen).collect::<Vec<_>>(), [(String::new(), 4, 1, 112, 35, 8)]);
    assert!(none.is_empty());
    book.close().await;
}

#[tokio::test]
async fn a_second_process_on_the_same_journal_is_told_to_take_its_own() {
    let book = Book::new().await;

    let second = Ledger::open(&book.config, book.clock.clone(), TaskTracker::new()).await.unwrap_err();

    assert!(matches!(second, LedgerError::Journal(JournalError::Locked { .. })), "{second}");
    assert!(second.to_string().contains("journal_dir"));
    book.ledger.close().await.unwrap();
    book.open_again().await.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_at_the_edge_never_overspend_the_budget() {
    let book = Book::new().await;
    let budgets = per_day(1_000);

    std::thread::scope(|threads| {
        for _ in 0..100 {
            threads.spawn(|| {
                let Ok(mut hold) = hold_now(&book.ledger, ask(17, &budgets)) else { return };
                send(&mut hold);
                let entry = ended(&hold, 17);
                hold.post(entry);
            });
        }
    });

    let spent = book.ledger.balance(&team(), Window::Day).spent.get();
    assert_eq!(spent, 1_000 / 17 * 17);
    assert_eq!(book.rows().await.iter().map(|row| row.charge().get()).sum::<i64>(), spent);
    book.close().await;
}
