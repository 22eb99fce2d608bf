//! The promise on cached answers: that it outlives the process, that replicas share it, and who is shown it.
//!
//! Decisions are asked of the risk control itself, so that no model is needed; whether answers are looked up
//! by it is for `caching`.

use serde_json::Value;
use stiver::cache::risk::{Candidate, EntryKey, GroupKey, Neighbour, Standing, Verdict};
use stiver::clock::Clock;

use crate::fake_upstream::FakeUpstream;
use crate::harness::stack::has_sqlite;
use crate::harness::{Answer, NOW_MS, Setup, TestGateway, chat, endpoints, key_of, team};
use crate::postgres::PostgresServer;

const ADMIN: (&str, &str) = ("authorization", "Bearer operator-0123456789-abcdef");
const SEARCH: &str = "search/gpt-4o";

/// The semantic cache is wanted, and its embedder is missing: the promise is kept all the same.
fn toml(fake: &FakeUpstream) -> String {
    let admin = "[admin]\nkey = \"operator-0123456789-abcdef\"\n[cache.semantic]\nenabled = true\n";
    let route = "routes = [\"gpt-4o\"]";
    let european = team("search/eu", route).replace("teams.search/eu", "teams.\"search/eu\"");
    endpoints(fake) + admin + &team("search", route) + &european + &team("batch", route)
}

fn candidate() -> Option<Candidate> {
    let near = |entry| Neighbour {
        entry: EntryKey(entry),
        group: GroupKey(1),
        similarity: 0.98,
        text: "how do I cancel an order",
    };
    Candidate::among("how do I cancel an order", &[near(1), near(2), near(3)])
}

/// So many requests whose candidates are right, all audited where they are served; tells how many were.
fn ask(gateway: &TestGateway, scope: &str, n_requests: u64) -> u64 {
    let warden = gateway.gateway().cache.warden();
    let mut n_served = 0;
    for _ in 0..n_requests {
        let decision = warden.decide(scope, candidate(), 0.0);
        n_served += u64::from(matches!(decision.verdict, Verdict::Serve { .. }));
        warden.observe(scope, &decision, true);
    }
    n_served
}

fn standing(gateway: &TestGateway, scope: &str) -> Standing {
    gateway.gateway().cache.warden().standing(scope).expect("the scope was asked")
}

/// What the second hand does, as the clock has it now.
async fn tick(gateway: &TestGateway, clock: &Clock) {
    gateway.gateway().risk_keeper.as_ref().expect("a promise is kept").tick(clock.now_ms()).await;
}

#[tokio::test]
async fn a_restart_keeps_the_account_and_what_was_learned() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    assert!(ask(&gateway, SEARCH, 400) > 100);
    let (before, folder) = (standing(&gateway, SEARCH), gateway.folder());
    gateway.finish().await;

    let again = Setup::of(&toml(&fake)).in_folder(folder.clone()).start().await;
    let told =
        |standing: &Standing| (standing.n_requests, standing.n_audits, standing.n_labels, standing.tier);
    let after = standing(&again, SEARCH);
    assert_eq!(told(&after), told(&before));
    assert!((after.available - before.available).abs() < 1e-9);
    assert_eq!(ask(&again, SEARCH, 1), 1, "it was open and is closed");

    if !has_sqlite() {
        again.finish().await;
        return;
    }
    // Nothing is closed here, so that it is as after a crash: what an audit was charged is there.
    let audited = again.gateway().cache.warden().decide(SEARCH, candidate(), 0.0);
    assert_eq!(audited.verdict, Verdict::Serve { audit: true });
    // On a busy machine one try may be too short.
    again.eventually("the charge is saved", async |gateway| gateway.save_risk().await).await;
    let charged = standing(&again, SEARCH);
    let copy = copied(&folder);
    let crashed = Setup::of(&toml(&fake)).in_folder(copy).start().await;
    let after = standing(&crashed, SEARCH);
    assert!(charged.false_hit_rate_upper > 0.0, "the audit costs nothing");
    assert!((after.false_hit_rate_upper - charged.false_hit_rate_upper).abs() < 1e-9);
    // Verdicts of the last minute are not: models are told every minute.
    assert_eq!((after.n_requests, after.n_audits), (charged.n_requests, charged.n_audits));
    crashed.finish().await;
    again.finish().await;
}

/// The database as it lies on the disk now.
fn copied(folder: &tempfile::TempDir) -> std::sync::Arc<tempfile::TempDir> {
    let copy = tempfile::tempdir().expect("a folder for the test can be made");
    for name in ["ledger.sqlite", "ledger.sqlite-wal"] {
        let copied = std::fs::copy(folder.path().join(name), copy.path().join(name));
        copied.expect("the database is there");
    }
    std::sync::Arc::new(copy)
}

#[tokio::test]
async fn two_gateways_on_one_postgres_share_what_they_learned_and_one_inherits_the_other() {
    let Some(server) = PostgresServer::start().await else { return };
    let fake = FakeUpstream::start();
    let toml = format!("{}[ledger]\nurl = \"{}\"\n", toml(&fake), server.database().await);
    let clock = Clock::standing_at(NOW_MS);
    let a = Setup::of(&toml).clock(&clock).start().await;
    let b = Setup::of(&toml).clock(&clock).start().await;
    ask(&a, SEARCH, 300);
    ask(&b, SEARCH, 50);

    // In steps, so that neither is silent for long.
    for _ in 0..8 {
        clock.advance(20_000);
        tick(&a, &clock).await;
        tick(&b, &clock).await;
    }
    for gateway in [&a, &b] {
        let Standing { n_requests, n_labels, .. } = standing(gateway, SEARCH);
        assert_eq!((n_requests, n_labels), (350, 350));
    }

    let before = standing(&b, SEARCH).available;
    a.finish().await;
    clock.advance(10_000);
    tick(&b, &clock).await;
    let after = standing(&b, SEARCH);
    assert_eq!((after.n_requests, after.n_labels), (350, 350));
    assert!((after.available - before - 3.0).abs() < 1e-9, "{before} {}", after.available);
    b.finish().await;
}

async fn read(gateway: &TestGateway, path: &str, header: (&str, &str)) -> Answer {
    let answer = gateway.get_with(path, &[header]).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer
}

fn scopes(told: &Value) -> Vec<&str> {
    told["risk"].as_array().expect("a list").iter().filter_map(|one| one["scope"].as_str()).collect()
}

#[tokio::test]
async fn the_promise_is_shown_to_the_operator_and_each_team_its_own() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    for (scope, n_requests) in [(SEARCH, 400), ("search/eu/gpt-4o", 7), ("batch/gpt-4o", 3)] {
        ask(&gateway, scope, n_requests);
    }
    let shown = standing(&gateway, SEARCH);

    let told = read(&gateway, "/admin/v1/cache", ADMIN).await.json();
    assert_eq!(scopes(&told), ["batch/gpt-4o", "search/eu/gpt-4o", SEARCH]);
    let (one, learning) = (&told["risk"][2], &told["risk"][1]);
    assert_eq!((&one["team"], &one["route"]), (&"search".into(), &"gpt-4o".into()));
    assert_eq!((&one["state"], &learning["state"]), (&"open".into(), &"learning".into()));
    assert_eq!(one["n_requests"], 400);
    assert_eq!(one["n_audits"], shown.n_audits);
    assert_eq!((&one["n_wrong_audits"], &one["false_hit_rate_measured"]), (&0.into(), &0.0.into()));
    assert_eq!(one["false_hit_rate_upper"].as_f64(), Some(shown.false_hit_rate_upper));
    assert!(shown.false_hit_rate_upper <= 0.01 && one["max_false_hit_rate"] == 0.01);
    assert_eq!(one["hit_rate"].as_f64(), shown.hit_rate());
    let eu = read(&gateway, "/admin/v1/cache?team=search%2Feu", ADMIN).await.json();
    assert_eq!(scopes(&eu), ["search/eu/gpt-4o"]);
    let (name, key) = key_of("search");
    assert_eq!(scopes(&read(&gateway, "/admin/v1/cache", (name, &key)).await.json()), [SEARCH]);

    assert_eq!(
        gateway.post_with(crate::harness::CHAT, &chat("gpt-4o", "Hello?"), &[(name, &key)]).await.status,
        200
    );
    gateway.rows().await;
    let range = "from=2025-10-15&to=2025-10-16";
    let page = read(&gateway, &format!("/dashboard/cache?{range}"), ADMIN).await;
    let page = page.text();
    assert!(page.contains("At most 1.00 % wrong answers") && page.contains("search/eu / gpt-4o"), "{page}");
    let page = read(&gateway, &format!("/dashboard/cache?{range}"), (name, &key)).await;
    let page = page.text();
    assert!(page.contains("search / gpt-4o") && !page.contains("search/eu"), "{page}");
    gateway.finish().await;
}
