//! Each part taken away in turn: how a call ends without it, as the design's table says.
//!
//! Upstreams that fail stand in `routing/`; the book's disk and database in `degraded/book.rs`.

mod book;
mod draining;
mod services;

use serde_json::{Value, json};

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{
    Answer, CHAT, EMBEDDINGS, Setup, TestGateway, chat, chat_stream, endpoints, have_models, key_of, route,
    team, upstream, upstream_at,
};

const HARD: &str =
    "Prove that there are infinitely many primes of the form 4k+3, then generalise the argument.";

/// The parts of `/readyz` that are not ready, by name.
async fn unready(gateway: &TestGateway) -> Vec<String> {
    let answer = gateway.get("/readyz").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let parts = answer.json()["parts"].as_array().cloned().unwrap_or_default();
    let lacking = parts.iter().filter(|part| part["ready"] == json!(false));
    for part in lacking.clone() {
        assert!(part["problem"].as_str().is_some_and(|problem| problem.len() > 10), "{part}");
    }
    lacking.map(|part| part["name"].as_str().unwrap_or("").to_owned()).collect()
}

fn with_ladder(fake: &FakeUpstream) -> String {
    endpoints(fake)
        + "[routes.auto]\nladder = [ { tier = \"small\", up_to = 0.35, upstreams = [\"small\"] },\n\
           { tier = \"large\", up_to = 1.0, upstreams = [\"large\"] } ]\n"
}

async fn cache_word(gateway: &TestGateway, text: &str) -> String {
    let answer = gateway.post(CHAT, &chat("gpt-4o", text)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-stiver-cache").to_owned()
}

#[tokio::test]
async fn without_onnx_runtime_calls_are_scored_by_the_heuristic_and_repeated_exactly() {
    let fake = FakeUpstream::start();
    let toml =
        with_ladder(&fake) + "[cache.semantic]\nenabled = true\n[onnx]\nlibrary = \"/no/such/library.so\"\n";
    let gateway = TestGateway::start(&toml).await;

    let scored = gateway.post(CHAT, &chat("auto", HARD)).await;
    let embedded = gateway.post(EMBEDDINGS, &json!({"model": "all-MiniLM-L6-v2", "input": "x"})).await;

    assert_eq!((scored.status, scored.header("x-stiver-tier")), (200, "large"));
    assert_eq!(gateway.row_of(&scored).await.score_source.as_deref(), Some("heuristic-no-model"));
    assert_eq!((embedded.status, embedded.error().1.as_str()), (503, "no_upstream"));
    assert_eq!(cache_word(&gateway, "How do I reset my password?").await, "miss");
    assert_eq!(cache_word(&gateway, "How can I reset my password?").await, "miss");
    assert_eq!(cache_word(&gateway, "How do I reset my password?").await, "hit-exact");
    let unready = unready(&gateway).await;
    for part in ["onnxruntime", "embedder", "guard", "complexity"] {
        assert!(unready.iter().any(|name| name == part), "{part} in {unready:?}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn without_an_embedder_alike_questions_are_asked_anew() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let toml = with_ladder(&fake) + "[cache.semantic]\nmodel_dir = \"/no/such/folder\"\n";
    let gateway = Setup::of(&toml).with_models().start().await;

    assert_eq!(cache_word(&gateway, "How do I reset my password?").await, "miss");
    assert_eq!(cache_word(&gateway, "How can I reset my password?").await, "miss");
    assert_eq!(cache_word(&gateway, "How can I reset my password?").await, "hit-exact");
    assert_eq!(unready(&gateway).await, ["embedder"]);
    gateway.finish().await;
}

#[tokio::test]
async fn without_the_trained_guard_alike_questions_are_still_answered_from_the_cache() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let toml = with_ladder(&fake) + "[cache.semantic]\nguard_dir = \"/no/such/folder\"\n";
    let gateway = Setup::of(&toml).with_models().start().await;

    assert_eq!(cache_word(&gateway, "How do I reset my password?").await, "miss");
    gateway.until_entries(1).await;
    assert_eq!(cache_word(&gateway, "How can I reset my password?").await, "hit-semantic");
    assert_eq!(unready(&gateway).await, ["guard"]);
    gateway.finish().await;
}

#[tokio::test]
async fn an_embedder_past_its_deadline_is_a_miss() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway =
        Setup::of(&(endpoints(&fake) + "[cache.semantic]\ndeadline_ms = 1\n")).with_models().start().await;
    let long = "A question of many words, none of them in haste. ".repeat(35);

    assert_eq!(cache_word(&gateway, &long).await, "miss");
    assert_eq!(cache_word(&gateway, &format!("So: {long}")).await, "miss");
    assert_eq!(cache_word(&gateway, &long).await, "hit-exact");
    gateway.finish().await;
}

#[tokio::test]
async fn a_corrupt_classifier_leaves_the_heuristic() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let broken = tempfile::tempdir().unwrap();
    let real = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("router-models/complexity");
    std::fs::copy(real.join("tokenizer.json"), broken.path().join("tokenizer.json")).unwrap();
    std::fs::write(broken.path().join("model.onnx"), b"this is no model").unwrap();
    let toml = with_ladder(&fake) + &format!("[complexity]\nmodel_dir = \"{}\"\n", broken.path().display());
    let gateway = Setup::of(&toml).with_models().start().await;

    let answer = gateway.post(CHAT, &chat("auto", HARD)).await;

    assert_eq!((answer.status, answer.header("x-stiver-tier")), (200, "large"));
    assert_eq!(gateway.row_of(&answer).await.score_source.as_deref(), Some("heuristic-no-model"));
    assert_eq!(unready(&gateway).await, ["complexity"]);
    gateway.finish().await;
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_a_miss_and_never_an_error() {
    let fake = FakeUpstream::start();
    let toml =
        endpoints(&fake) + "[cache.exact]\nredis_url = \"redis://127.0.0.1:1/\"\nredis_timeout_ms = 200\n";
    let gateway = TestGateway::start(&toml).await;

    assert_eq!(cache_word(&gateway, "hello").await, "miss");
    assert_eq!(cache_word(&gateway, "hello").await, "miss");
    assert_eq!(fake.calls().len(), 2);
    let unready = unready(&gateway).await;
    assert!(unready.contains(&"cache.redis".to_owned()), "{unready:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_qdrant_that_is_not_there_is_a_miss_and_never_an_error() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let toml =
        endpoints(&fake) + "[cache.semantic]\nqdrant_url = \"http://127.0.0.1:1\"\nqdrant_timeout_ms = 200\n";
    let gateway = Setup::of(&toml).with_models().start().await;

    assert_eq!(cache_word(&gateway, "How do I reset my password?").await, "miss");
    assert_eq!(cache_word(&gateway, "How can I reset my password?").await, "miss");
    assert_eq!(cache_word(&gateway, "How can I reset my password?").await, "hit-exact");
    let unready = unready(&gateway).await;
    assert!(unready.contains(&"cache.qdrant".to_owned()), "{unready:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_semantic_folder_that_cannot_be_written_costs_only_the_memory_of_a_restart() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let toml = endpoints(&fake) + &format!("[cache.semantic]\ndata_dir = \"{}\"\n", file.path().display());
    let gateway = Setup::of(&toml).with_models().start().await;

    assert_eq!(cache_word(&gateway, "How do I reset my password?").await, "miss");
    gateway.until_entries(1).await;
    assert_eq!(cache_word(&gateway, "How can I reset my password?").await, "hit-semantic");
    gateway.finish().await;
}

#[tokio::test]
async fn with_every_upstream_down_earlier_answers_are_still_given() {
    let fake = FakeUpstream::start();
    let toml = endpoints(&fake).replace("jitter = 0.0 }", "jitter = 0.0 }\nmax_retries = 0");
    let gateway = TestGateway::start(&toml).await;
    let first = gateway.post(CHAT, &chat("gpt-4o", "hello")).await;
    fake.stop().await;

    let known = gateway.post(CHAT, &chat("gpt-4o", "hello")).await;
    let new = gateway.post(CHAT, &chat("gpt-4o", "something new")).await;
    let streamed = gateway.post(CHAT, &chat_stream("gpt-4o", "something new")).await;

    assert_eq!((known.status, known.says()), (200, first.says()));
    for answer in [&new, &streamed] {
        assert_eq!((answer.status, answer.error().0.as_str()), (502, "upstream_error"));
        assert!(answer.text().contains("`large`"), "{}", answer.text());
        let row = gateway.row_of(answer).await;
        assert_eq!((row.outcome.as_str(), row.cost.map(|cost| cost.get())), ("upstream_error", Some(0)));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn an_upstream_without_its_key_is_off_and_says_how_to_switch_it_on() {
    let toml = upstream_at("only", "http://127.0.0.1:1/v1", "gpt-4o", "")
        .replace("\"upstream-key\"", "\"${NO_KEY:-}\"")
        + &route("one", &["only"]);
    let gateway = TestGateway::start(&toml).await;

    let answer = gateway.post(CHAT, &chat("one", "hello")).await;

    assert_eq!((answer.status, answer.error().1.as_str()), (503, "no_upstream"));
    assert!(answer.text().contains("OPENAI_API_KEY"), "{}", answer.text());
    assert_eq!(answer.header("x-should-retry"), "false");
    assert!(unready(&gateway).await.contains(&"upstreams".to_owned()));
    gateway.finish().await;
}

async fn ask(gateway: &TestGateway, body: &Value) -> Answer {
    let (name, key) = key_of("search");
    gateway.post_with(CHAT, body, &[(name, &key)]).await
}

#[tokio::test]
async fn a_slot_is_given_back_however_its_call_ends() {
    let fake = FakeUpstream::start();
    let toml = upstream("large", &fake, "gpt-4o", "max_retries = 0\n")
        + &route("gpt-4o", &["large"])
        + &team("search", "limits = { concurrency = 1 }");
    let gateway = TestGateway::start(&toml).await;
    let (name, key) = key_of("search");
    let headers = [(name, key.as_str())];
    for (nth, ending) in ["ok", "status=500", "end_at=1", "html"].iter().enumerate() {
        let answer = ask(&gateway, &chat_stream("gpt-4o", &format!("call {nth} [[fake: {ending}]]"))).await;
        assert_ne!(answer.status, 429, "{ending}");
    }
    assert_eq!(
        ask(&gateway, &chat_stream("gpt-4o", "call 0 [[fake: ok]]")).await.header("x-stiver-cache"),
        "hit-exact"
    );
    fake.script(Script::always("chunks=3 pause_at=1"));
    let mut open = gateway.open(CHAT, &chat_stream("gpt-4o", "the only one"), &headers).await;
    open.read_contents(1).await;

    let second = ask(&gateway, &chat("gpt-4o", "one too many")).await;
    drop(open);
    let search = stiver::team::TeamName::from("search");
    let is_free = async |gateway: &stiver::gateway::Gateway| gateway.limiter.in_flight(&search) == 0;
    gateway.eventually("the slot of a client that left is free", is_free).await;
    fake.script(Script::always("ok"));
    let third = ask(&gateway, &chat("gpt-4o", "one after")).await;

    assert_eq!((second.status, second.error().1.as_str()), (429, "rate_limit_exceeded"));
    assert_eq!(second.header("retry-after"), "1");
    assert_eq!(third.status, 200);
    gateway.finish().await;
}
