//! The ledger on a real Postgres: the same answers as on SQLite, and nothing lost while it is away.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

#[path = "services/postgres.rs"]
mod postgres;

use std::path::Path;
use std::time::Duration;

use postgres::PostgresServer;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::process::Signal;
use secrecy::SecretString;
use stiver::chat::Usage;
use stiver::clock::Clock;
use stiver::ledger::budget::Subject;
use stiver::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome};
use stiver::ledger::keys::NewKey;
use stiver::ledger::report::{
    By, CallsAsk, Figures, Filter, LatencyAsk, LatencyBy, Reports, SpendAsk, SpendRow, Step,
};
use stiver::ledger::risk_lines::{RiskLine, TakeOver};
use stiver::ledger::text::CallText;
use stiver::ledger::{HoldAsk, Ledger, LedgerConfig};
use stiver::money::NanoUsd;
use stiver::team::{
    CallId, Document, KeyId, Roster, RouteName, TeamName, TeamRecord, Term, TierName, UpstreamName,
};
use tokio_util::task::TaskTracker;

const NOW_MS: i64 = 1_760_529_600_000;
const MS_PER_HOUR: i64 = 3_600_000;
/// The calls of the comparison begin within so many hours of each other.
const SPAN_MS: i64 = 75 * MS_PER_HOUR;

fn config(dir: &Path, url: Option<&str>) -> LedgerConfig {
    LedgerConfig {
        path: dir.join("ledger.sqlite"),
        url: url.map(SecretString::from),
        journal_dir: dir.join("journal"),
        flush_interval_ms: 1,
        fsync_interval_ms: 1,
        ..LedgerConfig::default()
    }
}

async fn open(dir: &Path, url: Option<&str>) -> Ledger {
    Ledger::open(&config(dir, url), Clock::standing_at(NOW_MS), TaskTracker::new()).await.unwrap()
}

fn name(prefix: &'static str, n: usize) -> impl Strategy<Value = String> {
    (0..n).prop_map(move |idx| format!("{prefix}{idx}"))
}

/// What is drawn of a call: who called, what answered, and how it went.
#[derive(Debug, Clone)]
struct Drawn {
    who: (i64, String, String, Option<String>),
    what: (Option<String>, Option<i64>, Option<i64>),
    how: (usize, usize, u64, bool),
    much: (u64, u64, Vec<String>, Option<String>),
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let who = (0..SPAN_MS, name("team", 3), name("route", 2), prop::option::of(name("user", 4)));
    let what = (
        prop::option::of(name("model", 3)),
        prop::option::of(0..2_000_000i64),
        prop::option::of(0..9_000_000i64),
    );
    let how = (0..AnswerPath::ALL.len(), 0..Outcome::ALL.len(), 0..100_000u64, any::<bool>());
    let tags = prop::collection::vec(name("tag", 3), 0..3);
    let much = (0..5_000u64, 0..900u64, tags, prop::option::of(name("arm", 2)));
    (who, what, how, much).prop_map(|(who, what, how, much)| Drawn { who, what, how, much })
}

fn entries(n: usize) -> Vec<Entry> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let made = prop::collection::vec(drawn(), n).new_tree(&mut runner).unwrap().current();
    made.into_iter().zip(0..).map(|(drawn, nth)| entry(drawn, nth)).collect()
}

fn entry(drawn: Drawn, nth: u32) -> Entry {
    let Drawn { who, what, how, much } = drawn;
    let (at, team, route, user) = who;
    let (model, cost, baseline) = what;
    let (path, outcome, total_ms, estimated) = how;
    let (input, output, mut tags, arm) = much;
    let mut entropy = [0; 10];
    entropy[6..].copy_from_slice(&nth.to_be_bytes());
    let ts_ms = NOW_MS - SPAN_MS + at;
    let id = CallId::new(ts_ms, entropy);
    tags.sort();
    tags.dedup();
    Entry {
        key: user.as_ref().map(|user| KeyId::from(&format!("key-of-{user}"))),
        user,
        tags,
        tier: model.as_ref().map(|_| TierName::from("small")),
        upstream: model.as_ref().map(UpstreamName::from),
        model,
        path: AnswerPath::ALL[path],
        cache: CacheOutcome::Miss,
        split: arm.as_ref().map(|_| "cheap-first".to_owned()),
        arm,
        usage: Usage { input, cached_read: input / 3, output, reasoning: output / 2, ..Usage::default() },
        cost: cost.map(NanoUsd::new),
        baseline: baseline.map(NanoUsd::new),
        estimated,
        outcome: Outcome::ALL[outcome],
        total_ms,
        overhead_us: total_ms % 997,
        ..Entry::draft(id, ts_ms, TeamName::from(&team), "/v1/chat/completions", RouteName::from(&route))
    }
}

fn filters() -> Vec<Filter> {
    let team = Some(TeamName::from("team1"));
    vec![
        Filter::default(),
        Filter { team: team.clone(), ..Filter::default() },
        Filter { team: team.clone(), user: Some("user2".to_owned()), ..Filter::default() },
        Filter { tag: Some("tag1".to_owned()), route: Some(RouteName::from("route0")), ..Filter::default() },
        Filter { model: Some("'; DROP TABLE postings; --".to_owned()), ..Filter::default() },
    ]
}

fn spend_asks() -> Vec<SpendAsk> {
    let windows = [
        (NOW_MS - SPAN_MS, NOW_MS),
        (NOW_MS - SPAN_MS + 1_234_567, NOW_MS - 7_654_321),
        (NOW_MS - 30 * MS_PER_HOUR, NOW_MS - 6 * MS_PER_HOUR),
        (NOW_MS - 1_000_000, NOW_MS - 500_000),
    ];
    let bys: [&[By]; 10] = [
        &[],
        &[By::Team],
        &[By::Upstream],
        &[By::Route, By::Tier, By::Model],
        &[By::Team, By::User],
        &[By::Key],
        &[By::Tag],
        &[By::Model, By::Outcome],
        &[By::Split, By::Arm],
        &[By::Path, By::Endpoint],
    ];
    let mut asks = Vec::new();
    for (from_ms, to_ms) in windows {
        for by in bys {
            for step in [Step::Hour, Step::Day, Step::Whole] {
                for filter in filters() {
                    asks.push(SpendAsk {
                        by: by.to_vec(),
                        step,
                        from_ms,
                        to_ms,
                        filter,
                        ..SpendAsk::default()
                    });
                }
            }
        }
    }
    asks
}

/// A line of a report: calls, cost, tokens written, calls that an upstream answered, and net savings.
type Line = (i64, Vec<String>, u64, i64, u64, u64, i64);

/// What a report must say of these rows, added up one by one.
fn added_up(entries: &[Entry], ask: &SpendAsk) -> Vec<Line> {
    let floor = |ms: i64, span: i64| ms - ms.rem_euclid(span);
    let mut sums = std::collections::BTreeMap::<(i64, Vec<String>), (u64, i64, u64, u64, i64)>::new();
    let filter = &ask.filter;
    for entry in entries.iter().filter(|entry| (ask.from_ms..ask.to_ms).contains(&entry.ts_ms)) {
        let fits = |wanted: Option<&str>, has: &str| wanted.is_none_or(|wanted| wanted == has);
        let is_wanted = fits(filter.team.as_ref().map(|team| team.as_str()), entry.team.as_str())
            && fits(filter.route.as_ref().map(|route| route.as_str()), entry.route.as_str())
            && fits(filter.user.as_deref(), entry.user.as_deref().unwrap_or(""))
            && fits(filter.model.as_deref(), entry.model.as_deref().unwrap_or(""));
        if !is_wanted {
            continue;
        }
        let needs_tags = ask.by.contains(&By::Tag) || filter.tag.is_some();
        let tags: Vec<String> = if needs_tags { entry.tags.clone() } else { vec![String::new()] };
        for tag in tags.iter().filter(|tag| fits(filter.tag.as_deref(), tag)) {
            let at_ms = match ask.step {
                Step::Hour => floor(entry.ts_ms, MS_PER_HOUR),
                Step::Day => floor(entry.ts_ms, 24 * MS_PER_HOUR),
                Step::Whole => ask.from_ms,
            };
            let names = ask.by.iter().map(|by| name_of(entry, *by, tag)).collect();
            let sum = sums.entry((at_ms, names)).or_default();
            let saved = entry.saved().filter(|_| entry.path != AnswerPath::None);
            *sum = (
                sum.0 + u64::from(entry.path != AnswerPath::Audit),
                sum.1 + entry.charge().get(),
                sum.2 + entry.usage.output,
                sum.3 + u64::from(entry.path == AnswerPath::Upstream),
                sum.4 + saved.map_or(0, NanoUsd::get),
            );
        }
    }
    let line = |((at_ms, names), (n, cost, output, n_upstream, net))| {
        (at_ms, names, n, cost, output, n_upstream, net)
    };
    sums.into_iter().map(line).collect()
}

fn name_of(entry: &Entry, by: By, tag: &str) -> String {
    let named = |name: Option<&str>| name.unwrap_or("").to_owned();
    match by {
        By::Team => entry.team.to_string(),
        By::Key => named(entry.key.as_ref().map(|key| key.as_str())),
        By::User => named(entry.user.as_deref()),
        By::Tag => tag.to_owned(),
        By::Endpoint => entry.endpoint.clone(),
        By::Route => entry.route.to_string(),
        By::Tier => named(entry.tier.as_ref().map(|tier| tier.as_str())),
        By::Upstream => named(entry.upstream.as_ref().map(|upstream| upstream.as_str())),
        By::Model => named(entry.model.as_deref()),
        By::Path => entry.path.as_str().to_owned(),
        By::Cache => entry.cache.as_str().to_owned(),
        By::Split => named(entry.split.as_deref()),
        By::Arm => named(entry.arm.as_deref()),
        By::Outcome => entry.outcome.as_str().to_owned(),
    }
}

async fn check_spend(ledger: &Ledger, entries: &[Entry], place: &str) {
    for ask in spend_asks() {
        let rows = ledger.reports().spend(&ask).await.unwrap();
        let few = ledger.reports().spend(&SpendAsk { figures: Figures::Spent, ..ask.clone() }).await.unwrap();
        let spent = |row: &SpendRow| (row.at_ms, row.names.clone(), row.sums.n_calls, row.sums.cost);
        assert!(rows.iter().map(spent).eq(few.iter().map(spent)), "{place}: {ask:?}");
        let mut told: Vec<Line> = rows.into_iter().map(line).collect();
        told.sort();
        assert_eq!(told, added_up(entries, &ask), "{place}: {ask:?}");
    }
}

fn line(row: SpendRow) -> Line {
    let sums = row.sums;
    let net = sums.saved.net().get();
    (row.at_ms, row.names, sums.n_calls, sums.cost.get(), sums.usage.output, sums.n_upstream, net)
}

/// What budgets burned, in stretches that begin on the hour, on the half hour and anywhere.
async fn check_burned(ledger: &Ledger, entries: &[Entry], place: &str) {
    let team = TeamName::from("team1");
    let subjects = [Subject::Team, Subject::Key(KeyId::from("key-of-user2")), Subject::User("user2".into())];
    let from_ms = NOW_MS - NOW_MS.rem_euclid(MS_PER_HOUR) - SPAN_MS;
    for (offset_ms, step_ms) in
        [(0, 24 * MS_PER_HOUR), (MS_PER_HOUR / 2, MS_PER_HOUR), (12_345, 9 * MS_PER_HOUR)]
    {
        let edges: Vec<i64> = (0..30).map(|nth| from_ms + offset_ms + nth * step_ms).collect();
        for subject in &subjects {
            let burned = ledger.reports().burned(&team, subject, &edges).await.unwrap();
            let is_its = |entry: &&Entry| match subject {
                Subject::Team => true,
                Subject::Key(key) => entry.key.as_ref() == Some(key),
                Subject::User(user) => entry.user.as_deref() == Some(user),
            };
            let own = entries.iter().filter(|entry| entry.team == team).filter(is_its);
            let own: Vec<&Entry> = own.collect();
            let spent = |pair: &[i64]| {
                let within = own.iter().filter(|entry| (pair[0]..pair[1]).contains(&entry.ts_ms));
                within.map(|entry| entry.charge()).sum::<NanoUsd>()
            };
            let expected: Vec<NanoUsd> = edges.windows(2).map(spent).collect();
            assert_eq!(burned, expected, "{place}: {subject} from {offset_ms} by {step_ms}");
            assert!(expected.iter().any(|usd| *usd > NanoUsd::ZERO));
        }
    }
}

/// Both databases tell the same of how long calls took, apart and together.
async fn check_latency(ours: &Reports, theirs: &Reports) {
    let whole_days = (
        NOW_MS - NOW_MS.rem_euclid(24 * MS_PER_HOUR) - SPAN_MS,
        NOW_MS - NOW_MS.rem_euclid(24 * MS_PER_HOUR),
    );
    let bys = [
        LatencyBy::Team,
        LatencyBy::Route,
        LatencyBy::Split,
        LatencyBy::Arm,
        LatencyBy::SplitArm,
        LatencyBy::Hour,
        LatencyBy::Day,
    ];
    for (from_ms, to_ms) in [(NOW_MS - SPAN_MS, NOW_MS), whole_days] {
        let ask = LatencyAsk { from_ms, to_ms, ..LatencyAsk::default() };
        let whole = ours.latency(&ask).await.unwrap();
        assert_eq!(whole, theirs.latency(&ask).await.unwrap(), "{ask:?}");
        for by in bys {
            let ask = LatencyAsk { by: Some(by), ..ask.clone() };
            let rows = ours.latency(&ask).await.unwrap();
            assert_eq!(rows, theirs.latency(&ask).await.unwrap(), "{ask:?}");
            let both = ours.latency_with_whole(&ask).await.unwrap();
            assert_eq!(both, (whole.first().cloned(), rows), "{ask:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_tell_the_same_of_the_same_calls_and_what_adding_up_tells() {
    let all = entries(1_500);
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sqlite = open(here.path(), None).await;
    for entry in &all {
        sqlite.record(entry.clone()).unwrap();
    }
    sqlite.flushed().await;
    check_spend(&sqlite, &all, "SQLite").await;
    check_burned(&sqlite, &all, "SQLite").await;

    let Some(server) = PostgresServer::start().await else { return sqlite.close().await.unwrap() };
    let postgres = open(there.path(), Some(&server.database().await)).await;
    for entry in &all {
        postgres.record(entry.clone()).unwrap();
    }
    postgres.flushed().await;
    check_spend(&postgres, &all, "Postgres").await;
    check_burned(&postgres, &all, "Postgres").await;

    let (ours, theirs) = (sqlite.reports(), postgres.reports());
    for ask in spend_asks() {
        assert_eq!(ours.spend(&ask).await.unwrap(), theirs.spend(&ask).await.unwrap(), "{ask:?}");
    }
    check_latency(&ours, &theirs).await;
    for filter in filters() {
        for text in [None, Some("USER3"), Some("%"), Some("tag1")] {
            let text = text.map(str::to_owned);
            let ask =
                CallsAsk { filter: filter.clone(), text, to_ms: NOW_MS, limit: 40, ..CallsAsk::default() };
            let (found, same) = (ours.calls(&ask).await.unwrap(), theirs.calls(&ask).await.unwrap());
            assert_eq!(found, same, "{ask:?}");
            let before = CallsAsk { before: found.last().map(|last| last.id), ..ask };
            assert!(
                ours.calls(&before).await.unwrap().iter().all(|older| found.iter().all(|f| f.id > older.id))
            );
        }
    }
    assert_eq!(ours.call(all[7].id).await.unwrap(), Some(all[7].clone()));
    assert_eq!(theirs.call(all[7].id).await.unwrap(), Some(all[7].clone()));
    sqlite.close().await.unwrap();
    postgres.close().await.unwrap();
}

async fn call(ledger: &Ledger, nth: u32) {
    let mut entropy = [0; 10];
    entropy[6..].copy_from_slice(&nth.to_be_bytes());
    let id = CallId::new(NOW_MS, entropy);
    let draft =
        Entry::draft(id, NOW_MS, TeamName::from("search"), "/v1/chat/completions", RouteName::from("auto"));
    let ask = HoldAsk { entry_draft: draft, ceiling: NanoUsd::new(100), budgets: [].into() };
    let mut hold = ledger.hold(ask).await.unwrap();
    hold.sent(&UpstreamName::from("large"), "gpt", 1).unwrap();
    let entry = Entry { cost: Some(NanoUsd::new(7)), outcome: Outcome::Ok, ..hold.draft().clone() };
    hold.post(entry);
    tokio::task::yield_now().await;
}

async fn total(ledger: &Ledger) -> (u64, i64) {
    let rows = ledger.reports().spend(&SpendAsk::over(&[], 0, i64::MAX)).await.unwrap();
    rows.first().map_or((0, 0), |row| (row.sums.n_calls, row.sums.cost.get()))
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_kept_and_deleted_in_either_database() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(server) = PostgresServer::start().await else { return };
    let url = server.database().await;
    for ledger in [open(here.path(), None).await, open(there.path(), Some(&url)).await] {
        let rows = entries(60);
        for (row, nth) in rows.iter().zip(0..) {
            let until_ms = if nth % 2 == 0 { NOW_MS } else { NOW_MS + 1 };
            let text = CallText {
                request: format!("[\"é\\u0000 {nth}\"]"),
                answer_is_cut: nth % 3 == 0,
                delete_after_ms: until_ms,
                ..CallText::default()
            };
            ledger.record_with(row.clone(), Some(text)).unwrap();
        }
        ledger.flushed().await;

        let texts = ledger.texts();
        for (row, nth) in rows.iter().zip(0..) {
            let found = texts.of(row.id).await.unwrap();
            let said = found.map(|text| (text.request, text.answer_is_cut));
            let is_due = nth % 2 == 0;
            assert_eq!(said, (!is_due).then(|| (format!("[\"é\\u0000 {nth}\"]"), nth % 3 == 0)));
        }
        assert!(texts.delete(rows[1].id).await.unwrap() && !texts.delete(rows[1].id).await.unwrap());
        let mut n_deleted = 0;
        for team in ["team0", "team1", "team2"] {
            n_deleted += texts.delete_of(&TeamName::from(team)).await.unwrap();
        }
        // What was due went with the first sweep or goes now.
        assert!((29..=59).contains(&n_deleted), "{n_deleted}");
        assert_eq!(texts.of(rows[3].id).await.unwrap(), None);
        assert_eq!(ledger.reports().recent(100, None).await.unwrap().len(), 60);
        ledger.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_costs_nothing_but_disk() {
    let Some(mut server) = PostgresServer::start().await else { return };
    let url = server.database().await;
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path(), Some(&url)).await;

    for nth in 0..100 {
        call(&ledger, nth).await;
    }
    server.stop(Signal::KILL);
    for nth in 100..1_000 {
        call(&ledger, nth).await;
    }
    assert!(ledger.n_pending() >= 900);
    assert!(ledger.readiness().is_ok());
    server.start_again().await;
    ledger.flushed().await;

    assert_eq!(total(&ledger).await, (1_000, 7_000));
    assert_eq!(ledger.reports().recent(2_000, None).await.unwrap().len(), 1_000);
    ledger.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_write_at_the_same_time_add_up() {
    let Some(server) = PostgresServer::start().await else { return };
    let url = server.database().await;
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let opened = dirs.iter().map(|dir| open(dir.path(), Some(&url)));
    let replicas = futures_util::future::join_all(opened).await;

    let work = replicas.iter().zip(0..).map(|(ledger, replica)| async move {
        for nth in 0..250 {
            call(ledger, replica * 1_000 + nth).await;
        }
        // The same row again, as after a crash between the commit and the journal's end.
        let known = ledger.reports().recent(1, None).await.unwrap();
        for row in known {
            ledger.record(row).unwrap();
        }
        ledger.flushed().await;
    });
    futures_util::future::join_all(work).await;

    assert_eq!(total(&replicas[0]).await, (1_000, 7_000));
    for ledger in replicas {
        ledger.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_wrong_is_told_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    for (url, expected) in [
        ("postgres://stiver:hunter2@127.0.0.1:1/stiver", "127.0.0.1:1/stiver cannot be reached"),
        ("mysql://stiver:hunter2@127.0.0.1/stiver", "is not a Postgres address"),
    ] {
        let config = config(dir.path(), Some(url));
        let opened = tokio::time::timeout(
            Duration::from_secs(30),
            Ledger::open(&config, Clock::system(), TaskTracker::new()),
        );
        let error = opened.await.unwrap().unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

/// Every way a team and a key are changed, and what is left of them.
async fn roster_of(ledger: &Ledger) -> Roster {
    let (keys, teams) = (ledger.keys(), ledger.keys().teams());
    let document = |json: &str| Document::from(json.to_owned());
    let record = |name: &str| TeamRecord {
        name: TeamName::from(name),
        config: document("{}"),
        changed_ms: 1,
        term: Term::from(1, Some(90)),
    };
    for name in ["a", "'; DROP TABLE teams; --", "検索"] {
        assert!(teams.create(&record(name)).await.unwrap());
    }
    assert!(!teams.create(&record("a")).await.unwrap());
    assert!(teams.replace(&record("a"), &document(r#"{"routes":["\u0000"]}"#), 2).await.unwrap());
    assert!(!teams.replace(&record("a"), &document("[]"), 3).await.unwrap());
    assert!(teams.expire(&TeamName::from("a"), None, 4).await.unwrap());
    assert!(teams.revoke(&TeamName::from("検索"), 5).await.unwrap());
    assert!(!teams.revoke(&TeamName::from("検索"), 6).await.unwrap());
    let budgets = Some(document("[1]"));
    let new =
        NewKey { name: "ci".to_owned(), team: TeamName::from("a"), routes: None, expires_ms: None, budgets };
    let (key, _) = keys.create(new, 7).await.unwrap();
    assert!(keys.set_budgets(&key.id, Some(&document("[2]"))).await.unwrap());
    keys.rotate(&keys.load_all().await.unwrap()[0], 90, 8).await.unwrap();
    assert!(keys.set_budgets(&key.id, None).await.unwrap());
    keys.load_roster().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_keep_the_same_teams_and_keys() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sqlite = open(here.path(), None).await;
    let ours = roster_of(&sqlite).await;
    sqlite.close().await.unwrap();
    let budgets: Vec<_> = ours.keys.iter().map(|key| key.budgets.clone()).collect();
    assert_eq!(budgets, [None, Some(Document::from("[2]".to_owned()))]);

    let Some(server) = PostgresServer::start().await else { return };
    let postgres = open(there.path(), Some(&server.database().await)).await;
    let mut theirs = roster_of(&postgres).await;
    postgres.close().await.unwrap();

    let by_name = |team: &TeamRecord| team.name.clone();
    let mut ours_sorted = ours.teams.clone();
    ours_sorted.sort_by_key(by_name);
    theirs.teams.sort_by_key(by_name);
    assert_eq!(theirs.teams, ours_sorted);
    let told = |roster: &Roster| -> Vec<_> {
        roster.keys.iter().map(|key| (key.name.clone(), key.expires_ms, key.budgets.clone())).collect()
    };
    assert_eq!(told(&theirs), told(&ours));
}

/// Every way the lines of risk are written, and what is left of them.
async fn risk_lines_of(ledger: &Ledger) -> (Vec<RiskLine>, Vec<Option<String>>) {
    let lines = ledger.risk_lines();
    let line = |scope: &str, replica: &str| RiskLine {
        scope: scope.to_owned(),
        replica: replica.to_owned(),
        account: "{}".to_owned(),
        model_saved_at_ms: None,
        saved_at_ms: 1,
    };
    for (scope, replica) in
        [("shop/auto", "a"), ("shop/auto", "b"), ("shop/auto", "c"), ("*", "a"), ("検索/a", "b")]
    {
        lines.add(&line(scope, replica)).await.unwrap();
    }
    lines.add(&RiskLine { account: "again".to_owned(), ..line("*", "a") }).await.unwrap();
    let accounts =
        [("shop/auto".to_owned(), "{\"a\": 1}".to_owned()), ("gone/auto".to_owned(), "{}".to_owned())];
    assert_eq!(lines.save_accounts("a", &accounts, 2).await.unwrap(), ["gone/auto"]);
    assert!(lines.save_model(("shop/auto", "b"), "model of b", 3).await.unwrap());
    assert!(!lines.save_model(("shop/auto", "z"), "of nobody", 3).await.unwrap());

    let take = |gone: &RiskLine, model: Option<&str>| TakeOver {
        gone: gone.clone(),
        replica: "a".to_owned(),
        account: "both".to_owned(),
        model: model.map(str::to_owned),
        now_ms: 4,
    };
    let as_seen = RiskLine { saved_at_ms: 3, ..line("shop/auto", "b") };
    assert!(!lines.take_over(&take(&line("shop/auto", "b"), None)).await.unwrap(), "it gave a sign of life");
    assert!(!lines.take_over(&take(&line("検索/a", "b"), None)).await.unwrap(), "a has no such line");
    assert!(lines.take_over(&take(&as_seen, Some("model of both"))).await.unwrap());
    assert!(!lines.take_over(&take(&as_seen, None)).await.unwrap(), "it is taken");
    assert!(lines.take_over(&take(&line("shop/auto", "c"), None)).await.unwrap());
    lines.touch("b", 0).await.unwrap();

    let left = lines.lines().await.unwrap();
    let mut models = Vec::new();
    for line in &left {
        models.push(lines.model(&line.scope, &line.replica).await.unwrap());
    }
    (left, models)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_databases_hand_a_line_of_risk_to_one_replica() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sqlite = open(here.path(), None).await;
    let (mut ours, models) = risk_lines_of(&sqlite).await;
    sqlite.close().await.unwrap();
    let told = |line: &RiskLine| (line.scope.clone(), line.account.clone(), line.saved_at_ms);
    let expected = [("*", "{}", 1), ("shop/auto", "both", 4), ("検索/a", "{}", 0)]
        .map(|(scope, account, at_ms)| (scope.to_owned(), account.to_owned(), at_ms));
    assert_eq!(ours.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(models, [None, Some("model of both".to_owned()), None]);
    assert_eq!(ours[1].model_saved_at_ms, Some(4));

    let Some(server) = PostgresServer::start().await else { return };
    let postgres = open(there.path(), Some(&server.database().await)).await;
    let (mut theirs, _) = risk_lines_of(&postgres).await;
    postgres.close().await.unwrap();
    ours.sort_by_key(told);
    theirs.sort_by_key(told);
    assert_eq!(theirs, ours);
}
