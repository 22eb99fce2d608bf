//! An upstream that fails before its first byte is replaced; after it, never.

use serde_json::{Value, json};
use stiver::money::NanoUsd;

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{Answer, CHAT, TestGateway, chat, chat_stream, error_of, route, upstream, upstream_at};

const NO_RETRY: &str = "max_retries = 0\nfirst_byte_timeout_ms = 300\nidle_timeout_ms = 300\n";

/// A route `pair` that asks `first` and then `second`.
fn pair(first: &FakeUpstream, second: &FakeUpstream, more: &str) -> String {
    upstream("first", first, "gpt-4o", more)
        + &upstream("second", second, "gpt-4o-mini", more)
        + &route("pair", &["first", "second"])
}

#[tokio::test]
async fn a_failure_before_the_first_byte_goes_to_the_next_upstream() {
    let whole = [
        "status=429",
        "status=500",
        "status=503",
        "status=401",
        "status=404",
        "hang=headers",
        "hang=body",
        "cut=0",
        "end_at=0",
        "truncated",
        "empty",
        "html",
        "broken_json_at=0",
        "garbage_at=0",
        "error_at=0",
    ];
    let streamed = ["status=429", "status=500", "status=401", "hang=headers", "hang=body", "empty", "html"];
    let cases = whole.iter().map(|fault| (fault, false)).chain(streamed.iter().map(|fault| (fault, true)));
    for (fault, is_streamed) in cases {
        // 404 is the caller's mistake unless it is about the model, which it is here.
        let (first, second) = (FakeUpstream::start(), FakeUpstream::start());
        first.script(Script::always(fault));
        let gateway = TestGateway::start(&pair(&first, &second, NO_RETRY)).await;
        let body = if is_streamed { chat_stream("pair", "hello") } else { chat("pair", "hello") };

        let answer = gateway.post(CHAT, &body).await;

        assert_eq!(answer.status, 200, "{fault} {is_streamed}: {}", answer.text());
        assert_eq!(answer.says(), "gpt-4o-mini heard: hello", "{fault}");
        assert_eq!(answer.header("x-stiver-attempts"), "2", "{fault}");
        assert_eq!((first.calls().len(), second.calls().len()), (1, 1), "{fault}");
        let row = gateway.row_of(&answer).await;
        assert_eq!(row.upstream.map(|name| name.to_string()).as_deref(), Some("second"), "{fault}");
        // What broke after it had begun is billed, and so it is charged, by estimate; of a call that hangs
        // after its head not a byte has come, so it is not.
        let had_begun = first.bill().total_nano_usd > 0 && *fault != "hang=body";
        let wasted = row.cost.map(|cost| cost.get() - second.bill().total_nano_usd);
        assert_eq!((wasted > Some(0), row.estimated), (had_begun, had_begun), "{fault}: {wasted:?}");
        assert_eq!(gateway.finish().await.len(), 1, "{fault}");
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_passed_over() {
    let second = FakeUpstream::start();
    let gone = FakeUpstream::start();
    let address = gone.base_url();
    gone.stop().await;
    let toml = upstream_at("first", &address, "gpt-4o", NO_RETRY)
        + &upstream("second", &second, "gpt-4o-mini", NO_RETRY)
        + &route("pair", &["first", "second"]);
    let gateway = TestGateway::start(&toml).await;

    let answer = gateway.post(CHAT, &chat("pair", "hello")).await;

    assert_eq!((answer.status, answer.header("x-stiver-attempts")), (200, "2"));
    gateway.finish().await;
}

#[tokio::test]
async fn a_failure_after_the_first_byte_is_told_and_not_repaired() {
    for (fault, outcome) in [
        ("chunks=4 end_at=2", "truncated"),
        ("chunks=4 cut=2", "truncated"),
        ("chunks=4 error_at=2", "upstream_error"),
        ("chunks=4 broken_json_at=2", "upstream_error"),
        ("chunks=4 pause_at=2", "upstream_error"),
    ] {
        let (first, second) = (FakeUpstream::start(), FakeUpstream::start());
        first.script(Script::always(fault));
        let gateway = TestGateway::start(&pair(&first, &second, NO_RETRY)).await;

        let answer = gateway.post(CHAT, &chat_stream("pair", "hello")).await;

        assert_eq!(answer.status, 200, "{fault}");
        let data = answer.data();
        let last: Value = serde_json::from_str(data.last().unwrap()).unwrap();
        error_of(&last);
        assert!(!data.contains(&"[DONE]"), "{fault}");
        let contents =
            data.iter().filter(|data| data.contains("\"content\":\"") && !data.contains("role")).count();
        assert_eq!(contents, 2, "{fault}: what came before is passed on");
        assert!(second.calls().is_empty(), "{fault}");
        let row = gateway.row_of(&answer).await;
        assert_eq!((row.outcome.as_str(), row.estimated), (outcome, true), "{fault}");
        assert!(row.cost.is_some_and(|cost| cost.get() > 0), "{fault}: what was metered is posted");
        gateway.finish().await;
    }
}

/// All upstreams of the pair fail as `fault` says.
async fn all_fail(fault: &str, more: &str) -> (Answer, usize) {
    let (first, second) = (FakeUpstream::start(), FakeUpstream::start());
    for fake in [&first, &second] {
        fake.script(Script::always(fault));
    }
    let gateway = TestGateway::start(&pair(&first, &second, more)).await;
    let answer = gateway.post(CHAT, &chat("pair", "hello")).await;
    let rows = gateway.finish().await;
    assert_eq!(rows.len(), 1);
    let is_billed = first.bill().total_nano_usd > 0;
    assert_eq!(rows[0].outcome.as_str(), "upstream_error");
    assert_eq!((rows[0].cost > Some(NanoUsd::ZERO), rows[0].estimated), (is_billed, is_billed), "{fault}");
    assert_eq!(rows[0].status, answer.status);
    (answer, first.calls().len() + second.calls().len())
}

#[tokio::test]
async fn when_all_fail_the_error_names_them_and_only_what_had_begun_is_charged() {
    for (fault, status, kind) in [
        ("status=500", 500, "upstream_error"),
        ("status=503", 503, "upstream_error"),
        ("status=429", 429, "rate_limit_error"),
        ("status=401", 502, "upstream_error"),
        ("hang=headers", 504, "upstream_timeout"),
        ("html", 502, "upstream_error"),
        ("empty", 502, "upstream_error"),
        ("cut=0", 502, "upstream_error"),
    ] {
        let (answer, n_calls) = all_fail(fault, NO_RETRY).await;

        assert_eq!((answer.status, answer.error().0.as_str()), (status, kind), "{fault}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("`first`") && message.contains("`second`"), "{fault}: {message}");
        assert!(!message.contains("127.0.0.1") && !message.contains("upstream-key"), "{message}");
        assert_eq!((n_calls, answer.header("x-stiver-attempts")), (2, "2"), "{fault}");
    }
}

#[tokio::test]
async fn an_upstream_is_asked_again_as_often_as_configured() {
    for (max_retries, n_expected) in [(0, 2), (1, 4), (2, 6)] {
        let (answer, n_calls) = all_fail("status=500", &format!("max_retries = {max_retries}\n")).await;

        assert_eq!((n_calls, answer.header("x-stiver-attempts")), (n_expected, &*n_expected.to_string()));
    }
}

#[tokio::test]
async fn an_upstream_that_recovers_is_not_left() {
    let (first, second) = (FakeUpstream::start(), FakeUpstream::start());
    first.script(Script::always("status=500 fail_first=2"));
    let gateway = TestGateway::start(&pair(&first, &second, "max_retries = 2\n")).await;

    let answer = gateway.post(CHAT, &chat("pair", "hello")).await;

    assert_eq!((answer.says().as_str(), answer.header("x-stiver-attempts")), ("gpt-4o heard: hello", "3"));
    assert!(second.calls().is_empty());
    gateway.finish().await;
}

#[tokio::test]
async fn a_wait_that_an_upstream_asks_for_is_kept() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("status=429 retry_after_ms=300 fail_first=1"));
    let gateway =
        TestGateway::start(&(upstream("only", &fake, "gpt-4o", "") + &route("one", &["only"]))).await;

    let answer = gateway.post(CHAT, &chat("one", "hello")).await;

    assert_eq!((answer.status, answer.header("x-stiver-attempts")), (200, "2"));
    let calls = fake.calls();
    let waited_ms = calls[1].at.duration_since(calls[0].at).as_millis();
    assert!(waited_ms >= 300, "{waited_ms}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_wait_too_long_or_a_no_goes_to_the_next_upstream_at_once() {
    for refusal in ["status=429 retry_after=61", "status=503 should_retry=false"] {
        let (first, second) = (FakeUpstream::start(), FakeUpstream::start());
        first.script(Script::always(refusal));
        let gateway = TestGateway::start(&pair(&first, &second, "max_retries = 5\n")).await;

        let answer = gateway.post(CHAT, &chat("pair", "hello")).await;

        assert_eq!((answer.status, first.calls().len()), (200, 1), "{refusal}");
        gateway.finish().await;
    }
}

#[tokio::test]
async fn the_wait_is_passed_on_when_nobody_else_can_answer() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("status=429 retry_after=7"));
    let toml = upstream("only", &fake, "gpt-4o", "max_retries = 0\n") + &route("one", &["only"]);
    let gateway = TestGateway::start(&toml).await;

    let answer = gateway.post(CHAT, &chat("one", "hello")).await;

    assert_eq!(
        (answer.status, answer.header("retry-after"), answer.header("retry-after-ms")),
        (429, "7", "7000")
    );
    gateway.finish().await;
}

#[tokio::test]
async fn a_prompt_too_long_goes_to_an_upstream_with_more_context() {
    let too_long = "status=400 message=\"This model's maximum context length is 1000 tokens.\"";
    for (second_context, status) in [(2_000, 200), (1_000, 400)] {
        let (first, second) = (FakeUpstream::start(), FakeUpstream::start());
        first.script(Script::always(too_long));
        let toml = upstream("first", &first, "gpt-4o", "context_tokens = 1000\n")
            + &upstream("second", &second, "gpt-4o-mini", &format!("context_tokens = {second_context}\n"))
            + &route("pair", &["first", "second"]);
        let gateway = TestGateway::start(&toml).await;

        let answer = gateway.post(CHAT, &chat("pair", "hello")).await;

        assert_eq!((answer.status, first.calls().len()), (status, 1), "{second_context}");
        if status == 400 {
            let message = answer.json()["error"]["message"].clone();
            assert_eq!(message, json!("This model's maximum context length is 1000 tokens."));
        }
        gateway.finish().await;
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_take_our_key_is_our_fault_and_not_the_callers() {
    for (refusal, status) in [("status=401", 502), ("status=402", 502), ("status=403", 502)] {
        let (first, second) = (FakeUpstream::start(), FakeUpstream::start());
        first.script(Script::always(refusal));
        let toml = pair(&first, &second, "max_retries = 3\n") + &route("alone", &["first"]);
        let gateway = TestGateway::start(&toml).await;

        let replaced = gateway.post(CHAT, &chat("pair", "hello")).await;
        let alone = gateway.post(CHAT, &chat("alone", "hello")).await;

        assert_eq!((replaced.status, replaced.header("x-stiver-attempts")), (200, "2"), "{refusal}");
        assert_eq!((alone.status, alone.error().1.as_str()), (status, "upstream_failed"), "{refusal}");
        assert!(
            !alone.text().contains("API key"),
            "what is wrong with our key stays inside: {}",
            alone.text()
        );
        gateway.finish().await;
    }
}
