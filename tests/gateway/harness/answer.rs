//! Requests as JSON, and answers as a client sees them: head, body, events.
//!
//! Reads server-sent events by hand, so that no client library hides what is on the wire.

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

/// A chat of one user message.
pub fn chat(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// The same, streamed, with usage at its end.
pub fn chat_stream(model: &str, text: &str) -> Value {
    let mut body = chat(model, text);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub(super) async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.expect("the gateway never breaks an answer off");
        Self { status, headers, body }
    }

    /// A header's value; empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("our headers are ASCII"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("our bodies are UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The data of each event.
    pub fn data(&self) -> Vec<&str> {
        let frames = self.text().split_terminator("\n\n");
        frames.map(|frame| frame.strip_prefix("data: ").expect("an event is one data line")).collect()
    }

    /// The JSON of each event but the last, which must be `[DONE]`.
    pub fn chunks(&self) -> Vec<Value> {
        let mut data = self.data();
        assert_eq!(data.pop(), Some("[DONE]"), "the stream ends with [DONE]: {}", self.text());
        data.iter().map(|data| serde_json::from_str(data).expect("a chunk is JSON")).collect()
    }

    /// What the first choice says, whether it was streamed or not.
    pub fn says(&self) -> String {
        if self.header("content-type").starts_with("text/event-stream") {
            let chunks = self.chunks();
            let deltas =
                chunks.iter().filter_map(|chunk| chunk.pointer("/choices/0/delta/content")?.as_str());
            return deltas.collect();
        }
        let body = self.json();
        let content = body.pointer("/choices/0/message/content").and_then(Value::as_str);
        content.unwrap_or_else(|| panic!("no answer: {body}")).to_owned()
    }

    /// The last usage told, whether it was streamed or not.
    pub fn usage(&self) -> Value {
        if self.header("content-type").starts_with("text/event-stream") {
            let told = self.chunks().into_iter().rev().find(|chunk| chunk["usage"].is_object());
            return told.map_or(Value::Null, |chunk| chunk["usage"].clone());
        }
        self.json()["usage"].clone()
    }

    /// `usage.cost` as it is written, in nano-dollars; `None` where there is none.
    pub fn cost_nano_usd(&self) -> Option<i64> {
        let (_, rest) = self.text().split_once("\"cost\":")?;
        let end = rest.find([',', '}']).expect("an object ends");
        Some(nano_usd(&rest[..end]))
    }

    /// Checks that it is an error in OpenAI's shape, and gives `(type, code)`.
    pub fn error(&self) -> (String, String) {
        let body = self.json();
        error_of(&body)
    }
}

/// Reads dollars exactly.
pub fn nano_usd(text: &str) -> i64 {
    stiver::money::NanoUsd::from_usd(text).unwrap_or_else(|| panic!("`{text}` is not an amount")).get()
}

/// The type and code of an error object that has all four of OpenAI's keys.
pub fn error_of(body: &Value) -> (String, String) {
    let error = body["error"].as_object().unwrap_or_else(|| panic!("no error: {body}"));
    for key in ["message", "type", "param", "code"] {
        assert!(error.contains_key(key), "the error lacks `{key}`: {body}");
    }
    let word = |key: &str| error[key].as_str().unwrap_or("").to_owned();
    assert!(!word("message").is_empty(), "the error says nothing: {body}");
    (word("type"), word("code"))
}

/// An answer whose body is still coming. Dropping it hangs up.
pub struct OpenAnswer {
    response: reqwest::Response,
    unread: String,
}

impl OpenAnswer {
    pub(super) fn new(response: reqwest::Response) -> Self {
        Self { response, unread: String::new() }
    }

    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().expect("our headers are ASCII"))
    }

    /// The data of the next event; `None` at the end.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.unread = rest;
                return Some(event.strip_prefix("data: ").expect("an event is one data line").to_owned());
            }
            let piece = self.response.chunk().await.expect("the gateway never breaks an answer off")?;
            self.unread += std::str::from_utf8(&piece).expect("the fake sends ASCII");
        }
    }

    /// Reads events until `n` of them carried content.
    pub async fn read_contents(&mut self, n: usize) {
        let mut n_read = 0;
        while n_read < n {
            let data = self.next().await.expect("the stream goes on");
            let chunk: Value = serde_json::from_str(&data).expect("a chunk is JSON");
            let content = chunk.pointer("/choices/0/delta/content").and_then(Value::as_str);
            n_read += usize::from(content.is_some_and(|text| !text.is_empty()));
        }
    }
}
