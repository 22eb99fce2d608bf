//! Who may share an answer: nobody across a team, an instruction, an earlier turn, a tool or a setting.

use serde_json::{Value, json};

use super::{RESET, RESET_TOO};
use crate::fake_upstream::FakeUpstream;
use crate::harness::{CHAT, Setup, TestGateway, chat, endpoints, have_models, key_of, team};

/// The question with one thing about it changed.
fn variants(text: &str) -> Vec<(&'static str, Value)> {
    let plain = || chat("gpt-4o", text);
    let with = |field: &str, value: Value| {
        let mut body = plain();
        body[field] = value;
        body
    };
    let after = |earlier: Value| {
        let mut body = plain();
        body["messages"].as_array_mut().expect("a chat has messages").insert(0, earlier);
        body
    };
    let tool = json!([{"type": "function", "function": {"name": "reset", "parameters": {}}}]);
    vec![
        ("another route", chat("gpt-4o-mini", text)),
        ("a system prompt", after(json!({"role": "system", "content": "You are a pirate."}))),
        ("an earlier turn", after(json!({"role": "user", "content": "I mean my bank."}))),
        ("a temperature", with("temperature", json!(0.2))),
        ("a seed", with("seed", json!(7))),
        ("a limit", with("max_tokens", json!(500))),
        ("a response format", with("response_format", json!({"type": "json_object"}))),
        ("tools", with("tools", tool)),
        ("a field nobody knows", with("x_mode", json!("deep"))),
    ]
}

#[tokio::test]
async fn the_same_words_with_anything_else_changed_are_asked_anew() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&endpoints(&fake)).with_models().start().await;
    gateway.post(CHAT, &chat("gpt-4o", RESET)).await;
    gateway.until_entries(1).await;
    // Were a scope to leak, the same words would be found by likeness, and other words, too.
    for text in [RESET_TOO, RESET] {
        for (what, body) in variants(text) {
            let answer = gateway.post_with(CHAT, &body, &[("cache-control", "no-store")]).await;

            assert!(answer.header("x-stiver-cache").starts_with("miss"), "{what}: {text}");
        }
    }
    let same = gateway.post(CHAT, &chat("gpt-4o", RESET_TOO)).await;
    assert_eq!(same.header("x-stiver-cache"), "hit-semantic", "the question itself is still known");
    gateway.finish().await;
}

#[tokio::test]
async fn teams_and_scopes_never_share_an_answer() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let toml = endpoints(&fake) + &team("search", "") + &team("sales", "");
    let gateway = Setup::of(&toml).with_models().start().await;
    let ask = async |team: &str, scope: &str, text: &str| {
        let (name, key) = key_of(team);
        let headers = [(name, key.as_str()), ("x-stiver-cache-scope", scope)];
        gateway.post_with(CHAT, &chat("gpt-4o", text), &headers).await.header("x-stiver-cache").to_owned()
    };
    ask("search", "", RESET).await;
    gateway.until_entries(1).await;

    assert_eq!(ask("sales", "", RESET).await, "miss");
    gateway.until_entries(2).await;
    assert_eq!(ask("sales", "", RESET_TOO).await, "hit-semantic", "its own");
    assert_eq!(ask("search", "tenant-1", RESET).await, "miss");
    assert_eq!(ask("search", "", RESET).await, "hit-exact");
    assert_eq!(ask("search", "", RESET_TOO).await, "hit-semantic");
    gateway.finish().await;
}

#[tokio::test]
async fn more_chance_than_configured_bypasses_the_cache() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&(endpoints(&fake) + "[cache]\nmax_temperature = 0.5\n")).await;
    let at = |temperature: f64| {
        let mut body = chat("gpt-4o", RESET);
        body["temperature"] = json!(temperature);
        body
    };
    for (temperature, expected) in [(0.5, ["miss", "hit-exact"]), (0.51, ["bypass; reason=temperature"; 2])] {
        for expected in expected {
            let answer = gateway.post(CHAT, &at(temperature)).await;

            assert_eq!(answer.header("x-stiver-cache"), expected, "{temperature}");
        }
    }
    // OpenAI's default is 1.
    let unset = gateway.post(CHAT, &chat("gpt-4o", RESET)).await;
    assert_eq!(unset.header("x-stiver-cache"), "bypass; reason=temperature");
    let row = gateway.row_of(&unset).await;
    assert_eq!((row.cache.as_str(), row.cache_why.as_deref()), ("bypass", Some("temperature")));
    gateway.finish().await;
}

#[tokio::test]
async fn what_is_not_compared_by_meaning_says_why() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let tool = json!([{"type": "function", "function": {"name": "reset", "parameters": {}}}]);
    let image = json!([{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]}]);
    let assistant = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let long = json!([{"role": "user", "content": "long ".repeat(500)}]);
    for (field, value, expected) in [
        ("tools", tool, "tools"),
        ("messages", image, "media"),
        ("messages", assistant, "no-user-text"),
        ("messages", long, "long-text"),
        ("n", json!(2), "choices"),
        ("logprobs", json!(true), "logprobs"),
    ] {
        let mut body = chat("gpt-4o", "What is this?");
        body[field] = value;
        let answer = gateway.post(CHAT, &body).await;

        assert_eq!(answer.header("x-stiver-cache"), format!("miss; semantic={expected}"));
        assert_eq!(gateway.row_of(&answer).await.cache_why.as_deref(), Some(expected));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn personal_data_bypasses_the_cache_unless_the_operator_says_otherwise() {
    let question = chat("gpt-4o", "I am ada@example.org. How do I reset my password?");
    for (word, expected) in [
        ("bypass", ["bypass; reason=personal-data"; 2]),
        ("exact", ["miss; semantic=personal-data", "hit-exact"]),
        ("allow", ["miss", "hit-exact"]),
    ] {
        let fake = FakeUpstream::start();
        let toml = format!("{}[cache]\npersonal_data = \"{word}\"\n", endpoints(&fake));
        let gateway = TestGateway::start(&toml).await;
        for expected in expected {
            let answer = gateway.post(CHAT, &question).await;

            assert_eq!(answer.header("x-stiver-cache"), expected, "{word}");
        }
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_cache_that_is_off_says_so() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&(endpoints(&fake) + "[cache.exact]\nenabled = false\n")).await;

    let answer = gateway.post(CHAT, &chat("gpt-4o", RESET)).await;

    assert_eq!(answer.header("x-stiver-cache"), "bypass; reason=off");
    gateway.finish().await;
}
