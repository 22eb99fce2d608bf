//! What goes out, and what is read of what comes back.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chat::shape::Shapes;
use crate::chat::{Endpoint, Request};

fn wire(client: &str, stream: StreamMode) -> String {
    let fields = Fields::parse(client.as_bytes()).unwrap();
    String::from_utf8(to_wire(&fields, "gpt-x", stream).to_vec()).unwrap()
}

#[test]
fn only_the_model_changes_in_a_whole_request() {
    let client =
        r#"{"x":1.50,"model":"auto","messages":[{"role":"user","content":"\u00e9\/"}],"stream":false}"#;

    assert_eq!(wire(client, StreamMode::Whole), client.replace("auto", "gpt-x"));
}

#[test]
fn a_stream_is_asked_for_its_usage_and_keeps_its_other_options() {
    for (client, expected) in [
        (
            r#"{"model":"a","stream":true}"#,
            r#"{"model":"gpt-x","stream":true,"stream_options":{"include_usage":true}}"#,
        ),
        (
            r#"{"stream_options":{"include_usage":false,"include_obfuscation":false},"stream":true,"model":"a"}"#,
            r#"{"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true,"model":"gpt-x"}"#,
        ),
        (
            r#"{"model":"a","stream_options":null,"stream":true}"#,
            r#"{"model":"gpt-x","stream_options":{"include_usage":true},"stream":true}"#,
        ),
    ] {
        assert_eq!(wire(client, StreamMode::StreamWithUsage), expected);
    }
}

#[test]
fn the_mode_decides_over_what_the_client_said() {
    assert_eq!(
        wire(r#"{"model":"a","stream":true,"stream_options":{"include_usage":true}}"#, StreamMode::Whole),
        r#"{"model":"gpt-x","stream":false}"#
    );
    assert_eq!(
        wire(r#"{"model":"a"}"#, StreamMode::StreamWithUsage),
        r#"{"model":"gpt-x","stream":true,"stream_options":{"include_usage":true}}"#
    );
    assert_eq!(
        wire(r#"{"model":"a","stream":true}"#, StreamMode::Stream),
        r#"{"model":"gpt-x","stream":true}"#
    );
}

#[test]
fn names_are_written_as_json() {
    assert_eq!(wire(r#"{"a\"b\n":1}"#, StreamMode::Whole), r#"{"a\"b\n":1,"model":"gpt-x"}"#);
}

#[test]
fn usage_and_model_are_read_of_a_whole_answer() {
    let facts =
        from_wire(br#"{"model":"m-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#)
            .unwrap();

    assert_eq!(facts.model.as_deref(), Some("m-1"));
    assert_eq!(facts.usage, Some(Usage { input: 3, output: 2, ..Usage::default() }));
}

#[test]
fn what_is_no_answer_is_told_apart() {
    assert_eq!(from_wire(br#"{"choices":[{"mess"#), Err(Unreadable::CutOff));
    assert!(matches!(from_wire(b"<html>"), Err(Unreadable::NotJson(_))));
    assert!(matches!(from_wire(br#""a string""#), Err(Unreadable::NotJson(_))));
    let reported = from_wire(br#"{"error":{"message":"no","code":429}}"#).unwrap_err();
    let expected = Report { message: "no".into(), status: Some(429), ..Report::default() };
    assert_eq!(reported, Unreadable::Reported(expected));
    assert!(matches!(from_wire(br#"{"detail":"hello"}"#), Err(Unreadable::NotJson(_))));
    assert!(from_wire(br#"{"error":null,"choices":[]}"#).is_ok());
    assert!(from_wire(br#"{"object":"list","data":[]}"#).is_ok());
}

#[test]
fn each_shape_of_error_body_is_read() {
    let full = from_error_wire(br#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#);
    assert_eq!(
        full,
        Report { code: Some("c".into()), kind: Some("t".into()), message: "m".into(), status: None }
    );
    assert_eq!(from_error_wire(br#"{"error":"busy"}"#).message, "busy");
    assert_eq!(from_error_wire(br#"{"object":"error","message":"m"}"#).message, "m");
    assert_eq!(from_error_wire(b"<html>502</html>"), Report::default());
}

fn facts(data: &str) -> ChunkFacts {
    match from_event(data.as_bytes()).unwrap() {
        ChunkKind::Chunk(facts) => facts,
        ChunkKind::Done => panic!("{data} is not the end"),
    }
}

#[test]
fn text_of_every_kind_is_counted_and_nothing_else() {
    for (delta, n_chars) in [
        (r#"{"role":"assistant","content":"h\u00e9\nj"}"#, 4),
        (r#"{"content":null,"refusal":"no"}"#, 2),
        (r#"{"reasoning_content":"abc"}"#, 3),
        (
            r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
            3,
        ),
        (r#"{"content":[{"type":"text","text":"abcd"}]}"#, 4),
        ("{}", 0),
        ("null", 0),
    ] {
        let found = facts(&format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#));
        assert_eq!((found.content_chars, found.n_choices), (n_chars, 1), "{delta}");
    }
    assert_eq!(facts(r#"{"choices":[{"index":0,"text":"abc","logprobs":null}]}"#).content_chars, 3);
}

#[test]
fn choices_that_end_are_told_from_those_that_go_on() {
    let found = facts(
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"},{"index":3,"delta":{},"finish_reason":null}]}"#,
    );

    assert_eq!((found.choices, found.finished, found.n_choices), (0b1001, 0b0001, 2));
}

#[test]
fn a_usage_chunk_has_no_choices_and_a_null_is_no_usage() {
    let usage = facts(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);

    assert_eq!((usage.n_choices, usage.usage.map(|usage| usage.output)), (0, Some(2)));
    assert_eq!(facts(r#"{"choices":[],"usage":null}"#).usage, None);
    assert_eq!(facts(r#"{"id":"x"}"#), ChunkFacts::default());
}

#[test]
fn the_end_and_errors_are_known_in_a_stream() {
    assert_eq!(from_event(b"[DONE]"), Ok(ChunkKind::Done));
    assert_eq!(from_event(b" [DONE] "), Ok(ChunkKind::Done));
    assert_eq!(from_event(br#"{"choices":["#), Err(Unreadable::CutOff));
    assert!(matches!(from_event(b"{choices}"), Err(Unreadable::NotJson(_))));
    assert!(matches!(from_event(br#"{"error":{"message":"x"}}"#), Err(Unreadable::Reported(_))));
    assert!(from_event(br#"{"error":null,"choices":[]}"#).is_ok());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,6}", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn a_request_that_is_read_goes_out_and_can_be_read_again(
        route in "\\PC{1,12}",
        content in "\\PC{0,40}",
        stream in any::<Option<bool>>(),
        more in prop::collection::btree_map("x_\\PC{0,8}", any_json(), 0..5),
    ) {
        let mut body = json!(more);
        body["messages"] = json!([{"role": "user", "content": content}]);
        body["model"] = json!(route);
        body["stream"] = json!(stream);
        let request = Request::parse(Endpoint::Chat, body.to_string().as_bytes()).unwrap();
        let mode = if request.stream { StreamMode::Stream } else { StreamMode::Whole };

        let same = to_wire(&request.fields, request.route.as_str(), mode);
        let asked = Request::parse(Endpoint::Chat, &to_wire(&request.fields, "m", StreamMode::StreamWithUsage));

        prop_assert_eq!(&same[..], &request.fields.to_json()[..]);
        prop_assert_eq!(serde_json::from_slice::<Value>(&same).unwrap(), body);
        let asked = asked.unwrap();
        prop_assert!(asked.stream && asked.include_usage && asked.route.as_str() == "m");
    }

    #[test]
    fn a_chunk_read_by_its_shape_counts_as_if_it_were_parsed(
        learned in "\\PC{0,10}",
        text in "(\\PC|\n|\t|\"|\\\\|\u{1}){0,20}",
    ) {
        let chunk = |text: &str| json!({"choices": [{"index": 0, "delta": {"content": text}}]}).to_string();
        let mut shapes = Shapes::default();
        shapes.learn(chunk(&learned).as_bytes());

        let (text, is_plain) = (chunk(&text), !text.contains('\u{1}'));
        let added = shapes.read(text.as_bytes());

        prop_assert_eq!(added.is_some(), is_plain);
        if let Some(added) = added {
            prop_assert_eq!(added.n_chars, facts(&text).content_chars);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"model\"", "\"messages\"", "\"choices\"", "\"usage\"", "\"delta\"",
                "\"error\"", "\"\\ud800\"", "\"a\"", "1e999", "-0", "null", "true", "\"stream_options\"", " ", "\u{0}",
            ]),
            0..24,
        ),
        noise in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let bytes = [parts.concat().into_bytes(), noise].concat();

        for endpoint in [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings] {
            if let Ok(request) = Request::parse(endpoint, &bytes) {
                prop_assert!(!request.route.as_str().is_empty());
            }
        }
        let event = from_event(&bytes);
        prop_assert_eq!(event == Ok(ChunkKind::Done), bytes.trim_ascii() == b"[DONE]");
        prop_assert!(from_error_wire(&bytes).status.is_none());
    }
}
