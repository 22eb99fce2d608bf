//! An upstream that keeps failing is left alone, and found again when it is well.

use std::time::Instant;

use stiver::team::UpstreamName;

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{CHAT, TestGateway, chat, route, upstream};

const BREAKER: &str = "max_retries = 0\nbreaker = { failures = 2, open_ms = 1500 }\n";

async fn ask(gateway: &TestGateway, route: &str, nth: usize) -> (u16, String) {
    let answer = gateway.post(CHAT, &chat(route, &format!("question {nth}"))).await;
    (answer.status, answer.header("x-stiver-model").to_owned())
}

async fn until_probed(gateway: &TestGateway, name: &str) {
    let name = UpstreamName::from(name);
    let is_closed =
        async |gateway: &stiver::gateway::Gateway| !gateway.breakers.is_tripped(&name, Instant::now());
    gateway.eventually("the breaker lets a probe through", is_closed).await;
}

#[tokio::test]
async fn a_breaker_trips_at_its_limit_and_recovers_by_a_probe() {
    let (first, second) = (FakeUpstream::start(), FakeUpstream::start());
    let toml = upstream("first", &first, "gpt-4o", BREAKER)
        + &upstream("second", &second, "gpt-4o-mini", "")
        + &route("pair", &["first", "second"]);
    let gateway = TestGateway::start(&toml).await;
    first.script(Script::next(2, "status=500"));

    for nth in 0..3 {
        assert_eq!(ask(&gateway, "pair", nth).await, (200, "gpt-4o-mini".to_owned()));
    }
    assert_eq!(first.calls().len(), 2, "the third call did not go there");
    let ready = gateway.get("/readyz").await;
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("upstream.first"), "{}", ready.text());

    until_probed(&gateway, "first").await;
    assert_eq!(ask(&gateway, "pair", 3).await, (200, "gpt-4o".to_owned()));
    assert_eq!(ask(&gateway, "pair", 4).await, (200, "gpt-4o".to_owned()));
    assert!(!gateway.get("/readyz").await.text().contains("upstream.first"));
    gateway.finish().await;
}

#[tokio::test]
async fn a_probe_that_fails_keeps_the_breaker_open() {
    let fake = FakeUpstream::start();
    let breaker = "max_retries = 0\nbreaker = { failures = 1, open_ms = 300 }\n";
    let gateway =
        TestGateway::start(&(upstream("only", &fake, "gpt-4o", breaker) + &route("one", &["only"]))).await;
    fake.script(Script::next(2, "status=500"));

    assert_eq!(ask(&gateway, "one", 0).await.0, 500);
    until_probed(&gateway, "only").await;
    assert_eq!(ask(&gateway, "one", 1).await.0, 500, "the probe");
    assert!(gateway.gateway().breakers.is_tripped(&UpstreamName::from("only"), Instant::now()));
    until_probed(&gateway, "only").await;
    assert_eq!(ask(&gateway, "one", 2).await.0, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn a_route_whose_only_upstream_is_left_alone_says_when_to_come_back() {
    let fake = FakeUpstream::start();
    let gateway =
        TestGateway::start(&(upstream("only", &fake, "gpt-4o", BREAKER) + &route("one", &["only"]))).await;
    fake.script(Script::next(2, "status=500"));
    for nth in 0..2 {
        assert_eq!(ask(&gateway, "one", nth).await.0, 500);
    }

    let answer = gateway.post(CHAT, &chat("one", "question 2")).await;

    assert_eq!((answer.status, answer.error().1.as_str()), (503, "no_upstream"));
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.text().contains("`only`"), "{}", answer.text());
    assert_eq!(fake.calls().len(), 2);
    gateway.finish().await;
}

#[tokio::test]
async fn being_limited_and_callers_mistakes_do_not_trip_a_breaker() {
    let fake = FakeUpstream::start();
    let gateway =
        TestGateway::start(&(upstream("only", &fake, "gpt-4o", BREAKER) + &route("one", &["only"]))).await;
    for (settings, status) in [("status=429", 429), ("status=400", 400)] {
        fake.script(Script::next(4, settings));
        for nth in 0..4 {
            assert_eq!(ask(&gateway, "one", nth).await.0, status);
        }
    }

    assert_eq!(ask(&gateway, "one", 9).await.0, 200);
    assert_eq!(fake.calls().len(), 9);
    gateway.finish().await;
}
