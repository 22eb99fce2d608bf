//! Holds the fake upstream to what it promises: OpenAI's shapes, its faults, and a true bill.
//!
//! Talks to it in plain HTTP over TCP, so that no client library hides what is on the wire.
//!
//! Invariants: no test sleeps; each has a fake of its own.

use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[path = "fake.rs"]
pub mod fake;

use fake::{Ending, FakeUpstream, Options, Price, Script, Usage};

/// What came back, until the connection closed or broke.
struct Received {
    head: String,
    body: String,
    broke: Option<io::ErrorKind>,
}

impl Received {
    fn status(&self) -> u16 {
        self.head[9..12].parse().expect("a status line has a status")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }

    /// The JSON of each `data:` line; `[DONE]` is left as a string.
    fn events(&self) -> Vec<Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
    }

    fn text(&self) -> String {
        let events = self.events();
        let parts = events.iter().filter_map(|event| event.pointer("/choices/0/delta/content")?.as_str());
        parts.collect()
    }
}

async fn send(fake: &FakeUpstream, path: &str, body: &Value) -> TcpStream {
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: fake\r\nauthorization: Bearer key\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(fake.address()).await.expect("the fake listens");
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("the fake reads");
    stream
}

async fn post(fake: &FakeUpstream, path: &str, body: &Value) -> Received {
    let mut stream = send(fake, path, body).await;
    let mut bytes = Vec::new();
    let broke = stream.read_to_end(&mut bytes).await.err().map(|error| error.kind());
    let text = String::from_utf8(bytes).expect("the fake sends UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let chunked = head.contains("transfer-encoding: chunked");
    let body = if chunked { dechunked(body) } else { body.to_owned() };
    Received { head: head.to_owned(), body, broke }
}

fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk starts with its size").min(rest.len());
        whole += &rest[..size];
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

async fn chat(fake: &FakeUpstream, directive: &str, stream: bool) -> Received {
    let text = format!("say a few words [[fake: {directive}]]");
    let body = json!({
        "model": "gpt-4o-mini", "stream": stream, "stream_options": { "include_usage": true },
        "messages": [{ "role": "user", "content": text }],
    });
    post(fake, "/v1/chat/completions", &body).await
}

#[tokio::test]
async fn a_stream_starts_with_the_role_and_ends_with_usage_and_done() {
    let fake = FakeUpstream::start();

    let events = chat(&fake, "chunks=3", true).await.events();

    assert_eq!(events.len(), 1 + 3 + 1 + 1 + 1);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[4]["choices"][0]["finish_reason"], "stop");
    assert!(events[..5].iter().all(|event| event.get("usage") == Some(&Value::Null)));
    assert_eq!((&events[5]["choices"], &events[5]["usage"]["completion_tokens"]), (&json!([]), &json!(3)));
    assert_eq!(events[6], "[DONE]");
}

#[tokio::test]
async fn a_whole_answer_and_a_streamed_one_say_and_cost_the_same() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=5 reasoning=2 cached=4"));

    let whole = chat(&fake, "ok", false).await.json();
    let streamed = chat(&fake, "ok", true).await;

    let last = streamed.events().into_iter().rev().nth(1).expect("usage stands before [DONE]");
    assert_eq!(whole["choices"][0]["message"]["content"], json!(streamed.text()));
    assert_eq!(whole["usage"], last["usage"]);
    let bill = fake.bill();
    assert_eq!(bill.calls[0].cost_nano_usd, bill.calls[1].cost_nano_usd);
    assert_eq!(whole["usage"]["completion_tokens"], json!(bill.calls[0].usage.completion));
}

#[tokio::test]
async fn usage_stands_where_the_script_puts_it() {
    let fake = FakeUpstream::start();

    for (place, expected) in [
        ("empty-choices", vec![5]),
        ("finish", vec![4]),
        ("last-content", vec![3]),
        ("every", vec![0, 1, 2, 3, 4]),
        ("absent", vec![]),
    ] {
        let events = chat(&fake, &format!("chunks=3 usage={place}"), true).await.events();
        let reported: Vec<usize> = (0..events.len()).filter(|at| events[*at]["usage"].is_object()).collect();
        assert_eq!(reported, expected, "{place}");
    }
}

#[tokio::test]
async fn travel_changes_the_bytes_but_not_the_words() {
    let fake = FakeUpstream::start();
    let plain = chat(&fake, "chunks=4", true).await.text();

    for travel in ["split=3", "crlf", "comments", "trickle_ms=0", "interval_ms=1", "crlf split=1 comments"] {
        let received = chat(&fake, &format!("chunks=4 {travel}"), true).await;
        assert_eq!((received.text(), received.broke), (plain.clone(), None), "{travel}");
        assert_eq!(received.events().last(), Some(&json!("[DONE]")), "{travel}");
    }
}

#[tokio::test]
async fn errors_have_openais_four_keys_and_the_scripted_headers() {
    let fake = FakeUpstream::start();

    for status in [400, 401, 404, 429, 500, 502, 503] {
        let settings = format!("status={status} retry_after=3 retry_after_ms=2500");
        let received = chat(&fake, &settings, status % 2 == 0).await;
        assert_eq!(received.status(), status);
        assert!(received.head.contains("\r\nretry-after: 3\r\nretry-after-ms: 2500"), "{}", received.head);
        let error = &received.json()["error"];
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "{key} of {status}");
        }
    }
    assert_eq!(fake.bill().n_calls, 0);
}

#[tokio::test]
async fn a_cut_stream_is_reset_and_billed_for_what_was_written() {
    let fake = FakeUpstream::start();

    let received = chat(&fake, "chunks=6 cut=2", true).await;

    assert_eq!(received.broke, Some(io::ErrorKind::ConnectionReset));
    assert_eq!(received.text(), "gpt-4o-mini heard:");
    let bill = fake.bill();
    assert_eq!((bill.calls[0].usage.completion, bill.calls[0].complete), (2, false));
    assert_eq!(fake.calls()[0].ending, Ending::CutShort);
}

#[tokio::test]
async fn a_stream_may_end_in_every_wrong_way() {
    let fake = FakeUpstream::start();

    for (fault, n_events, last) in [
        ("no_done", 6, "choices"),
        ("end_at=2", 3, "choices"),
        ("truncated", 4, ""),
        ("error_at=1", 3, "error"),
        ("broken_json_at=1", 8, "[DONE]"),
        ("garbage_at=1", 7, "[DONE]"),
    ] {
        let received = chat(&fake, &format!("chunks=3 {fault}"), true).await;
        let events = received.events();
        let event = events.last().expect("something was sent");
        assert_eq!((received.status(), events.len()), (200, n_events), "{fault}: {}", received.body);
        assert!(event == last || event.get(last).is_some() || last.is_empty(), "{fault}: {event}");
    }
}

#[tokio::test]
async fn an_answer_in_one_piece_may_be_no_answer() {
    let fake = FakeUpstream::start();

    let page = chat(&fake, "html", false).await;
    let empty = chat(&fake, "empty", false).await;
    let half = chat(&fake, "truncated", false).await;
    let broken = chat(&fake, "broken_json_at=0", false).await;

    assert!(page.head.contains("content-type: text/html") && page.body.starts_with("<html>"));
    assert_eq!((empty.status(), empty.body.as_str()), (200, ""));
    let promised: usize =
        half.head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    assert!(!half.body.is_empty() && half.body.len() < promised);
    assert!(serde_json::from_str::<Value>(&broken.body).is_err());
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_and_billed_so_far() {
    let fake = FakeUpstream::start();
    let body = json!({
        "model": "gpt-4o-mini@chunks=9,pause_at=3", "stream": true,
        "messages": [{ "role": "user", "content": "hello" }],
    });

    let stream = send(&fake, "/v1/chat/completions", &body).await;
    fake.until(|calls| calls.first().is_some_and(|call| call.n_written == 3)).await;
    drop(stream);
    fake.until(|calls| calls[0].ending == Ending::ClientGone).await;

    assert_eq!(fake.bill().calls[0].usage.completion, 3);
}

#[tokio::test]
async fn a_paused_stream_goes_on_when_released() {
    let fake = FakeUpstream::start();

    let (received, ()) = tokio::join!(chat(&fake, "chunks=4 pause_at=2", true), async {
        fake.until(|calls| calls.first().is_some_and(|call| call.n_written == 2)).await;
        fake.release();
    });

    assert_eq!(received.events().last(), Some(&json!("[DONE]")));
    assert_eq!(fake.calls()[0].ending, Ending::Answered);
}

#[tokio::test]
async fn a_hang_before_the_headers_costs_nothing() {
    let fake = FakeUpstream::start();
    let body = json!({ "model": "m@hang=headers", "messages": [{ "role": "user", "content": "hello" }] });

    let stream = send(&fake, "/v1/chat/completions", &body).await;
    fake.until(|calls| calls.len() == 1).await;
    drop(stream);
    fake.until(|calls| calls[0].ending == Ending::ClientGone).await;

    assert_eq!(fake.bill().n_calls, 0);
}

#[tokio::test]
async fn tools_and_schemas_are_filled_as_they_are_declared() {
    let fake = FakeUpstream::start();
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let body = json!({
        "model": "gpt-4o", "messages": [{ "role": "user", "content": "weather [[fake: parallel=2]]" }],
        "tools": [{ "type": "function", "function": { "name": "weather", "parameters": parameters } }],
    });
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
    let asks_json = json!({
        "model": "gpt-4o", "messages": [{ "role": "user", "content": "count" }], "response_format": format,
    });

    let called = post(&fake, "/v1/chat/completions", &body).await.json();
    let filled = post(&fake, "/v1/chat/completions", &asks_json).await.json();

    let message = &called["choices"][0]["message"];
    assert_eq!(called["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(message["content"], Value::Null);
    assert_eq!(message["tool_calls"].as_array().map(Vec::len), Some(2));
    assert_eq!(message["tool_calls"][1]["function"]["arguments"], "{\"city\":\"text\"}");
    assert_eq!(filled["choices"][0]["message"]["content"], "{\"n\":7}");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_openai_does() {
    let fake = FakeUpstream::start();
    let user = json!([{ "role": "user", "content": "hello" }]);

    for (body, status, param) in [
        (json!({ "messages": user }), 400, json!("model")),
        (json!({ "model": "m" }), 400, json!("messages")),
        (json!({ "model": "m", "messages": [] }), 400, json!("messages")),
        (
            json!({ "model": "m", "messages": [{ "role": "robot", "content": "x" }] }),
            400,
            json!("messages[0].role"),
        ),
        (json!({ "model": "m", "messages": user, "n": 0 }), 400, json!("n")),
        (json!({ "model": "no-such-model", "messages": user }), 404, Value::Null),
        (json!({ "model": "m@chunk=1", "messages": user }), 400, Value::Null),
    ] {
        let received = post(&fake, "/v1/chat/completions", &body).await;
        assert_eq!((received.status(), &received.json()["error"]["param"]), (status, &param), "{body}");
    }
}

#[tokio::test]
async fn the_bill_follows_the_price_list_and_a_reset_clears_it() {
    let fake = FakeUpstream::start();
    fake.price("gpt-4o-mini", Price::of(1_000_000, 2_000_000));

    chat(&fake, "prompt=100 cached=40 completion=7", true).await;
    let bill = fake.bill();
    fake.reset();

    let usage = Usage { prompt: 100, cached: 40, completion: 7, ..Usage::default() };
    assert_eq!(bill.calls[0].usage, usage);
    assert_eq!(bill.total_nano_usd, 60 + 20 + 14);
    assert_eq!((fake.bill().n_calls, fake.calls().len()), (0, 0));
}

#[tokio::test]
async fn scripts_can_be_posted_from_another_process() {
    let fake = FakeUpstream::start();

    let added =
        post(&fake, "/script", &json!([{ "settings": "status=503", "next": 1, "model": "gpt-4o-mini" }]))
            .await;
    let refused = post(&fake, "/script", &json!({ "settings": "stat=503" })).await;
    let first = chat(&fake, "ok", false).await;
    let second = chat(&fake, "ok", false).await;

    assert_eq!((added.status(), refused.status()), (200, 400));
    assert_eq!((first.status(), second.status()), (503, 200));
}

#[tokio::test]
async fn a_prebuilt_answer_has_the_shape_that_was_asked_for() {
    let fake = FakeUpstream::start_with(Options { prebuilt: true, ..Options::default() }).unwrap();
    let made = [chat(&fake, "chunks=3", false).await, chat(&fake, "chunks=3", true).await];

    let sent = [chat(&fake, "chunks=9", false).await, chat(&fake, "chunks=9", true).await];

    assert_eq!(
        made.each_ref().map(|received| &received.body),
        sent.each_ref().map(|received| &received.body)
    );
    assert_eq!(sent[1].events().last(), Some(&json!("[DONE]")));
    assert_eq!(fake.calls().len(), 2);
}
