//! The openai dialect: what a call looks like on the wire, and what comes back.
//!
//! Changes the model name and asks for usage; everything else a client sent goes out byte for byte.
//! Does no I/O and knows no address.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::chat::{Fields, Usage};

/// Writes the body of a request: the client's fields, with `model` as the upstream calls it.
///
/// `stream` decides over the client's own `stream`; a stream is always asked to report its usage.
pub fn to_wire(fields: &Fields, model: &str, stream: StreamMode) -> Bytes {
    let was_stream = fields.get("stream").is_some_and(|raw| raw.get() == "true");
    let is_stream = stream != StreamMode::Whole;
    let length: usize = fields.iter().map(|(name, raw)| name.len() + raw.get().len() + 6).sum();
    let mut body = Body::with_capacity(length + model.len() + 64);
    let (mut has_model, mut has_stream, mut has_options) = (false, false, false);
    for (name, raw) in fields.iter() {
        match name {
            "model" => {
                has_model = true;
                body.field(name, model);
            }
            "stream" if was_stream != is_stream => {
                has_stream = true;
                body.field(name, &is_stream);
            }
            "stream" => {
                has_stream = true;
                body.raw_field(name, raw.get());
            }
            // Options for a stream that is not asked for would be refused.
            "stream_options" if was_stream && !is_stream => {}
            "stream_options" if stream == StreamMode::StreamWithUsage => {
                has_options = true;
                body.field(name, &with_usage(raw));
            }
            _ => body.raw_field(name, raw.get()),
        }
    }
    if !has_model {
        body.field("model", model);
    }
    if is_stream && !has_stream {
        body.field("stream", &true);
    }
    if stream == StreamMode::StreamWithUsage && !has_options {
        body.raw_field("stream_options", r#"{"include_usage":true}"#);
    }
    body.finish()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamMode {
    Whole,
    StreamWithUsage,
    /// For servers that refuse `stream_options`; what the client sent still goes out.
    Stream,
}

fn with_usage(raw: &RawValue) -> Fields {
    let mut options = Fields::parse(raw.get().as_bytes()).unwrap_or_default();
    options.set_json("include_usage", &true);
    options
}

/// A JSON object under construction.
struct Body(Vec<u8>);

impl Body {
    fn with_capacity(n_bytes: usize) -> Self {
        let mut text = Vec::with_capacity(n_bytes);
        text.push(b'{');
        Self(text)
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.json(name);
        self.0.push(b':');
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.0, value).expect("a Vec takes all, and keys are strings");
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.name(name);
        self.json(value);
    }

    fn raw_field(&mut self, name: &str, json: &str) {
        self.name(name);
        self.0.extend_from_slice(json.as_bytes());
    }

    fn finish(mut self) -> Bytes {
        self.0.push(b'}');
        Bytes::from(self.0)
    }
}

/// What we read of a whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct WholeFacts {
    pub usage: Option<Usage>,
    pub model: Option<String>,
}

/// Why bytes are not what the dialect says they are.
#[derive(Debug, Clone, PartialEq)]
pub enum Unreadable {
    /// The JSON ends before it is complete.
    CutOff,
    /// Not JSON, or not of the shape that answers have.
    NotJson(String),
    /// It is an error report.
    Reported(Report),
}

/// An error object an upstream sent in place of an answer, or with a status that is no success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub code: Option<String>,
    pub kind: Option<String>,
    pub message: String,
    /// A status within the object, where a 200 carries a failure.
    pub status: Option<u16>,
}

/// Reads a whole answer once, without building it.
pub fn from_wire(body: &[u8]) -> Result<WholeFacts, Unreadable> {
    let wire: WireWhole<'_> = object(body)?;
    if let Some(error) = wire.error.filter(|error| is_truthy(error)) {
        return Err(Unreadable::Reported(Report::of(error)));
    }
    if wire.choices.is_none() && wire.data.is_none() {
        return Err(Unreadable::NotJson("an object with neither `choices` nor `data`".to_owned()));
    }
    Ok(WholeFacts {
        usage: wire.usage.and_then(|raw| Usage::from_openai(raw.get())),
        model: wire.model.and_then(|raw| serde_json::from_str(raw.get()).ok()),
    })
}

/// Reads the error report out of the body of an answer that is no success, whatever its shape.
pub fn from_error_wire(body: &[u8]) -> Report {
    match serde_json::from_slice::<WireWhole<'_>>(body) {
        Ok(WireWhole { error: Some(error), .. }) => Report::of(error),
        Ok(_) => serde_json::from_slice::<&RawValue>(body).map(Report::of).unwrap_or_default(),
        Err(_) => Report::default(),
    }
}

/// What one event of a stream is.
#[derive(Debug, Clone, PartialEq)]
pub enum ChunkKind {
    Done,
    Chunk(ChunkFacts),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkFacts {
    pub usage: Option<Usage>,
    /// The choices this chunk adds to, one bit for each index below 128.
    pub choices: u128,
    pub n_choices: usize,
    /// Those of them that it ends.
    pub finished: u128,
    /// The length of all text it adds: content, refusals, reasoning and the arguments of tool calls.
    pub content_chars: usize,
}

/// Reads one event's data once, without building it.
pub fn from_event(data: &[u8]) -> Result<ChunkKind, Unreadable> {
    if data.trim_ascii() == b"[DONE]" {
        return Ok(ChunkKind::Done);
    }
    let wire: WireChunk<'_> = object(data)?;
    if let Some(error) = wire.error.filter(|error| is_truthy(error)) {
        return Err(Unreadable::Reported(Report::of(error)));
    }
    let mut facts = ChunkFacts {
        usage: wire.usage.and_then(|raw| Usage::from_openai(raw.get())),
        ..ChunkFacts::default()
    };
    for choice in wire.choices.unwrap_or_default() {
        let bit = 1_u128.checked_shl(choice.index).unwrap_or(0);
        facts.choices |= bit;
        facts.n_choices += 1;
        facts.content_chars += choice.delta.unwrap_or_default().0 + choice.text.unwrap_or_default().0;
        if choice.finish_reason.is_some() {
            facts.finished |= bit;
        }
    }
    Ok(ChunkKind::Chunk(facts))
}

fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Unreadable> {
    // Serde would take an array for a struct, field by field.
    if json.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(Unreadable::NotJson("not an object".to_owned()));
    }
    serde_json::from_slice(json).map_err(|error| match error.is_eof() {
        true => Unreadable::CutOff,
        false => Unreadable::NotJson(error.to_string()),
    })
}

fn is_truthy(raw: &RawValue) -> bool {
    !matches!(raw.get(), "null" | "false" | "\"\"" | "0")
}

#[derive(Deserialize)]
struct WireWhole<'a> {
    #[serde(default)]
    choices: Option<IgnoredAny>,
    #[serde(default)]
    data: Option<IgnoredAny>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default)]
    model: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WireChunk<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    usage: Option<&'a RawValue>,
    #[serde(default)]
    choices: Option<Vec<WireChoice>>,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Option<TextChars>,
    #[serde(default)]
    text: Option<TextChars>,
    #[serde(default)]
    finish_reason: Option<IgnoredAny>,
}

impl Report {
    fn of(error: &RawValue) -> Self {
        let Ok(wire) = serde_json::from_str::<WireError>(error.get()) else {
            // Some say it in a string.
            let message = serde_json::from_str(error.get()).unwrap_or_default();
            return Self { message, ..Self::default() };
        };
        let number = [&wire.code, &wire.status].into_iter().flatten().find_map(serde_json::Value::as_u64);
        Self {
            code: wire.code.as_ref().and_then(|code| code.as_str().map(str::to_owned)),
            kind: wire.r#type.as_ref().and_then(|kind| kind.as_str().map(str::to_owned)),
            message: wire.message.as_ref().and_then(|text| text.as_str()).unwrap_or_default().to_owned(),
            status: number.and_then(|n| u16::try_from(n).ok()).filter(|n| (400..600).contains(n)),
        }
    }
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    code: Option<serde_json::Value>,
    #[serde(default)]
    r#type: Option<serde_json::Value>,
    #[serde(default)]
    message: Option<serde_json::Value>,
    #[serde(default)]
    status: Option<serde_json::Value>,
}

/// Counts the characters of the text within a value of any shape, and keeps none of it.
///
/// In an object, only what a model writes counts: a role or an id is no output.
#[derive(Debug, Default)]
struct TextChars(usize);

impl<'de> Deserialize<'de> for TextChars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = TextChars;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<TextChars, E> {
        Ok(TextChars(text.chars().count()))
    }

    fn visit_unit<E>(self) -> Result<TextChars, E> {
        Ok(TextChars(0))
    }

    fn visit_bool<E>(self, _: bool) -> Result<TextChars, E> {
        Ok(TextChars(0))
    }

    fn visit_u64<E>(self, _: u64) -> Result<TextChars, E> {
        Ok(TextChars(0))
    }

    fn visit_i64<E>(self, _: i64) -> Result<TextChars, E> {
        Ok(TextChars(0))
    }

    fn visit_f64<E>(self, _: f64) -> Result<TextChars, E> {
        Ok(TextChars(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<TextChars, A::Error> {
        let mut n_chars = 0;
        while let Some(TextChars(n)) = items.next_element()? {
            n_chars += n;
        }
        Ok(TextChars(n_chars))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextChars, A::Error> {
        let mut n_chars = 0;
        while let Some(name) = map.next_key::<Written>()? {
            match name {
                Written::Yes => n_chars += map.next_value::<TextChars>()?.0,
                Written::No => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(TextChars(n_chars))
    }
}

/// Whether a model writes what a field of a delta holds.
#[derive(Deserialize)]
#[serde(field_identifier)]
enum Written {
    #[serde(
        rename = "content",
        alias = "refusal",
        alias = "reasoning_content",
        alias = "reasoning",
        alias = "tool_calls",
        alias = "function_call",
        alias = "function",
        alias = "custom",
        alias = "arguments",
        alias = "input",
        alias = "name",
        alias = "text",
        alias = "transcript",
        alias = "audio"
    )]
    Yes,
    #[serde(other)]
    No,
}

#[cfg(test)]
mod tests;
