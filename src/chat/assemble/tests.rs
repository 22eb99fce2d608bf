//! Whole answers out of streams as upstreams send them.

use serde_json::{Value, json};

use super::*;

fn assembled(chunks: &[Value]) -> Option<Value> {
    let mut assembler = Assembler::new(10_000);
    for chunk in chunks {
        assembler.push(&chunk.to_string());
    }
    assembler.finish().map(|body| serde_json::from_slice(&body).unwrap())
}

fn chunk(choices: &Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m", "choices": choices})
}

#[test]
fn text_is_joined_and_the_rest_kept() {
    let mut last = chunk(&json!([]));
    last["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 2});
    let mut first = chunk(&json!([
        {"index": 0, "delta": {"role": "assistant", "content": "", "refusal": null}, "logprobs": null, "finish_reason": null}]));
    first["usage"] = Value::Null;
    first["x_unknown"] = json!([1]);
    first["obfuscation"] = json!("aaa");

    let answer = assembled(&[
        first,
        chunk(&json!([{"index": 0, "delta": {"content": "a\n\""}, "finish_reason": null}])),
        chunk(&json!([{"index": 0, "delta": {"content": "é"}, "finish_reason": null}])),
        chunk(&json!([{"index": 0, "delta": {}, "finish_reason": "stop"}])),
        last,
    ]);

    let expected = json!({
        "id": "c1", "object": "chat.completion", "created": 5, "model": "m", "x_unknown": [1],
        "choices": [{
            "index": 0, "message": {"role": "assistant", "content": "a\n\"é", "refusal": null},
            "logprobs": null, "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    });
    assert_eq!(answer, Some(expected));
}

#[test]
fn tool_calls_are_joined_by_their_index() {
    let call = |idx: u32, more: Value| {
        let mut call = json!({"index": idx});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        chunk(&json!([{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": null}]))
    };

    let answer = assembled(&[
        call(1, json!({"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}})),
        call(0, json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}})),
        call(0, json!({"function": {"arguments": "{\"x\""}})),
        call(1, json!({"function": {"name": "g", "arguments": "{}"}})),
        call(0, json!({"function": {"arguments": ":1}"}})),
        chunk(&json!([{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])),
    ])
    .unwrap();

    let expected = json!({"role": "assistant", "content": null, "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{\"x\":1}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]});
    assert_eq!(answer["choices"][0]["message"], expected);
}

#[test]
fn choices_are_kept_apart_and_in_order() {
    let answer = assembled(&[
        chunk(&json!([{"index": 1, "delta": {"content": "b"}}, {"index": 0, "delta": {"content": "a"}}])),
        chunk(&json!([{"index": 1, "delta": {"content": "b"}, "finish_reason": "length"}])),
        chunk(&json!([{"index": 0, "delta": {"reasoning_content": "r"}, "finish_reason": "stop"}])),
    ])
    .unwrap();

    let texts: Vec<&Value> = (0..2).map(|idx| &answer["choices"][idx]["message"]["content"]).collect();
    assert_eq!(texts, ["a", "bb"]);
    assert_eq!(answer["choices"][0]["message"]["reasoning_content"], "r");
    assert_eq!(answer["choices"][1]["finish_reason"], "length");
}

#[test]
fn log_probabilities_are_appended() {
    let with = |items: Value, finish: Value| {
        chunk(
            &json!([{"index": 0, "delta": {}, "logprobs": {"content": items, "refusal": null}, "finish_reason": finish}]),
        )
    };

    let answer = assembled(&[
        with(json!([{"token": "a"}]), Value::Null),
        with(json!([]), Value::Null),
        with(json!([{"token": "b"}, {"token": "c"}]), json!("stop")),
    ])
    .unwrap();

    let expected = json!({"content": [{"token": "a"}, {"token": "b"}, {"token": "c"}], "refusal": null});
    assert_eq!(answer["choices"][0]["logprobs"], expected);
}

#[test]
fn text_completions_are_joined_too() {
    let answer = assembled(&[
        json!({"object": "text_completion", "choices": [{"index": 0, "text": "a", "logprobs": null, "finish_reason": null}]}),
        json!({"object": "text_completion", "choices": [{"index": 0, "text": "b", "finish_reason": "stop"}]}),
    ]);

    let choice = json!({"index": 0, "text": "ab", "logprobs": null, "finish_reason": "stop"});
    assert_eq!(answer, Some(json!({"object": "text_completion", "choices": [choice]})));
}

#[test]
fn a_character_split_over_two_chunks_is_whole_again() {
    let mut assembler = Assembler::new(1_000);
    assembler.push(r#"{"choices":[{"index":0,"delta":{"content":"\ud83d"}}]}"#);
    assembler.push(r#"{"choices":[{"index":0,"delta":{"content":"\ude00"},"finish_reason":"stop"}]}"#);

    let answer: Value = serde_json::from_slice(&assembler.finish().unwrap()).unwrap();

    assert_eq!(answer["choices"][0]["message"]["content"], "😀");
}

#[test]
fn a_choice_that_never_ended_is_no_answer() {
    assert_eq!(assembled(&[]), None);
    assert_eq!(assembled(&[chunk(&json!([]))]), None);
    assert_eq!(
        assembled(&[chunk(&json!([{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]))]),
        None
    );
}

#[test]
fn what_cannot_be_read_gives_no_answer() {
    let mut assembler = Assembler::new(1_000);
    assembler.push(r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#);
    assembler.push("{nonsense");

    assert_eq!(assembler.finish(), None);
}

#[test]
fn an_answer_larger_than_the_limit_is_given_up() {
    let ends = |limit_bytes: usize, n_chunks: usize| {
        let mut assembler = Assembler::new(limit_bytes);
        for _ in 0..n_chunks {
            assembler.push(r#"{"usage":{"n":1},"choices":[{"index":0,"delta":{"content":"0123456789"},"finish_reason":"stop"}]}"#);
        }
        assembler.finish()
    };
    let fixed = (0..).find(|limit_bytes| ends(*limit_bytes, 1).is_some()).unwrap();

    // Only the text grows; fields that are given again do not.
    assert!(ends(fixed + 10, 2).is_some());
    assert!(ends(fixed + 9, 2).is_none());
}

#[test]
fn objects_nested_beyond_reason_are_taken_as_they_are() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
    let mut assembler = Assembler::new(100_000);
    assembler
        .push(&format!(r#"{{"choices":[{{"index":0,"delta":{{"x":{deep}}},"finish_reason":"stop"}}]}}"#));

    let answer = assembler.finish().unwrap();

    assert!(std::str::from_utf8(&answer).unwrap().contains(&deep));
}
