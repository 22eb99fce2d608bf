//! What the dashboard shows, asked for over HTTP: splits, caches, budgets and parts.
//!
//! Spending, latencies and calls are asked for in `admin.rs`.

use serde_json::{Value, json};
use stiver::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome};
use stiver::money::NanoUsd;
use stiver::team::{CallId, KeyId, RouteName, TeamName};

use crate::fake_upstream::FakeUpstream;
use crate::harness::{NOW_MS, Setup, TestGateway, endpoints, key_of, team};

const ADMIN_KEY: &str = "operator-0123456789-abcdef";
const ADMIN: (&str, &str) = ("authorization", "Bearer operator-0123456789-abcdef");
const SPLITS: &str = "[[split]]\nname = \"cheap\"\nroute = \"gpt-4o\"\nunit = \"user\"\narms = [\
    { name = \"control\", share = 7500 }, { name = \"no-cache\", share = 2500, cache = \"off\" }]\n\
    [[split]]\nname = \"idle\"\nroute = \"gpt-4o-mini\"\nunit = \"header:x-nobody\"\narms = [\
    { name = \"control\", share = 5000 }, { name = \"other\", share = 5000 }]\n";

fn row(nth: u8, team: &str, arm: Option<&str>) -> Entry {
    let at_ms = NOW_MS - 60_000 + i64::from(nth);
    let id = CallId::new(at_ms, [nth; 10]);
    let mut row =
        Entry::draft(id, at_ms, TeamName::from(team), "/v1/chat/completions", RouteName::from("gpt-4o"));
    row.split = arm.map(|_| "cheap".to_owned());
    row.arm = arm.map(str::to_owned);
    row.key = Some(KeyId::from("k1"));
    row.user = Some("ada".to_owned());
    (row.cost, row.baseline) = (Some(NanoUsd::new(1_000_000)), Some(NanoUsd::new(4_000_000)));
    (row.outcome, row.path, row.total_ms) = (Outcome::Ok, AnswerPath::Upstream, 100);
    row
}

fn hit(nth: u8, team: &str) -> Entry {
    Entry {
        path: AnswerPath::Semantic,
        cache: CacheOutcome::HitSemantic,
        similarity: Some(0.97),
        cost: Some(NanoUsd::ZERO),
        ..row(nth, team, Some("control"))
    }
}

/// Calls of two teams in both arms of one split, and one that named no unit.
async fn start() -> TestGateway {
    let fake = FakeUpstream::start();
    let budgets = "budgets = [{ usd = 5, per = \"month\" }, { usd = 1, per = \"day\", of = \"each_user\", \
                   time_zone = \"Asia/Kolkata\", on_exceed = \"warn\" }]";
    let toml = format!("[admin]\nkey = \"{ADMIN_KEY}\"\n{}", endpoints(&fake))
        + &team("search", budgets)
        + &team("batch", "");
    let gateway = Setup::of(&toml).splits(SPLITS).start().await;
    let failed = Entry { outcome: Outcome::UpstreamError, path: AnswerPath::None, ..row(5, "batch", None) };
    let rows = [
        row(1, "search", Some("control")),
        hit(2, "search"),
        row(3, "search", Some("no-cache")),
        row(4, "batch", Some("gone")),
        failed,
    ];
    for row in rows {
        gateway.gateway().ledger.record(row).expect("the journal has room");
    }
    gateway.gateway().ledger.flushed().await;
    gateway
}

async fn read(gateway: &TestGateway, path: &str, header: (&str, &str)) -> Value {
    let answer = gateway.get_with(path, &[header]).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().expect("a list").iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {list}"))
}

#[tokio::test]
async fn splits_are_told_with_their_arms_and_with_what_matched_nothing() {
    let gateway = start().await;

    let told = read(&gateway, "/admin/v1/splits?from=24h", ADMIN).await;

    let cheap = named(&told["data"], "cheap");
    assert_eq!(
        (&cheap["route"], &cheap["unit"], &cheap["control"]),
        (&json!("gpt-4o"), &json!("user"), &json!("control"))
    );
    assert_eq!((&cheap["n_calls"], &cheap["n_calls_without_arm"]), (&json!(4), &json!(1)));
    let control = named(&cheap["arms"], "control");
    assert_eq!((&control["n_calls"], &control["share_basis_points"]), (&json!(2), &json!(7_500)));
    assert_eq!((&control["cost_usd"], &control["cost_per_call_usd"]), (&json!("0.001"), &json!("0.0005")));
    assert_eq!((&control["saved_usd"], &control["hit_rate"]), (&json!("0.007"), &json!(0.5)));
    assert!(control["p95_ms"].as_f64().is_some_and(|ms| (90.0..=110.0).contains(&ms)), "{control}");
    let changed = named(&cheap["arms"], "no-cache")["changes"].as_str().unwrap();
    assert!(changed.contains("cache"), "{changed}");
    assert_eq!(named(&cheap["arms"], "gone")["share_basis_points"], Value::Null, "an arm that is no more");
    let idle = named(&told["data"], "idle");
    assert_eq!(
        (&idle["is_idle"], &idle["in_force"], &idle["n_calls"]),
        (&json!(true), &json!(true), &json!(0))
    );
    assert_eq!(named(&idle["arms"], "other")["cost_per_call_usd"], Value::Null);

    let (name, key) = key_of("batch");
    let own = read(&gateway, "/admin/v1/splits?from=24h&team=search", (name, &key)).await;
    assert_eq!(own["data"].as_array().unwrap().len(), 1, "{own}");
    assert_eq!(own["data"][0]["n_calls"], 1, "a team sees its own calls alone");
    gateway.finish().await;
}

#[tokio::test]
async fn audits_are_told_apart_from_what_clients_asked() {
    let gateway = start().await;
    let before = read(&gateway, "/admin/v1/cache?from=24h", ADMIN).await;
    let audit = Entry {
        path: AnswerPath::Audit,
        cache: CacheOutcome::Audit,
        baseline: Some(NanoUsd::ZERO),
        key: None,
        user: None,
        ..row(9, "search", None)
    };
    gateway.gateway().ledger.record(audit.clone()).expect("the journal has room");
    gateway.gateway().ledger.flushed().await;

    let told = read(&gateway, "/admin/v1/cache?from=24h", ADMIN).await;
    let spent = read(&gateway, "/admin/v1/spend?by=team&from=24h", ADMIN).await;
    let budgets = read(&gateway, "/admin/v1/budgets?team=search", ADMIN).await;

    for same in ["n_calls", "n_hits_semantic", "hit_rate", "saved_semantic_usd", "baseline_usd"] {
        assert_eq!(told["total"][same], before["total"][same], "{same}");
    }
    assert_eq!((&told["total"]["n_audits"], &told["total"]["own_cost_usd"]), (&json!(1), &json!("0.001")));
    assert_eq!((&told["by_outcome"]["audit"], &before["by_outcome"]["audit"]), (&json!(1), &json!(0)));
    let team = spent["data"].as_array().unwrap().iter().find(|line| line["team"] == "search").unwrap();
    assert_eq!((&team["n_calls"], &team["n_audits"]), (&json!(3), &json!(1)), "{team}");
    // Two answers that cost 1 and saved 3, a hit that saved 4, and the check of it, in thousandths of a dollar.
    assert_eq!((&team["cost_usd"], &team["saved_usd"]), (&json!("0.003"), &json!("0.009")));
    assert!(!budgets.to_string().contains("\"0.003\""), "no budget pays for it: {budgets}");
    let page = gateway.get_with(&format!("/admin/v1/calls/{}", audit.id), &[ADMIN]).await.json();
    assert_eq!(
        (&page["path"], &page["cache"], &page["saved_usd"]),
        (&json!("audit"), &json!("audit"), &json!("-0.001"))
    );
    gateway.finish().await;
}

#[tokio::test]
async fn the_cache_is_told_with_what_it_saved_and_to_the_operator_with_what_it_holds() {
    let gateway = start().await;

    let told = read(&gateway, "/admin/v1/cache?from=24h", ADMIN).await;

    assert_eq!((&told["total"]["n_calls"], &told["total"]["n_hits_semantic"]), (&json!(5), &json!(1)));
    assert_eq!(
        (&told["total"]["hit_rate"], &told["total"]["saved_semantic_usd"]),
        (&json!(0.2), &json!("0.004"))
    );
    assert_eq!((&told["by_outcome"]["hit-semantic"], &told["by_outcome"]["miss"]), (&json!(1), &json!(0)));
    assert_eq!(told["by_route"][0]["route"], "gpt-4o");
    let bins = told["similarity"]["bins"].as_array().unwrap();
    let full: Vec<&Value> = bins.iter().filter(|bin| bin["n"] == 1).collect();
    assert_eq!((full.len(), &full[0]["from"]), (1, &json!(0.97)), "{bins:?}");
    assert!(told["now"]["n_misses"].is_u64(), "{told}");

    let (name, key) = key_of("batch");
    let own = read(&gateway, "/admin/v1/cache?from=24h&team=search", (name, &key)).await;
    assert_eq!((&own["total"]["n_calls"], &own["now"]), (&json!(2), &Value::Null));
    gateway.finish().await;
}

#[tokio::test]
async fn every_budget_is_told_as_the_dashboard_tells_it() {
    let gateway = start().await;

    let told = read(&gateway, "/admin/v1/budgets", ADMIN).await;

    let data = told["data"].as_array().unwrap();
    let monthly = data.iter().find(|budget| budget["per"] == "month").unwrap();
    assert_eq!((&monthly["spent_usd"], &monthly["left_usd"]), (&json!("0.002"), &json!("4.998")));
    assert_eq!((&monthly["of"], &monthly["outlook"]), (&json!("team"), &json!("lasts")));
    let of_user = data.iter().find(|budget| budget["of"] == "each_user").unwrap();
    assert_eq!((&of_user["name"], &of_user["time_zone"]), (&json!("ada"), &json!("Asia/Kolkata")));
    assert_eq!((&of_user["from"], &of_user["on_exceed"]), (&json!("2025-10-14T18:30:00Z"), &json!("warn")));

    let (name, key) = key_of("batch");
    let own = read(&gateway, "/admin/v1/budgets?team=search", (name, &key)).await;
    assert_eq!(own["data"], json!([]), "a team is not told of another's");
    gateway.finish().await;
}

#[tokio::test]
async fn health_tells_of_upstreams_and_of_the_journal() {
    let gateway = start().await;

    let told = read(&gateway, "/admin/v1/health", ADMIN).await;

    let upstreams = told["upstreams"].as_array().unwrap();
    assert!(!upstreams.is_empty() && upstreams.iter().all(|one| one["state"] == "breaker closed"), "{told}");
    let journal = &told["journal"];
    assert!(journal["size_bytes"].is_u64() && journal["max_bytes"].is_u64(), "{told}");
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_not_a_parameter_is_named() {
    let gateway = start().await;

    for path in ["splits?by=arm", "cache?limit=3", "budgets?from=7d"] {
        let answer = gateway.get_with(&format!("/admin/v1/{path}"), &[ADMIN]).await;
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains("is not a parameter here"), "{path}: {}", answer.text());
    }
    for path in ["splits", "cache", "budgets"] {
        assert_eq!(gateway.get(&format!("/admin/v1/{path}")).await.status, 401, "{path}");
    }
    gateway.finish().await;
}
