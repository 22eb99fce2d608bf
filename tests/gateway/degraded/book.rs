//! The book without its database or its journal: answers go on as long as none can be lost.

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use stiver::clock::Clock;
use stiver::ledger::budget::Window;
use stiver::team::TeamName;

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::stack::has_sqlite;
use crate::harness::{CHAT, Folder, Process, Setup, TestGateway, chat, chat_stream, endpoints};

/// Another program that holds the database's write lock until it is let go.
struct Lock(SqliteConnection);

impl Lock {
    async fn take(folder: &Folder) -> Self {
        let options = SqliteConnectOptions::new().filename(folder.path().join("ledger.sqlite"));
        let mut connection = options.connect().await.expect("the database is there");
        sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock is free");
        Self(connection)
    }

    async fn let_go(mut self) {
        sqlx::raw_sql("ROLLBACK").execute(&mut self.0).await.expect("the transaction is ours");
        self.0.close().await.expect("the connection is ours");
    }
}

#[tokio::test]
async fn with_the_database_away_answers_go_on_and_rows_arrive_later() {
    if !has_sqlite() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let lock = Lock::take(&gateway.folder()).await;

    for nth in 0..5 {
        let body = if nth % 2 == 0 {
            chat("gpt-4o", &format!("call {nth}"))
        } else {
            chat_stream("gpt-4o", &format!("call {nth}"))
        };
        let answer = gateway.post(CHAT, &body).await;
        assert_eq!(answer.status, 200);
    }

    let ledger = &gateway.gateway().ledger;
    assert_eq!(ledger.n_pending(), 5);
    assert!(ledger.reports().recent(10, None).await.unwrap().is_empty());
    let spent = ledger.balance(&TeamName::from("default"), Window::Day).spent.get();
    assert_eq!(spent, fake.bill().total_nano_usd, "balances do not wait for the database");
    lock.let_go().await;
    let rows = gateway.finish().await;
    assert_eq!(rows.len(), 5);
    assert_eq!(rows.iter().filter_map(|row| row.cost).map(|cost| cost.get()).sum::<i64>(), spent);
}

#[tokio::test]
async fn rows_the_database_never_took_are_posted_at_the_next_start() {
    if !has_sqlite() {
        return;
    }
    let fake = FakeUpstream::start();
    let toml = endpoints(&fake) + "[ledger]\nclose_timeout_ms = 50\n";
    let gateway = TestGateway::start(&toml).await;
    let folder = gateway.folder();
    let lock = Lock::take(&folder).await;
    assert_eq!(gateway.post(CHAT, &chat("gpt-4o", "hello")).await.status, 200);
    gateway.abandon().await;
    lock.let_go().await;

    let gateway = Setup::of(&toml).in_folder(folder).start().await;

    let rows = gateway.finish().await;
    assert_eq!((rows.len(), rows[0].outcome.as_str()), (1, "ok"));
    assert_eq!(rows[0].cost.map(|cost| cost.get()), Some(fake.bill().total_nano_usd));
}

/// What `/admin/v1/health` says of the journal.
async fn journal(gateway: &TestGateway) -> Value {
    let told = gateway.get("/admin/v1/health").await.json()["journal"].clone();
    let number = |name: &str| told[name].as_f64().unwrap_or_else(|| panic!("no {name} in {told}"));
    assert!((number("share") - number("size_bytes") / number("max_bytes")).abs() < 1e-9, "{told}");
    told
}

#[tokio::test]
async fn health_tells_how_full_the_journal_is() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&(endpoints(&fake) + "[ledger]\nmax_journal_bytes = 1_000_000\n")).await;
    let before = journal(&gateway).await;

    assert_eq!(gateway.post(CHAT, &chat("gpt-4o", "hello")).await.status, 200);
    let after = journal(&gateway).await;

    assert_eq!(after["max_bytes"], 1_000_000);
    assert!(after["size_bytes"].as_u64() > before["size_bytes"].as_u64(), "{before} {after}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_full_journal_refuses_calls_before_anything_is_sent_until_the_database_is_back() {
    if !has_sqlite() {
        return;
    }
    let fake = FakeUpstream::start();
    // The smallest that is taken.
    let gateway = TestGateway::start(&(endpoints(&fake) + "[ledger]\nmax_journal_bytes = 65536\n")).await;
    let lock = Lock::take(&gateway.folder()).await;
    let mut n_answered = 0;
    let refused = loop {
        let answer = gateway.post(CHAT, &chat("gpt-4o", &format!("call {n_answered}"))).await;
        if answer.status != 200 {
            break answer;
        }
        n_answered += 1;
        assert!(n_answered < 1_000, "the journal is never full");
    };

    assert_eq!((refused.status, refused.error().1.as_str()), (503, "ledger_unavailable"));
    assert_eq!(fake.calls().len(), n_answered, "nothing was sent for the refused call");
    let repeated = gateway.post(CHAT, &chat("gpt-4o", "call 0")).await;
    assert_eq!(repeated.status, 503, "a row of a hit has no room either");
    let ready = gateway.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &serde_json::json!(false)));
    let full = journal(&gateway).await;
    assert!(full["size_bytes"].as_u64() >= Some(65_536) && full["share"].as_f64() >= Some(1.0), "{full}");
    let page = gateway.get("/dashboard/health").await;
    assert!(page.text().contains("of 65.5 kB; "), "{}", page.text());

    lock.let_go().await;
    gateway.gateway().ledger.flushed().await;
    let has_room = async |gateway: &stiver::gateway::Gateway| gateway.ledger.readiness().is_ok();
    gateway.eventually("the journal has room again", has_room).await;
    assert_eq!(gateway.post(CHAT, &chat("gpt-4o", "afterwards")).await.status, 200);
    assert_eq!(gateway.finish().await.len(), n_answered + 1);
}

#[tokio::test]
async fn a_disk_that_is_full_refuses_calls_before_anything_is_sent_and_loses_none_that_were() {
    let fake = FakeUpstream::start();
    let setup = Setup::of(&(endpoints(&fake) + "[server]\nflood = { per_second = 0 }\n"));
    let folder = setup.folder();
    // No file may grow beyond this, as if the disk were full; the database gives up first.
    let stiver = Process::start(&setup, Some(512 << 10)).await;
    let mut n_answered = 0;
    let refused = loop {
        let answer = stiver.post(CHAT, &chat("gpt-4o", &format!("call {n_answered}"))).await;
        if answer.status != 200 {
            break answer;
        }
        n_answered += 1;
        assert!(n_answered < 2_000, "the disk is never full");
    };

    assert_eq!(
        (refused.status, refused.error().1.as_str()),
        (503, "ledger_unavailable"),
        "{}",
        refused.text()
    );
    assert_eq!(refused.header("x-stiver-attempts"), "", "no attempt was made");
    assert_eq!(fake.calls().len(), n_answered, "nothing was sent for the refused call");
    stiver.kill().await;
    let gateway = setup.in_folder(folder).clock(&Clock::system()).start().await;
    let rows = gateway.finish().await;
    assert_eq!(rows.len(), n_answered, "every call that was sent has its row, even after `kill -9`");
    let booked: i64 =
        rows.iter().filter(|row| !row.estimated).filter_map(|row| row.cost).map(|cost| cost.get()).sum();
    assert!(booked <= fake.bill().total_nano_usd && rows.iter().filter(|row| row.estimated).count() <= 1);
}

#[tokio::test]
async fn a_call_cut_off_by_the_end_of_the_process_is_posted_at_the_next_start() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=9 pause_at=5"));
    let setup = Setup::of(&endpoints(&fake));
    let folder = setup.folder();
    let stiver = Process::start(&setup, None).await;
    let mut open = stiver.open(CHAT, &chat_stream("gpt-4o", "Tell me a story")).await;
    open.read_contents(5).await;

    stiver.kill().await;

    let gateway = setup.in_folder(folder).clock(&Clock::system()).start().await;
    let rows = gateway.finish().await;
    assert_eq!((rows.len(), rows[0].outcome.as_str(), rows[0].estimated), (1, "interrupted", true));
    assert!(rows[0].cost.is_some_and(|cost| cost.get() > 0));
}

#[tokio::test]
async fn a_journal_folder_that_cannot_be_made_stops_the_start_and_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let journal = file.path().join("journal");
    let toml = format!("[ledger]\njournal_dir = \"{}\"\n", journal.display());

    let refusal = Setup::of(&toml).try_start().await.expect("the gateway must not start");

    assert!(refusal.contains(&journal.display().to_string()), "{refusal}");
}

#[tokio::test]
async fn a_call_that_cannot_be_journalled_is_not_sent_and_its_money_is_released() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    gateway.gateway().ledger.close().await.unwrap();

    let whole = gateway.post(CHAT, &chat("gpt-4o", "hello")).await;
    let streamed = gateway.post(CHAT, &chat_stream("gpt-4o", "hello")).await;

    for answer in [&whole, &streamed] {
        assert_eq!(
            (answer.status, answer.error().1.as_str()),
            (503, "ledger_unavailable"),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("x-stiver-attempts"), "", "no attempt was made");
    }
    assert!(fake.calls().is_empty());
    gateway.abandon().await;
}
