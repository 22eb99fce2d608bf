//! Models in the gateway's own process: what clients see, what the plan does when a model cannot, and
//! what the book says.
//!
//! Runs the model that ships; its wits are measured where it was trained, not here.

use serde_json::{Value, json};
use stiver::ledger::entry::Entry;

use crate::fake_upstream::FakeUpstream;
use crate::harness::{
    Answer, CHAT, COMPLETIONS, EMBEDDINGS, TestGateway, chat, chat_stream, key_of, nano_usd, route, team,
    upstream,
};

const QUESTION: &str = "Where is my order 48213? I have been waiting for it for a week.";
const STRANGE: &str = "What is the capital of France?";
const NO_CACHE: [(&str, &str); 1] = [("cache-control", "no-store")];

/// An upstream `assistant` that is the model which ships, with more keys and an engine of its own.
fn assistant(more: &str, engine: &str) -> String {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/router-models/support-assistant");
    format!(
        "[upstreams.assistant]\ndialect = 'local'\nmodel_dir = '{dir}'\n{more}\ncpu = {{ threads = 1 }}\nengine = {{ {engine} }}\n"
    )
}

fn alone(more: &str, engine: &str) -> String {
    assistant(more, engine) + &route("local", &["assistant"])
}

/// The model first, a fake with a price after it.
fn before_fake(fake: &FakeUpstream, more: &str, engine: &str) -> String {
    assistant(more, engine)
        + &upstream("large", fake, "gpt-4o", "")
        + &route("local", &["assistant", "large"])
}

fn with(mut body: Value, more: Value) -> Value {
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        body[name] = value;
    }
    body
}

async fn ask(gateway: &TestGateway, body: &Value) -> Answer {
    gateway.post_with(CHAT, body, &NO_CACHE).await
}

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says_and_costs_nothing() {
    let gateway = TestGateway::start(&alone("", "")).await;

    let whole = ask(&gateway, &chat("local", QUESTION)).await;
    let streamed = ask(&gateway, &chat_stream("local", QUESTION)).await;

    assert_eq!(whole.status, 200, "{}", whole.text());
    assert!(whole.says().len() > 20, "{}", whole.says());
    assert_eq!(streamed.says(), whole.says());
    let usage = whole.usage();
    assert!(usage["prompt_tokens"].as_u64() > Some(10) && usage["completion_tokens"].as_u64() > Some(5));
    assert_eq!(usage["total_tokens"], streamed.usage()["total_tokens"]);
    assert_eq!((whole.header("x-stiver-path"), whole.header("x-stiver-cost-usd")), ("local", "0.00"));
    let body = whole.json();
    assert_eq!((&body["model"], &body["object"]), (&json!("support-assistant"), &json!("chat.completion")));
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    let row = gateway.row_of(&streamed).await;
    assert_eq!((row.path.as_str(), row.outcome.as_str(), row.estimated), ("local", "ok", false));
    assert_eq!(Some(row.usage.output), usage["completion_tokens"].as_u64());
    gateway.finish().await;
}

#[tokio::test]
async fn the_beginning_of_a_prompt_is_remembered_within_a_team_and_not_across() {
    let toml = alone("", "") + &team("search", "") + &team("ads", "");
    let gateway = TestGateway::start(&toml).await;
    let cached = async |team: &str| {
        let (name, key) = key_of(team);
        let headers = [(name, key.as_str()), NO_CACHE[0]];
        let answer = gateway.post_with(CHAT, &chat("local", QUESTION), &headers).await;
        answer.usage()["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };

    assert_eq!(cached("search").await, 0);
    assert!(cached("search").await >= 16);
    assert_eq!(cached("ads").await, 0);
    gateway.finish().await;
}

#[tokio::test]
async fn an_hour_s_price_makes_tokens_cost_what_the_header_the_body_and_the_row_say() {
    let gateway = TestGateway::start(&alone("usd_per_hour = 3_600", "")).await;

    let answer = ask(&gateway, &chat("local", QUESTION)).await;

    let row = gateway.row_of(&answer).await;
    let cost = row.cost.unwrap();
    assert!(cost.get() > 0);
    assert_eq!(nano_usd(answer.header("x-stiver-cost-usd")), cost.get());
    assert_eq!(answer.header("x-stiver-path"), "local");
    gateway.finish().await;
}

#[tokio::test]
async fn log_probabilities_choices_and_seeds_are_obeyed() {
    let gateway = TestGateway::start(&alone("", "")).await;
    let sampled = json!({"temperature": 1.5, "seed": 11, "n": 2, "logprobs": true, "top_logprobs": 3});
    let body = with(chat("local", QUESTION), sampled);

    let first = ask(&gateway, &body).await.json();
    let again = ask(&gateway, &body).await.json();

    assert_eq!(first["choices"], again["choices"]);
    assert_ne!(first["choices"][0]["message"], first["choices"][1]["message"]);
    for choice in first["choices"].as_array().unwrap() {
        let tokens = choice["logprobs"]["content"].as_array().unwrap();
        let texts = tokens.iter().filter_map(|token| token["token"].as_str());
        // Marks such as the end of a turn are tokens and no text; half a character is shown as such.
        let text: String = texts.filter(|text| !text.starts_with("<|")).collect();
        let content = choice["message"]["content"].as_str().unwrap();
        assert_eq!(text.replace('\u{fffd}', ""), content.replace('\u{fffd}', ""));
        for token in tokens {
            assert!(token["logprob"].as_f64().unwrap() <= 0.0);
            let top = token["top_logprobs"].as_array().unwrap();
            assert_eq!(top.len(), 3);
            assert!(top.is_sorted_by(|a, b| a["logprob"].as_f64() >= b["logprob"].as_f64()));
        }
    }
    gateway.finish().await;
}

#[tokio::test]
async fn stop_strings_and_limits_end_an_answer() {
    let gateway = TestGateway::start(&alone("", "")).await;
    let whole = ask(&gateway, &chat("local", QUESTION)).await.says();
    let stop: String = whole.chars().skip(12).take(5).collect();

    let stopped = ask(&gateway, &with(chat("local", QUESTION), json!({"stop": stop}))).await;
    let cut = ask(&gateway, &with(chat_stream("local", QUESTION), json!({"max_tokens": 3}))).await;

    let at = whole.find(&stop).unwrap();
    assert_eq!(stopped.says(), whole[..at]);
    assert_eq!(stopped.json()["choices"][0]["finish_reason"], "stop");
    assert_eq!(cut.usage()["completion_tokens"], 3);
    assert!(whole.starts_with(&cut.says()) && cut.text().contains(r#""finish_reason":"length""#));
    gateway.finish().await;
}

#[tokio::test]
async fn an_answer_of_a_given_schema_is_of_that_schema_whatever_the_model_thinks() {
    let gateway = TestGateway::start(&alone("", "")).await;
    let schema = json!({"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}, "n": {"type": "integer", "minimum": 3, "maximum": 5}},
        "required": ["city", "n"], "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    let body = with(chat("local", STRANGE), json!({"response_format": format, "max_tokens": 200}));

    let answer = ask(&gateway, &body).await;

    let said: Value = serde_json::from_str(&answer.says()).unwrap_or_else(|_| panic!("{}", answer.text()));
    assert!(["Oslo", "Rome"].contains(&said["city"].as_str().unwrap()), "{said}");
    assert!((3..=5).contains(&said["n"].as_i64().unwrap()), "{said}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_completion_continues_its_prompts_and_may_begin_with_them() {
    let gateway = TestGateway::start(&alone("", "")).await;
    let body = json!({"model": "local", "prompt": ["Your order", "The refund"], "max_tokens": 4, "temperature": 0, "echo": true});

    let answer = gateway.post_with(COMPLETIONS, &body, &NO_CACHE).await.json();

    assert_eq!(answer["object"], "text_completion");
    for (choice, prompt) in answer["choices"].as_array().unwrap().iter().zip(["Your order", "The refund"]) {
        assert!(choice["text"].as_str().unwrap().starts_with(prompt), "{choice}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_question_that_is_not_the_model_s_goes_on_where_somebody_else_can_answer() {
    let fake = FakeUpstream::start();
    let declines = "declines_with = 'I can only help with'";
    let gateway = TestGateway::start(&before_fake(&fake, declines, "")).await;

    for body in [chat("local", STRANGE), chat_stream("local", STRANGE)] {
        let strange = ask(&gateway, &body).await;
        assert_eq!(
            (strange.status, strange.header("x-stiver-path")),
            (200, "upstream"),
            "{}",
            strange.text()
        );
        assert_eq!(strange.header("x-stiver-attempts"), "2");
        assert!(!strange.says().contains("I can only help with"), "{}", strange.says());
    }
    let own = ask(&gateway, &chat("local", QUESTION)).await;

    assert_eq!((own.header("x-stiver-path"), fake.calls().len()), ("local", 2));
    let rows = gateway.finish().await;
    let tried = |row: &Entry| row.tried.iter().map(|tried| tried.reason.clone()).collect::<Vec<_>>();
    assert_eq!(rows.iter().filter(|row| tried(row) == ["declined"]).count(), 2);
    assert_eq!(rows.iter().filter(|row| row.tried.is_empty()).count(), 1);
}

#[tokio::test]
async fn a_question_that_is_nobody_s_is_declined_in_plain_words() {
    let fake = FakeUpstream::start();
    let declines = "declines_with = 'I can only help with'";
    let gateway = TestGateway::start(
        &before_fake(&fake, declines, "").replace("jitter = 0.0 }", "jitter = 0.0 }\nmax_retries = 0"),
    )
    .await;
    fake.stop().await;

    for body in [chat("local", STRANGE), chat_stream("local", STRANGE)] {
        let answer = ask(&gateway, &body).await;
        assert_eq!((answer.status, answer.header("x-stiver-path")), (200, "local"), "{}", answer.text());
        assert!(answer.says().contains("I can only help with"), "{}", answer.says());
    }
    // What was tried in vain is the fake alone: the declining answer is the one that was given.
    let rows = gateway.finish().await;
    let tried = rows.iter().flat_map(|row| &row.tried);
    assert_eq!(rows.len(), 2);
    assert!(tried.into_iter().all(|tried| tried.reason != "declined"), "{rows:?}");
}

#[tokio::test]
async fn a_declined_answer_is_not_kept_for_when_somebody_else_can_be_asked() {
    let fake = FakeUpstream::start();
    let toml = before_fake(&fake, "declines_with = 'I can only help with'", "")
        .replace("jitter = 0.0 }", "jitter = 0.0 }\nmax_retries = 0");
    let gateway = TestGateway::start(&toml).await;
    fake.script(crate::fake_upstream::Script::always("status=500"));
    let declined = gateway.post(CHAT, &chat("local", STRANGE)).await;
    fake.script(crate::fake_upstream::Script::always("ok"));

    let answered = gateway.post(CHAT, &chat("local", STRANGE)).await;

    assert_eq!((declined.status, declined.header("x-stiver-path")), (200, "local"), "{}", declined.text());
    assert_eq!((answered.header("x-stiver-path"), answered.header("x-stiver-cache")), ("upstream", "miss"));
    gateway.finish().await;
}

#[tokio::test]
async fn where_a_model_could_not_decline_somebody_else_is_asked_at_once() {
    let fake = FakeUpstream::start();
    let toml =
        before_fake(&fake, "declines_with = 'I can only help with'", "") + &route("only", &["assistant"]);
    let gateway = TestGateway::start(&toml).await;

    for more in [json!({"n": 2}), json!({"response_format": {"type": "json_object"}})] {
        let body = with(with(chat("local", QUESTION), more.clone()), json!({"max_tokens": 40}));
        let mut alone = body.clone();
        alone["model"] = json!("only");
        assert_eq!(ask(&gateway, &body).await.header("x-stiver-path"), "upstream", "{more}");
        assert_eq!(ask(&gateway, &alone).await.header("x-stiver-path"), "local", "{more}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn each_prompt_of_a_completion_is_counted_once() {
    let gateway = TestGateway::start(&alone("", "")).await;
    let ask = async |prompts: Value, n: u64| {
        let body = json!({"model": "local", "prompt": prompts, "n": n, "max_tokens": 2});
        gateway.post_with(COMPLETIONS, &body, &NO_CACHE).await.usage()["prompt_tokens"].as_u64().unwrap()
    };

    let (short, long) = (ask(json!("hi"), 1).await, ask(json!(QUESTION), 1).await);

    assert_eq!(ask(json!(["hi", QUESTION]), 2).await, short + long);
    gateway.finish().await;
}

#[tokio::test]
async fn more_answers_than_could_ever_wait_are_refused_by_number() {
    let gateway = TestGateway::start(&alone("", "max_running = 2, max_queue = 1")).await;

    let three = ask(&gateway, &with(chat("local", "hi"), json!({"n": 3, "max_tokens": 1}))).await;
    let four = ask(&gateway, &with(chat("local", "hi"), json!({"n": 4, "max_tokens": 1}))).await;

    assert_eq!(three.status, 200, "{}", three.text());
    assert_eq!((four.status, four.header("x-should-retry")), (501, "false"));
    assert!(four.text().contains("4 answers") && four.text().contains("takes 3"), "{}", four.text());
    gateway.finish().await;
}

#[tokio::test]
async fn a_full_queue_sends_calls_on_or_says_so() {
    let fake = FakeUpstream::start();
    let engine = "max_running = 1, max_queue = 0";
    let toml = before_fake(&fake, "", engine) + &route("only", &["assistant"]);
    let gateway = TestGateway::start(&toml).await;
    let endless = json!({"ignore_eos": true, "max_tokens": 900, "stream": true});
    let mut long = gateway.open(CHAT, &with(chat("only", QUESTION), endless), &NO_CACHE).await;
    long.read_contents(1).await;

    let refused = ask(&gateway, &chat("only", "hello")).await;
    let sent_on = ask(&gateway, &chat("local", "hello")).await;
    drop(long);

    assert_eq!((refused.status, refused.error().1.as_str()), (429, "queue_full"), "{}", refused.text());
    assert!(refused.text().contains("max_queue"), "{}", refused.text());
    assert_eq!((sent_on.status, sent_on.header("x-stiver-path")), (200, "upstream"));
    let answers_again =
        async |_: &stiver::gateway::Gateway| ask(&gateway, &chat("only", "hello")).await.status == 200;
    gateway.eventually("a client that left frees its place in the engine", answers_again).await;
    gateway.finish().await;
}

#[tokio::test]
async fn a_prompt_beyond_the_context_goes_to_a_larger_model_or_back_to_the_caller() {
    let fake = FakeUpstream::start();
    let toml = before_fake(&fake, "context_tokens = 64", "") + &route("only", &["assistant"]);
    let gateway = TestGateway::start(&toml).await;
    let long = "where is my order? ".repeat(40);

    let refused = ask(&gateway, &chat("only", &long)).await;
    let larger = ask(&gateway, &chat("local", &long)).await;
    let short = ask(&gateway, &chat("only", "hi")).await;

    assert_eq!((refused.status, refused.error().1.as_str()), (400, "context_length_exceeded"));
    assert!(refused.text().contains("64"), "{}", refused.text());
    assert_eq!((larger.status, larger.header("x-stiver-path")), (200, "upstream"));
    assert_eq!(short.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn what_the_model_cannot_do_goes_on_and_what_nobody_could_comes_back() {
    let fake = FakeUpstream::start();
    let toml = before_fake(&fake, "", "") + &route("only", &["assistant"]);
    let gateway = TestGateway::start(&toml).await;
    let tools =
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]});

    let sent_on = ask(&gateway, &with(chat("local", "hello"), tools.clone())).await;
    let unsupported = ask(&gateway, &with(chat("only", "hello"), tools)).await;
    let wrong = ask(&gateway, &with(chat("local", "hello"), json!({"logit_bias": {"x": 1}}))).await;
    let foreign = ask(&gateway, &with(chat("local", "hello"), json!({"logit_bias": {"50256": -100}}))).await;
    let embeds = gateway.post(EMBEDDINGS, &json!({"model": "only", "input": "x"})).await;

    assert_eq!((sent_on.status, sent_on.header("x-stiver-path")), (200, "upstream"), "{}", sent_on.text());
    assert_eq!(unsupported.status, 501, "{}", unsupported.text());
    assert_eq!((wrong.status, wrong.json()["error"]["param"].as_str()), (400, Some("logit_bias")));
    assert_eq!(foreign.header("x-stiver-path"), "upstream", "a token of another vocabulary");
    assert_ne!(embeds.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn a_model_that_is_not_there_leaves_the_others_answering_and_is_named() {
    let fake = FakeUpstream::start();
    let missing =
        before_fake(&fake, "", "").replace("router-models/support-assistant", "router-models/no-such");
    let gateway = TestGateway::start(&(missing + &route("only", &["assistant"]))).await;

    let sent_on = ask(&gateway, &chat("local", QUESTION)).await;
    let refused = ask(&gateway, &chat("only", QUESTION)).await;
    let ready = gateway.get("/readyz").await;

    assert_eq!((sent_on.status, sent_on.header("x-stiver-path")), (200, "upstream"));
    assert_eq!((refused.status, refused.error().1.as_str()), (503, "no_upstream"));
    assert!(refused.text().contains("no-such"), "{}", refused.text());
    let part = ready.json()["parts"]
        .as_array()
        .unwrap()
        .iter()
        .find(|part| part["name"] == "upstream.assistant")
        .cloned();
    assert!(
        part.is_some_and(|part| part["problem"].as_str().unwrap().contains("config.json")),
        "{}",
        ready.text()
    );
    gateway.finish().await;
}

#[tokio::test]
async fn a_model_larger_than_its_memory_is_refused_with_the_sizes() {
    let toml = alone("", "").replace("threads = 1", "threads = 1, memory_bytes = 1_000_000");
    let gateway = TestGateway::start(&toml).await;

    let refused = ask(&gateway, &chat("local", QUESTION)).await;

    assert_eq!(refused.status, 503);
    assert!(refused.text().contains("1000000") && refused.text().contains("bytes"), "{}", refused.text());
    gateway.finish().await;
}
