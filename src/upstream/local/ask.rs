//! Reads what a call asks of a local model: every field is obeyed or refused by name.
//!
//! Computes nothing and knows no model; what a model cannot do is found out where it is asked.

use std::collections::BTreeMap;

use local_engine::chat::{ChatRequest, ResponseFormat, ToolChoice};
use local_engine::sampling::SamplingParams;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::chat::{Endpoint, Fields};

/// More alternatives than OpenAI gives.
const MAX_TOP: usize = 20;
/// OpenAI's limits on stop strings, and ours on what would have to be compared at every token.
const MAX_STOPS: usize = 16;

/// What a caller got wrong: the field, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadField {
    pub(super) param: &'static str,
    pub(super) message: String,
    /// It is right, and local models do not do it.
    pub(super) is_unsupported: bool,
}

fn bad(param: &'static str, message: impl Into<String>) -> BadField {
    BadField { param, message: message.into(), is_unsupported: false }
}

/// A call as the engine can answer it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LocalAsk {
    pub(super) prompts: Prompts,
    /// Answers to each prompt.
    pub(super) n: u32,
    pub(super) max_tokens: Option<usize>,
    pub(super) sampling: Sampling,
    pub(super) stop: Vec<String>,
    pub(super) ignore_eos: bool,
    /// Log-probabilities, with so many alternatives.
    pub(super) logprobs: Option<usize>,
    /// A completion begins with its prompt.
    pub(super) echo: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Prompts {
    Chat(Box<ChatAsk>),
    Texts(Vec<Prompt>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChatAsk {
    pub(super) messages: Vec<Value>,
    pub(super) tools: Vec<Value>,
    pub(super) tool_choice: Option<Value>,
    pub(super) parallel_tool_calls: bool,
    pub(super) response_format: Option<Value>,
    /// More variables for the model's template.
    pub(super) template_kwargs: serde_json::Map<String, Value>,
}

impl ChatAsk {
    pub(super) fn request(&self, now_s: i64, id_seed: u64) -> Result<ChatRequest, BadField> {
        Ok(ChatRequest {
            messages: self.messages.clone(),
            tools: self.tools.clone(),
            tool_choice: self.tool_choice.as_ref().map_or(Ok(ToolChoice::Auto), tool_choice)?,
            parallel_tool_calls: self.parallel_tool_calls,
            response_format: self
                .response_format
                .as_ref()
                .map_or(Ok(ResponseFormat::Text), response_format)?,
            now_unix_s: Some(now_s),
            template_args: self.template_kwargs.clone(),
            id_seed,
            ..ChatRequest::default()
        })
    }
}

impl ChatAsk {
    /// Whether the answer's text is not the model's to choose.
    pub(super) fn forces_a_form(&self) -> bool {
        let form = self.response_format.as_ref().and_then(|format| format["type"].as_str());
        form.is_some_and(|form| form != "text")
            || self
                .tool_choice
                .as_ref()
                .is_some_and(|choice| !matches!(choice.as_str(), Some("auto" | "none")))
    }
}

fn tool_choice(choice: &Value) -> Result<ToolChoice, BadField> {
    ToolChoice::read(choice).map_err(|error| bad("tool_choice", error.to_string()))
}

fn response_format(format: &Value) -> Result<ResponseFormat, BadField> {
    ResponseFormat::read(format).map_err(|error| bad("response_format", error.to_string()))
}

/// A completion's prompt.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

/// What a request says of sampling; what it leaves out is the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sampling {
    pub(super) temperature: Option<f32>,
    pub(super) top_p: Option<f32>,
    pub(super) top_k: Option<usize>,
    pub(super) min_p: Option<f32>,
    pub(super) repetition_penalty: Option<f32>,
    pub(super) presence_penalty: Option<f32>,
    pub(super) frequency_penalty: Option<f32>,
    pub(super) logit_bias: BTreeMap<u32, f32>,
    pub(super) seed: Option<i64>,
}

impl Sampling {
    /// Over a model's defaults. Without a seed the call gets one of its own.
    pub(super) fn over(&self, defaults: &SamplingParams, fresh_seed: u64) -> SamplingParams {
        SamplingParams {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            logit_bias: self.logit_bias.clone(),
            seed: self.seed.map_or(fresh_seed, i64::cast_unsigned),
        }
    }
}

impl LocalAsk {
    pub(super) fn read(endpoint: Endpoint, fields: &Fields) -> Result<Self, BadField> {
        refuse_unsupported(fields)?;
        let is_chat = endpoint == Endpoint::Chat;
        let prompts = if is_chat { read_chat(fields)? } else { read_texts(fields)? };
        let newer = optional(fields, "max_completion_tokens", "an integer of at least 1")?;
        Ok(Self {
            prompts,
            n: optional(fields, "n", "an integer")?.unwrap_or(1),
            max_tokens: newer.or(optional(fields, "max_tokens", "an integer of at least 1")?),
            sampling: read_sampling(fields)?,
            stop: read_stop(fields)?,
            ignore_eos: optional(fields, "ignore_eos", "a boolean")?.unwrap_or(false),
            logprobs: if is_chat { chat_logprobs(fields)? } else { completion_logprobs(fields)? },
            echo: optional(fields, "echo", "a boolean")?.unwrap_or(false),
        })
    }
}

/// Fields that would change the answer and that no local model obeys; another upstream may.
fn refuse_unsupported(fields: &Fields) -> Result<(), BadField> {
    for param in ["audio", "functions", "function_call", "suffix", "best_of"] {
        let is_asked = fields.get(param).is_some_and(|raw| !matches!(raw.get(), "null" | "1" | "\"none\""));
        if is_asked {
            let message = format!("`{param}` is not supported by local models; leave it out");
            return Err(BadField { param, message, is_unsupported: true });
        }
    }
    Ok(())
}

fn read_chat(fields: &Fields) -> Result<Prompts, BadField> {
    let messages: Option<Vec<Value>> = optional(fields, "messages", "an array of messages")?;
    Ok(Prompts::Chat(Box::new(ChatAsk {
        messages: messages.unwrap_or_default(),
        tools: optional(fields, "tools", "an array of tools")?.unwrap_or_default(),
        tool_choice: optional(fields, "tool_choice", "a string or an object")?,
        parallel_tool_calls: optional(fields, "parallel_tool_calls", "a boolean")?.unwrap_or(true),
        response_format: optional(fields, "response_format", "an object")?,
        template_kwargs: optional(fields, "chat_template_kwargs", "an object")?.unwrap_or_default(),
    })))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Tokens(Vec<u32>),
    Many(Vec<Prompt>),
}

fn read_texts(fields: &Fields) -> Result<Prompts, BadField> {
    let given: Option<OneOrMany> = optional(fields, "prompt", "a string, an array of strings or token ids")?;
    Ok(Prompts::Texts(match given {
        Some(OneOrMany::One(text)) => vec![Prompt::Text(text)],
        Some(OneOrMany::Tokens(tokens)) => vec![Prompt::Tokens(tokens)],
        Some(OneOrMany::Many(prompts)) => prompts,
        None => return Err(bad("prompt", "`prompt` is missing")),
    }))
}

fn read_sampling(fields: &Fields) -> Result<Sampling, BadField> {
    let bias: Option<BTreeMap<String, f32>> = optional(fields, "logit_bias", "an object of numbers")?;
    let token = |(name, bias): (String, f32)| {
        let token = name.parse().map_err(|_| bad("logit_bias", format!("`{name}` is no token id")))?;
        Ok((token, bias))
    };
    Ok(Sampling {
        temperature: optional(fields, "temperature", "a number")?,
        top_p: optional(fields, "top_p", "a number")?,
        top_k: optional::<i64>(fields, "top_k", "an integer")?.map(|k| usize::try_from(k).unwrap_or(0)),
        min_p: optional(fields, "min_p", "a number")?,
        repetition_penalty: optional(fields, "repetition_penalty", "a number")?,
        presence_penalty: optional(fields, "presence_penalty", "a number")?,
        frequency_penalty: optional(fields, "frequency_penalty", "a number")?,
        logit_bias: bias.unwrap_or_default().into_iter().map(token).collect::<Result<_, _>>()?,
        seed: optional(fields, "seed", "an integer")?,
    })
}

fn read_stop(fields: &Fields) -> Result<Vec<String>, BadField> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stop {
        One(String),
        Many(Vec<String>),
    }
    let stops = match optional(fields, "stop", "a string or an array of strings")? {
        Some(Stop::One(stop)) => vec![stop],
        Some(Stop::Many(stops)) => stops,
        None => Vec::new(),
    };
    if stops.len() > MAX_STOPS || stops.iter().any(String::is_empty) {
        return Err(bad("stop", format!("`stop` must be at most {MAX_STOPS} strings, none of them empty")));
    }
    Ok(stops)
}

fn chat_logprobs(fields: &Fields) -> Result<Option<usize>, BadField> {
    let wanted = optional(fields, "logprobs", "a boolean")?.unwrap_or(false);
    let top = optional(fields, "top_logprobs", "an integer from 0 to 20")?.unwrap_or(0);
    top_checked("top_logprobs", top).map(|top| wanted.then_some(top))
}

fn completion_logprobs(fields: &Fields) -> Result<Option<usize>, BadField> {
    let top: Option<usize> = optional(fields, "logprobs", "an integer from 0 to 20")?;
    top.map(|top| top_checked("logprobs", top)).transpose()
}

fn top_checked(param: &'static str, top: usize) -> Result<usize, BadField> {
    match top {
        0..=MAX_TOP => Ok(top),
        _ => Err(bad(param, format!("`{param}` is {top}; it must be an integer from 0 to {MAX_TOP}"))),
    }
}

fn optional<T: DeserializeOwned>(
    fields: &Fields,
    param: &'static str,
    expected: &str,
) -> Result<Option<T>, BadField> {
    let Some(raw) = fields.get(param).filter(|raw| raw.get() != "null") else {
        return Ok(None);
    };
    let read = serde_json::from_str(raw.get());
    read.map(Some).map_err(|_| bad(param, format!("`{param}` has the wrong type; it must be {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: Endpoint, json: &str) -> Result<LocalAsk, BadField> {
        LocalAsk::read(endpoint, &Fields::parse(json.as_bytes()).unwrap())
    }

    #[test]
    fn what_a_request_leaves_out_is_the_model_s_default() {
        let ask = read(Endpoint::Chat, r#"{"messages":[],"temperature":0.5,"stop":"x","top_k":-1}"#).unwrap();
        let defaults =
            SamplingParams { temperature: 0.2, top_p: 0.8, top_k: 40, ..SamplingParams::default() };

        let params = ask.sampling.over(&defaults, 7);

        assert_eq!((params.temperature, params.top_p, params.top_k, params.seed), (0.5, 0.8, 0, 7));
        assert_eq!((ask.stop, ask.n, ask.logprobs), (vec!["x".to_owned()], 1, None));
    }

    #[test]
    fn the_newer_name_of_the_limit_beats_the_older() {
        let ask = read(Endpoint::Chat, r#"{"max_tokens":5,"max_completion_tokens":9}"#).unwrap();

        assert_eq!(ask.max_tokens, Some(9));
    }

    #[test]
    fn prompts_are_read_in_all_their_forms() {
        for (json, n) in
            [(r#"{"prompt":"a"}"#, 1), (r#"{"prompt":["a","b"]}"#, 2), (r#"{"prompt":[1,2]}"#, 1)]
        {
            let Prompts::Texts(prompts) = read(Endpoint::Completions, json).unwrap().prompts else {
                panic!("a completion has texts")
            };
            assert_eq!(prompts.len(), n, "{json}");
        }
        assert_eq!(read(Endpoint::Completions, "{}").unwrap_err().param, "prompt");
    }

    #[test]
    fn what_cannot_be_obeyed_is_refused_by_name() {
        for (json, param) in [
            (r#"{"audio":{}}"#, "audio"),
            (r#"{"best_of":2}"#, "best_of"),
            (r#"{"logit_bias":{"x":1}}"#, "logit_bias"),
            (r#"{"stop":[""]}"#, "stop"),
            (r#"{"top_logprobs":21}"#, "top_logprobs"),
            (r#"{"temperature":"hot"}"#, "temperature"),
        ] {
            assert_eq!(read(Endpoint::Chat, json).unwrap_err().param, param, "{json}");
        }
        assert!(read(Endpoint::Chat, r#"{"best_of":1,"audio":null}"#).is_ok());
    }

    #[test]
    fn tool_choices_and_formats_are_read_or_refused() {
        let request = |json: &str| {
            let Prompts::Chat(chat) = read(Endpoint::Chat, json)?.prompts else { panic!("a chat") };
            chat.request(0, 0)
        };
        let named = r#"{"tool_choice":{"type":"function","function":{"name":"f"}}}"#;
        assert_eq!(request(named).unwrap().tool_choice, ToolChoice::Named("f".to_owned()));
        assert_eq!(request(r#"{"tool_choice":"none"}"#).unwrap().tool_choice, ToolChoice::None);
        assert_eq!(request(r#"{"tool_choice":"any"}"#).unwrap_err().param, "tool_choice");
        let json = request(r#"{"response_format":{"type":"json_object"}}"#).unwrap();
        assert_eq!(json.response_format, ResponseFormat::JsonObject);
        for bad in [r#"{"type":"xml"}"#, r#"{"type":"json_schema"}"#] {
            let request = request(&format!(r#"{{"response_format":{bad}}}"#));
            assert_eq!(request.unwrap_err().param, "response_format", "{bad}");
        }
    }

    #[test]
    fn log_probabilities_mean_a_flag_for_chats_and_a_count_for_completions() {
        let chat = |json| read(Endpoint::Chat, json).unwrap().logprobs;
        assert_eq!(chat(r#"{"logprobs":true,"top_logprobs":2}"#), Some(2));
        assert_eq!(chat(r#"{"top_logprobs":2}"#), None);
        let completion = read(Endpoint::Completions, r#"{"prompt":"a","logprobs":3}"#).unwrap();
        assert_eq!(completion.logprobs, Some(3));
    }
}
