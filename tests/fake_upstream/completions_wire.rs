//! Renders an answer for the older completions endpoint, whole or as events.
//!
//! Knows no tools, reasoning or refusals: their deltas have no place in this format.
//!
//! Invariants: whole and streamed texts are equal; usage stands where the behaviour puts it.

use serde_json::{Value, json};

use super::answer::{Answer, Delta};
use super::behaviour::{Behaviour, UsagePlace};
use super::chat_wire::{Envelope, add_strangers, logprob_of, usage_body};
use super::request::Ask;
use super::sse::Event;

pub fn whole(ask: &Ask, behaviour: &Behaviour, answer: &Answer, envelope: &Envelope) -> Value {
    let choices: Vec<Value> = answer
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            let texts: Vec<&str> = choice.deltas.iter().filter_map(text).collect();
            json!({
                "text": texts.concat(), "index": index, "finish_reason": choice.finish,
                "logprobs": ask.n_top_logprobs.map(|_| logprobs(&texts, 0)),
            })
        })
        .collect();
    let mut body = envelope_body(ask, envelope, choices);
    if behaviour.usage != UsagePlace::Absent {
        body["usage"] = usage_body(&answer.usage);
    }
    add_strangers(&mut body, ask, behaviour);
    body
}

pub fn events(ask: &Ask, behaviour: &Behaviour, answer: &Answer, envelope: &Envelope) -> Vec<Event> {
    let mut events = Vec::new();
    let mut push = |choices: Vec<Value>, usage: Option<Value>, n_tokens: u64| {
        let mut body = envelope_body(ask, envelope, choices);
        if usage.is_some() || (ask.include_usage && behaviour.usage != UsagePlace::Absent) {
            body["usage"] = usage.unwrap_or_default();
        }
        add_strangers(&mut body, ask, behaviour);
        events.push(Event { json: body.to_string(), n_tokens });
    };
    let n_choices = answer.choices.len();
    let mut n_written = 0;
    for (index, choice) in answer.choices.iter().enumerate() {
        let texts: Vec<&str> = choice.deltas.iter().filter_map(text).collect();
        for (nth, text) in texts.iter().enumerate() {
            n_written += 1;
            let is_last = nth + 1 == texts.len() && index + 1 == n_choices;
            let usage = match behaviour.usage {
                UsagePlace::Every => Some(answer.usage.cut_to(n_written)),
                UsagePlace::LastContent => is_last.then_some(answer.usage),
                UsagePlace::EmptyChoices | UsagePlace::Finish | UsagePlace::Absent => None,
            };
            let logprobs = ask.n_top_logprobs.map(|_| logprobs(&[text], nth));
            let body = json!({ "text": text, "index": index, "logprobs": logprobs, "finish_reason": null });
            push(vec![body], usage.as_ref().map(usage_body), 1);
        }
        let here = behaviour.usage == UsagePlace::Every
            || (behaviour.usage == UsagePlace::Finish && index + 1 == n_choices);
        let body = json!({ "text": "", "index": index, "logprobs": null, "finish_reason": choice.finish });
        push(vec![body], here.then(|| usage_body(&answer.usage)), 0);
    }
    if behaviour.usage == UsagePlace::EmptyChoices && ask.include_usage {
        push(Vec::new(), Some(usage_body(&answer.usage)), 0);
    }
    events
}

fn envelope_body(ask: &Ask, envelope: &Envelope, choices: Vec<Value>) -> Value {
    json!({
        "id": envelope.id, "object": "text_completion", "created": envelope.created, "model": ask.model,
        "choices": choices, "system_fingerprint": envelope.fingerprint,
    })
}

fn text(delta: &Delta) -> Option<&str> {
    if let Delta::Content(text) = delta { Some(text) } else { None }
}

fn logprobs(texts: &[&str], first: usize) -> Value {
    let offsets = texts.iter().scan(0, |offset, text| {
        let at = *offset;
        *offset += text.len();
        Some(at)
    });
    let logprobs = || (first..).take(texts.len()).map(logprob_of);
    let top = texts.iter().zip(logprobs()).map(|(text, logprob)| json!({ *text: logprob }));
    json!({
        "tokens": texts, "token_logprobs": logprobs().collect::<Vec<_>>(),
        "top_logprobs": top.collect::<Vec<_>>(), "text_offset": offsets.collect::<Vec<usize>>(),
    })
}
