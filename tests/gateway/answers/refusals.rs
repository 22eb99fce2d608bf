//! Requests that are refused: each with its status, OpenAI's error body, and nothing sent upstream.

use serde_json::json;

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{CHAT, TestGateway, chat, endpoints, key_of, team};

#[tokio::test]
async fn what_cannot_be_answered_is_refused_by_name_and_sent_nowhere() {
    let fake = FakeUpstream::start();
    let more = "routes = [\"gpt-4o\"]";
    let gateway = TestGateway::start(&(endpoints(&fake) + &team("search", more))).await;
    let (name, key) = key_of("search");
    let ours = [(name, key.as_str())];
    let wrong_key = [(name, "Bearer sk-stiver-search-wrong")];
    let good = chat("gpt-4o", "hi").to_string();
    let wide = [ours[0], ("x-stiver-user", "é")];
    let min_tier = [ours[0], ("x-stiver-min-tier", "golden")];
    for (body, headers, status, code) in [
        (&good, &[][..], 401, "invalid_api_key"),
        (&good, &wrong_key, 401, "invalid_api_key"),
        (&chat("gpt-4o-mini", "hi").to_string(), &ours, 403, "route_not_allowed"),
        (&chat("", "hi").to_string(), &ours, 400, ""),
        (&"{".to_owned(), &ours, 400, ""),
        (&json!({"model": "gpt-4o", "messages": []}).to_string(), &ours, 400, ""),
        (&good, &wide, 400, ""),
        (&good, &min_tier, 400, "unknown_tier"),
    ] {
        let answer = gateway.post_text(CHAT, body.clone(), headers).await;

        assert_eq!((answer.status, answer.error().1.as_str()), (status, code), "{body} {headers:?}");
        assert!(!answer.header("x-request-id").is_empty());
    }
    assert!(fake.calls().is_empty());
    assert!(gateway.finish().await.is_empty(), "a refusal is no row");
}

#[tokio::test]
async fn a_route_that_does_not_exist_is_not_found() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;

    let answer = gateway.post(CHAT, &chat("gpt-9", "hi")).await;

    assert_eq!(answer.status, 404);
    assert_eq!(answer.error(), ("invalid_request_error".to_owned(), "model_not_found".to_owned()));
    gateway.finish().await;
}

#[tokio::test]
async fn a_body_is_taken_up_to_its_limit_and_not_beyond() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&(endpoints(&fake) + "[server]\nmax_body_bytes = 2000\n")).await;
    let of_size = |n_bytes: usize| {
        let empty = chat("gpt-4o", "").to_string().len();
        chat("gpt-4o", &"x".repeat(n_bytes - empty)).to_string()
    };

    let at_limit = gateway.post_text(CHAT, of_size(2_000), &[]).await;
    let over_limit = gateway.post_text(CHAT, of_size(2_001), &[]).await;

    assert_eq!(at_limit.status, 200);
    assert_eq!((over_limit.status, over_limit.error().1.as_str()), (413, "body_too_large"));
    assert_eq!(fake.calls().len(), 1);
    gateway.finish().await;
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_has_an_error_body_too() {
    let gateway = TestGateway::start(&endpoints(&FakeUpstream::start())).await;

    let unknown = gateway.post("/v1/nothing", &json!({})).await;
    let wrong_method = gateway.get(CHAT).await;
    let alive = gateway.get("/healthz").await;

    assert_eq!((unknown.status, unknown.error().1.as_str()), (404, "unknown_path"));
    assert_eq!((wrong_method.status, wrong_method.error().1.as_str()), (405, "method_not_allowed"));
    assert_eq!((alive.status, alive.text()), (200, "ok\n"));
    gateway.finish().await;
}

#[tokio::test]
async fn the_callers_mistake_comes_back_in_the_upstreams_words() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("status=400 message=\"Unsupported value: 'temperature'.\""));
    let gateway = TestGateway::start(&endpoints(&fake)).await;

    let answer = gateway.post(CHAT, &chat("gpt-4o", "hi")).await;

    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["message"], "Unsupported value: 'temperature'.");
    assert_eq!(fake.calls().len(), 1, "a mistake is not tried again");
    let row = gateway.row_of(&answer).await;
    assert_eq!(
        (row.outcome.as_str(), row.status, row.cost.map(|cost| cost.get())),
        ("upstream_error", 400, Some(0))
    );
    gateway.finish().await;
}

#[tokio::test]
async fn a_limit_of_requests_is_kept_and_says_when_to_come_back() {
    let fake = FakeUpstream::start();
    let more = "limits = { requests_per_minute = 2 }";
    let gateway = TestGateway::start(&(endpoints(&fake) + &team("search", more))).await;
    let (name, key) = key_of("search");
    let ask = async || gateway.post_with(CHAT, &chat("gpt-4o", "hi"), &[(name, &key)]).await;

    let (first, second, third) = (ask().await, ask().await, ask().await);

    assert_eq!((first.status, second.status, third.status), (200, 200, 429));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), "1");
    assert_eq!(second.header("x-ratelimit-remaining-requests"), "0");
    assert_eq!(third.error(), ("rate_limit_error".to_owned(), "rate_limit_exceeded".to_owned()));
    assert_eq!(third.header("retry-after"), "30");
    gateway.finish().await;
}
