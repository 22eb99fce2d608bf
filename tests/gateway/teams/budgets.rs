//! Budgets of teams and keys of the database: held as the file's are, changed while calls come.

use http::Method;
use serde_json::{Value, json};
use stiver::money::NanoUsd;

use super::{ADMIN, ADMIN_TOML, ask, done, key_for, made, read, tried};
use crate::fake_upstream::FakeUpstream;
use crate::harness::{Setup, TestGateway, nano_usd};
use crate::money::budgets::{PRICES, bounded, ceiling, only_large};

async fn start(fake: &FakeUpstream) -> TestGateway {
    Setup::of(&(ADMIN_TOML.to_owned() + &only_large(fake))).prices(PRICES).start().await
}

fn usd(nanos: i64) -> Value {
    Value::from(NanoUsd::new(nanos).to_string())
}

fn day(nanos: i64) -> Value {
    json!([{"usd": usd(nanos), "per": "day"}])
}

#[tokio::test]
async fn a_budget_of_the_database_holds_to_the_nano_dollar_and_is_raised_and_lowered_at_once() {
    let fake = FakeUpstream::start();
    let ceiling = ceiling(&fake, "question 0").await;
    let gateway = start(&fake).await;
    let key = made(&gateway, &json!({"name": "search", "budgets": day(ceiling)})).await;

    let first = ask(&gateway, &key, &bounded("question 1")).await;
    let over = ask(&gateway, &key, &bounded("question 2")).await;
    let cost = first.cost_nano_usd().unwrap();
    assert_eq!((first.status, over.status), (200, 429), "{}", over.text());
    assert_eq!(over.error().1, "budget_exceeded");

    let of_team = |nanos: i64| json!({"budgets": day(nanos)});
    for (nth, nanos, status) in [(3, cost + ceiling - 1, 429), (3, cost + ceiling, 200), (4, 2 * cost, 429)] {
        let told = done(&gateway, Method::PUT, "teams/search/budgets", &of_team(nanos)).await;
        assert_eq!(told["data"][0]["usd"], usd(nanos), "{told}");
        let answer = ask(&gateway, &key, &bounded(&format!("question {nth}"))).await;
        assert_eq!(answer.status, status, "{nanos}: {}", answer.text());
    }
    let told = read(&gateway, "teams/search/budgets").await;
    assert_eq!((&told["data"][0]["spent_usd"], &told["data"][0]["remaining_usd"]), (&usd(2 * cost), &usd(0)));
    let team = read(&gateway, "teams/search").await;
    assert_eq!((&team["spent_usd"]["day"]["spent_usd"], &team["remaining_usd"]), (&usd(2 * cost), &usd(0)));
    done(&gateway, Method::PUT, "teams/search/budgets", &json!({"budgets": []})).await;
    assert_eq!(ask(&gateway, &key, &bounded("question 5")).await.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn a_window_that_is_new_begins_with_what_was_spent_in_it() {
    let fake = FakeUpstream::start();
    let ceiling = ceiling(&fake, "question 0").await;
    let gateway = start(&fake).await;
    let key = made(&gateway, &json!({"name": "search"})).await;
    assert_eq!(ask(&gateway, &key, &bounded("question 1")).await.status, 200);

    for of in ["team", "each_key", "each_user"] {
        let budgets =
            json!({"budgets": [{"usd": usd(ceiling), "per": "week", "time_zone": "Asia/Kolkata", "of": of}]});
        done(&gateway, Method::PUT, "teams/search/budgets", &budgets).await;

        let over = ask(&gateway, &key, &bounded("question 2")).await;

        assert_eq!(over.status, 429, "{of}: {}", over.text());
    }
    let told = read(&gateway, "teams/search/budgets").await;
    assert_eq!((&told["data"][0]["of"], &told["data"][0]["spent_usd"]), (&json!("each_user"), &json!(null)));
    assert_eq!(gateway.finish().await.len(), 1);
}

#[tokio::test]
async fn a_key_of_the_database_has_budgets_of_its_own_and_rotation_keeps_them() {
    let fake = FakeUpstream::start();
    let ceiling = ceiling(&fake, "question 0").await;
    let gateway = start(&fake).await;
    made(&gateway, &json!({"name": "search", "budgets": day(10 * ceiling)})).await;
    let key = done(&gateway, Method::POST, "keys", &json!({"team": "search", "budgets": day(ceiling)})).await;
    let (id, secret) = (key["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    assert_eq!(key["budgets"][0]["of"], "each_key");

    assert_eq!(ask(&gateway, secret, &bounded("question 1")).await.status, 200);
    let over = ask(&gateway, secret, &bounded("question 2")).await;
    assert!(over.status == 429 && over.text().contains(&format!("key `{id}`")), "{}", over.text());
    let other = key_for(&gateway, "search").await;
    assert_eq!(ask(&gateway, &other, &bounded("question 2")).await.status, 200);

    let path = format!("keys/{id}/budgets");
    let told = read(&gateway, &path).await;
    assert!(nano_usd(told["data"][0]["spent_usd"].as_str().unwrap()) > 0, "{told}");
    done(&gateway, Method::PUT, &path, &json!({"budgets": day(2 * ceiling)})).await;
    assert_eq!(ask(&gateway, secret, &bounded("question 3")).await.status, 200);
    let rotated = done(&gateway, Method::POST, &format!("keys/{id}/rotate"), &json!({})).await;
    assert_eq!(
        rotated["budgets"],
        json!([{"usd": usd(2 * ceiling), "per": "day", "of": "each_key", "on_exceed": "refuse", "soft": null, "time_zone": "UTC"}])
    );
    done(&gateway, Method::PUT, &path, &json!({"budgets": []})).await;
    assert_eq!(read(&gateway, &path).await["data"], json!([]));

    for (budgets, param) in [
        (json!([{"usd": 1, "per": "day", "of": "each_user"}]), "budgets[0].of"),
        (json!([{"usd": 1, "per": "day"}, {"per": "day"}]), "budgets[1]"),
    ] {
        let refused = tried(&gateway, Method::PUT, &path, &json!({"budgets": budgets})).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["param"]),
            (400, &json!(param)),
            "{}",
            refused.text()
        );
    }
    done(&gateway, Method::DELETE, &format!("keys/{id}"), &json!({})).await;
    assert_eq!(
        tried(&gateway, Method::PUT, &path, &json!({"budgets": []})).await.status,
        400,
        "it was revoked"
    );
    gateway.finish().await;
}

#[tokio::test]
async fn the_dashboard_shows_a_team_of_the_database_with_its_budget() {
    let fake = FakeUpstream::start();
    let gateway = start(&fake).await;
    let budgets = json!([{"usd": 123, "per": "month"}]);
    let key = made(&gateway, &json!({"name": "search", "budgets": budgets})).await;
    assert_eq!(ask(&gateway, &key, &bounded("question 1")).await.status, 200);
    gateway.gateway().ledger.flushed().await;

    let page = gateway.get_with("/dashboard/teams?team=search", &[ADMIN]).await;
    let own = gateway.get_with("/dashboard/teams", &[("authorization", &format!("Bearer {key}"))]).await;
    let overview = gateway.get_with("/dashboard/overview", &[ADMIN]).await;

    for page in [&page, &own] {
        assert!(page.status == 200 && page.text().contains("Monthly budget of search"), "{}", page.text());
    }
    assert!(overview.text().contains("$123"), "{}", overview.text());
    done(&gateway, Method::DELETE, "teams/search", &json!({})).await;
    let past = gateway.get_with("/dashboard/teams?team=search", &[ADMIN]).await;
    assert!(
        past.text().contains("Spend by model") && !past.text().contains("Monthly budget"),
        "its past is there"
    );
    let out = gateway.get_with("/dashboard/teams", &[("authorization", &format!("Bearer {key}"))]).await;
    assert!(!out.text().contains("Spend by model"), "its key opens no page");
    gateway.finish().await;
}
