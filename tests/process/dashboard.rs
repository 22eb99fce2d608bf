//! The dashboard in a real browser: its figures against SQL, its filters and links, and whom it shows what.
//!
//! The cases stand in `tests/dashboard`; here the book is filled and the gateway started. Skipped, with the
//! reason printed, where Chromium, its driver or Python is missing.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use stiver::clock::Clock;
use stiver::ledger::entry::Entry;
use stiver::ledger::{Keeper, Ledger, LedgerConfig};
use tokio::process::Command;
use tokio_util::task::TaskTracker;

use crate::fake_upstream::FakeUpstream;
use crate::harness::{Home, config};

#[path = "../dashboard/promises.rs"]
mod promises;
#[path = "../dashboard/rows.rs"]
mod rows;

/// The first run installs what drives the browser.
const INSTALL_AND_RUN: Duration = Duration::from_secs(1_800);
const ADMIN_KEY: &str = "the-operator-of-the-tests-0123456789";
const N_ROWS: usize = 6_000;
/// Rows in one transaction.
const BATCH: usize = 2_000;
/// The team whose key is tried against the others.
const TEAM: &str = "search";

/// What is missing, if anything.
async fn missing() -> Option<&'static str> {
    for (program, package) in
        [("chromium", "chromium"), ("chromedriver", "chromium-driver"), ("python3", "python3")]
    {
        let version =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        if !version.is_ok_and(|status| status.success()) {
            return Some(package);
        }
    }
    None
}

/// How many calls are in the book: as many as `STIVER_TEST_CALLS` says, a million with
/// `STIVER_TEST_CALLS=1000000 cargo test --release --test process dashboard -- --nocapture`.
#[expect(clippy::disallowed_methods, reason = "how large a test is is no configuration of the gateway")]
fn n_rows() -> usize {
    std::env::var("STIVER_TEST_CALLS").ok().and_then(|n| n.parse().ok()).unwrap_or(N_ROWS)
}

/// Teams with budgets that last, run out and are used up, however many calls there are.
fn teams(n_rows: usize) -> String {
    let team = "{ usd = 60, per = \"month\" }, { usd = 9, per = \"day\" }, \
        { usd = 30, per = \"week\", time_zone = \"Asia/Kolkata\" }, \
        { usd = 2, per = \"day\", of = \"each_user\", time_zone = \"Europe/Berlin\", on_exceed = \"warn\" }, \
        { usd = 80, per = \"month\", of = \"each_key\", time_zone = \"America/New_York\" }";
    let budgets = [
        (TEAM, team),
        ("support", "{ usd = 4000, per = \"month\" }"),
        ("growth", "{ usd = 90, per = \"week\" }"),
        ("research", "{ usd = 1, per = \"month\" }"),
        (rows::EVIL_TEAM, "{ usd = 50, per = \"month\" }"),
    ];
    let scaled = |budgets: &str| {
        let scale = |part: &str| match part.split_once(',') {
            Some((usd, rest)) => {
                let usd: f64 = usd.parse().expect("an amount is a number");
                format!("usd = {:.2},{rest}", usd * n_rows as f64 / N_ROWS as f64)
            }
            None => part.to_owned(),
        };
        let mut parts = budgets.split("usd = ");
        parts.next().unwrap_or("").to_owned() + &parts.map(scale).collect::<String>()
    };
    let section =
        |(name, budgets): &(&str, &str)| format!("[teams.{name:?}]\nbudgets = [{}]\n", scaled(budgets));
    budgets.iter().map(section).collect()
}

async fn fill(home: &Home, n_rows: usize) {
    let config = LedgerConfig { path: home.path().join("data/ledger.sqlite"), ..LedgerConfig::default() };
    let keeper = Keeper::open(&config).await.expect("a new book can be opened");
    let mut rows = rows::rows(n_rows, Clock::system().now_ms());
    loop {
        let batch: Vec<Entry> = rows.by_ref().take(BATCH).collect();
        if batch.is_empty() {
            return;
        }
        keeper.insert(&batch).await.expect("every row is in the database");
    }
}

/// As an earlier process left them, by its own door.
async fn promise(home: &Home) {
    let data = home.path().join("data");
    let config = LedgerConfig {
        path: data.join("ledger.sqlite"),
        journal_dir: data.join("journal-of-the-test"),
        ..LedgerConfig::default()
    };
    let ledger = Ledger::open(&config, Clock::system(), TaskTracker::new()).await.expect("the book is there");
    for line in promises::lines() {
        ledger.risk_lines().add(&line).await.expect("the line is written");
    }
    ledger.close().await.expect("the book closes");
}

fn target() -> PathBuf {
    let profile = Path::new(env!("CARGO_BIN_EXE_stiver")).parent().expect("the binary stands in a folder");
    profile.parent().expect("the profile stands in a folder").to_owned()
}

#[tokio::test]
async fn a_browser_sees_what_the_book_says_and_a_team_only_itself() {
    if let Some(what) = missing().await {
        eprintln!("skipped: there is no {what}; `apt-get install {what}` brings it");
        return;
    }
    let fake = FakeUpstream::start();
    let n_rows = n_rows();
    let admin = format!("{}[admin]\nkey = \"{ADMIN_KEY}\"\n", teams(n_rows));
    // Without its embedder the semantic cache serves nothing, but what it promised is shown.
    let promising = "[cache.semantic]\nenabled = true\nmodel_dir = \"no-such-folder\"";
    let home = Home::new(&config(&fake, &admin).replace("[cache.semantic]\nenabled = false", promising));
    fill(&home, n_rows).await;
    promise(&home).await;
    let said = home.run(&["keys", "create", "--team", TEAM]).await;
    let team_key = said.stdout.trim().to_owned();
    let gateway = home.start().await;

    let mut suite = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dashboard/run.sh"));
    let book = home.path().join("data/ledger.sqlite");
    suite.args([gateway.url("").as_str(), ADMIN_KEY, &team_key, TEAM]).arg(book);
    suite.env("CARGO_TARGET_DIR", target()).kill_on_drop(true);
    let output = tokio::time::timeout(INSTALL_AND_RUN, suite.output()).await;
    let output = output.expect("the suite ends").expect("the script can be run");

    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    eprintln!("{n_rows} calls\n{said}");
    assert!(output.status.success(), "{said}\n{complaints}\n{}", gateway.stderr.text());
    assert!(said.trim_end().ends_with(" passed, 0 failed"), "{said}");
    assert!(said.lines().filter(|line| line.starts_with("ok ")).count() >= 10, "{said}");
}
