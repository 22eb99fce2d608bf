//! Gives a stored whole answer out again as the events of a stream.
//!
//! The pieces are of a few tokens and come all at once: nothing here imitates the pace of a model.
//! Values are cut and copied as the bytes they are stored in.
//!
//! Invariants: assembling the events gives the answer back; texts are cut between characters, never
//! within one or within an escape.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::members::{Members, is_null};

/// About three tokens of text; a piece goes on to the end of its word.
const PIECE_CHARS: usize = 12;
/// Where a piece ends even within a word, for text without spaces.
const MAX_PIECE_CHARS: usize = 32;
/// How many tokens with log-probabilities go into one event.
const PIECE_TOKENS: usize = 4;

/// Why a stored answer cannot be given out as a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    #[error("the stored answer is not a JSON object with an array of `choices`")]
    NotACompletion,
}

/// The events of the answer, each the text after `data: `; the last one is `[DONE]`.
///
/// With `include_usage` a last chunk carries the usage, and the others say it is `null`.
pub fn chunks(
    completion: &[u8],
    include_usage: bool,
    id: &str,
    created: i64,
) -> Result<Vec<Bytes>, ReplayError> {
    let answer = Members::parse(completion).map_err(|_| ReplayError::NotACompletion)?;
    let choices = answer.get("choices").ok_or(ReplayError::NotACompletion)?;
    let choices: Vec<Members<'_>> =
        serde_json::from_str(choices.get()).map_err(|_| ReplayError::NotACompletion)?;
    let mut events = Events::new(&answer, include_usage, id, created);
    for (n, choice) in choices.iter().enumerate() {
        let choice = Choice::read(choice, n);
        match &choice.message {
            Some(message) => chat_choice(&mut events, &choice, message)?,
            None => text_choice(&mut events, &choice),
        }
    }
    if include_usage && let Some(usage) = answer.get("usage").filter(|usage| !is_null(usage)) {
        events.usage(usage);
    }
    Ok(events.finish())
}

struct Choice<'a> {
    idx: String,
    message: Option<Members<'a>>,
    text: Option<&'a RawValue>,
    logprobs: Option<&'a RawValue>,
    /// How it ended, and what else it says of itself.
    rest: Vec<(String, &'a str)>,
}

impl<'a> Choice<'a> {
    fn read(choice: &Members<'a>, n: usize) -> Self {
        let is_rest = |name: &str| !matches!(name, "index" | "message" | "text" | "logprobs");
        Self {
            idx: choice.get("index").map_or_else(|| n.to_string(), |idx| idx.get().to_owned()),
            message: choice.get("message").and_then(Members::of),
            text: choice.get("text"),
            logprobs: choice.get("logprobs"),
            rest: choice
                .iter()
                .filter(|(name, _)| is_rest(name))
                .map(|(name, value)| (quoted(name), value.get()))
                .collect(),
        }
    }

    /// One chunk of this choice: the field that adds to it, and its log-probabilities if it has any.
    fn chunk(&self, events: &mut Events, added: &[&str], logprobs: &str) {
        events.begin();
        events.push(&["{\"index\":", &self.idx, ","]);
        events.push(added);
        if self.logprobs.is_some() {
            events.push(&[",\"logprobs\":", logprobs]);
        }
        events.push(&[",\"finish_reason\":null}"]);
        events.end();
    }

    fn last_chunk(&self, events: &mut Events, added: &str) {
        events.begin();
        events.push(&["{\"index\":", &self.idx, ",", added]);
        if self.logprobs.is_some() {
            events.push(&[",\"logprobs\":null"]);
        }
        for (name, value) in &self.rest {
            events.push(&[",", name, ":", value]);
        }
        events.push(&["}"]);
        events.end();
    }

    fn has_logprobs(&self) -> bool {
        self.logprobs.is_some_and(|logprobs| !is_null(logprobs))
    }
}

fn chat_choice(events: &mut Events, choice: &Choice<'_>, message: &Members<'_>) -> Result<(), ReplayError> {
    choice.chunk(events, &["\"delta\":{", &opening(message), "}"], "null");
    for name in ["reasoning_content", "reasoning", "refusal"] {
        for piece in message.get(name).and_then(text_of).into_iter().flat_map(pieces) {
            choice.chunk(events, &["\"delta\":{\"", name, "\":\"", piece, "\"}"], "null");
        }
    }
    let content = message.get("content").and_then(text_of);
    match choice.logprobs.filter(|logprobs| !is_null(logprobs)) {
        None => {
            for piece in content.into_iter().flat_map(pieces) {
                choice.chunk(events, &["\"delta\":{\"content\":\"", piece, "\"}"], "null");
            }
        }
        Some(logprobs) => match content.and_then(|content| by_token(content, logprobs)) {
            Some(groups) => {
                for TokenGroup { text, logprobs } in groups {
                    choice.chunk(events, &["\"delta\":{\"content\":", &text, "}"], &logprobs);
                }
            }
            None => {
                let content = content.map(|text| format!("\"content\":\"{text}\"")).unwrap_or_default();
                choice.chunk(events, &["\"delta\":{", &content, "}"], logprobs.get());
            }
        },
    }
    if let Some(calls) = message.get("tool_calls").filter(|calls| !is_null(calls)) {
        let calls: Vec<Members<'_>> =
            serde_json::from_str(calls.get()).map_err(|_| ReplayError::NotACompletion)?;
        for (idx, call) in calls.iter().enumerate() {
            for call in call_deltas(call) {
                let call = format!("\"delta\":{{\"tool_calls\":[{{\"index\":{idx}{call}}}]}}");
                choice.chunk(events, &[&call], "null");
            }
        }
    }
    choice.last_chunk(events, "\"delta\":{}");
    Ok(())
}

fn text_choice(events: &mut Events, choice: &Choice<'_>) {
    let text = choice.text.and_then(text_of).unwrap_or_default();
    match choice.logprobs.filter(|_| choice.has_logprobs()) {
        // Offsets and tokens are arrays beside the text; cut up they would have to be cut alike.
        Some(logprobs) => choice.chunk(events, &["\"text\":\"", text, "\""], logprobs.get()),
        None => {
            for piece in pieces(text) {
                choice.chunk(events, &["\"text\":\"", piece, "\""], "null");
            }
        }
    }
    choice.last_chunk(events, "\"text\":\"\"");
}

/// The members of the first delta: the role, texts that are still empty, and what is not text.
fn opening(message: &Members<'_>) -> String {
    let mut members = Vec::new();
    for (name, value) in message.iter() {
        let value = match name {
            "tool_calls" if is_null(value) || is_empty_array(value) => value.get(),
            "tool_calls" => continue,
            "content" | "refusal" | "reasoning_content" | "reasoning" if text_of(value).is_some() => "\"\"",
            _ => value.get(),
        };
        members.push(format!("{}:{value}", quoted(name)));
    }
    members.join(",")
}

/// The deltas of one tool call, each its members after the index: who is called, then with what.
fn call_deltas(call: &Members<'_>) -> Vec<String> {
    let mut first = String::new();
    let mut arguments = None;
    for (name, value) in call.iter() {
        let function = Members::of(value).filter(|_| name == "function");
        let Some(function) = function else {
            if name != "index" {
                first.push_str(&format!(",{}:{}", quoted(name), value.get()));
            }
            continue;
        };
        let inner: Vec<String> = function
            .iter()
            .map(|(name, value)| match text_of(value).filter(|_| name == "arguments") {
                Some(text) => {
                    arguments = Some(text);
                    "\"arguments\":\"\"".to_owned()
                }
                None => format!("{}:{}", quoted(name), value.get()),
            })
            .collect();
        first.push_str(&format!(",\"function\":{{{}}}", inner.join(",")));
    }
    let rest = arguments.into_iter().flat_map(pieces);
    let rest = rest.map(|piece| format!(",\"function\":{{\"arguments\":\"{piece}\"}}"));
    std::iter::once(first).chain(rest).collect()
}

struct TokenGroup {
    /// A JSON string.
    text: String,
    /// The choice's log-probabilities with the items of these tokens alone.
    logprobs: String,
}

/// The content cut where its tokens are; `None` where tokens and content do not agree, as when
/// a character is spread over two tokens, or where there are log-probabilities of something else.
fn by_token(content: &str, logprobs: &RawValue) -> Option<Vec<TokenGroup>> {
    #[derive(Deserialize)]
    struct Item {
        token: String,
    }
    let members = Members::of(logprobs)?;
    let items: Vec<&RawValue> = serde_json::from_str(members.get("content")?.get()).ok()?;
    let has_more =
        members.iter().any(|(name, value)| name != "content" && !is_null(value) && !is_empty_array(value));
    if items.is_empty() || has_more {
        return None;
    }
    let tokens: Vec<String> = items
        .iter()
        .map(|item| serde_json::from_str::<Item>(item.get()).ok().map(|item| item.token))
        .collect::<Option<_>>()?;
    let text: String = serde_json::from_str(&format!("\"{content}\"")).ok()?;
    if tokens.concat() != text {
        return None;
    }
    let group = |(tokens, items): (&[String], &[&RawValue])| {
        let items = items.iter().map(|item| item.get()).collect::<Vec<_>>().join(",");
        let inner: Vec<String> = members
            .iter()
            .map(|(name, value)| match name {
                "content" => format!("\"content\":[{items}]"),
                _ => format!("{}:{}", quoted(name), value.get()),
            })
            .collect();
        TokenGroup { text: quoted(&tokens.concat()), logprobs: format!("{{{}}}", inner.join(",")) }
    };
    Some(tokens.chunks(PIECE_TOKENS).zip(items.chunks(PIECE_TOKENS)).map(group).collect())
}

/// Cuts the inside of a JSON string into pieces of a few tokens, before spaces where it can.
fn pieces(inner: &str) -> impl Iterator<Item = &str> {
    let mut rest = inner;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        let mut n_chars = 0;
        while end < rest.len() && n_chars < MAX_PIECE_CHARS {
            if n_chars >= PIECE_CHARS && rest.as_bytes()[end] == b' ' {
                break;
            }
            end += character_bytes(&rest[end..]);
            n_chars += 1;
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// The length of the first character as it is written: an escape, a pair of escapes, or itself.
fn character_bytes(written: &str) -> usize {
    let bytes = written.as_bytes();
    match bytes {
        [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', _, _, b'\\', b'u', ..] => 12,
        [b'\\', b'u', ..] => 6,
        [b'\\', ..] => 2,
        _ => written.chars().next().map_or(0, char::len_utf8),
    }
    .min(bytes.len())
}

/// The inside of a string, escapes and all.
fn text_of(value: &RawValue) -> Option<&str> {
    value.get().strip_prefix('"')?.strip_suffix('"')
}

fn is_empty_array(value: &RawValue) -> bool {
    let inner = value.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

/// All events in one piece of memory, each later a slice of it.
struct Events {
    text: Vec<u8>,
    starts: Vec<usize>,
    /// What every chunk begins with, up to its choices.
    head: String,
    /// What follows the choices.
    tail: &'static str,
    /// Fields we do not know, which the first chunk carries.
    more: String,
}

impl Events {
    fn new(answer: &Members<'_>, include_usage: bool, id: &str, created: i64) -> Self {
        let object = match answer.get("object").map(RawValue::get) {
            Some("\"text_completion\"") => "\"text_completion\"",
            _ => "\"chat.completion.chunk\"",
        };
        let mut head = format!("{{\"id\":{},\"object\":{object},\"created\":{created}", quoted(id));
        let mut more = String::new();
        for (name, value) in answer.iter() {
            let member = |out: &mut String| out.push_str(&format!(",{}:{}", quoted(name), value.get()));
            match name {
                "id" | "object" | "created" | "choices" | "usage" => {}
                "model" | "service_tier" | "system_fingerprint" => member(&mut head),
                _ => member(&mut more),
            }
        }
        head.push_str(",\"choices\":[");
        let tail = if include_usage { "],\"usage\":null" } else { "]" };
        Self { text: Vec::with_capacity(4_096), starts: Vec::new(), head, tail, more }
    }

    fn begin(&mut self) {
        self.starts.push(self.text.len());
        self.text.extend_from_slice(self.head.as_bytes());
    }

    fn push(&mut self, parts: &[&str]) {
        for part in parts {
            self.text.extend_from_slice(part.as_bytes());
        }
    }

    fn end(&mut self) {
        self.push(&[self.tail]);
        let more = std::mem::take(&mut self.more);
        self.push(&[&more, "}"]);
    }

    fn usage(&mut self, usage: &RawValue) {
        self.begin();
        self.push(&["],\"usage\":", usage.get(), "}"]);
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.starts.push(self.text.len());
        let text = Bytes::from(self.text);
        let mut events: Vec<Bytes> =
            self.starts.windows(2).map(|ends| text.slice(ends[0]..ends[1])).collect();
        events.push(Bytes::from_static(b"[DONE]"));
        events
    }
}

#[cfg(test)]
mod tests;
