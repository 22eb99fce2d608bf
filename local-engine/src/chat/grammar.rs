//! What an answer has to look like, as a grammar: its thoughts, its calls with their parameters' schemas, or
//! the form of its text.
//!
//! Calls that may come but need not are held to a grammar from the mark on that begins them, where models
//! write one; a call in Llama's way has none, and is only read.
//!
//! Compiles nothing: what a schema must not have is found by [`crate::grammar::GrammarFactory`].

use serde_json::{Value, json};

use super::answer::Thinking;
use super::tools::Tool;
use super::{ChatError, ChatRequest, ResponseFormat, ToolChoice, ToolFormat};
use crate::grammar::{GrammarSpec, check_schema};

/// A grammar, and whether an answer without it would be wrong rather than only unchecked.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) spec: GrammarSpec,
    pub(super) is_required: bool,
}

pub(super) fn of(
    request: &ChatRequest,
    tools: &[Tool],
    format: Option<ToolFormat>,
    thinking: Thinking,
) -> Result<Option<Wanted>, ChatError> {
    let body = schema_of(&request.response_format)?;
    let Some(format) = format else {
        let spec = match (&request.response_format, body) {
            (ResponseFormat::Text, _) | (_, None) => return Ok(None),
            (ResponseFormat::JsonObject, Some(_)) if thinking == Thinking::Never => GrammarSpec::JsonObject,
            (ResponseFormat::JsonSchema(_), Some(schema)) if thinking == Thinking::Never => {
                GrammarSpec::JsonSchema(schema)
            }
            (ResponseFormat::JsonObject | ResponseFormat::JsonSchema(_), Some(schema)) => {
                GrammarSpec::Lark(format!("{}body: %json {schema}\n", start(thinking, "body")))
            }
        };
        return Ok(Some(Wanted { spec, is_required: true }));
    };
    let calls = calls(request, tools, format)?;
    let lark = match (&request.tool_choice, body) {
        (ToolChoice::Required | ToolChoice::Named(_), _) => format!("{}{calls}", start(thinking, "calls")),
        (ToolChoice::Auto | ToolChoice::None, Some(schema)) => {
            format!("{}{calls}body: %json {schema}\n", start(thinking, "(calls | body)"))
        }
        (ToolChoice::Auto | ToolChoice::None, None) if format == ToolFormat::Llama => return Ok(None),
        (ToolChoice::Auto | ToolChoice::None, None) => {
            let lark = format!("{}{calls}", text_or_calls(format));
            return Ok(Some(Wanted { spec: GrammarSpec::Lark(lark), is_required: false }));
        }
    };
    Ok(Some(Wanted { spec: GrammarSpec::Lark(lark), is_required: true }))
}

fn schema_of(format: &ResponseFormat) -> Result<Option<Value>, ChatError> {
    match format {
        ResponseFormat::Text => Ok(None),
        ResponseFormat::JsonObject => Ok(Some(json!({"type": "object"}))),
        ResponseFormat::JsonSchema(schema) => {
            check_schema(schema).map_err(|error| ChatError::invalid("response_format", error.to_string()))?;
            Ok(Some(schema.clone()))
        }
    }
}

/// The first rule: thoughts, where a model has them, and what is to come.
fn start(thinking: Thinking, body: &str) -> String {
    let rest = "thought[suffix=\"</think>\"]: /(?s:.*)/\nGAP: /[ \\n]{1,3}/\n";
    match thinking {
        Thinking::Never => format!("start: {body}\n"),
        Thinking::May => format!("start: (\"<think>\" thought GAP?)? {body}\n{rest}"),
        Thinking::Open => format!("start: thought GAP? {body}\n{rest}"),
    }
}

/// Any text, and calls from the mark on that begins them.
fn text_or_calls(format: ToolFormat) -> String {
    let mark = format.mark();
    let escaped: String = mark
        .chars()
        .flat_map(|letter| {
            ['\\', letter].into_iter().skip(usize::from(letter.is_alphanumeric() || letter == '_'))
        })
        .collect();
    let escaped = escaped.replace(r"\<", "<").replace(r"\>", ">");
    format!(
        "start: TEXT | lead after_mark\nlead[suffix=\"{mark}\"]: /(?s:.*)/\nTEXT: /(?s:.*)/ & ~/(?s:.*){escaped}(?s:.*)/\n"
    )
}

/// The rules `calls` and, for what follows the first mark, `after_mark`.
fn calls(request: &ChatRequest, tools: &[Tool], format: ToolFormat) -> Result<String, ChatError> {
    let (chosen, is_single) = match &request.tool_choice {
        ToolChoice::Named(name) => (tools.iter().filter(|tool| tool.name == *name).collect::<Vec<_>>(), true),
        ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => {
            (tools.iter().collect(), !request.parallel_tool_calls)
        }
    };
    let more = |rule: &str| if is_single { String::new() } else { format!(" ({rule})*") };
    let mut lark = match format {
        ToolFormat::Hermes => {
            let more = more(r#""\n<tool_call>\n" call "\n</tool_call>""#);
            format!("calls: \"<tool_call>\" after_mark\nafter_mark: \"\\n\" call \"\\n</tool_call>\"{more}\n")
        }
        ToolFormat::Mistral => {
            let more = more(r#"", " call"#);
            format!("calls: \"[TOOL_CALLS]\" after_mark\nafter_mark: \" [\" call{more} \"]\"\n")
        }
        ToolFormat::Llama => "calls: call\n".to_owned(),
    };
    let names: Vec<String> = (0..chosen.len()).map(|call_idx| format!("call_{call_idx}")).collect();
    lark.push_str(&format!("call: {}\n", names.join(" | ")));
    for (call_idx, tool) in chosen.into_iter().enumerate() {
        let field =
            |reason: String| ChatError::invalid(format!("tools: `{}`: parameters", tool.name), reason);
        check_schema(&tool.parameters).map_err(|error| field(error.to_string()))?;
        let before = Value::from(format!("{{\"name\": \"{}\", \"{}\": ", tool.name, format.arguments()));
        let parameters = as_models_write(&tool.parameters);
        lark.push_str(&format!(
            "call_{call_idx}: {before} args_{call_idx} \"}}\"\nargs_{call_idx}: %json {parameters}\n"
        ));
    }
    Ok(lark)
}

/// Arguments with one space where models put one, and no other, so that more of them is forced.
fn as_models_write(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(fields) = schema.as_object_mut() {
        let layout = json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
        fields.insert("x-guidance".to_owned(), layout);
    }
    schema
}
