//! What is kept and for whom: the client's wishes, and answers not fit to be given twice.

use serde_json::{Value, json};
use stiver::clock::Clock;

use super::{RESET, RESET_TOO};
use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{CHAT, NOW_MS, Setup, TestGateway, chat, chat_stream, endpoints, have_models};

async fn ask(gateway: &TestGateway, text: &str, cache_control: &str) -> String {
    let headers = [("cache-control", cache_control)];
    gateway.post_with(CHAT, &chat("gpt-4o", text), &headers).await.header("x-stiver-cache").to_owned()
}

#[tokio::test]
async fn no_cache_asks_anew_and_leaves_the_newer_answer() {
    let fake = FakeUpstream::start();
    fake.script(Script::next(1, "text=older"));
    fake.script(Script::next(1, "text=newer"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let says = async || gateway.post(CHAT, &chat("gpt-4o", RESET)).await.says();

    assert_eq!(says().await, "older");
    assert_eq!(ask(&gateway, RESET, "no-cache").await, "miss");
    assert_eq!(says().await, "newer");
    assert_eq!(fake.calls().len(), 2);
    gateway.finish().await;
}

#[tokio::test]
async fn no_store_leaves_nothing_behind() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;

    assert_eq!(ask(&gateway, RESET, "no-store").await, "miss");
    assert_eq!(ask(&gateway, RESET, "no-store, no-cache").await, "bypass; reason=client");
    assert_eq!(ask(&gateway, RESET, "").await, "miss");
    assert_eq!(ask(&gateway, RESET, "no-store").await, "hit-exact", "it may still read");
    gateway.finish().await;
}

#[tokio::test]
async fn max_age_bounds_what_is_served_and_ttl_bounds_it_for_all() {
    let fake = FakeUpstream::start();
    let clock = Clock::standing_at(NOW_MS);
    let toml = endpoints(&fake) + "[cache.exact]\nttl_s = 100\n";
    let gateway = Setup::of(&toml).clock(&clock).start().await;
    ask(&gateway, RESET, "").await;

    clock.advance(60_000);
    assert_eq!(ask(&gateway, RESET, "max-age=60, no-store").await, "hit-exact");
    clock.advance(1);
    assert_eq!(ask(&gateway, RESET, "max-age=60, no-store").await, "miss");
    clock.advance(39_998);
    assert_eq!(ask(&gateway, RESET, "no-store").await, "hit-exact");
    clock.advance(1);
    assert_eq!(ask(&gateway, RESET, "no-store").await, "miss");
    gateway.finish().await;
}

#[tokio::test]
async fn a_client_may_ask_for_more_likeness_but_not_for_less() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&endpoints(&fake)).with_models().start().await;
    let at_least = async |text: &str, similarity: &str| {
        let headers = [("x-stiver-min-similarity", similarity), ("cache-control", "no-store")];
        gateway.post_with(CHAT, &chat("gpt-4o", text), &headers).await.header("x-stiver-cache").to_owned()
    };
    ask(&gateway, RESET, "").await;
    gateway.until_entries(1).await;

    assert_eq!(at_least(RESET_TOO, "0.95").await, "hit-semantic");
    assert_eq!(at_least(RESET_TOO, "0.9999").await, "miss");
    assert_eq!(at_least("Where is the password reset page?", "0.1").await, "miss");
    let unreadable = [("x-stiver-min-similarity", "high")];
    assert_eq!(gateway.post_with(CHAT, &chat("gpt-4o", RESET), &unreadable).await.status, 400);
    gateway.finish().await;
}

/// Asks the same twice and gives how often the upstream was asked.
async fn n_asked(gateway: &TestGateway, fake: &FakeUpstream, body: &Value) -> usize {
    let before = fake.calls().len();
    for _ in 0..2 {
        gateway.post(CHAT, body).await;
    }
    fake.calls().len() - before
}

#[tokio::test]
async fn answers_that_are_not_whole_and_good_are_never_kept() {
    let fake = FakeUpstream::start();
    let gateway =
        TestGateway::start(&endpoints(&fake).replace("jitter = 0.0 }", "jitter = 0.0 }\nmax_retries = 0"))
            .await;
    for directive in
        ["finish=length", "finish=content_filter", "status=500", "status=400", "html", "error_at=1"]
    {
        let text = format!("Never keep this [[fake: {directive}]]");
        assert_eq!(n_asked(&gateway, &fake, &chat("gpt-4o", &text)).await, 2, "{directive}");
    }
    for directive in ["finish=length", "end_at=2", "cut=2", "error_at=2", "broken_json_at=1", "truncated"] {
        let text = format!("Nor that [[fake: {directive}]]");
        assert_eq!(n_asked(&gateway, &fake, &chat_stream("gpt-4o", &text)).await, 2, "{directive}");
    }
    let mut with_tool = chat("gpt-4o", "Which tool?");
    with_tool["tools"] = json!([{"type": "function", "function": {"name": "reset", "parameters": {}}}]);
    assert_eq!(n_asked(&gateway, &fake, &with_tool).await, 2, "a tool call");
    with_tool["stream"] = json!(true);
    assert_eq!(n_asked(&gateway, &fake, &with_tool).await, 2, "a streamed tool call");
    assert_eq!(n_asked(&gateway, &fake, &chat("gpt-4o", "Do keep this")).await, 1);
    assert_eq!(n_asked(&gateway, &fake, &chat_stream("gpt-4o", "And this")).await, 1);
    gateway.finish().await;
}

#[tokio::test]
async fn an_answer_larger_than_the_limit_is_not_kept() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&(endpoints(&fake) + "[cache]\nmax_answer_bytes = 3000\n")).await;
    for (n_words, expected) in [(10, 1), (2_000, 2)] {
        let text = format!("How much? [[fake: chunks={n_words}]]");

        assert_eq!(n_asked(&gateway, &fake, &chat("gpt-4o", &text)).await, expected, "{n_words}");
        assert_eq!(
            n_asked(&gateway, &fake, &chat_stream("gpt-4o", &(text + "!"))).await,
            expected,
            "{n_words}"
        );
    }
    gateway.finish().await;
}

#[tokio::test]
async fn an_answer_its_client_left_is_not_kept() {
    let fake = FakeUpstream::start();
    fake.script(Script::next(1, "chunks=4 pause_at=2"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let mut left = gateway.open(CHAT, &chat_stream("gpt-4o", RESET), &[]).await;
    left.read_contents(2).await;
    drop(left);
    fake.until(|calls| calls[0].ending == crate::fake_upstream::Ending::ClientGone).await;

    let after = gateway.post(CHAT, &chat("gpt-4o", RESET)).await;

    assert_eq!((after.status, after.header("x-stiver-cache")), (200, "miss"));
    gateway.finish().await;
}
