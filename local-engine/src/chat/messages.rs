//! Messages in OpenAI's form become what chat templates expect, and cannot pass for markup.
//!
//! Knows what is text and what is not; does not know which order of roles a template takes.
//!
//! Invariants: contents are texts or null; arguments of calls are objects; roles are of a known few, for
//! templates put them between marks.

use serde_json::{Map, Value};

use super::{ChatError, TemplateInput, ToolFormat};
use crate::tokenizer::{Author, Guard, Tokenizer};

const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

/// Checks messages and brings them into the form that templates expect.
pub(super) fn read(
    messages: &[Value],
    template: &str,
    tools: Option<ToolFormat>,
) -> Result<Vec<Value>, ChatError> {
    if messages.is_empty() {
        return Err(ChatError::invalid("messages", "there must be at least one"));
    }
    let knows_developers = template.contains("developer");
    let read = |(message_idx, message): (usize, &Value)| {
        let wrong = |(field, reason): (&str, String)| {
            let dot = if field.is_empty() { "" } else { "." };
            ChatError::invalid(format!("messages[{message_idx}]{dot}{field}"), reason)
        };
        let mut fields =
            message.as_object().cloned().ok_or_else(|| wrong(("", "must be an object".into())))?;
        let role = fields.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !ROLES.contains(&role.as_str()) {
            return Err(wrong(("role", format!("must be one of {}", ROLES.join(", ")))));
        }
        if role == "developer" && !knows_developers {
            fields.insert("role".into(), "system".into());
        }
        read_calls(&mut fields, tools).map_err(wrong)?;
        read_content(&mut fields, &role).map_err(wrong)?;
        Ok(Value::Object(fields))
    };
    messages.iter().enumerate().map(read).collect()
}

/// What is wrong with which field.
type Wrong = (&'static str, String);

/// A text, or parts of text in lines of their own; nothing only where calls stand instead.
fn read_content(fields: &mut Map<String, Value>, role: &str) -> Result<(), Wrong> {
    let content = match fields.get("content") {
        None | Some(Value::Null) if role == "assistant" && fields.contains_key("tool_calls") => Value::Null,
        Some(Value::String(text)) => Value::from(text.as_str()),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().map(text_of).collect::<Result<Vec<&str>, Wrong>>()?;
            Value::from(texts.join("\n"))
        }
        None | Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            return Err(("content", "must be a text or a list of parts".into()));
        }
    };
    fields.insert("content".into(), content);
    Ok(())
}

fn text_of(part: &Value) -> Result<&str, Wrong> {
    let kind = part["type"].as_str().unwrap_or_default();
    let text = match kind {
        "text" | "input_text" | "output_text" => &part["text"],
        "refusal" => &part["refusal"],
        "" => return Err(("content", "each part must have a `type`".into())),
        _ => return Err(("content", format!("a part is of type `{kind}`, and this model reads text alone"))),
    };
    text.as_str().ok_or_else(|| ("content", format!("a part of type `{kind}` must have a text")))
}

/// Templates write arguments as JSON themselves, so they have to be objects and not JSON in a text.
fn read_calls(fields: &mut Map<String, Value>, tools: Option<ToolFormat>) -> Result<(), Wrong> {
    if fields.get("tool_calls").is_some_and(|calls| calls.is_null() || calls == &Value::Array(Vec::new())) {
        fields.remove("tool_calls");
    }
    if let Some(calls) = fields.get_mut("tool_calls") {
        let calls = calls.as_array_mut().ok_or_else(|| ("tool_calls", "must be a list".to_owned()))?;
        for call in calls {
            read_call(call).map_err(|reason| ("tool_calls", reason))?;
            if let Some(id) = call.get_mut("id") {
                shorten_id(id, tools);
            }
        }
    }
    if let Some(id) = fields.get_mut("tool_call_id") {
        shorten_id(id, tools);
    }
    Ok(())
}

fn read_call(call: &mut Value) -> Result<(), String> {
    let function = call.get_mut("function").and_then(Value::as_object_mut);
    let function = function.ok_or("each call must have a `function`")?;
    if !function.get("name").is_some_and(Value::is_string) {
        return Err("each call must have a `function.name`".into());
    }
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Map::new()),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|error| format!("`function.arguments` is no JSON: {error}"))?
        }
        Some(value) => value.clone(),
    };
    if !arguments.is_object() {
        return Err("`function.arguments` must be a JSON object".into());
    }
    function.insert("arguments".into(), arguments);
    Ok(())
}

/// Mistral's templates refuse the ids that other models gave; equal ids stay equal.
fn shorten_id(id: &mut Value, tools: Option<ToolFormat>) {
    let fits = |id: &str| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some(text) = id.as_str().filter(|text| tools == Some(ToolFormat::Mistral) && !fits(text)) {
        *id = Value::from(&blake3::hash(text.as_bytes()).to_hex()[..9]);
    }
}

/// Guards every text that the template will see.
pub(super) fn guard(input: &mut TemplateInput, tokenizer: &Tokenizer) -> Guard {
    let mut texts = Vec::new();
    let args = input.args.values();
    input.messages.iter().chain(&input.tools).chain(args).for_each(|value| collect(value, &mut texts));
    let guard = tokenizer.guard(texts);
    for message in &mut input.messages {
        let is_models = message["role"] == "assistant";
        for (name, field) in message.as_object_mut().into_iter().flatten() {
            let text = ["content", "reasoning_content"].contains(&name.as_str());
            let author = if is_models && text { Author::Model } else { Author::Anybody };
            guard_value(field, author, &guard);
        }
    }
    input.tools.iter_mut().for_each(|tool| guard_value(tool, Author::Anybody, &guard));
    input.args.values_mut().for_each(|arg| guard_value(arg, Author::Anybody, &guard));
    guard
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            texts.push(name);
            collect(field, texts);
        }),
    }
}

fn guard_value(value: &mut Value, author: Author, guard: &Guard) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) if is_word(text) => {}
        Value::String(text) => *text = guard.guarded(text, author),
        Value::Array(items) => items.iter_mut().for_each(|item| guard_value(item, author, guard)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| guard_value(field, author, guard));
            if !fields.keys().all(|name| is_word(name)) {
                let guarded = |name: String| if is_word(&name) { name } else { guard.guarded(&name, author) };
                *fields =
                    std::mem::take(fields).into_iter().map(|(name, field)| (guarded(name), field)).collect();
            }
        }
    }
}

/// A word has no part of a mark but letters, and templates compare words: roles, types, names of fields.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
