//! `POST /v1/feedback`: a wrong answer leaves the cache, for whoever it was given to and for nobody else.
//!
//! Teams have names of their own here, because stores may be shared with other tests.

use serde_json::{Value, json};

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{
    Answer, CHAT, Setup, TestGateway, chat, chat_stream, endpoints, have_models, key_of, team,
};

const FEEDBACK: &str = "/v1/feedback";
const RESET: &str = "How do I reset my password?";
const RESET_TOO: &str = "How can I reset my password?";

fn toml(fake: &FakeUpstream) -> String {
    endpoints(fake) + &team("rated", "") + &team("other", "")
}

async fn ask(gateway: &TestGateway, team: &str, text: &str) -> Answer {
    let (name, key) = key_of(team);
    let answer = gateway.post_with(CHAT, &chat("gpt-4o", text), &[(name, key.as_str())]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

async fn rate(gateway: &TestGateway, team: &str, body: Value) -> Answer {
    let (name, key) = key_of(team);
    gateway.post_with(FEEDBACK, &body, &[(name, key.as_str())]).await
}

/// What was removed.
async fn wrong(gateway: &TestGateway, team: &str, what: (&str, &str)) -> Value {
    let answer = rate(gateway, team, json!({what.0: what.1, "rating": "wrong"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["removed"].clone()
}

#[tokio::test]
async fn a_wrong_hit_is_removed_by_its_call_or_by_its_name() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    for by_name in [false, true] {
        ask(&gateway, "rated", RESET).await;
        let hit = ask(&gateway, "rated", RESET).await;
        assert_eq!(hit.header("x-stiver-cache"), "hit-exact");
        let what = match by_name {
            false => ("call_id", hit.header("x-request-id")),
            true => ("cache_entry", hit.header("x-stiver-cache-entry")),
        };

        assert_eq!(wrong(&gateway, "rated", what).await, 1);
        assert_eq!(wrong(&gateway, "rated", what).await, 0, "said twice");

        let row = gateway.row_of(&hit).await;
        assert_eq!(row.cache_entry.as_deref(), Some(hit.header("x-stiver-cache-entry")));
        let anew = ask(&gateway, "rated", RESET).await;
        assert_eq!((anew.header("x-stiver-cache"), anew.header("x-stiver-cache-entry")), ("miss", ""));
        assert_eq!(wrong(&gateway, "rated", ("call_id", anew.header("x-request-id"))).await, 1, "its own");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_right_stays() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    ask(&gateway, "rated", RESET).await;
    let hit = ask(&gateway, "rated", RESET).await;
    let id = hit.header("x-request-id");

    let told = rate(&gateway, "rated", json!({"call_id": id, "rating": "right", "comment": "thanks"})).await;

    let expected =
        json!({"object": "feedback", "rating": "right", "removed": 0, "n_exact": 0, "n_semantic": 0});
    assert_eq!((told.status, told.json()), (200, expected));
    assert_eq!(ask(&gateway, "rated", RESET).await.header("x-stiver-cache"), "hit-exact");
    gateway.finish().await;
}

#[tokio::test]
async fn another_teams_calls_and_answers_are_as_if_there_were_none() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    ask(&gateway, "rated", RESET).await;
    let hit = ask(&gateway, "rated", RESET).await;
    let unknown = "01890000-0000-7000-8000-000000000000";

    let mut told = Vec::new();
    for id in [hit.header("x-request-id"), unknown] {
        let refused = rate(&gateway, "other", json!({"call_id": id, "rating": "wrong"})).await;
        assert_eq!((refused.status, refused.error().1.as_str()), (404, "unknown_call"));
        told.push(refused.text().replace(id, "ID"));
    }
    assert_eq!(told[0], told[1]);
    for name in [hit.header("x-stiver-cache-entry"), &"ab".repeat(32)] {
        assert_eq!(wrong(&gateway, "other", ("cache_entry", name)).await, 0);
    }

    assert_eq!(ask(&gateway, "rated", RESET).await.header("x-stiver-cache"), "hit-exact");
    gateway.finish().await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_what_to_do() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let id = "01890000-0000-7000-8000-000000000000";
    for (body, expected) in [
        (json!({"rating": "wrong"}), "give `call_id` or `cache_entry`"),
        (json!({"rating": "wrong", "call_id": id, "cache_entry": "ab"}), "not both"),
        (json!({"rating": "wrong", "call_id": "yesterday's"}), "x-request-id"),
        (json!({"rating": "wrong", "cache_entry": "ab"}), "x-stiver-cache-entry"),
        (json!({"rating": "bad", "call_id": id}), "bad"),
        (json!({"call_id": id}), "rating"),
        (json!({"rating": "wrong", "call_id": id, "stars": 1}), "stars"),
    ] {
        let refused = rate(&gateway, "rated", body.clone()).await;

        assert_eq!((refused.status, refused.error().0.as_str()), (400, "invalid_request_error"), "{body}");
        assert!(refused.text().contains(expected), "{body}: {}", refused.text());
    }
    let stranger = gateway.post(FEEDBACK, &json!({"call_id": id, "rating": "wrong"})).await;
    assert_eq!(stranger.status, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn a_poisoned_answer_stays_within_its_team_and_goes_with_one_complaint() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&toml(&fake)).with_models().start().await;
    fake.script(Script::next(1, "text=poison"));
    ask(&gateway, "rated", RESET).await;
    gateway.until_entries(1).await;

    let (name, key) = key_of("rated");
    let streamed = gateway.post_with(CHAT, &chat_stream("gpt-4o", RESET_TOO), &[(name, key.as_str())]).await;
    let elsewhere = ask(&gateway, "other", RESET_TOO).await;
    assert_eq!((streamed.header("x-stiver-cache"), streamed.says().as_str()), ("hit-semantic", "poison"));
    assert_eq!(elsewhere.header("x-stiver-cache"), "miss");
    assert_ne!(elsewhere.says(), "poison");
    gateway.until_entries(2).await;

    assert_eq!(wrong(&gateway, "rated", ("call_id", streamed.header("x-request-id"))).await, 2, "both tiers");

    let anew = ask(&gateway, "rated", RESET_TOO).await;
    assert_ne!(anew.says(), "poison");
    assert_ne!(ask(&gateway, "rated", RESET).await.says(), "poison");
    assert_eq!(ask(&gateway, "other", RESET_TOO).await.header("x-stiver-cache"), "hit-exact", "untouched");
    gateway.finish().await;
}
