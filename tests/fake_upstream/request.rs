//! Reads what a client asks for, and refuses it as OpenAI would.
//!
//! Does not decide an answer. Fields it does not act on are ignored, but for those that start with
//! `x_`: they come back in the answer's `x_echo`, to show that they arrived.
//!
//! Invariants: an [`Ask`] has at least one text; its prompt tokens depend on the request alone.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::fault::ApiError;

/// OpenAI counts three tokens of framing a message and three for the answer's start.
const FRAMING_TOKENS: usize = 3;
const IMAGE_TOKENS: usize = 85;
const CHARS_PER_TOKEN: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Chat,
    Completions,
    Embeddings,
}

#[derive(Debug, Clone)]
pub struct Tool {
    pub name: String,
    pub parameters: Value,
}

/// A request, as far as the answer depends on it.
#[derive(Debug, Clone)]
pub struct Ask {
    pub endpoint: Endpoint,
    /// The name before its `@`.
    pub model: String,
    /// The settings behind the model name's `@`.
    pub suffix: String,
    /// Prompts; for a chat the last user text alone.
    pub texts: Vec<String>,
    pub n_prompt_tokens: u64,
    pub stream: bool,
    pub include_usage: bool,
    pub n: usize,
    pub tools: Vec<Tool>,
    /// The fields an answer in JSON must have: a schema, or an empty one for any object.
    pub schema: Option<Value>,
    pub n_top_logprobs: Option<usize>,
    pub stop: Vec<String>,
    pub seed: Option<i64>,
    pub n_tokens_max: Option<usize>,
    pub n_dimensions: Option<usize>,
    pub base64: bool,
    pub echo: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wire {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    prompt: Option<Value>,
    input: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
    logprobs: Option<Value>,
    top_logprobs: Option<usize>,
    n: Option<usize>,
    stop: Option<Value>,
    seed: Option<i64>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    text: String,
}

impl Message {
    fn text(&self) -> String {
        match &self.content {
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(" ")
            }
            None => String::new(),
        }
    }

    fn n_tokens(&self) -> usize {
        let n_images = match &self.content {
            Some(Content::Parts(parts)) => parts.iter().filter(|part| part.kind == "image_url").count(),
            Some(Content::Text(_)) | None => 0,
        };
        FRAMING_TOKENS + n_images * IMAGE_TOKENS + n_text_tokens(&self.text())
    }

    fn check(&self, at: usize) -> Result<(), ApiError> {
        const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];
        const KINDS: [&str; 5] = ["text", "image_url", "input_audio", "file", "refusal"];
        if !ROLES.contains(&self.role.as_str()) {
            let message = format!("Invalid value: '{}'. Supported values are: {ROLES:?}.", self.role);
            return Err(ApiError::invalid(message, &format!("messages[{at}].role")));
        }
        let Some(Content::Parts(parts)) = &self.content else { return Ok(()) };
        match parts.iter().find(|part| !KINDS.contains(&part.kind.as_str())) {
            Some(part) => {
                let message = format!("Invalid value: '{}'. Supported values are: {KINDS:?}.", part.kind);
                Err(ApiError::invalid(message, &format!("messages[{at}].content")))
            }
            None => Ok(()),
        }
    }
}

impl Ask {
    pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Self, ApiError> {
        let wire: Wire = serde_json::from_slice(body).map_err(|error| {
            ApiError::bad_request(format!("We could not parse the JSON body of your request: {error}"))
        })?;
        let full_name = wire.model.as_deref().ok_or_else(|| ApiError::missing("model"))?;
        let (model, suffix) = full_name.split_once('@').unwrap_or((full_name, ""));
        let (texts, n_prompt_tokens) = match endpoint {
            Endpoint::Chat => wire.chat_texts()?,
            Endpoint::Completions => prompts("prompt", wire.prompt.as_ref())?,
            Endpoint::Embeddings => prompts("input", wire.input.as_ref())?,
        };
        let n = wire.n.unwrap_or(1);
        if n == 0 || n > 128 {
            return Err(ApiError::invalid(format!("Invalid 'n': {n} is not between 1 and 128."), "n"));
        }
        Ok(Self {
            endpoint,
            model: model.to_owned(),
            suffix: suffix.to_owned(),
            texts,
            n_prompt_tokens,
            stream: wire.stream.unwrap_or(false),
            include_usage: wire
                .stream_options
                .as_ref()
                .and_then(|options| options.include_usage)
                .unwrap_or(false),
            n,
            tools: wire.tools_to_call(),
            schema: wire.schema(),
            n_top_logprobs: wire.n_top_logprobs(),
            stop: wire.stops(),
            seed: wire.seed,
            n_tokens_max: wire.max_completion_tokens.or(wire.max_tokens),
            n_dimensions: wire.dimensions,
            base64: wire.encoding_format.as_deref() == Some("base64"),
            echo: wire.rest.into_iter().filter(|(key, _)| key.starts_with("x_")).collect(),
        })
    }

    /// The text that may carry a directive.
    pub fn steering_text(&self) -> &str {
        self.texts.last().map_or("", String::as_str)
    }
}

impl Wire {
    fn chat_texts(&self) -> Result<(Vec<String>, u64), ApiError> {
        let messages = self.messages.as_deref().ok_or_else(|| ApiError::missing("messages"))?;
        if messages.is_empty() {
            let message =
                "Invalid 'messages': empty array. Expected an array with minimum length 1.".to_owned();
            return Err(ApiError::invalid(message, "messages"));
        }
        messages.iter().enumerate().try_for_each(|(at, message)| message.check(at))?;
        let last_user = messages.iter().rev().find(|message| message.role == "user");
        let text = last_user.or(messages.last()).map(Message::text).unwrap_or_default();
        let n_tools = self.tools.iter().flatten().map(|tool| n_text_tokens(&tool.to_string())).sum::<usize>();
        let n_tokens = FRAMING_TOKENS + n_tools + messages.iter().map(Message::n_tokens).sum::<usize>();
        Ok((vec![text], n_tokens as u64))
    }

    /// No tool is called once a tool has answered, as a model would then speak.
    fn tools_to_call(&self) -> Vec<Tool> {
        let answered = self.messages.iter().flatten().last().is_some_and(|message| message.role == "tool");
        let choice = self.tool_choice.as_ref();
        if answered || choice.and_then(Value::as_str) == Some("none") {
            return Vec::new();
        }
        let forced = choice.and_then(|choice| choice.pointer("/function/name")).and_then(Value::as_str);
        let read = |tool: &Value| {
            let function = tool.get("function")?;
            let name = function.get("name")?.as_str()?.to_owned();
            Some(Tool { name, parameters: function.get("parameters").cloned().unwrap_or_default() })
        };
        let tools = self.tools.iter().flatten().filter_map(read);
        tools.filter(|tool| forced.is_none_or(|name| name == tool.name)).collect()
    }

    fn schema(&self) -> Option<Value> {
        let format = self.response_format.as_ref()?;
        match format.get("type")?.as_str()? {
            "json_schema" => format.pointer("/json_schema/schema").cloned(),
            "json_object" => Some(Value::Object(Map::new())),
            _ => None,
        }
    }

    /// Chat says `logprobs: true, top_logprobs: N`; the older endpoint says `logprobs: N`.
    fn n_top_logprobs(&self) -> Option<usize> {
        match self.logprobs.as_ref()? {
            Value::Bool(true) => Some(self.top_logprobs.unwrap_or(0)),
            Value::Number(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
            Value::Bool(false) | Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn stops(&self) -> Vec<String> {
        self.stop.as_ref().map(strings).unwrap_or_default()
    }
}

/// The texts of a `prompt` or `input`; token arrays become a text that names them.
fn prompts(field: &str, value: Option<&Value>) -> Result<(Vec<String>, u64), ApiError> {
    let value = value.filter(|value| !value.is_null()).ok_or_else(|| ApiError::missing(field))?;
    let is_tokens = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_number));
    let (texts, n_tokens) = if value.as_array().is_some_and(|items| !items.is_empty()) && is_tokens(value) {
        (vec![value.to_string()], value.as_array().map_or(0, Vec::len))
    } else if value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(is_tokens)) {
        let items = value.as_array().into_iter().flatten();
        let n_tokens = items.clone().filter_map(Value::as_array).map(Vec::len).sum();
        (items.map(Value::to_string).collect(), n_tokens)
    } else {
        let texts = strings(value);
        let n_tokens = texts.iter().map(|text| n_text_tokens(text)).sum();
        (texts, n_tokens)
    };
    if texts.is_empty() {
        return Err(ApiError::invalid(
            format!("Invalid '{field}': expected a string or an array of them."),
            field,
        ));
    }
    Ok((texts, n_tokens as u64))
}

fn strings(value: &Value) -> Vec<String> {
    match value.as_str() {
        Some(text) => vec![text.to_owned()],
        None => value.as_array().into_iter().flatten().filter_map(Value::as_str).map(String::from).collect(),
    }
}

pub fn n_text_tokens(text: &str) -> usize {
    text.chars().count().div_ceil(CHARS_PER_TOKEN)
}
