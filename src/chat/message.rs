//! The messages of a request: who speaks, what text they say, and the whole of each as it came.
//!
//! Does not interpret tool calls, images or audio; it only notes that they are there.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::check::{Checked, InvalidRequest, required, without_position};
use super::fields::Fields;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
    Function,
}

/// One message: its text parts joined, and the whole of it as it came.
#[derive(Debug, Clone)]
pub struct Message {
    pub role: Role,
    pub text: String,
    /// Parts that are not text: images, audio, files, token ids.
    pub n_media: usize,
    pub raw: Box<RawValue>,
}

impl Message {
    pub fn has_media(&self) -> bool {
        self.n_media > 0
    }
}

/// Prompts or inputs in one request: OpenAI's own limit.
const MAX_TEXTS: usize = 2_048;

#[derive(Deserialize)]
struct WireMessage<'a> {
    role: Role,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct WirePart {
    r#type: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
}

pub(super) fn read_messages(fields: &Fields) -> Checked<Vec<Message>> {
    let raws: Vec<Box<RawValue>> = required(fields, "messages", "an array of messages")?;
    if raws.is_empty() {
        return Err(InvalidRequest::of("messages", "`messages` is empty; send at least one message"));
    }
    raws.into_iter().enumerate().map(|(idx, raw)| read_message(idx, raw)).collect()
}

fn read_message(idx: usize, raw: Box<RawValue>) -> Checked<Message> {
    let param = format!("messages[{idx}]");
    let wire: WireMessage<'_> = serde_json::from_str(raw.get()).map_err(|error| {
        let expected = "an object with a `role` of system, developer, user, assistant, tool or function";
        InvalidRequest::of(&param, format!("`{param}` is not {expected}: {}", without_position(&error)))
    })?;
    let role = wire.role;
    let (text, n_media) = match wire.content.map(RawValue::get) {
        None | Some("null") => (String::new(), 0),
        Some(content) => read_content(content).map_err(|problem| {
            let param = format!("{param}.content");
            InvalidRequest::of(&param, format!("`{param}` {problem}"))
        })?,
    };
    Ok(Message { role, text, n_media, raw })
}

/// Joins the text parts of a message's content, and counts the parts of another kind.
fn read_content(content: &str) -> Result<(String, usize), String> {
    if content.starts_with('"') {
        let text = serde_json::from_str(content).map_err(|error| without_position(&error))?;
        return Ok((text, 0));
    }
    let parts: Vec<WirePart> = serde_json::from_str(content).map_err(|error| {
        format!("is neither a string nor an array of parts: {}", without_position(&error))
    })?;
    let mut text = String::new();
    let mut n_media = 0;
    for part in parts {
        match part.text.or(part.refusal) {
            Some(more) if matches!(part.r#type.as_str(), "text" | "refusal") => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&more);
            }
            Some(_) | None => n_media += 1,
        }
    }
    Ok((text, n_media))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

/// A prompt or an input: a string, strings, tokens or arrays of tokens.
pub(super) fn read_texts(fields: &Fields, name: &str) -> Checked<Vec<Message>> {
    let texts: Texts = required(fields, name, "a string, an array of strings or arrays of token ids")?;
    let messages: Vec<Message> = match texts {
        Texts::One(text) => vec![user_message(text, 0)],
        Texts::Many(texts) => texts.into_iter().map(|text| user_message(text, 0)).collect(),
        Texts::Tokens(ids) => vec![user_message(token_text(&ids), 1)],
        Texts::ManyTokens(many) => many.iter().map(|ids| user_message(token_text(ids), 1)).collect(),
    };
    if messages.is_empty() {
        return Err(InvalidRequest::of(name, format!("`{name}` is empty; send at least one")));
    }
    if messages.len() > MAX_TEXTS {
        let problem = format!("`{name}` has {} entries; send at most {MAX_TEXTS} at once", messages.len());
        return Err(InvalidRequest::of(name, problem));
    }
    Ok(messages)
}

fn user_message(text: String, n_media: usize) -> Message {
    let raw = serde_json::value::to_raw_value(&text).expect("a string is JSON");
    Message { role: Role::User, text, n_media, raw }
}

/// Token ids cannot be read here; as text they still count and still tell one prompt from another.
fn token_text(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}
