//! A client's request: what we act on, read and checked once; the rest, carried.
//!
//! Does not know routes, limits or prices, and changes nothing it was not asked to change.
//!
//! Invariants: a [`Request`] that exists is well formed: it has a model and something to answer,
//! counts are positive and floats finite and in range.

use serde_json::value::RawValue;

use super::check::{Checked, InvalidRequest, in_range, number_in, optional, required};
use super::fields::Fields;
use super::message::{Message, read_messages, read_texts};
use crate::team::RouteName;

const MAX_CHOICES: u64 = 128;
const MAX_TOP_LOGPROBS: u64 = 20;
/// A name is quoted in errors and logs.
const MAX_NAME_BYTES: usize = 256;

/// Which of our paths a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    Chat,
    Completions,
    Embeddings,
}

impl Endpoint {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
        }
    }

    /// The path below an upstream's `base_url`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }
}

/// A request that was read and found well formed.
#[derive(Debug, Clone)]
pub struct Request {
    pub endpoint: Endpoint,
    /// Every field as it came.
    pub fields: Fields,
    pub route: RouteName,
    /// The conversation; for completions and embeddings one user message per prompt or input.
    pub messages: Vec<Message>,
    pub stream: bool,
    /// The client asked for the usage chunk at the end of a stream.
    pub include_usage: bool,
    pub n_choices: u64,
    /// Answers written to choose from, where a completion asks for more than it shows.
    pub best_of: u64,
    pub max_output_tokens: Option<u64>,
    pub temperature: Option<f64>,
    pub has_tools: bool,
    pub wants_logprobs: bool,
    pub user: Option<String>,
}

impl Request {
    pub fn parse(endpoint: Endpoint, body: &[u8]) -> Checked<Self> {
        let text = std::str::from_utf8(body).map_err(|error| {
            InvalidRequest::whole(format!(
                "the body is not UTF-8: invalid byte at offset {}",
                error.valid_up_to()
            ))
        })?;
        let fields = Fields::parse(text.as_bytes()).map_err(|error| {
            InvalidRequest::whole(format!("the body is not a JSON object we can read: {error}"))
        })?;
        let messages = match endpoint {
            Endpoint::Chat => read_messages(&fields)?,
            Endpoint::Completions => read_texts(&fields, "prompt")?,
            Endpoint::Embeddings => read_texts(&fields, "input")?,
        };
        let tools: Option<Vec<&RawValue>> = optional(&fields, "tools", "an array")?;
        let request = Self {
            endpoint,
            route: read_route(&fields)?,
            messages,
            stream: optional(&fields, "stream", "a boolean")?.unwrap_or(false),
            include_usage: read_include_usage(&fields)?,
            n_choices: in_range(&fields, "n", 1, MAX_CHOICES)?.unwrap_or(1),
            best_of: in_range(&fields, "best_of", 1, MAX_CHOICES)?.unwrap_or(1),
            max_output_tokens: read_max_output_tokens(&fields)?,
            temperature: number_in(&fields, "temperature", 0.0, 2.0)?,
            has_tools: tools.is_some_and(|tools| !tools.is_empty()) || fields.get("functions").is_some(),
            wants_logprobs: read_wants_logprobs(&fields)?,
            user: optional(&fields, "user", "a string")?,
            fields,
        };
        request.check_rest()?;
        Ok(request)
    }

    pub fn has_media(&self) -> bool {
        self.messages.iter().any(Message::has_media)
    }

    /// Prompts that are answered one by one.
    pub fn n_prompts(&self) -> u64 {
        match self.endpoint {
            Endpoint::Chat => 1,
            Endpoint::Completions | Endpoint::Embeddings => self.messages.len() as u64,
        }
    }

    /// Answers that are written, and billed, whether they are shown or not.
    pub fn n_answers(&self) -> u64 {
        self.n_prompts() * self.n_choices.max(self.best_of)
    }

    /// Input or output may be billed at a rate of its own.
    pub fn may_be_audio(&self) -> bool {
        let wants_audio = |name| self.fields.get(name).is_some_and(|raw| raw.get().contains("audio"));
        self.has_media() || self.fields.get("audio").is_some() || wants_audio("modalities")
    }

    pub fn last_user(&self) -> Option<&Message> {
        self.messages.iter().rev().find(|message| message.role == super::Role::User)
    }

    /// Bytes of text over all messages: what token estimates start from.
    pub fn n_chars(&self) -> usize {
        self.messages.iter().map(|message| message.text.len()).sum()
    }

    /// Fields we do not act on, but whose shape would otherwise come back as somebody else's error.
    fn check_rest(&self) -> Checked<()> {
        for (name, low, high) in
            [("top_p", 0.0, 1.0), ("presence_penalty", -2.0, 2.0), ("frequency_penalty", -2.0, 2.0)]
        {
            number_in(&self.fields, name, low, high)?;
        }
        let _: Option<i64> = optional(&self.fields, "seed", "an integer")?;
        let _: Option<Stop> = optional(&self.fields, "stop", "a string or an array of strings")?;
        if self.endpoint == Endpoint::Chat {
            in_range(&self.fields, "top_logprobs", 0, MAX_TOP_LOGPROBS)?;
            let _: Option<ResponseFormat> =
                optional(&self.fields, "response_format", "an object with a string `type`")?;
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "read only to check the shape")]
enum Stop {
    One(String),
    Many(Vec<String>),
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "read only to check the shape")]
struct ResponseFormat {
    r#type: String,
}

fn read_route(fields: &Fields) -> Checked<RouteName> {
    let name: String = required(fields, "model", "a string naming a route; `GET /v1/models` lists them")?;
    if name.is_empty() {
        return Err(InvalidRequest::of("model", "`model` is empty; `GET /v1/models` lists the routes"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(InvalidRequest::of("model", format!("`model` is longer than {MAX_NAME_BYTES} bytes")));
    }
    Ok(RouteName::from(&name))
}

fn read_include_usage(fields: &Fields) -> Checked<bool> {
    let options: Option<StreamOptions> = optional(fields, "stream_options", "an object")?;
    Ok(options.and_then(|options| options.include_usage).unwrap_or(false))
}

fn read_max_output_tokens(fields: &Fields) -> Checked<Option<u64>> {
    let newer = in_range(fields, "max_completion_tokens", 1, u64::MAX)?;
    let older = in_range(fields, "max_tokens", 1, u64::MAX)?;
    Ok(newer.or(older))
}

fn read_wants_logprobs(fields: &Fields) -> Checked<bool> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Logprobs {
        Chat(bool),
        Completions(u64),
    }
    let wants: Option<Logprobs> = optional(fields, "logprobs", "a boolean, or a count for completions")?;
    Ok(match wants {
        None => false,
        Some(Logprobs::Chat(wants)) => wants,
        Some(Logprobs::Completions(n)) => n > 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat(body: &str) -> Checked<Request> {
        Request::parse(Endpoint::Chat, body.as_bytes())
    }

    /// Expects a refusal that names `param` and says `part`.
    fn check_refused(body: &str, param: Option<&str>, part: &str) {
        let error = chat(body).unwrap_err();
        assert_eq!(error.param.as_deref(), param, "{error}");
        assert!(error.message.contains(part), "{error}");
    }

    #[test]
    fn what_we_act_on_is_read() {
        let request = chat(
            r#"{"model":"auto","messages":[{"role":"system","content":"s"},
            {"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]}],
            "stream":true,"stream_options":{"include_usage":true},"max_tokens":7,"n":2,"temperature":0,
            "tools":[{"type":"function"}],"logprobs":true,"user":"u1","x_unknown":[1]}"#,
        )
        .unwrap();

        assert_eq!(request.route.as_str(), "auto");
        assert!(request.stream && request.include_usage && request.has_tools && request.wants_logprobs);
        assert!(request.has_media());
        assert_eq!(request.last_user().map(|m| m.text.as_str()), Some("a"));
        assert_eq!(
            (request.n_choices, request.max_output_tokens, request.temperature),
            (2, Some(7), Some(0.0))
        );
        assert_eq!(request.fields.get("x_unknown").map(RawValue::get), Some("[1]"));
    }

    #[test]
    fn each_malformed_request_is_refused_by_name() {
        let message = r#""messages":[{"role":"user","content":"x"}]"#;
        check_refused("{", None, "not a JSON object");
        check_refused("[]", None, "not a JSON object");
        check_refused(&format!("{{{message}}}"), Some("model"), "missing");
        check_refused(&format!(r#"{{"model":3,{message}}}"#), Some("model"), "wrong type");
        check_refused(&format!(r#"{{"model":"",{message}}}"#), Some("model"), "empty");
        check_refused(r#"{"model":"a"}"#, Some("messages"), "missing");
        check_refused(r#"{"model":"a","messages":[]}"#, Some("messages"), "empty");
        check_refused(r#"{"model":"a","messages":[{"role":"wizard"}]}"#, Some("messages[0]"), "role");
        let wrong_content = r#"{"model":"a","messages":[{"role":"user","content":3}]}"#;
        check_refused(wrong_content, Some("messages[0].content"), "neither");
        for (field, part) in [
            (r#""max_tokens":-1"#, "is -1"),
            (r#""max_tokens":0"#, "is 0"),
            (r#""max_tokens":"many""#, "wrong type"),
            (r#""temperature":"NaN""#, "wrong type"),
            (r#""temperature":2.01"#, "is 2.01"),
            (r#""n":129"#, "is 129"),
            (r#""stream":"yes""#, "wrong type"),
            (r#""stop":[1]"#, "wrong type"),
            (r#""tools":{}"#, "wrong type"),
        ] {
            let name = field.split('"').nth(1);
            check_refused(&format!(r#"{{"model":"a",{message},{field}}}"#), name, part);
        }
        let nan = format!(r#"{{"model":"a",{message},"temperature":NaN}}"#);
        check_refused(&nan, None, "not a JSON object");
    }

    #[test]
    fn values_at_the_edge_of_their_range_are_taken() {
        let body = r#"{"model":"a","messages":[{"role":"user","content":"x"}],"n":128,"temperature":2,"max_tokens":1,"stop":null}"#;

        let request = chat(body).unwrap();

        assert_eq!((request.n_choices, request.temperature), (128, Some(2.0)));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_place() {
        let error = Request::parse(Endpoint::Chat, b"{\"model\":\"\xff\"}").unwrap_err();

        assert!(error.message.contains("offset 10"), "{error}");
    }

    #[test]
    fn prompts_and_inputs_come_as_text_or_tokens() {
        for (body, n) in [
            (r#"{"model":"a","input":"x"}"#, 1),
            (r#"{"model":"a","input":["x","y"]}"#, 2),
            (r#"{"model":"a","input":[1,2,3]}"#, 1),
            (r#"{"model":"a","input":[[1],[2],[3]]}"#, 3),
        ] {
            let request = Request::parse(Endpoint::Embeddings, body.as_bytes()).unwrap();
            assert_eq!(request.messages.len(), n, "{body}");
        }
        assert!(Request::parse(Endpoint::Completions, br#"{"model":"a","prompt":[]}"#).is_err());
    }
}
