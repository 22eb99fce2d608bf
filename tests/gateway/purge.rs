//! `POST /admin/v1/cache/purge`: what goes, what stays, and who may ask.
//!
//! Teams have names of their own here, because stores may be shared with other tests; what everything being
//! purged does is tested over each store.

use serde_json::{Value, json};

use crate::fake_upstream::FakeUpstream;
use crate::harness::{Answer, CHAT, TestGateway, chat, endpoints, key_of, team};

const ADMIN_KEY: &str = "operator-0123456789-abcdef";
const ADMIN: (&str, &str) = ("authorization", "Bearer operator-0123456789-abcdef");
const PURGE: &str = "/admin/v1/cache/purge";
const TEAMS: [&str; 2] = ["purged", "spared"];

fn toml(fake: &FakeUpstream) -> String {
    let teams: String = TEAMS.iter().map(|name| team(name, "")).collect();
    format!("[admin]\nkey = \"{ADMIN_KEY}\"\n{}", endpoints(fake)) + &teams
}

async fn ask(gateway: &TestGateway, team: &str, model: &str, text: &str) -> Answer {
    let (name, key) = key_of(team);
    let answer = gateway.post_with(CHAT, &chat(model, text), &[(name, key.as_str())]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// What the cache says of two questions to two models, for both teams.
async fn said(gateway: &TestGateway) -> Vec<String> {
    let mut said = Vec::new();
    for team in TEAMS {
        for (model, text) in [("gpt-4o", "How are you?"), ("gpt-4o-mini", "And where?")] {
            said.push(ask(gateway, team, model, text).await.header("x-stiver-cache").to_owned());
        }
    }
    said
}

async fn purge(gateway: &TestGateway, body: Value) -> u64 {
    let answer = gateway.post_with(PURGE, &body, &[ADMIN]).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()["n_exact"].as_u64().expect("a purge is counted")
}

#[tokio::test]
async fn what_was_given_to_a_team_a_route_or_a_call_goes_and_everything_else_stays() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    said(&gateway).await;
    assert_eq!(said(&gateway).await, ["hit-exact"; 4]);

    assert_eq!(purge(&gateway, json!({"team": "purged"})).await, 2);
    assert_eq!(said(&gateway).await, ["miss", "miss", "hit-exact", "hit-exact"]);

    assert_eq!(purge(&gateway, json!({"team": "purged", "route": "gpt-4o"})).await, 1);
    assert_eq!(said(&gateway).await, ["miss", "hit-exact", "hit-exact", "hit-exact"]);

    let first = ask(&gateway, "spared", "gpt-4o", "A question of its own").await;
    let again = ask(&gateway, "spared", "gpt-4o", "A question of its own").await;
    let row = gateway.row_of(&again).await;
    assert!(row.reason.ends_with(first.header("x-request-id")), "{}", row.reason);
    assert_eq!(purge(&gateway, json!({"call": first.header("x-request-id")})).await, 1);
    let anew = ask(&gateway, "spared", "gpt-4o", "A question of its own").await;
    assert_eq!(anew.header("x-stiver-cache"), "miss");

    let entry = again.header("x-stiver-cache-entry");
    assert_eq!(entry.len(), 64);
    assert_eq!(
        (purge(&gateway, json!({"entry": entry})).await, first.header("x-stiver-cache-entry")),
        (1, "")
    );
    assert_eq!(purge(&gateway, json!({"entry": entry})).await, 0);
    assert_eq!(said(&gateway).await, ["hit-exact"; 4]);
    gateway.finish().await;
}

#[tokio::test]
async fn only_the_operator_purges_and_never_by_accident() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    said(&gateway).await;
    let (name, key) = key_of("purged");
    let own = (name, key.as_str());

    for body in [json!({"team": "purged"}), json!({"all": true})] {
        let answer = gateway.post_with(PURGE, &body, &[own]).await;
        assert_eq!((answer.status, answer.error().1.as_str()), (403, "operator_only"), "{body}");
    }
    assert_eq!(gateway.post(PURGE, &json!({"all": true})).await.status, 401);
    for (body, expected) in [
        (json!({}), "nothing is named"),
        (json!({"all": true, "team": "purged"}), "stand alone"),
        (json!({"everything": true}), "`everything`"),
        (json!({"call": "yesterday's"}), "x-request-id"),
        (json!({"entry": "ab"}), "x-stiver-cache-entry"),
    ] {
        let answer = gateway.post_with(PURGE, &body, &[ADMIN]).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text().contains(expected), "{body}: {}", answer.text());
    }
    assert_eq!(purge(&gateway, json!({"team": "nobody"})).await, 0);
    assert_eq!(said(&gateway).await, ["hit-exact"; 4]);
    gateway.finish().await;
}
