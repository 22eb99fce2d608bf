//! Tools as callers describe them, and the ways in which models write calls.
//!
//! Does not read answers ([`super::answer`] does) and does not check arguments: a grammar can force them.

use serde_json::{Value, json};

use super::ChatError;

/// As many as OpenAI takes.
const MOST_TOOLS: usize = 128;

/// How a model writes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`, as Hermes and Qwen do.
    Hermes,
    /// `{"name": …, "parameters": …}` as the whole answer, as Llama 3.1 does.
    Llama,
    /// `[TOOL_CALLS] [{"name": …, "arguments": …}, …]`, as Mistral does.
    Mistral,
}

impl ToolFormat {
    /// The format that a template asks the model for, and writes earlier calls in.
    pub fn of(template: &str) -> Option<Self> {
        // The same marks around something that is no JSON: Qwen Coder's, and Mistral's of version 11 on.
        if template.contains("<function=") || template.contains("[ARGS]") {
            None
        } else if template.contains("<tool_call>") {
            Some(Self::Hermes)
        } else if template.contains("[TOOL_CALLS]") {
            Some(Self::Mistral)
        } else if template.contains("\"parameters\":") || template.contains("<|python_tag|>") {
            Some(Self::Llama)
        } else {
            None
        }
    }

    /// What stands before the calls.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Hermes => "<tool_call>",
            Self::Llama => "<|python_tag|>",
            Self::Mistral => "[TOOL_CALLS]",
        }
    }

    /// What the arguments are called.
    pub(super) fn arguments(self) -> &'static str {
        match self {
            Self::Hermes | Self::Mistral => "arguments",
            Self::Llama => "parameters",
        }
    }

    /// The id of a call. Mistral's templates take nine letters and digits and nothing else.
    pub(super) fn id(self, seed: u64, call_idx: usize) -> String {
        let hash = blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .update(&(call_idx as u64).to_le_bytes())
            .finalize();
        match self {
            Self::Hermes | Self::Llama => format!("call_{}", &hash.to_hex()[..24]),
            Self::Mistral => hash.to_hex()[..9].to_owned(),
        }
    }
}

/// A tool that an answer may call.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: String,
    /// A schema of an object.
    pub(super) parameters: Value,
}

/// Reads tools in OpenAI's form.
pub(super) fn read(tools: &[Value]) -> Result<Vec<Tool>, ChatError> {
    let mut read: Vec<Tool> = Vec::with_capacity(tools.len());
    for (tool_idx, tool) in tools.iter().enumerate() {
        let wrong = |reason: String| ChatError::invalid(format!("tools[{tool_idx}]"), reason);
        if tool["type"] != "function" {
            return Err(wrong(format!("`type` is {}; it must be \"function\"", tool["type"])));
        }
        let function = &tool["function"];
        let name = function["name"].as_str().unwrap_or_default();
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' || byte == b'.';
        if name.is_empty() || name.len() > 128 || !name.bytes().all(is_plain) {
            let name = &function["name"];
            return Err(wrong(format!(
                "`function.name` is {name}; it must be 1 to 128 of letters, digits, `_`, `-` and `.`"
            )));
        }
        if read.len() >= MOST_TOOLS {
            return Err(wrong(format!("is one too many; {MOST_TOOLS} tools is the most")));
        }
        if read.iter().any(|earlier| earlier.name == name) {
            return Err(wrong(format!("`{name}` is there already")));
        }
        let parameters = match &function["parameters"] {
            Value::Null => json!({"type": "object", "properties": {}}),
            Value::Object(fields) if fields.is_empty() => json!({"type": "object"}),
            parameters @ Value::Object(_) => parameters.clone(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(wrong("`function.parameters` must be a JSON schema".to_owned()));
            }
        };
        read.push(Tool { name: name.to_owned(), parameters });
    }
    Ok(read)
}
