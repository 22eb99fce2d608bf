//! Whole chats: what a grammar makes of random logits is read back as calls with the right arguments.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::path::PathBuf;
use std::sync::Arc;

use local_engine::chat::{
    AnswerPiece, AnswerReader, Chat, ChatRequest, ChatTemplate, ResponseFormat, ToolChoice, ToolFormat,
};
use local_engine::grammar::{Constraint, GrammarFactory, GrammarSpec};
use local_engine::sampling::{Sampler, SamplingParams};
use local_engine::tokenizer::{TextOut, Tokenizer};
use serde_json::{Value, json};

struct Model {
    chat: Chat,
    tokenizer: Arc<Tokenizer>,
    factory: GrammarFactory,
    eos: u32,
}

fn model(style: &str) -> Model {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let (tokenizer, eos) = match style {
        "llama3" => ("llama3", "<|eot_id|>"),
        "mistral" => ("mistral", "</s>"),
        _ => ("qwen", "<|im_end|>"),
    };
    let tokenizer = Arc::new(Tokenizer::load(&fixtures.join("tokenizers").join(tokenizer)).unwrap());
    let template = ChatTemplate::load(&fixtures.join("templates").join(style)).unwrap();
    let eos = tokenizer.token(eos).unwrap();
    let factory = GrammarFactory::new(&tokenizer, &[eos]).unwrap();
    Model { chat: Chat::new(template, Arc::clone(&tokenizer)), tokenizer, factory, eos }
}

fn tools() -> Vec<Value> {
    let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    vec![
        tool(
            "get_weather",
            json!({
                "type": "object",
                "properties": {"unit": {"$ref": "#/$defs/unit"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
                "required": ["unit", "days"],
                "additionalProperties": false,
                "$defs": {"unit": {"enum": ["C", "F"]}},
            }),
        ),
        tool("clock", json!({"type": "object", "properties": {}, "additionalProperties": false})),
    ]
}

fn request() -> ChatRequest {
    let messages = vec![json!({"role": "user", "content": "What is the weather?"})];
    ChatRequest { messages, tools: tools(), ..ChatRequest::default() }
}

fn is_right_call(name: &str, arguments: &str) -> bool {
    let arguments: Value = serde_json::from_str(arguments).unwrap();
    match name {
        "clock" => arguments == json!({}),
        "get_weather" => {
            arguments.as_object().unwrap().len() == 2
                && ["C", "F"].contains(&arguments["unit"].as_str().unwrap())
                && (1..=9).contains(&arguments["days"].as_i64().unwrap())
        }
        _ => false,
    }
}

#[derive(Debug, Default)]
struct Answer {
    text: String,
    thoughts: String,
    content: String,
    calls: Vec<(String, String)>,
}

fn read(answer: &mut Answer, pieces: Vec<AnswerPiece>) {
    for piece in pieces {
        match piece {
            AnswerPiece::Content(text) => answer.content.push_str(&text),
            AnswerPiece::Reasoning(text) => answer.thoughts.push_str(&text),
            AnswerPiece::ToolCall(delta) => {
                if let Some(name) = delta.name {
                    answer.calls.push((name, String::new()));
                }
                answer.calls.last_mut().unwrap().1.push_str(&delta.arguments);
            }
        }
    }
}

impl Model {
    /// An answer by chance within the grammar; it grows tired, and likes the given texts.
    fn answer(
        &self,
        reader: &mut AnswerReader,
        constraint: &mut dyn Constraint,
        seed: u64,
        likes: &[&str],
    ) -> Answer {
        let vocabulary = self.tokenizer.vocabulary();
        let liked: Vec<u32> = likes.iter().map(|text| self.tokenizer.token(text).unwrap()).collect();
        let sampler =
            Sampler::new(SamplingParams { temperature: 1.0, seed, ..SamplingParams::default() }, &[]);
        let mut out = TextOut::new(Arc::clone(&vocabulary), Vec::new());
        let mut answer = Answer::default();
        for position in 0..400 {
            let mut row = vec![0.0; vocabulary.len()];
            liked.iter().for_each(|token| row[*token as usize] = 4.0);
            for end in
                [self.eos].into_iter().chain(["\"", "}"].iter().filter_map(|end| self.tokenizer.token(end)))
            {
                row[end as usize] = position as f32 * 0.1;
            }
            let token = match constraint.forced().first() {
                Some(token) => *token,
                None => sampler.choose(&mut row, position, Some(&constraint.mask().unwrap()), None).token,
            };
            assert!(constraint.mask().unwrap().allows(token));
            constraint.push(token).unwrap();
            if token == self.eos {
                read(&mut answer, reader.finish());
                return answer;
            }
            let text = out.push(token).text;
            answer.text.push_str(&text);
            read(&mut answer, reader.push(&text));
        }
        panic!("no end: {answer:?}");
    }

    fn answers(&self, request: &ChatRequest, n: u64, likes: &[&str]) -> Vec<Answer> {
        let prompt = self.chat.prompt(request).unwrap();
        let answer = |seed| {
            let mut constraint = prompt.constraint(&self.factory).unwrap().unwrap();
            self.answer(&mut prompt.reader.clone(), constraint.as_mut(), seed, likes)
        };
        (0..n).map(answer).collect()
    }
}

#[test]
fn formats_are_told_from_templates() {
    let formats = [
        ("qwen2", Some(ToolFormat::Hermes)),
        ("qwen3", Some(ToolFormat::Hermes)),
        ("llama3", Some(ToolFormat::Llama)),
        ("mistral", Some(ToolFormat::Mistral)),
        ("chatml", Some(ToolFormat::Hermes)),
        ("llama2", None),
    ];
    for (style, format) in formats {
        let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let template = ChatTemplate::load(&fixtures.join("templates").join(style)).unwrap();
        assert_eq!(template.knows_tools(), format.is_some(), "{style}");
        assert_eq!(ToolFormat::of(template.source(true)), format, "{style}");
    }
}

#[test]
fn marks_around_what_is_no_json_are_no_known_format() {
    assert_eq!(ToolFormat::of("<tool_call>\n<function={{ name }}>"), None);
    assert_eq!(ToolFormat::of("[TOOL_CALLS]{{ name }}[ARGS]"), None);
}

#[test]
fn a_required_call_is_a_call_of_a_tool_with_its_parameters() {
    for style in ["qwen2", "llama3", "mistral"] {
        let model = model(style);
        let required = ChatRequest { tool_choice: ToolChoice::Required, ..request() };
        let answers = model.answers(&required, 12, &[]);
        for answer in &answers {
            assert!(!answer.calls.is_empty() && answer.content.is_empty(), "{style}: {answer:?}");
            assert!(
                answer.calls.iter().all(|(name, arguments)| is_right_call(name, arguments)),
                "{style}: {answer:?}"
            );
        }
        let names = |name: &str| answers.iter().any(|answer| answer.calls.iter().any(|call| call.0 == name));
        assert!(names("clock") && names("get_weather"), "{style}");
        let most = answers.iter().map(|answer| answer.calls.len()).max().unwrap();
        assert!(if style == "llama3" { most == 1 } else { most > 1 }, "{style}: {most}");

        let single = ChatRequest { parallel_tool_calls: false, ..required };
        assert!(model.answers(&single, 8, &[]).iter().all(|answer| answer.calls.len() == 1));
    }
}

#[test]
fn calls_are_written_as_the_models_template_writes_them() {
    for style in ["qwen2", "llama3", "mistral"] {
        let model = model(style);
        let required = ChatRequest { tool_choice: ToolChoice::Named("get_weather".into()), ..request() };
        let answer = model.answers(&required, 1, &[]).remove(0);

        // The call again, as part of a chat: the template writes the same text, but for Mistral's ids.
        let (name, arguments) = &answer.calls[0];
        let call = json!({"id": "abcdefghi", "type": "function", "function": {"name": name, "arguments": arguments}});
        let messages = vec![request().messages.remove(0), json!({"role": "assistant", "tool_calls": [call]})];
        let text = model.chat.prompt(&ChatRequest { messages, ..request() }).unwrap().text;

        let shown = answer.text.replace("}]", "");
        assert!(text.contains(&shown), "{style}: {shown:?} is not in {text:?}");
    }
}

#[test]
fn a_named_tool_is_called_once_and_no_other() {
    let model = model("qwen2");
    let named = ChatRequest { tool_choice: ToolChoice::Named("clock".into()), ..request() };
    for answer in model.answers(&named, 5, &[]) {
        assert_eq!(answer.calls, [("clock".to_owned(), "{}".to_owned())]);
        assert_eq!(answer.text, "<tool_call>\n{\"name\": \"clock\", \"arguments\": {}}\n</tool_call>");
    }
}

#[test]
fn an_answer_may_be_text_or_have_calls_and_these_are_right() {
    for (style, mark) in [("qwen2", "<tool_call>"), ("mistral", "[TOOL_CALLS]")] {
        let model = model(style);

        let texts = model.answers(&request(), 8, &[]);
        let eager = model.answers(&request(), 12, &[mark]);

        let prompt = model.chat.prompt(&request()).unwrap();
        assert!(!prompt.grammar_is_required);
        assert!(
            texts.iter().any(|answer| answer.calls.is_empty()
                && answer.content == answer.text
                && answer.text.len() > 5)
        );
        assert!(eager.iter().any(|answer| !answer.calls.is_empty()), "{style}");
        assert!(eager.iter().any(|answer| !answer.calls.is_empty() && !answer.content.is_empty()), "{style}");
        for answer in texts.iter().chain(&eager) {
            assert!(
                answer.calls.iter().all(|(name, arguments)| is_right_call(name, arguments)),
                "{answer:?}"
            );
            assert_eq!(answer.text.contains(mark), !answer.calls.is_empty(), "{answer:?}");
        }
    }
}

#[test]
fn a_call_without_a_mark_is_only_read() {
    let prompt = model("llama3").chat.prompt(&request()).unwrap();
    assert!(prompt.grammar.is_none() && !prompt.grammar_is_required);
    let mut reader = prompt.reader;
    let pieces = reader.push("{\"name\": \"clock\", \"parameters\": {}}");
    assert!(matches!(&pieces[..], [AnswerPiece::ToolCall(delta)] if delta.name.as_deref() == Some("clock")));
}

#[test]
fn without_calls_or_a_form_there_is_no_grammar_and_marks_are_text() {
    let prompt =
        model("qwen2").chat.prompt(&ChatRequest { tool_choice: ToolChoice::None, ..request() }).unwrap();
    let mut reader = prompt.reader;
    assert!(prompt.grammar.is_none() && !prompt.text.contains("get_weather"));
    assert_eq!(reader.push("<tool_call>{}"), [AnswerPiece::Content("<tool_call>{}".into())]);
}

#[test]
fn a_form_of_the_text_is_a_grammar() {
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false});
    let plain = ChatRequest { tools: Vec::new(), ..request() };
    let of_schema = ResponseFormat::JsonSchema(schema.clone());
    let model = model("qwen2");
    let grammar = |response_format| {
        model.chat.prompt(&ChatRequest { response_format, ..plain.clone() }).unwrap().grammar
    };
    assert_eq!(grammar(ResponseFormat::Text), None);
    assert_eq!(grammar(ResponseFormat::JsonObject), Some(GrammarSpec::JsonObject));
    assert_eq!(grammar(of_schema.clone()), Some(GrammarSpec::JsonSchema(schema)));

    // With tools, either is allowed, and nothing else.
    let both = ChatRequest { response_format: of_schema, ..request() };
    for style in ["qwen2", "mistral", "llama3"] {
        let answers = self::model(style).answers(&both, 16, &[]);
        for answer in &answers {
            let is_form = || serde_json::from_str::<Value>(&answer.content).unwrap()["ok"].is_boolean();
            let is_call = answer.calls.iter().all(|(name, arguments)| is_right_call(name, arguments));
            assert!(
                if answer.calls.is_empty() { is_form() } else { is_call && answer.content.is_empty() },
                "{answer:?}"
            );
        }
        assert!(answers.iter().any(|answer| answer.calls.is_empty()), "{style}");
        assert!(answers.iter().any(|answer| !answer.calls.is_empty()), "{style}");
    }
}

#[test]
fn a_thinking_model_may_think_before_what_it_must_say() {
    let model = model("qwen3");
    let required = ChatRequest { tool_choice: ToolChoice::Required, ..request() };
    let of_object =
        ChatRequest { response_format: ResponseFormat::JsonObject, tools: Vec::new(), ..request() };

    for request in [required, of_object] {
        let answers = model.answers(&request, 12, &["<think>", "</think>"]);
        assert!(answers.iter().any(|answer| !answer.thoughts.is_empty()));
        for answer in &answers {
            let is_object =
                || serde_json::from_str::<Value>(&answer.content).is_ok_and(|value| value.is_object());
            assert!(
                if request.tools.is_empty() { is_object() } else { !answer.calls.is_empty() },
                "{answer:?}"
            );
            assert!(
                answer.calls.iter().all(|(name, arguments)| is_right_call(name, arguments)),
                "{answer:?}"
            );
        }

        let mut quick = request.clone();
        quick.template_args.insert("enable_thinking".into(), false.into());
        assert!(
            model.answers(&quick, 6, &["<think>"]).iter().all(|answer| !answer.text.starts_with("<think>"))
        );
    }
}

#[test]
fn a_schema_that_is_not_supported_stops_only_what_depends_on_it() {
    let model = model("qwen2");
    let odd = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}}});
    let auto = ChatRequest { tools: vec![odd.clone()], ..request() };
    let required = ChatRequest { tool_choice: ToolChoice::Required, ..auto.clone() };

    assert!(model.chat.prompt(&auto).unwrap().constraint(&model.factory).unwrap().is_none());
    let refused = model.chat.prompt(&required).unwrap().constraint(&model.factory).unwrap_err();
    assert!(refused.to_string().contains("uniqueItems"), "{refused}");

    let huge = json!({"type": "function", "function": {"name": "f", "parameters": {"minItems": 1e9}}});
    let refused = model.chat.prompt(&ChatRequest { tools: vec![huge], ..request() }).unwrap_err();
    assert!(refused.to_string().contains("tools: `f`: parameters: the schema has a `minItems`"), "{refused}");
}
