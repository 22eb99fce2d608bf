//! Teams of the database: made, changed and ended over HTTP, each counting at once, and what holds beside the file.

mod budgets;
mod places;

use http::Method;
use serde_json::{Value, json};
use stiver::clock::Clock;

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{Answer, CHAT, NOW_MS, Setup, TestGateway, chat, chat_stream, endpoints};

pub(crate) const ADMIN: (&str, &str) = ("authorization", "Bearer operator-0123456789-abcdef");
pub(crate) const ADMIN_TOML: &str = "[admin]\nkey = \"operator-0123456789-abcdef\"\n";
const HOUR_MS: i64 = 3_600_000;

pub(crate) fn toml(fake: &FakeUpstream) -> String {
    ADMIN_TOML.to_owned() + &endpoints(fake)
}

/// As the operator; the answer must be good.
pub(crate) async fn done(gateway: &TestGateway, method: Method, path: &str, body: &Value) -> Value {
    let answer = gateway.send_by(method.clone(), &format!("/admin/v1/{path}"), Some(body), &[ADMIN]).await;
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    answer.json()
}

/// As the operator; whatever the answer is.
pub(crate) async fn tried(gateway: &TestGateway, method: Method, path: &str, body: &Value) -> Answer {
    gateway.send_by(method, &format!("/admin/v1/{path}"), Some(body), &[ADMIN]).await
}

pub(crate) async fn read(gateway: &TestGateway, path: &str) -> Value {
    let answer = gateway.get_with(&format!("/admin/v1/{path}"), &[ADMIN]).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// A team made over HTTP, and a key of it.
pub(crate) async fn made(gateway: &TestGateway, team: &Value) -> String {
    done(gateway, Method::POST, "teams", team).await;
    key_for(gateway, team["name"].as_str().expect("a team has a name")).await
}

pub(crate) async fn key_for(gateway: &TestGateway, team: &str) -> String {
    let key = done(gateway, Method::POST, "keys", &json!({"team": team})).await;
    key["key"].as_str().expect("a new key is shown").to_owned()
}

pub(crate) async fn ask(gateway: &TestGateway, key: &str, body: &Value) -> Answer {
    gateway.post_with(CHAT, body, &[("authorization", &format!("Bearer {key}"))]).await
}

#[tokio::test]
async fn a_team_is_made_changed_ended_and_revoked_and_each_counts_at_once() {
    let fake = FakeUpstream::start();
    let clock = Clock::standing_at(NOW_MS);
    let gateway = Setup::of(&toml(&fake)).clock(&clock).start().await;
    let team = json!({"name": " search ", "routes": ["gpt-4o"], "expires_in_hours": 2});
    let told = done(&gateway, Method::POST, "teams", &team).await;
    assert_eq!(
        (&told["name"], &told["kept_in"], &told["state"]),
        (&json!("search"), &json!("database"), &json!("good"))
    );
    assert_eq!((&told["created_ms"], &told["expires_ms"]), (&json!(NOW_MS), &json!(NOW_MS + 2 * HOUR_MS)));
    let key = key_for(&gateway, "search").await;
    let status = async |model: &str| ask(&gateway, &key, &chat(model, "Hello")).await.status;

    assert_eq!((status("gpt-4o").await, status("gpt-4o-mini").await), (200, 403));
    done(
        &gateway,
        Method::PATCH,
        "teams/search",
        &json!({"routes": ["gpt-4o-mini"], "limits": {"concurrency": 5}}),
    )
    .await;
    assert_eq!((status("gpt-4o").await, status("gpt-4o-mini").await), (403, 200));
    let put =
        done(&gateway, Method::PUT, "teams/search", &json!({"limits": {"requests_per_minute": 1}})).await;
    assert_eq!((&put["routes"], &put["limits"]), (&json!(null), &json!({"requests_per_minute": 1})));
    assert_eq!((status("gpt-4o").await, status("gpt-4o").await), (200, 429));
    done(&gateway, Method::PATCH, "teams/search", &json!({"limits": null})).await;

    clock.advance(2 * HOUR_MS - 1);
    assert_eq!(status("gpt-4o").await, 200);
    clock.advance(1);
    let expired = ask(&gateway, &key, &chat("gpt-4o", "Hello")).await;
    assert!(
        expired.status == 401 && expired.text().contains("team `search` has expired"),
        "{}",
        expired.text()
    );
    assert_eq!(read(&gateway, "teams/search").await["state"], "expired");
    done(&gateway, Method::POST, "teams/search/expire", &json!({"in_hours": null})).await;
    assert_eq!(status("gpt-4o").await, 200);

    let told = done(&gateway, Method::DELETE, "teams/search", &json!({})).await;
    assert_eq!((&told["state"], &told["revoked_ms"]), (&json!("revoked"), &json!(NOW_MS + 2 * HOUR_MS)));
    let revoked = ask(&gateway, &key, &chat("gpt-4o", "Hello")).await;
    assert!(
        revoked.status == 401 && revoked.text().contains("team `search` was revoked"),
        "{}",
        revoked.text()
    );
    gateway.finish().await;
}

#[tokio::test]
async fn a_revoked_team_keeps_its_name_and_its_past_and_is_changed_no_more() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let key = made(&gateway, &json!({"name": "search"})).await;
    assert_eq!(ask(&gateway, &key, &chat("gpt-4o", "Hello")).await.status, 200);
    done(&gateway, Method::DELETE, "teams/search", &json!({})).await;

    assert_eq!(tried(&gateway, Method::DELETE, "teams/search", &json!({})).await.status, 200, "as wished");
    for (method, path, body, status) in [
        (Method::PUT, "teams/search", json!({}), 400),
        (Method::PATCH, "teams/search", json!({}), 400),
        (Method::PUT, "teams/search/budgets", json!({"budgets": []}), 400),
        (Method::POST, "teams/search/expire", json!({"in_hours": null}), 400),
        (Method::POST, "keys", json!({"team": "search"}), 400),
        (Method::POST, "teams", json!({"name": "search"}), 409),
    ] {
        let answer = tried(&gateway, method.clone(), path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    gateway.rows().await;
    let spent = read(&gateway, "spend?to=2025-10-16&by=team").await;
    assert_eq!(
        (&spent["data"][0]["team"], &spent["data"][0]["n_calls"]),
        (&json!("search"), &json!(1)),
        "{spent}"
    );
    gateway.finish().await;
}

#[tokio::test]
async fn a_call_that_runs_while_its_team_is_revoked_ends_well() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=9 pause_at=3"));
    let gateway = TestGateway::start(&toml(&fake)).await;
    let team = json!({"name": "search", "budgets": [{"usd": 5, "per": "day"}]});
    let bearer = format!("Bearer {}", made(&gateway, &team).await);
    let mut open = gateway.open(CHAT, &chat_stream("gpt-4o", "Hello"), &[("authorization", &bearer)]).await;
    open.read_contents(3).await;

    done(&gateway, Method::DELETE, "teams/search", &json!({})).await;
    fake.release();
    let mut last = String::new();
    while let Some(event) = open.next().await {
        last = event;
    }

    assert!(last.contains("[DONE]"), "{last}");
    let rows = gateway.finish().await;
    assert_eq!((rows.len(), rows[0].team.as_str(), rows[0].outcome.as_str()), (1, "search", "ok"));
}

#[tokio::test]
async fn what_cannot_be_made_is_told_with_its_place() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let (long, longest) = ("x".repeat(129), "x".repeat(128));
    made(&gateway, &json!({"name": longest})).await;

    for (body, param, expected) in [
        (json!({}), "name", "`name` is missing"),
        (json!({"name": 5}), "name", "no text"),
        (json!({"name": " "}), "name", "is empty"),
        (json!({"name": long}), "name", "longer than 128"),
        (json!({"name": "a\nb"}), "name", "control character"),
        (json!({"name": "a\u{0}"}), "name", "control character"),
        (json!({"name": "a", "expires_in_hours": -1}), "expires_in_hours", "no whole number"),
        (
            json!({"name": "a", "budgets": [{"usd": 5, "per": "day"}, {"usd": -5, "per": "day"}]}),
            "budgets[1].usd",
            "`-5` is no amount",
        ),
        (
            json!({"name": "a", "budgets": [{"usd": 5, "per": "year"}]}),
            "budgets[0].per",
            "unknown variant `year`",
        ),
        (
            json!({"name": "a", "budgets": [{"usd": 5, "per": "day", "soft": 1}]}),
            "budgets[0].soft",
            "no share",
        ),
        (json!({"name": "a", "routes": ["gpt-9"]}), "routes", "there are: all-MiniLM-L6-v2"),
        (json!({"name": "a", "limits": {"concurrency": 0}}), "limits.concurrency", "would refuse every call"),
        (json!({"name": "a", "webhook": "hooks"}), "webhook", "no http(s) address"),
        (json!({"name": "a", "colour": 1}), "colour", "unknown field `colour`"),
    ] {
        let answer = tried(&gateway, Method::POST, "teams", &body).await;
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, error["param"].as_str()), (400, Some(param)), "{body}: {error}");
        assert!(error["message"].as_str().unwrap().contains(expected), "{body}: {error}");
    }
    for (method, path, body, status, expected) in [
        (Method::POST, "teams", json!(["a"]), 400, "not as expected"),
        (Method::POST, "teams", json!({"name": longest}), 409, "already"),
        (Method::PUT, "teams/nobody", json!({}), 404, "no team `nobody`"),
        (Method::DELETE, "teams/nobody", json!({}), 404, "no team `nobody`"),
        (Method::POST, "teams/nobody/expire", json!({"in_hours": 1}), 404, "no team `nobody`"),
        (Method::POST, "teams/nobody/expire", json!({}), 400, "missing field `in_hours`"),
        (Method::PUT, "teams/nobody/budgets", json!([]), 400, "not as expected"),
        (Method::PUT, "keys/nobody/budgets", json!({"budgets": []}), 404, "no key `nobody`"),
    ] {
        let answer = tried(&gateway, method.clone(), path, &body).await;
        assert!(
            answer.status == status && answer.text().contains(expected),
            "{method} {path}: {}",
            answer.text()
        );
    }
    assert_eq!(read(&gateway, "teams").await["data"].as_array().unwrap().len(), 1, "nothing of it was made");
    gateway.finish().await;
}

#[tokio::test]
async fn names_are_text_wherever_they_stand() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let evil =
        ["<script>alert(1)</script>", "'; DROP TABLE teams; --", "a/b?c#d%", "\"'><img src=x>", "検索"];
    for name in evil {
        let key = made(&gateway, &json!({"name": name, "budgets": [{"usd": 5, "per": "month"}]})).await;
        assert_eq!(ask(&gateway, &key, &chat("gpt-4o", "Hello")).await.status, 200, "{name}");

        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let told = read(&gateway, &format!("teams/{encoded}")).await;
        assert_eq!(told["name"], name);
        let put = json!({"budgets": [{"usd": 6, "per": "month"}]});
        done(&gateway, Method::PUT, &format!("teams/{encoded}/budgets"), &put).await;
        let page = gateway.get_with(&format!("/dashboard/teams?team={encoded}"), &[ADMIN]).await;
        assert_eq!(page.status, 200);
        assert!(!page.text().contains("<script>alert") && !page.text().contains("<img src=x"), "{name}");
    }

    assert_eq!(read(&gateway, "teams").await["data"].as_array().unwrap().len(), evil.len());
    assert_eq!(tried(&gateway, Method::DELETE, "teams/'%20OR%20'1'='1", &json!({})).await.status, 404);
    gateway.rows().await;
    let spent = read(&gateway, "spend?to=2025-10-16&by=team").await;
    assert_eq!(spent["data"].as_array().unwrap().len(), evil.len(), "{spent}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_webhook_is_stored_and_never_shown() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let url = "https://user:s3cret@hooks.example/services/s3cret?token=s3cret";
    let mut told =
        vec![done(&gateway, Method::POST, "teams", &json!({"name": "search", "webhook": url})).await];
    let own = key_for(&gateway, "search").await;
    let stored = async || {
        let live = gateway.gateway().live();
        let roster = &live.members().roster;
        serde_json::from_str::<Value>(roster.teams[0].config.as_str()).unwrap()["webhook"].clone()
    };

    for (method, body) in [
        (Method::PUT, json!({"webhook": told[0]["webhook"], "limits": {"concurrency": 3}})),
        (Method::PATCH, json!({"limits": {"concurrency": 4}})),
        (Method::PATCH, json!({"webhook": "https://hooks.example/…"})),
    ] {
        told.push(done(&gateway, method, "teams/search", &body).await);
        assert_eq!(stored().await, url, "what was read and sent back is no new address");
    }
    told.push(read(&gateway, "teams").await);
    told.push(
        gateway
            .get_with("/admin/v1/teams/search", &[("authorization", &format!("Bearer {own}"))])
            .await
            .json(),
    );
    told.push(
        done(&gateway, Method::PATCH, "teams/search", &json!({"webhook": "https://hooks.example/s3cret2"}))
            .await,
    );
    assert_eq!(stored().await, "https://hooks.example/s3cret2");

    for told in &told {
        assert!(!told.to_string().contains("s3cret"), "{told}");
        assert!(told.to_string().contains("https://hooks.example/…"), "{told}");
    }
    assert!(!format!("{:?}", gateway.gateway().live().members()).contains("s3cret"));
    gateway.finish().await;
}

#[tokio::test]
async fn the_first_team_shuts_out_nobody_who_was_good_without_any() {
    let fake = FakeUpstream::start();
    let clock = Clock::standing_at(NOW_MS);
    let gateway = Setup::of(&toml(&fake)).clock(&clock).start().await;
    let before = key_for(&gateway, "batch").await;
    let long = tried(&gateway, Method::POST, "keys", &json!({"team": "x".repeat(129)})).await;
    assert!(long.status == 400 && long.text().contains("longer than 128"), "{}", long.text());
    clock.advance(1);

    let told = done(&gateway, Method::POST, "teams", &json!({"name": "search"})).await;

    assert!(told["note"].as_str().unwrap().contains("without limits, of: batch;"), "{told}");
    assert_eq!(ask(&gateway, &before, &chat("gpt-4o", "Hello")).await.status, 200);
    let id = read(&gateway, "keys").await["data"][0]["id"].as_str().unwrap().to_owned();
    for (path, body) in
        [("keys".to_owned(), json!({"team": "batch"})), (format!("keys/{id}/rotate"), json!({}))]
    {
        let refused = tried(&gateway, Method::POST, &path, &body).await;
        assert!(
            refused.status == 400 && refused.text().contains("there are: search"),
            "{path}: {}",
            refused.text()
        );
    }
    let told =
        done(&gateway, Method::POST, "teams", &json!({"name": "batch", "routes": ["gpt-4o-mini"]})).await;
    assert_eq!(told["note"], json!(null));
    assert_eq!(ask(&gateway, &before, &chat("gpt-4o", "Hello")).await.status, 403, "now it is limited");
    gateway.finish().await;
}
