//! A local model's answer in OpenAI's wire format: whole, and chunk by chunk.
//!
//! Runs nothing and holds no state; `answer` says what happens when.

use bytes::Bytes;
use local_engine::chat::ToolCallDelta;
use local_engine::request::{FinishReason, TokenOut};
use local_engine::tokenizer::Vocabulary;
use serde_json::{Value, json};

use crate::chat::Usage;

/// What all objects of one answer have in common.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) id: String,
    pub(super) created_s: i64,
    pub(super) model: String,
    pub(super) is_chat: bool,
}

impl Frame {
    /// A chunk that adds to one choice.
    pub(super) fn chunk(&self, index: usize, delta: Value, logprobs: Value, reason: Option<&str>) -> Bytes {
        let choice = if self.is_chat {
            json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason })
        } else {
            let text = delta.get("content").cloned().unwrap_or_else(|| json!(""));
            json!({ "index": index, "text": text, "logprobs": logprobs, "finish_reason": reason })
        };
        self.object(self.chunk_kind(), json!([choice]), None)
    }

    /// The chunk that tells what was used.
    pub(super) fn usage_chunk(&self, usage: &Usage) -> Bytes {
        self.object(self.chunk_kind(), json!([]), Some(usage))
    }

    pub(super) fn whole(&self, choices: Vec<Value>, usage: &Usage) -> Bytes {
        let kind = if self.is_chat { "chat.completion" } else { "text_completion" };
        self.object(kind, Value::Array(choices), Some(usage))
    }

    fn chunk_kind(&self) -> &'static str {
        if self.is_chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn object(&self, kind: &str, choices: Value, usage: Option<&Usage>) -> Bytes {
        let mut object = json!({
            "id": self.id, "object": kind, "created": self.created_s, "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            object["usage"] = usage_object(usage);
        }
        Bytes::from(object.to_string())
    }
}

fn usage_object(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": { "cached_tokens": usage.cached_read },
    })
}

pub(super) fn finish_reason(reason: &FinishReason, has_tool_calls: bool) -> &'static str {
    match reason {
        FinishReason::Stop if has_tool_calls => "tool_calls",
        FinishReason::Stop => "stop",
        FinishReason::Length
        | FinishReason::Aborted
        | FinishReason::Deadline
        | FinishReason::Grammar(_)
        | FinishReason::Failed(_) => "length",
    }
}

/// What a piece of a tool call adds.
pub(super) fn tool_call(call: &ToolCallDelta) -> Value {
    match &call.name {
        Some(name) => json!({
            "index": call.index, "id": call.id, "type": "function",
            "function": { "name": name, "arguments": call.arguments },
        }),
        None => json!({ "index": call.index, "function": { "arguments": call.arguments } }),
    }
}

/// Log-probabilities of a chat's tokens.
pub(super) fn chat_logprobs(tokens: &[TokenOut], vocabulary: &Vocabulary) -> Value {
    let one = |id, logprob: f32| {
        let bytes = vocabulary.bytes(id).unwrap_or_default();
        json!({ "token": String::from_utf8_lossy(bytes), "logprob": floor(logprob), "bytes": bytes })
    };
    let token = |token: &TokenOut| {
        let mut object = one(token.id, token.logprob.unwrap_or(0.0));
        object["top_logprobs"] = token.top.iter().map(|(id, logprob)| one(*id, *logprob)).collect();
        object
    };
    json!({ "content": tokens.iter().map(token).collect::<Vec<_>>(), "refusal": null })
}

/// Log-probabilities of a completion's tokens, whose text begins at `offset` characters.
pub(super) fn text_logprobs(tokens: &[TokenOut], vocabulary: &Vocabulary, offset: usize) -> Value {
    let text = |id| String::from_utf8_lossy(vocabulary.bytes(id).unwrap_or_default()).into_owned();
    let mut offset = offset;
    let mut offsets = Vec::with_capacity(tokens.len());
    for token in tokens {
        offsets.push(offset);
        offset += text(token.id).chars().count();
    }
    let top = |token: &TokenOut| -> Value {
        token.top.iter().map(|(id, logprob)| (text(*id), json!(floor(*logprob)))).collect()
    };
    json!({
        "tokens": tokens.iter().map(|token| text(token.id)).collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob.map(floor)).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// JSON has no infinity; OpenAI writes -9999 for what cannot come.
fn floor(logprob: f32) -> f32 {
    logprob.max(-9_999.0)
}
