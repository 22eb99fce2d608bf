//! Renders an answer as `chat.completion` or as a list of `chat.completion.chunk` events.
//!
//! Does not know how events are framed or carried; that is [`super::sse`].
//!
//! Invariants: the first event of a choice carries its role and no content; the finish reason comes
//! in an event of its own; usage stands where the behaviour puts it and nowhere else.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Choice, Delta};
use super::behaviour::{Behaviour, UsagePlace};
use super::bill::Usage;
use super::request::Ask;
use super::sse::Event;

/// What both shapes of an answer carry besides its words.
pub struct Envelope {
    pub id: String,
    pub created: u64,
    pub fingerprint: String,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    service_tier: &'static str,
    system_fingerprint: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x_echo: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x_unknown: Option<Value>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: ChunkDelta<'a>,
    logprobs: Option<Value>,
    finish_reason: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct ChunkDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Present and null beside tool calls, absent in later chunks, as OpenAI has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolDelta<'a>; 1]>,
}

#[derive(Serialize)]
struct ToolDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

/// The answer in one piece.
pub fn whole(ask: &Ask, behaviour: &Behaviour, answer: &Answer, envelope: &Envelope) -> Value {
    let choices: Vec<Value> =
        answer.choices.iter().enumerate().map(|(at, choice)| whole_choice(ask, choice, at)).collect();
    let mut body = json!({
        "id": envelope.id, "object": "chat.completion", "created": envelope.created, "model": ask.model,
        "choices": choices, "service_tier": "default", "system_fingerprint": envelope.fingerprint,
    });
    if behaviour.usage != UsagePlace::Absent {
        body["usage"] = usage_body(&answer.usage);
    }
    add_strangers(&mut body, ask, behaviour);
    body
}

fn whole_choice(ask: &Ask, choice: &Choice, at: usize) -> Value {
    let join = |text_of: fn(&Delta) -> Option<&str>| {
        let parts: Vec<&str> = choice.deltas.iter().filter_map(text_of).collect();
        if parts.is_empty() { Value::Null } else { Value::String(parts.concat()) }
    };
    let mut message = json!({
        "role": "assistant", "content": join(content), "refusal": join(refusal), "annotations": [],
    });
    let reasoning = join(reasoning);
    if !reasoning.is_null() {
        message["reasoning_content"] = reasoning;
    }
    let calls = whole_tool_calls(choice, at);
    if calls.is_empty() {
        if message["content"].is_null() && message["refusal"].is_null() {
            message["content"] = json!("");
        }
    } else {
        message["tool_calls"] = Value::Array(calls);
    }
    let logprobs = ask.n_top_logprobs.map(|n_top| {
        let tokens: Vec<Value> = choice
            .deltas
            .iter()
            .filter_map(content)
            .enumerate()
            .map(|(nth, text)| logprob(text, nth, n_top))
            .collect();
        json!({ "content": tokens, "refusal": null })
    });
    json!({ "index": at, "message": message, "logprobs": logprobs, "finish_reason": choice.finish })
}

fn whole_tool_calls(choice: &Choice, choice_at: usize) -> Vec<Value> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for delta in &choice.deltas {
        match delta {
            Delta::ToolStart { at, name } => {
                calls.push((tool_call_id(choice_at, *at), name.clone(), String::new()))
            }
            Delta::ToolArguments { text, .. } => {
                calls.iter_mut().last().into_iter().for_each(|call| call.2 += text)
            }
            Delta::Reasoning(_) | Delta::Content(_) | Delta::Refusal(_) => {}
        }
    }
    let body = |(id, name, arguments)| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
    calls.into_iter().map(body).collect()
}

/// The answer as events, without `[DONE]`.
pub fn events(ask: &Ask, behaviour: &Behaviour, answer: &Answer, envelope: &Envelope) -> Vec<Event> {
    let n_deltas_max = answer.choices.iter().map(|choice| choice.deltas.len()).max().unwrap_or(0);
    let mut writer =
        Writer { ask, behaviour, envelope, usage: answer.usage, n_tokens: 0, events: Vec::new() };
    for (index, choice) in answer.choices.iter().enumerate() {
        writer.role(index, choice);
    }
    for nth in 0..n_deltas_max {
        for (index, choice) in answer.choices.iter().enumerate() {
            if let Some(delta) = choice.deltas.get(nth) {
                let is_last = nth + 1 == n_deltas_max && index + 1 == answer.choices.len();
                writer.delta(index, delta, is_last);
            }
        }
    }
    let n_choices = answer.choices.len();
    for (index, choice) in answer.choices.iter().enumerate() {
        writer.finish(index, &choice.finish, index + 1 == n_choices);
    }
    if behaviour.usage == UsagePlace::EmptyChoices && ask.include_usage {
        writer.push(&[], Some(Some(usage_body(&answer.usage))), 0);
    }
    writer.events
}

struct Writer<'a> {
    ask: &'a Ask,
    behaviour: &'a Behaviour,
    envelope: &'a Envelope,
    usage: Usage,
    n_tokens: u64,
    events: Vec<Event>,
}

impl Writer<'_> {
    fn role(&mut self, index: usize, choice: &Choice) {
        let speaks = !matches!(choice.deltas.first(), Some(Delta::ToolStart { .. }));
        let delta = ChunkDelta {
            role: Some("assistant"),
            content: Some(speaks.then_some("")),
            refusal: Some(None),
            ..ChunkDelta::default()
        };
        let usage = self.usage_if(self.behaviour.usage == UsagePlace::Every);
        self.push(&[ChunkChoice { index, delta, logprobs: None, finish_reason: None }], usage, 0);
    }

    fn delta(&mut self, index: usize, delta: &Delta, is_last: bool) {
        let nth = usize::try_from(self.n_tokens).unwrap_or(usize::MAX);
        self.n_tokens += 1;
        let logprobs = match (self.ask.n_top_logprobs, content(delta)) {
            (Some(n_top), Some(text)) => {
                Some(json!({ "content": [logprob(text, nth, n_top)], "refusal": null }))
            }
            _ => None,
        };
        let usage = self.usage_if(match self.behaviour.usage {
            UsagePlace::Every => true,
            UsagePlace::LastContent => is_last,
            UsagePlace::EmptyChoices | UsagePlace::Finish | UsagePlace::Absent => false,
        });
        let delta = chunk_delta(index, delta);
        self.push(&[ChunkChoice { index, delta, logprobs, finish_reason: None }], usage, 1);
    }

    fn finish(&mut self, index: usize, reason: &str, is_last: bool) {
        let usage = self.usage_if(match self.behaviour.usage {
            UsagePlace::Every => true,
            UsagePlace::Finish => is_last,
            UsagePlace::EmptyChoices | UsagePlace::LastContent | UsagePlace::Absent => false,
        });
        let finish_reason = Some(reason);
        self.push(
            &[ChunkChoice { index, delta: ChunkDelta::default(), logprobs: None, finish_reason }],
            usage,
            0,
        );
    }

    /// The usage so far where it is to stand, `null` elsewhere if usage was asked for.
    fn usage_if(&self, here: bool) -> Option<Option<Value>> {
        if here {
            // In the place where it stands last, usage is what the script says, not a count.
            let so_far = match self.behaviour.usage {
                UsagePlace::Every => self.usage.cut_to(self.n_tokens),
                UsagePlace::EmptyChoices
                | UsagePlace::Finish
                | UsagePlace::LastContent
                | UsagePlace::Absent => self.usage,
            };
            return Some(Some(usage_body(&so_far)));
        }
        (self.ask.include_usage && self.behaviour.usage != UsagePlace::Absent).then_some(None)
    }

    fn push(&mut self, choices: &[ChunkChoice<'_>], usage: Option<Option<Value>>, n_tokens: u64) {
        let chunk = Chunk {
            id: &self.envelope.id,
            object: "chat.completion.chunk",
            created: self.envelope.created,
            model: &self.ask.model,
            service_tier: "default",
            system_fingerprint: &self.envelope.fingerprint,
            choices,
            usage,
            x_echo: (!self.ask.echo.is_empty()).then_some(&self.ask.echo),
            x_unknown: self.behaviour.unknown.then(stranger),
        };
        let json = serde_json::to_string(&chunk).expect("a chunk has string keys");
        self.events.push(Event { json, n_tokens });
    }
}

fn chunk_delta(choice_at: usize, delta: &Delta) -> ChunkDelta<'_> {
    match delta {
        Delta::Reasoning(text) => ChunkDelta { reasoning_content: Some(text), ..ChunkDelta::default() },
        Delta::Content(text) => ChunkDelta { content: Some(Some(text)), ..ChunkDelta::default() },
        Delta::Refusal(text) => ChunkDelta { refusal: Some(Some(text)), ..ChunkDelta::default() },
        Delta::ToolStart { at, name } => {
            let function = FunctionDelta { name: Some(name), arguments: "" };
            let id = Some(tool_call_id(choice_at, *at));
            let call = ToolDelta { index: *at, id, kind: Some("function"), function };
            ChunkDelta { tool_calls: Some([call]), ..ChunkDelta::default() }
        }
        Delta::ToolArguments { at, text } => {
            let function = FunctionDelta { name: None, arguments: text };
            let call = ToolDelta { index: *at, id: None, kind: None, function };
            ChunkDelta { tool_calls: Some([call]), ..ChunkDelta::default() }
        }
    }
}

fn content(delta: &Delta) -> Option<&str> {
    if let Delta::Content(text) = delta { Some(text) } else { None }
}

fn refusal(delta: &Delta) -> Option<&str> {
    if let Delta::Refusal(text) = delta { Some(text) } else { None }
}

fn reasoning(delta: &Delta) -> Option<&str> {
    if let Delta::Reasoning(text) = delta { Some(text) } else { None }
}

fn tool_call_id(choice_at: usize, at: usize) -> String {
    format!("call_fake_{choice_at}_{at}")
}

pub fn logprob_of(nth: usize) -> f64 {
    -0.125 * (nth % 5) as f64
}

fn logprob(text: &str, nth: usize, n_top: usize) -> Value {
    let top = (0..n_top).map(|rank| {
        let token = if rank == 0 { text.to_owned() } else { format!("{text}{rank}") };
        json!({ "token": token, "logprob": logprob_of(nth) - rank as f64, "bytes": token.as_bytes() })
    });
    json!({
        "token": text, "logprob": logprob_of(nth), "bytes": text.as_bytes(), "top_logprobs": top.collect::<Vec<_>>(),
    })
}

pub fn usage_body(usage: &Usage) -> Value {
    let mut body = json!({
        "prompt_tokens": usage.prompt, "completion_tokens": usage.completion, "total_tokens": usage.total(),
        "prompt_tokens_details": { "cached_tokens": usage.cached, "audio_tokens": usage.audio_in },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_out,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    });
    if usage.cache_write > 0 {
        body["prompt_tokens_details"]["cache_write_tokens"] = json!(usage.cache_write);
    }
    body
}

/// Fields no client knows: the request's own `x_` fields, and one of the fake's.
pub fn add_strangers(body: &mut Value, ask: &Ask, behaviour: &Behaviour) {
    if !ask.echo.is_empty() {
        body["x_echo"] = Value::Object(ask.echo.clone());
    }
    if behaviour.unknown {
        body["x_unknown"] = stranger();
    }
}

fn stranger() -> Value {
    json!({ "kept": true, "list": [1, 2.5, null, "four"] })
}
