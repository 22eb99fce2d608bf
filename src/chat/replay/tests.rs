//! Stored answers given out as streams, and put together again.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chat::Assembler;

fn replayed(answer: &Value, include_usage: bool) -> Vec<Value> {
    let events = chunks(answer.to_string().as_bytes(), include_usage, "c2", 9).unwrap();
    let (done, events) = events.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    events.iter().map(|event| serde_json::from_slice(event).unwrap()).collect()
}

fn answer(message: &Value) -> Value {
    json!({
        "id": "c1", "object": "chat.completion", "created": 5, "model": "m", "system_fingerprint": "fp", "x": [1],
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    })
}

#[test]
fn an_answer_comes_as_role_text_finish_and_usage() {
    let whole =
        answer(&json!({"role": "assistant", "content": "The quick brown fox jumps.", "refusal": null}));

    let events = replayed(&whole, true);

    let deltas: Vec<&Value> =
        events[..events.len() - 1].iter().map(|event| &event["choices"][0]["delta"]).collect();
    let expected = [
        json!({"role": "assistant", "content": "", "refusal": null}),
        json!({"content": "The quick brown"}),
        json!({"content": " fox jumps."}),
        json!({}),
    ];
    assert_eq!(deltas, expected.iter().collect::<Vec<_>>());
    for event in &events {
        assert_eq!(
            (&event["id"], &event["created"], &event["model"]),
            (&json!("c2"), &json!(9), &json!("m"))
        );
        assert_eq!(
            (&event["object"], &event["system_fingerprint"]),
            (&json!("chat.completion.chunk"), &json!("fp"))
        );
    }
    let (last, others) = events.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(others.iter().all(|event| event.get("usage") == Some(&Value::Null)));
    assert_eq!(others[3]["choices"][0]["finish_reason"], "stop");
    assert!(others[..3].iter().all(|event| event["choices"][0]["finish_reason"].is_null()));
    assert_eq!(others.iter().filter(|event| event.get("x").is_some()).count(), 1);
}

#[test]
fn without_being_asked_for_usage_is_nowhere() {
    let events = replayed(&answer(&json!({"role": "assistant", "content": "a"})), false);

    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.get("usage").is_none()));
}

#[test]
fn a_tool_call_opens_with_its_name_and_goes_on_with_its_arguments() {
    let call = json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"city\": \"Delft\", \"unit\": 1}"}});

    let events =
        replayed(&answer(&json!({"role": "assistant", "content": null, "tool_calls": [call]})), false);

    let calls: Vec<&Value> = events[1..events.len() - 1]
        .iter()
        .map(|event| &event["choices"][0]["delta"]["tool_calls"][0])
        .collect();
    let opening =
        json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}});
    assert_eq!(calls[0], &opening);
    let arguments: String =
        calls[1..].iter().map(|call| call["function"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(arguments, "{\"city\": \"Delft\", \"unit\": 1}");
    assert!(calls.len() > 2 && calls[1..].iter().all(|call| call["index"] == 0 && call.get("id").is_none()));
}

#[test]
fn log_probabilities_go_with_their_tokens() {
    let tokens = ["a", " b", " c", " d", " e"];
    let items: Vec<Value> = tokens.iter().map(|token| json!({"token": token, "logprob": -0.5})).collect();
    let mut whole = answer(&json!({"role": "assistant", "content": tokens.concat()}));
    whole["choices"][0]["logprobs"] = json!({"content": items, "refusal": null});

    let events = replayed(&whole, false);

    let with: Vec<(&Value, usize)> = events
        .iter()
        .map(|event| &event["choices"][0])
        .filter(|choice| !choice["logprobs"].is_null())
        .map(|choice| (&choice["delta"]["content"], choice["logprobs"]["content"].as_array().unwrap().len()))
        .collect();
    assert_eq!(with, [(&json!("a b c d"), 4), (&json!(" e"), 1)]);
}

#[test]
fn pieces_break_no_character_and_no_escape() {
    for (text, expected) in [
        ("", vec![]),
        ("short", vec!["short"]),
        ("one two three four five", vec!["one two three", " four five"]),
        (r"0123456789\n\n x", vec![r"0123456789\n\n", " x"]),
    ] {
        assert_eq!(pieces(text).collect::<Vec<_>>(), expected);
    }
    let long = r"\ud83d\ude00é".repeat(40);
    for piece in pieces(&long) {
        assert!(serde_json::from_str::<String>(&format!("\"{piece}\"")).is_ok(), "{piece}");
    }
}

#[test]
fn what_is_no_completion_is_refused() {
    for body in ["", "[]", "{}", r#"{"choices":3}"#, r#"{"choices":[3]}"#] {
        assert_eq!(chunks(body.as_bytes(), false, "c", 0), Err(ReplayError::NotACompletion), "{body}");
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{0,80}", "\\PC{0,60}", "(😀|é|\n|\"|\\\\| |word){0,40}"]
}

fn any_message() -> impl Strategy<Value = Value> {
    let calls = vec(("[a-z]{1,5}", any_text()), 1..4);
    let optional_text = || prop::option::of(any_text());
    (optional_text(), prop::option::of(optional_text()), prop::option::of(any_text()), prop::option::of(calls))
        .prop_map(|(content, refusal, reasoning, calls)| {
            let mut message = json!({"role": "assistant", "content": content});
            if let Some(refusal) = refusal {
                message["refusal"] = json!(refusal);
            }
            if let Some(reasoning) = reasoning {
                message["reasoning_content"] = json!(reasoning);
            }
            if let Some(calls) = calls {
                let calls = calls.into_iter().map(|(name, arguments)| {
                    json!({"id": name, "type": "function", "function": {"name": name, "arguments": arguments}})
                });
                message["tool_calls"] = calls.collect();
            }
            message
        })
}

/// Log-probabilities of tokens that make up the content, of others, or of none.
fn any_logprobs() -> impl Strategy<Value = Option<Value>> {
    let tokens = vec(("[a-z é]{0,4}", -9.0..0.0_f64), 0..12);
    prop_oneof![
        Just(None),
        Just(Some(Value::Null)),
        tokens.prop_map(|tokens| {
            let items = tokens.iter().map(|(token, logprob)| json!({"token": token, "logprob": logprob}));
            Some(json!({"content": items.collect::<Vec<_>>(), "refusal": null}))
        }),
    ]
}

fn any_chat_choice() -> impl Strategy<Value = Value> {
    (any_message(), any_logprobs(), any::<bool>()).prop_map(|(mut message, logprobs, is_of_content)| {
        let tokens = logprobs.as_ref().and_then(|logprobs| logprobs["content"].as_array());
        if let Some(tokens) = tokens.filter(|_| is_of_content) {
            let text: String = tokens.iter().filter_map(|item| item["token"].as_str()).collect();
            message["content"] = json!(text);
        }
        let mut choice = json!({"message": message, "finish_reason": "stop"});
        if let Some(logprobs) = logprobs {
            choice["logprobs"] = logprobs;
        }
        choice
    })
}

fn any_text_choice() -> impl Strategy<Value = Value> {
    (any_text(), any::<bool>()).prop_map(|(text, has_logprobs)| {
        let logprobs = has_logprobs.then(|| json!({"tokens": ["a", "b"], "token_logprobs": [null, -1.5]}));
        json!({"text": text, "logprobs": logprobs, "finish_reason": "length"})
    })
}

fn any_answer() -> impl Strategy<Value = Value> {
    let chat = vec(any_chat_choice(), 1..4).prop_map(|choices| ("chat.completion", choices));
    let text = vec(any_text_choice(), 1..4).prop_map(|choices| ("text_completion", choices));
    (prop_oneof![chat, text], any::<u32>()).prop_map(|((object, mut choices), n_tokens)| {
        for (idx, choice) in choices.iter_mut().enumerate() {
            choice["index"] = json!(idx);
        }
        json!({
            "id": "c2", "object": object, "created": 9, "model": "m", "service_tier": null, "x": {"y": "z"},
            "choices": choices, "usage": {"prompt_tokens": n_tokens, "completion_tokens": 2},
        })
    })
}

proptest! {
    #[test]
    fn assembling_what_was_replayed_gives_the_answer_back(whole in any_answer()) {
        let stored = whole.to_string();
        let events = chunks(stored.as_bytes(), true, "c2", 9).unwrap();
        let mut assembler = Assembler::new(1_000_000);
        for event in &events[..events.len() - 1] {
            assembler.push(std::str::from_utf8(event).unwrap());
        }

        let again: Value = serde_json::from_slice(&assembler.finish().unwrap()).unwrap();
        prop_assert_eq!(again, serde_json::from_str::<Value>(&stored).unwrap());
    }
}
