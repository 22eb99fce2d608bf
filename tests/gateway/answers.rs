//! What a client gets for what it asks: bodies, streams, headers and errors.
//!
//! The official SDKs are tried elsewhere; here it is the bytes that count.

mod endpoints;
mod refusals;

use serde_json::{Value, json};

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{Answer, CHAT, TestGateway, chat, chat_stream, endpoints, key_of, nano_usd, team};

/// A field whose value no JSON library would write again as it stands.
const STRANGERS: &str = r#""x_big":123456789012345678901234567890,"x_float":1.50,"x_text":"\u00e9\/","x_list":[ 1,{"b":1,"a":2} ]"#;

#[tokio::test]
async fn a_chat_is_answered_with_every_documented_header() {
    let fake = FakeUpstream::start();
    let more = "limits = { requests_per_minute = 60, tokens_per_minute = 100_000 }\n\
                budgets = [ { usd = 5, per = \"month\" } ]";
    let gateway = TestGateway::start(&(endpoints(&fake) + &team("search", more))).await;
    let (name, key) = key_of("search");

    let answer = gateway.post_with(CHAT, &chat("gpt-4o-mini", "Hello there"), &[(name, &key)]).await;

    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.says(), "gpt-4o-mini heard: Hello there");
    for (header, expected) in [
        ("x-stiver-path", "upstream"),
        ("x-stiver-cache", "miss"),
        ("x-stiver-model", "gpt-4o-mini"),
        ("x-stiver-attempts", "1"),
        ("x-stiver-saved-usd", "0.00"),
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-limit-tokens", "100000"),
    ] {
        assert_eq!(answer.header(header), expected, "{header}");
    }
    for header in ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens"] {
        assert!(!answer.header(header).is_empty(), "{header}");
    }
    for absent in ["age", "x-stiver-tier", "x-stiver-score", "x-stiver-cache-similarity"] {
        assert!(!answer.headers.contains_key(absent), "{absent}");
    }
    let cost = fake.bill().total_nano_usd;
    assert!(cost > 0);
    assert_eq!((nano_usd(answer.header("x-stiver-cost-usd")), answer.cost_nano_usd()), (cost, Some(cost)));
    assert_eq!(nano_usd(answer.header("x-stiver-budget-remaining-usd")), 5_000_000_000 - cost);
    let overhead_ms: f64 = answer.header("x-stiver-overhead-ms").parse().unwrap();
    assert!(overhead_ms > 0.0);
    let row = gateway.row_of(&answer).await;
    assert_eq!((row.cost.unwrap().get(), row.estimated, row.status), (cost, false, 200));
    gateway.finish().await;
}

#[tokio::test]
async fn a_streamed_answer_says_and_costs_the_same_as_a_whole_one() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=6 reasoning=2 cached=3"));
    let gateway = TestGateway::start(&(endpoints(&fake) + "[cache.exact]\nenabled = false\n")).await;

    let whole = gateway.post(CHAT, &chat("gpt-4o", "One and the same")).await;
    let streamed = gateway.post(CHAT, &chat_stream("gpt-4o", "One and the same")).await;

    assert_eq!(streamed.header("content-type"), "text/event-stream; charset=utf-8");
    assert_eq!(streamed.header("x-stiver-path"), "upstream");
    assert!(!streamed.headers.contains_key("x-stiver-cost-usd"), "it is not known yet");
    assert_eq!(streamed.says(), whole.says());
    assert_eq!(streamed.usage(), whole.usage());
    assert!(streamed.cost_nano_usd().is_some_and(|cost| cost > 0));
    assert_eq!(streamed.cost_nano_usd(), whole.cost_nano_usd());
    gateway.finish().await;
}

#[tokio::test]
async fn usage_is_kept_from_a_stream_that_did_not_ask_for_it() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    for place in ["empty-choices", "finish", "last-content", "every"] {
        let text = format!("Say something [[fake: usage={place}]]");
        let mut silent = chat_stream("gpt-4o", &text);
        silent.as_object_mut().unwrap().remove("stream_options");

        let unasked = gateway.post_with(CHAT, &silent, &[("cache-control", "no-cache, no-store")]).await;
        let asked = gateway
            .post_with(CHAT, &chat_stream("gpt-4o", &text), &[("cache-control", "no-cache, no-store")])
            .await;

        assert!(!unasked.text().contains("usage\""), "{place}: {}", unasked.text());
        assert!(unasked.chunks().iter().all(|chunk| chunk["choices"] != json!([])), "{place}");
        assert!(asked.usage()["total_tokens"].is_u64(), "{place}");
        assert_eq!(unasked.says(), asked.says(), "{place}");
        let rows = [gateway.row_of(&unasked).await, gateway.row_of(&asked).await];
        assert_eq!((rows[0].cost, rows[0].usage), (rows[1].cost, rows[1].usage), "{place}");
    }
    let asks_for_usage = |body: Value| body["stream_options"]["include_usage"] == json!(true);
    assert!(fake.calls().iter().all(|call| asks_for_usage(call.json())));
    gateway.finish().await;
}

#[tokio::test]
async fn fields_nobody_knows_reach_the_upstream_byte_for_byte() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let message = r#""messages":[{"role":"user","content":"hi","x_inner":1.0}]"#;
    let body = format!(r#"{{ {STRANGERS}, "model":"gpt-4o", {message} }}"#);

    let answer = gateway.post_text(CHAT, body, &[]).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = fake.calls().remove(0);
    let seen = std::str::from_utf8(&seen.body).unwrap();
    for part in STRANGERS.split(",\"x_").map(|part| part.trim_start_matches("\"x_")).chain([message]) {
        assert!(seen.contains(part), "{part} is not in {seen}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn an_answer_is_passed_on_byte_for_byte_but_for_its_cost() {
    let (fake, twin) = (FakeUpstream::start(), FakeUpstream::start());
    for fake in [&fake, &twin] {
        fake.script(Script::always("unknown reasoning=1 chunks=3 text=\"Grüße, 世界 🙂\""));
    }
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    for body in [chat("gpt-4o", "hello"), chat_stream("gpt-4o", "hello again")] {
        let direct = directly(&twin, &body).await;

        let answer = gateway.post_with(CHAT, &body, &[("cache-control", "no-cache, no-store")]).await;

        let (_, cost) = answer.text().split_once(",\"cost\":").unwrap();
        let cost = &cost[..cost.find('}').unwrap()];
        assert_eq!(answer.text().replace(&format!(",\"cost\":{cost}"), ""), direct);
        assert!(direct.contains("x_unknown") && direct.contains("世界"), "{direct}");
    }
    gateway.finish().await;
}

async fn directly(fake: &FakeUpstream, body: &Value) -> String {
    let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
    let sent = client.post(format!("{}/chat/completions", fake.base_url())).bearer_auth("k");
    let answer = sent.body(body.to_string()).send().await.expect("the fake answers");
    answer.text().await.expect("the fake sends text")
}

#[tokio::test]
async fn tools_are_offered_and_called_in_both_forms() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("parallel=2"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let tool = |name: &str| {
        let parameters =
            json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    };
    let with_tools = |mut body: Value| {
        body["tools"] = json!([tool("weather"), tool("time")]);
        body
    };

    let whole = gateway.post(CHAT, &with_tools(chat("gpt-4o", "Oslo?"))).await;
    let streamed = gateway.post(CHAT, &with_tools(chat_stream("gpt-4o", "Oslo?"))).await;

    let calls = whole.json()["choices"][0]["message"]["tool_calls"].clone();
    assert_eq!(calls.as_array().map(Vec::len), Some(2));
    assert_eq!(
        (&calls[0]["function"]["name"], &calls[1]["function"]["name"]),
        (&json!("weather"), &json!("time"))
    );
    assert_eq!(streamed_calls(&streamed), calls);
    assert_eq!(whole.json()["choices"][0]["finish_reason"], "tool_calls");
    gateway.finish().await;
}

/// Puts the pieces of tool calls together, as an SDK does.
fn streamed_calls(answer: &Answer) -> Value {
    let mut calls: Vec<Value> = Vec::new();
    for chunk in answer.chunks() {
        for piece in
            chunk.pointer("/choices/0/delta/tool_calls").and_then(Value::as_array).into_iter().flatten()
        {
            let arguments = piece["function"]["arguments"].as_str().unwrap_or("");
            if piece["id"].is_string() {
                let name = &piece["function"]["name"];
                calls.push(json!({"id": piece["id"], "type": "function", "function": {"name": name, "arguments": ""}}));
            }
            let idx = usize::try_from(piece["index"].as_u64().expect("a piece has its index")).expect("few");
            let so_far = calls[idx]["function"]["arguments"].as_str().unwrap_or("").to_owned();
            calls[idx]["function"]["arguments"] = json!(so_far + arguments);
        }
    }
    json!(calls)
}

#[tokio::test]
async fn several_choices_are_all_passed_on_and_paid_for() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    for mut body in [chat("gpt-4o", "Pick one"), chat_stream("gpt-4o", "Pick one of these")] {
        body["n"] = json!(2);

        let answer = gateway.post(CHAT, &body).await;

        let indices =
            |chunk: &Value| chunk["choices"].as_array().into_iter().flatten().cloned().collect::<Vec<_>>();
        let bodies = if body["stream"] == json!(true) { answer.chunks() } else { vec![answer.json()] };
        let seen: Vec<Value> =
            bodies.iter().flat_map(indices).map(|choice| choice["index"].clone()).collect();
        assert!(seen.contains(&json!(0)) && seen.contains(&json!(1)), "{seen:?}");
        let billed = fake.bill().calls.pop().unwrap();
        assert_eq!(answer.cost_nano_usd(), Some(billed.cost_nano_usd));
    }
    gateway.finish().await;
}
