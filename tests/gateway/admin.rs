//! `/admin/v1`: who may ask, that a team sees itself alone, that keys live and die at once, and that what
//! is reported is what was booked.

use http::Method;
use serde_json::{Value, json};
use stiver::ledger::entry::Entry;
use stiver::money::NanoUsd;

use crate::fake_upstream::FakeUpstream;
use crate::harness::{Answer, CHAT, Setup, TestGateway, chat, chat_stream, endpoints, key_of, team};

const ADMIN_KEY: &str = "operator-0123456789-abcdef";
const ADMIN: (&str, &str) = ("authorization", "Bearer operator-0123456789-abcdef");

fn toml(fake: &FakeUpstream) -> String {
    format!("[admin]\nkey = \"{ADMIN_KEY}\"\n{}", endpoints(fake)) + &team("search", "") + &team("batch", "")
}

async fn ask(gateway: &TestGateway, team: &str, body: &Value, more: &[(&str, &str)]) -> Answer {
    let (name, key) = key_of(team);
    let mut headers = vec![(name, key.as_str())];
    headers.extend_from_slice(more);
    gateway.post_with(CHAT, body, &headers).await
}

/// Calls of two teams, whole and streamed, hits and misses, with users and tags.
async fn traffic(gateway: &TestGateway) -> Vec<Entry> {
    for nth in 0..3 {
        let user = format!("user{nth}");
        let more = [("x-stiver-user", user.as_str()), ("x-stiver-tags", "=cmd(),night")];
        assert_eq!(ask(gateway, "search", &chat("gpt-4o", "How are you?"), &more).await.status, 200);
        assert_eq!(
            ask(gateway, "batch", &chat_stream("gpt-4o-mini", &format!("Call {nth}")), &more).await.status,
            200
        );
    }
    gateway.rows().await
}

async fn read(gateway: &TestGateway, path: &str, header: (&str, &str)) -> Value {
    let answer = gateway.get_with(path, &[header]).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

fn sum(rows: &[&Entry]) -> String {
    rows.iter().map(|row| row.charge()).sum::<NanoUsd>().to_string()
}

#[tokio::test]
async fn spending_is_reported_as_it_was_booked_by_every_dimension() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let rows = traffic(&gateway).await;

    for by in ["team", "user", "tag", "model", "path", "team,route,outcome"] {
        let told = read(&gateway, &format!("/admin/v1/spend?from=24h&to=2025-10-16&by={by}"), ADMIN).await;
        let lines = told["data"].as_array().unwrap();
        let n_calls: u64 = lines.iter().map(|line| line["n_calls"].as_u64().unwrap()).sum();
        assert_eq!(n_calls, if by == "tag" { 12 } else { 6 }, "{by}: {told}");
        for line in lines.iter().filter(|_| by == "team") {
            let of_team: Vec<&Entry> = rows.iter().filter(|row| row.team.as_str() == line["team"]).collect();
            assert_eq!(line["cost_usd"], sum(&of_team), "{told}");
        }
    }
    let total = read(&gateway, "/admin/v1/spend?to=2025-10-16", ADMIN).await;
    assert_eq!(total["data"][0]["cost_usd"], sum(&rows.iter().collect::<Vec<_>>()));
    assert_eq!(total["data"][0]["n_hits_exact"], 2);
    let daily = read(&gateway, "/admin/v1/spend?to=2025-10-16&step=day&by=model", ADMIN).await;
    assert!(
        daily["data"].as_array().unwrap().iter().all(|line| line["at"] == "2025-10-15T00:00:00Z"),
        "{daily}"
    );
    let latency = read(&gateway, "/admin/v1/latency?to=2025-10-16&by=team", ADMIN).await;
    assert_eq!(latency["data"][0]["n_calls"], 3);
    gateway.finish().await;
}

#[tokio::test]
async fn a_table_for_spreadsheets_holds_no_formula() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    traffic(&gateway).await;

    let table = gateway.get_with("/admin/v1/spend?to=2025-10-16&by=tag&format=csv", &[ADMIN]).await;

    assert_eq!(table.header("content-type"), "text/csv; charset=utf-8");
    let text = table.text();
    assert!(text.starts_with("tag,n_calls,"), "{text}");
    assert!(text.contains("\n'=cmd(),6,") || text.contains("\n\"'=cmd()\",6,"), "{text}");
    let calls = gateway.get_with("/admin/v1/calls?to=2025-10-16&format=csv", &[ADMIN]).await;
    assert_eq!(calls.text().lines().count(), 7);
    gateway.finish().await;
}

#[tokio::test]
async fn a_team_sees_itself_and_changes_nothing() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let rows = traffic(&gateway).await;
    let (name, key) = key_of("search");
    let own = (name, key.as_str());

    for path in ["/admin/v1/spend?to=2025-10-16&by=team", "/admin/v1/spend?to=2025-10-16&by=team&team=batch"]
    {
        let told = read(&gateway, path, own).await;
        let lines = told["data"].as_array().unwrap();
        assert!(lines.len() == 1 && lines[0]["team"] == "search", "{told}");
    }
    let calls = read(&gateway, "/admin/v1/calls?to=2025-10-16&team=batch", own).await;
    assert!(calls["data"].as_array().unwrap().iter().all(|call| call["team"] == "search"), "{calls}");
    let latency = read(&gateway, "/admin/v1/latency?to=2025-10-16&by=team&team=batch", own).await;
    assert_eq!(latency["data"][0]["name"], "search");
    let theirs = rows.iter().find(|row| row.team.as_str() == "batch").unwrap().id;
    assert_eq!(gateway.get_with(&format!("/admin/v1/calls/{theirs}"), &[own]).await.status, 404);
    let mine = rows.iter().find(|row| row.team.as_str() == "search").unwrap().id;
    assert_eq!(read(&gateway, &format!("/admin/v1/calls/{mine}"), own).await["id"], mine.to_string());
    let teams = read(&gateway, "/admin/v1/teams", own).await;
    assert_eq!(teams["data"].as_array().unwrap().len(), 1);
    for (path, status) in [
        ("teams/search", 200),
        ("teams/batch", 404),
        ("teams/search/budgets", 200),
        ("teams/batch/budgets", 404),
        ("keys/search/budgets", 200),
        ("keys/batch/budgets", 404),
    ] {
        let answer = gateway.get_with(&format!("/admin/v1/{path}"), &[own]).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    let keys = read(&gateway, "/admin/v1/keys", own).await;
    assert!(keys["data"].as_array().unwrap().iter().all(|key| key["team"] == "search"), "{keys}");

    for answer in [
        gateway.post_with("/admin/v1/keys", &json!({"team": "search"}), &[own]).await,
        gateway.post_with("/admin/v1/keys/x/rotate", &json!({}), &[own]).await,
        gateway.post_with("/admin/v1/keys/x/expire", &json!({"in_hours": 1}), &[own]).await,
        gateway.delete_with("/admin/v1/keys/x", &[own]).await,
        gateway.post_with("/admin/v1/teams", &json!({"name": "new"}), &[own]).await,
        gateway.post_with("/admin/v1/teams/search/expire", &json!({"in_hours": 0}), &[own]).await,
        gateway.delete_with("/admin/v1/teams/search", &[own]).await,
        gateway.send_by(Method::PUT, "/admin/v1/teams/search", Some(&json!({})), &[own]).await,
        gateway.send_by(Method::PATCH, "/admin/v1/teams/search", Some(&json!({})), &[own]).await,
        gateway
            .send_by(Method::PUT, "/admin/v1/teams/search/budgets", Some(&json!({"budgets": []})), &[own])
            .await,
        gateway
            .send_by(Method::PUT, "/admin/v1/keys/search/budgets", Some(&json!({"budgets": []})), &[own])
            .await,
        gateway.get_with("/admin/v1/health", &[own]).await,
    ] {
        assert_eq!((answer.status, answer.error().1.as_str()), (403, "operator_only"), "{}", answer.text());
    }
    gateway.finish().await;
}

#[tokio::test]
async fn nobody_enters_without_a_key() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;

    for path in [
        "keys",
        "keys/search/budgets",
        "teams",
        "teams/search",
        "teams/search/budgets",
        "spend",
        "latency",
        "calls",
        "calls/x",
        "health",
    ] {
        let path = format!("/admin/v1/{path}");
        assert_eq!(gateway.get(&path).await.status, 401, "{path}");
        let wrong = [("authorization", "Bearer operator-0123456789-abcdeg")];
        assert_eq!(gateway.get_with(&path, &wrong).await.status, 401, "{path}");
    }
    assert_eq!(gateway.post("/admin/v1/keys", &json!({"team": "search"})).await.status, 401);
    // The operator's key opens the book, not the upstreams.
    assert_eq!(gateway.post_with(CHAT, &chat("gpt-4o", "Hello"), &[ADMIN]).await.status, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn a_key_is_made_rotated_expired_and_revoked_and_each_counts_at_once() {
    let fake = FakeUpstream::start();
    let setup = Setup::of(&toml(&fake));
    let clock = stiver::clock::Clock::standing_at(crate::harness::NOW_MS);
    let gateway = setup.clock(&clock).start().await;
    let call = async |key: &Value| {
        let bearer = format!("Bearer {}", key.as_str().unwrap());
        gateway.post_with(CHAT, &chat("gpt-4o", "Hello"), &[("authorization", &bearer)]).await.status
    };
    let post = async |path: &str, body: Value| {
        let answer = gateway.post_with(path, &body, &[ADMIN]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    };

    let first = post("/admin/v1/keys", json!({"team": "search", "name": "ci", "expires_in_hours": 2})).await;
    assert_eq!(call(&first["key"]).await, 200);
    let id = first["id"].as_str().unwrap().to_owned();

    let second = post(&format!("/admin/v1/keys/{id}/rotate"), json!({"grace_hours": 1})).await;
    assert_eq!((second["team"].clone(), second["name"].clone()), (json!("search"), json!("ci")));
    assert_eq!((call(&first["key"]).await, call(&second["key"]).await), (200, 200));
    clock.advance(3_600_000);
    assert_eq!((call(&first["key"]).await, call(&second["key"]).await), (401, 200));

    let second_id = second["id"].as_str().unwrap();
    let third = post(&format!("/admin/v1/keys/{second_id}/rotate"), json!({"grace_hours": 0})).await;
    assert_eq!((call(&second["key"]).await, call(&third["key"]).await), (401, 200));

    let third_id = third["id"].as_str().unwrap().to_owned();
    let revoked = gateway.delete_with(&format!("/admin/v1/keys/{third_id}"), &[ADMIN]).await;
    assert_eq!((revoked.status, revoked.json()["state"].as_str()), (200, Some("revoked")));
    assert_eq!(call(&third["key"]).await, 401);
    assert_eq!(gateway.delete_with(&format!("/admin/v1/keys/{third_id}"), &[ADMIN]).await.status, 200);

    let listed = read(&gateway, "/admin/v1/keys", ADMIN).await.to_string();
    for secret in [&first["key"], &second["key"], &third["key"]] {
        assert!(!listed.contains(secret.as_str().unwrap()), "a secret is shown once");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_told_with_its_remedy() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let long = "x".repeat(129);

    for (body, expected) in [
        (json!({"team": "nobody"}), "there are: batch, search"),
        (json!({"team": ""}), "there is no team"),
        (json!({"team": "search", "name": long}), "128 characters"),
        (json!({"team": "search", "name": "a\u{0}b"}), "control character"),
        (json!({"team": "search", "routes": ["gpt-9"]}), "no route `gpt-9`"),
        (json!({"team": "search", "budgets": [{"usd": 1, "per": "age"}]}), "`budgets[0].per`"),
        (json!({"team": "search", "colour": 1}), "unknown field `colour`"),
        (json!(["team"]), "not as expected"),
    ] {
        let answer = gateway.post_with("/admin/v1/keys", &body, &[ADMIN]).await;
        assert!(answer.status == 400 && answer.text().contains(expected), "{body}: {}", answer.text());
    }
    for (path, status, expected) in [
        ("/admin/v1/keys/none/rotate", 404, "no key `none`"),
        ("/admin/v1/keys/search/rotate", 400, "stands in the configuration file"),
    ] {
        let answer = gateway.post_with(path, &json!({}), &[ADMIN]).await;
        assert!(answer.status == status && answer.text().contains(expected), "{}", answer.text());
    }
    for query in ["by=colour", "from=x", "step=year", "nonsense=1"] {
        let answer = gateway.get_with(&format!("/admin/v1/spend?{query}"), &[ADMIN]).await;
        assert_eq!(answer.status, 400, "{query}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_page_of_another_site_can_change_nothing() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let body = json!({"team": "evil"});

    let foreign: [&[(&str, &str)]; 4] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("host", "evil.example")],
    ];
    for headers in foreign {
        let answer = gateway.post_with("/admin/v1/keys", &body, headers).await;
        assert_eq!((answer.status, answer.error().1.as_str()), (403, "foreign_origin"), "{headers:?}");
    }
    let team = json!({"name": "evil"});
    for (method, path) in [
        (Method::POST, "/admin/v1/teams"),
        (Method::PUT, "/admin/v1/teams/evil"),
        (Method::PATCH, "/admin/v1/teams/evil"),
        (Method::DELETE, "/admin/v1/teams/evil"),
        (Method::POST, "/admin/v1/teams/evil/expire"),
        (Method::PUT, "/admin/v1/teams/evil/budgets"),
        (Method::PUT, "/admin/v1/keys/evil/budgets"),
    ] {
        for headers in foreign {
            let answer = gateway.send_by(method.clone(), path, Some(&team), headers).await;
            assert_eq!(answer.status, 403, "{method} {path} {headers:?}");
        }
    }
    let rebound = gateway.get_with("/admin/v1/spend", &[("host", "evil.example")]).await;
    assert_eq!(rebound.status, 403);
    assert_eq!(gateway.get("/admin/v1/keys").await.json()["data"], json!([]));

    let origin = gateway.url().to_owned();
    let own = [("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(gateway.post_with("/admin/v1/keys", &json!({"team": "own"}), &own).await.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_looked_for_is_never_run() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    traffic(&gateway).await;

    for evil in ["'%3B+DROP+TABLE+postings%3B--", "%25", "_", "\"))--", "1'+OR+'1'%3D'1"] {
        for parameter in ["team", "route", "model", "user", "tag", "key", "split"] {
            let spend =
                read(&gateway, &format!("/admin/v1/spend?to=2025-10-16&{parameter}={evil}"), ADMIN).await;
            assert_eq!(spend["data"], json!([]), "{parameter}={evil}");
        }
        let calls = read(&gateway, &format!("/admin/v1/calls?to=2025-10-16&text={evil}"), ADMIN).await;
        assert_eq!(calls["data"], json!([]), "text={evil}");
    }
    let calls = read(&gateway, "/admin/v1/calls?to=2025-10-16&text=NIGHT&limit=4", ADMIN).await;
    assert_eq!((calls["data"].as_array().unwrap().len(), calls["has_more"].clone()), (4, json!(true)));
    let last = calls["data"][3]["id"].as_str().unwrap().to_owned();
    let rest =
        read(&gateway, &format!("/admin/v1/calls?to=2025-10-16&text=NIGHT&before={last}"), ADMIN).await;
    assert_eq!(rest["data"].as_array().unwrap().len(), 2);
    gateway.finish().await;
}
