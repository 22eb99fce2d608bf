//! What readers make of answers, however they are cut into pieces.

use proptest::prelude::*;

use super::*;

fn reader(format: Option<ToolFormat>, thinking: Thinking) -> AnswerReader {
    let tool_names: Vec<String> = vec!["get_weather".into(), "clock".into()];
    AnswerReader::new(Reading { format, tool_names: tool_names.into(), thinking, id_seed: 7 })
}

/// What an answer came to: thoughts, content, and calls with their names and arguments.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    thoughts: String,
    content: String,
    calls: Vec<(String, String)>,
}

/// Joins pieces, and checks what a client relies on: a call's first delta has id and name, and no other has.
fn join(pieces: Vec<AnswerPiece>) -> Read {
    let mut read = Read::default();
    for piece in pieces {
        match piece {
            AnswerPiece::Content(text) => read.content.push_str(&text),
            AnswerPiece::Reasoning(text) => read.thoughts.push_str(&text),
            AnswerPiece::ToolCall(delta) if delta.index == read.calls.len() => {
                assert!(delta.id.is_some_and(|id| !id.is_empty()));
                read.calls.push((delta.name.unwrap(), delta.arguments));
            }
            AnswerPiece::ToolCall(delta) => {
                assert_eq!((delta.index, delta.id, delta.name), (read.calls.len() - 1, None, None));
                assert!(!delta.arguments.is_empty());
                read.calls.last_mut().unwrap().1.push_str(&delta.arguments);
            }
        }
    }
    read
}

fn read_in(reader: &AnswerReader, parts: &[&str]) -> Read {
    let mut reader = reader.clone();
    let mut pieces: Vec<AnswerPiece> = parts.iter().flat_map(|part| reader.push(part)).collect();
    pieces.extend(reader.finish());
    let read = join(pieces);
    assert_eq!(reader.n_tool_calls(), read.calls.len());
    read
}

/// Reads an answer whole, letter by letter, and in every two parts: all the same.
fn read(reader: &AnswerReader, answer: &str) -> Read {
    let whole = read_in(reader, &[answer]);
    let letters: Vec<&str> = answer.split("").filter(|letter| !letter.is_empty()).collect();
    assert_eq!(read_in(reader, &letters), whole, "letter by letter: {answer:?}");
    for (at, _) in answer.char_indices() {
        let (first, second) = answer.split_at(at);
        assert_eq!(read_in(reader, &[first, second]), whole, "cut at {at}: {answer:?}");
    }
    whole
}

fn content(text: &str) -> Read {
    Read { content: text.into(), ..Read::default() }
}

fn calls(content: &str, calls: &[(&str, &str)]) -> Read {
    let calls = calls.iter().map(|(name, arguments)| ((*name).into(), (*arguments).into())).collect();
    Read { content: content.into(), calls, ..Read::default() }
}

#[test]
fn calls_in_hermes_way_are_read() {
    let hermes = reader(Some(ToolFormat::Hermes), Thinking::Never);
    let cases = [
        ("Just < text, <tool and </tool_call>.", content("Just < text, <tool and </tool_call>.")),
        (
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Köln }\\\"{\", \"n\": [1, {}]}}\n</tool_call>",
            calls("", &[("get_weather", "{\"city\": \"Köln }\\\"{\", \"n\": [1, {}]}")]),
        ),
        (
            "Both:\n<tool_call>{\"name\":\"clock\",\"arguments\":{}}</tool_call>\n<tool_call>\n{\"name\": \"clock\"}\n</tool_call>\n",
            calls("Both:\n", &[("clock", "{}"), ("clock", "{}")]),
        ),
        (
            "<tool_call>{\"arguments\": {\"a\": 1}, \"extra\": [\"x\", {\"name\": 2}], \"id\": 3, \"name\": \"other\"}</tool_call> after",
            calls("after", &[("other", "{\"a\": 1}")]),
        ),
        (
            "<tool_call>{\"name\": \"clock\", \"arguments\": \"{\\\"a\\\": 1}\"}</tool_call>",
            calls("", &[("clock", "{\"a\": 1}")]),
        ),
        ("<tool_call>{\"name\": \"clock\", \"arguments\": null}</tool_call>", calls("", &[("clock", "{}")])),
        ("<tool_call>not JSON</tool_call> then", content("<tool_call>not JSON</tool_call> then")),
        ("<tool_call>{\"name\": 3}</tool_call>", content("<tool_call>{\"name\": 3}</tool_call>")),
        ("<tool_call>{}", content("<tool_call>{}")),
        ("<tool_call>{\"na", content("<tool_call>{\"na")),
        ("a <tool_c", content("a <tool_c")),
        ("<tool_call>{\"name\": \"clock\", \"arguments\": {\"a\": [1", calls("", &[("clock", "{\"a\": [1")])),
        (
            "<tool_call>{\"name\": \"clock\"}</tool_call>\nNow:\n<tool_call>{\"name\": \"clock\"}</tool_call>",
            calls("Now:\n", &[("clock", "{}"), ("clock", "{}")]),
        ),
    ];
    for (answer, want) in cases {
        assert_eq!(read(&hermes, answer), want, "{answer}");
    }
}

#[test]
fn calls_in_llamas_way_are_read_only_where_a_known_tool_is_named() {
    let llama = reader(Some(ToolFormat::Llama), Thinking::Never);
    let cases = [
        ("{\"name\": \"clock\", \"parameters\": {\"a\": 1}}", calls("", &[("clock", "{\"a\": 1}")])),
        ("<|python_tag|>{\"name\": \"clock\", \"parameters\": {}}", calls("", &[("clock", "{}")])),
        (
            "\n {\"type\": \"function\", \"name\": \"clock\", \"arguments\": {}}\n",
            calls("", &[("clock", "{}")]),
        ),
        (
            "{\"name\": \"clock\", \"parameters\": {}}; {\"name\": \"get_weather\", \"parameters\": {}}",
            calls("", &[("clock", "{}"), ("get_weather", "{}")]),
        ),
        ("{\"name\": \"Ada\", \"age\": 36}", content("{\"name\": \"Ada\", \"age\": 36}")),
        ("{\"age\": 36, \"name\": [\"clock\"]}", content("{\"age\": 36, \"name\": [\"clock\"]}")),
        ("{}", content("{}")),
        (" text {\"name\": \"clock\"}", content(" text {\"name\": \"clock\"}")),
        ("<|python_tag|>print(1)", content("<|python_tag|>print(1)")),
        ("<|pyth", content("<|pyth")),
    ];
    for (answer, want) in cases {
        assert_eq!(read(&llama, answer), want, "{answer}");
    }
}

#[test]
fn calls_in_mistrals_way_are_read() {
    let mistral = reader(Some(ToolFormat::Mistral), Thinking::Never);
    let cases = [
        (
            "[TOOL_CALLS] [{\"name\": \"clock\", \"arguments\": {}}, {\"name\": \"get_weather\", \"arguments\": {\"a\": []}}]",
            calls("", &[("clock", "{}"), ("get_weather", "{\"a\": []}")]),
        ),
        (
            "I see. [TOOL_CALLS][{\"name\": \"clock\", \"arguments\": {}, \"id\": \"abc\"}]\n",
            calls("I see. ", &[("clock", "{}")]),
        ),
        ("[TOOL_CALLS]{\"name\": \"clock\", \"arguments\": {}}", calls("", &[("clock", "{}")])),
        ("[TOOL_CALLS] [1]", content("[TOOL_CALLS] [1]")),
        ("[1, 2]", content("[1, 2]")),
    ];
    for (answer, want) in cases {
        assert_eq!(read(&mistral, answer), want, "{answer}");
    }
}

#[test]
fn thoughts_are_told_from_answers() {
    let may = reader(None, Thinking::May);
    let open = reader(None, Thinking::Open);
    let never = reader(None, Thinking::Never);
    let thought = |thoughts: &str, content: &str| Read {
        thoughts: thoughts.into(),
        content: content.into(),
        calls: vec![],
    };

    assert_eq!(read(&may, "\n<think>\nhm </th\n</think>\n\nYes."), thought("\nhm </th\n", "Yes."));
    assert_eq!(read(&may, "Yes. <think>no</think>"), content("Yes. <think>no</think>"));
    assert_eq!(read(&may, "<thin"), content("<thin"));
    assert_eq!(read(&open, "hm\n</think>\nYes."), thought("hm\n", "Yes."));
    assert_eq!(read(&open, "hm </thi"), thought("hm </thi", ""));
    assert_eq!(read(&never, "<think>no</think>"), content("<think>no</think>"));
}

#[test]
fn a_call_in_a_thought_is_a_thought() {
    let call = "<tool_call>{\"name\": \"clock\"}</tool_call>";
    let hermes = reader(Some(ToolFormat::Hermes), Thinking::May);

    let found = read(&hermes, &format!("<think>{call}</think>\n{call}"));

    assert_eq!(
        found,
        Read { thoughts: call.into(), content: String::new(), calls: vec![("clock".into(), "{}".into())] }
    );
}

#[test]
fn arguments_come_as_they_are_written() {
    let mut hermes = reader(Some(ToolFormat::Hermes), Thinking::Never);
    assert_eq!(hermes.push("<tool_call>\n{\"name\": \"clo"), []);

    let first = hermes.push("ck\", \"arguments\": {\"zone\": \"Eu");
    let second = hermes.push("rope\"}");
    let third = hermes.push("}\n</tool_call>");

    let id = ToolFormat::Hermes.id(7, 0);
    let delta = |id, name: Option<&str>, arguments: &str| {
        vec![AnswerPiece::ToolCall(ToolCallDelta {
            index: 0,
            id,
            name: name.map(Into::into),
            arguments: arguments.into(),
        })]
    };
    assert_eq!(first, delta(Some(id), Some("clock"), "{\"zone\": \"Eu"));
    assert_eq!(second, delta(None, None, "rope\"}"));
    assert_eq!((third, hermes.finish()), (vec![], vec![]));
}

#[test]
fn ids_differ_by_call_and_by_request_and_fit_the_model() {
    let ids = [ToolFormat::Hermes.id(1, 0), ToolFormat::Hermes.id(1, 1), ToolFormat::Hermes.id(2, 0)];
    assert!(ids.iter().all(|id| id.len() == 29 && id.starts_with("call_")));
    assert!(ids[0] != ids[1] && ids[0] != ids[2]);
    let id_of = |mut reader: AnswerReader| {
        let pieces = reader.push("<tool_call>\n{\"name\": \"clock\", \"arguments\": {");
        let [AnswerPiece::ToolCall(call)] = &pieces[..] else { panic!("{pieces:?}") };
        call.id.clone().unwrap()
    };
    let reader = reader(Some(ToolFormat::Hermes), Thinking::Never);
    assert_ne!(id_of(reader.of_choice(0)), id_of(reader.of_choice(1)));
    assert_eq!(ToolFormat::Mistral.id(1, 0).len(), 9);
}

#[test]
fn whether_a_model_thinks_is_told_by_its_template_and_its_prompt() {
    let template = "{{ content.split('</think>')[-1] }}";
    assert_eq!(Thinking::of(template, "<|im_start|>assistant\n"), Thinking::May);
    assert_eq!(Thinking::of(template, "<|im_start|>assistant\n<think>\n"), Thinking::Open);
    assert_eq!(Thinking::of(template, "<think>\n\n</think>\n\n"), Thinking::Never);
    assert_eq!(Thinking::of("{{ content }}", "<|im_start|>assistant\n"), Thinking::Never);
}

fn fragment() -> impl Strategy<Value = String> {
    let fixed = [
        "<tool_call>",
        "</tool_call>",
        "<tool_",
        "{\"name\": \"clock\", \"arguments\": {\"a\": \"\\\"}\"}}",
        "{\"name\":",
        "[TOOL_CALLS] [",
        "[TOOL_CALLS]",
        "]",
        ", ",
        "; ",
        "<think>",
        "</think>",
        "<|python_tag|>",
        "}",
        "{",
        "\"",
        "\\",
        " é\n",
    ];
    prop_oneof![4 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned), 1 => "[a-z{}\"<\\[ ]{0,6}"]
}

proptest! {
    #[test]
    fn an_answer_is_read_alike_however_it_is_cut(
        parts in prop::collection::vec(fragment(), 0..8),
        cuts in prop::collection::vec(1usize..7, 1..30),
        format in prop::sample::select(vec![None, Some(ToolFormat::Hermes), Some(ToolFormat::Llama), Some(ToolFormat::Mistral)]),
        thinking in prop::sample::select(vec![Thinking::Never, Thinking::May, Thinking::Open]),
    ) {
        let answer = parts.concat();
        let letters: Vec<char> = answer.chars().collect();
        let mut split = Vec::new();
        let mut rest = &letters[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            split.push(part.iter().collect::<String>());
            rest = after;
        }
        let split: Vec<&str> = split.iter().map(String::as_str).collect();
        let reader = reader(format, thinking);

        prop_assert_eq!(read_in(&reader, &split), read_in(&reader, &[&answer]));
    }

    #[test]
    fn without_tools_and_thoughts_an_answer_is_its_text(parts in prop::collection::vec(fragment(), 0..8)) {
        let answer = parts.concat();
        prop_assert_eq!(read_in(&reader(None, Thinking::Never), &[&answer]), content(&answer));
    }
}

#[test]
fn a_call_that_begins_in_a_broken_one_is_read() {
    let hermes = reader(Some(ToolFormat::Hermes), Thinking::Never);
    let call = "<tool_call>{\"name\": \"clock\", \"arguments\": {}}</tool_call>";

    assert_eq!(read(&hermes, &format!("<tool_call>{call}")), calls("<tool_call>", &[("clock", "{}")]));
    assert_eq!(read(&hermes, &format!("<tool_call>[{call}")), calls("<tool_call>[", &[("clock", "{}")]));
}

#[test]
fn arguments_that_come_twice_count_once() {
    let hermes = reader(Some(ToolFormat::Hermes), Thinking::Never);
    let twice =
        "<tool_call>{\"name\": \"clock\", \"arguments\": {\"a\": 1}, \"arguments\": {\"b\": 2}}</tool_call>";

    assert_eq!(read(&hermes, twice), calls("", &[("clock", "{\"a\": 1}")]));
}
