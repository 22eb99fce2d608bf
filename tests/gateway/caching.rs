//! What is answered from the cache, in which form, and at what price: nothing.
//!
//! What may never be shared stands in `caching/scopes.rs`, what is never kept in `caching/keeping.rs`.

mod audits;
mod flights;
mod judgements;
mod keeping;
mod scopes;

use serde_json::{Value, json};
use stiver::clock::Clock;

use crate::fake_upstream::FakeUpstream;
use crate::harness::stack::is_embedded;
use crate::harness::{
    Answer, CHAT, COMPLETIONS, EMBEDDINGS, NOW_MS, Setup, TestGateway, chat, chat_stream, endpoints,
    have_models, nano_usd,
};

const RESET: &str = "How do I reset my password?";
const RESET_TOO: &str = "How can I reset my password?";

/// The body without its cost, which differs between an answer and its repetition.
fn without_cost(answer: &Answer) -> Value {
    let mut body = answer.json();
    body["usage"].as_object_mut().expect("an answer has its usage").remove("cost");
    body
}

#[tokio::test]
async fn a_repeated_question_has_the_same_answer_for_nothing() {
    let fake = FakeUpstream::start();
    let clock = Clock::standing_at(NOW_MS);
    let gateway = Setup::of(&endpoints(&fake)).clock(&clock).start().await;
    let first = gateway.post(CHAT, &chat("gpt-4o", RESET)).await;
    clock.advance(90_000);

    let again = gateway.post(CHAT, &chat("gpt-4o", RESET)).await;

    assert_eq!((first.header("x-stiver-cache"), again.header("x-stiver-cache")), ("miss", "hit-exact"));
    assert_eq!((again.header("x-stiver-path"), again.header("age")), ("exact", "90"));
    assert_eq!(without_cost(&again), without_cost(&first));
    assert_eq!((again.cost_nano_usd(), again.header("x-stiver-cost-usd")), (Some(0), "0.00"));
    assert_eq!(nano_usd(again.header("x-stiver-saved-usd")), first.cost_nano_usd().unwrap());
    assert_ne!(again.header("x-request-id"), first.header("x-request-id"));
    assert_eq!(fake.calls().len(), 1);
    let row = gateway.row_of(&again).await;
    assert_eq!((row.path.as_str(), row.cost.map(|cost| cost.get()), row.attempts), ("exact", Some(0), 0));
    assert_eq!(row.baseline.map(|usd| usd.get()), first.cost_nano_usd());
    assert_eq!(gateway.finish().await.len(), 2);
}

#[tokio::test]
async fn form_does_not_keep_equal_questions_apart() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    gateway.post(CHAT, &chat("gpt-4o", RESET)).await;
    let spaced =
        format!(r#"{{"messages":[{{"content":"{RESET} ","role":"user"}}],  "user":"u2","model":"gpt-4o"}}"#);

    let again = gateway.post_text(CHAT, spaced, &[]).await;

    assert_eq!(again.header("x-stiver-cache"), "hit-exact");
    gateway.finish().await;
}

#[tokio::test]
async fn an_answer_kept_whole_is_streamed_and_one_kept_from_a_stream_is_whole() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;

    let whole = gateway.post(CHAT, &chat("gpt-4o", "First a whole answer")).await;
    let replayed = gateway.post(CHAT, &chat_stream("gpt-4o", "First a whole answer")).await;
    let streamed = gateway.post(CHAT, &chat_stream("gpt-4o", "First a stream")).await;
    let gathered = gateway.post(CHAT, &chat("gpt-4o", "First a stream")).await;

    for (first, again) in [(&whole, &replayed), (&streamed, &gathered)] {
        assert_eq!(again.header("x-stiver-cache"), "hit-exact");
        assert_eq!(again.says(), first.says());
        assert_eq!(again.usage()["total_tokens"], first.usage()["total_tokens"]);
        assert_eq!(again.cost_nano_usd(), Some(0));
    }
    assert_eq!(replayed.header("content-type"), "text/event-stream; charset=utf-8");
    let chunks = replayed.chunks();
    assert!(chunks.iter().all(|chunk| chunk["object"] == json!("chat.completion.chunk")));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(gathered.json()["object"], "chat.completion");
    assert_eq!(gathered.json()["choices"][0]["finish_reason"], "stop");
    assert_eq!(fake.calls().len(), 2);
    gateway.finish().await;
}

#[tokio::test]
async fn a_replayed_stream_tells_usage_only_to_those_who_ask() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    gateway.post(CHAT, &chat("gpt-4o", RESET)).await;
    let mut silent = chat_stream("gpt-4o", RESET);
    silent["stream_options"] = json!({"include_usage": false});

    let unasked = gateway.post(CHAT, &silent).await;

    assert_eq!(unasked.header("x-stiver-cache"), "hit-exact");
    assert!(!unasked.text().contains("\"usage\""), "{}", unasked.text());
    gateway.finish().await;
}

#[tokio::test]
async fn completions_and_embeddings_are_answered_again_only_when_equal() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let prompt = |text: &str| json!({"model": "gpt-3.5-turbo-instruct", "prompt": text});
    let input = |text: &str| json!({"model": "text-embedding-3-small", "input": text, "dimensions": 4});
    for (path, body, other) in [(COMPLETIONS, prompt("a"), prompt("b")), (EMBEDDINGS, input("a"), input("b"))]
    {
        let first = gateway.post(path, &body).await;
        let again = gateway.post(path, &body).await;
        let different = gateway.post(path, &other).await;

        assert_eq!(without_cost(&again), without_cost(&first), "{path}");
        assert_eq!(again.header("x-stiver-cache"), "hit-exact", "{path}");
        assert_eq!(different.header("x-stiver-cache"), "miss; semantic=endpoint", "{path}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_question_in_other_words_has_the_same_answer() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&endpoints(&fake)).with_models().start().await;
    let first = gateway.post(CHAT, &chat("gpt-4o", RESET)).await;
    gateway.until_entries(1).await;

    let again = gateway.post(CHAT, &chat("gpt-4o", RESET_TOO)).await;
    let streamed = gateway.post(CHAT, &chat_stream("gpt-4o", RESET_TOO)).await;

    for answer in [&again, &streamed] {
        assert_eq!(
            (answer.header("x-stiver-path"), answer.header("x-stiver-cache")),
            ("semantic", "hit-semantic")
        );
        assert_eq!((answer.says(), answer.cost_nano_usd()), (first.says(), Some(0)));
        let similarity: f32 = answer.header("x-stiver-cache-similarity").parse().unwrap();
        assert!((0.95..1.0).contains(&similarity), "{similarity}");
    }
    assert_eq!(fake.calls().len(), 1);
    assert!(gateway.row_of(&again).await.similarity.is_some());
    gateway.finish().await;
}

#[tokio::test]
async fn an_opposite_question_is_alike_and_yet_asked_anew() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&endpoints(&fake)).with_models().start().await;
    for (nth, (question, opposite)) in [
        ("How do I turn on dark mode?", "How do I turn off dark mode?"),
        ("What is 15% of 200 dollars?", "What is 25% of 200 dollars?"),
    ]
    .into_iter()
    .enumerate()
    {
        let first = gateway.post(CHAT, &chat("gpt-4o", question)).await;
        gateway.until_entries(2 * nth as u64 + 1).await;

        let other = gateway.post(CHAT, &chat("gpt-4o", opposite)).await;

        assert_eq!(other.header("x-stiver-cache"), "miss", "{opposite}");
        assert_ne!(other.says(), first.says());
        gateway.until_entries(2 * nth as u64 + 2).await;
    }
    gateway.finish().await;
}

#[tokio::test]
async fn the_guard_and_not_the_distance_keeps_opposites_apart() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let toml = endpoints(&fake) + "[cache.semantic]\nmin_similarity = 0.6\n";
    let gateway = Setup::of(&toml).with_models().start().await;
    gateway.post(CHAT, &chat("gpt-4o", "How do I turn on dark mode?")).await;
    gateway.until_entries(1).await;

    let opposite = gateway.post(CHAT, &chat("gpt-4o", "How do I turn off dark mode?")).await;
    let same = gateway.post(CHAT, &chat("gpt-4o", "How can I turn on the dark mode?")).await;

    assert_eq!(opposite.header("x-stiver-cache"), "miss");
    assert_eq!(same.header("x-stiver-cache"), "hit-semantic");
    assert!(gateway.gateway().cache.stats().await.n_guard_refusals >= 1);
    gateway.finish().await;
}

#[tokio::test]
async fn entries_answer_again_after_a_restart() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let toml = endpoints(&fake);
    let gateway = Setup::of(&toml).with_models().start().await;
    let first = gateway.post(CHAT, &chat("gpt-4o", RESET)).await;
    gateway.until_entries(1).await;
    let folder = gateway.folder();
    gateway.finish().await;

    let gateway = Setup::of(&toml).with_models().in_folder(folder).start().await;
    let same = gateway.post(CHAT, &chat("gpt-4o", RESET)).await;
    let alike = gateway.post(CHAT, &chat("gpt-4o", RESET_TOO)).await;

    // Exact answers outlive the process only where Redis keeps them.
    let kept = if is_embedded() { "hit-semantic" } else { "hit-exact" };
    for (answer, expected) in [(&same, kept), (&alike, "hit-semantic")] {
        assert_eq!((answer.header("x-stiver-cache"), answer.says()), (expected, first.says()));
    }
    assert_eq!(fake.calls().len(), 1);
    assert_eq!(gateway.finish().await.len(), 3, "the book goes on, too");
}
