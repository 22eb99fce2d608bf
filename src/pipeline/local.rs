//! Embeddings from the model that ships with the gateway, in OpenAI's wire format.
//!
//! Token ids are refused: they belong to another model's vocabulary.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::cache::embedder::EmbedError;
use crate::chat::{Request, Usage};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::prompt::estimate_tokens;
use crate::upstream::WholeAnswer;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    usage: Used,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Values,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values {
    Float(Arc<[f32]>),
    Base64(String),
}

#[derive(Serialize)]
struct Used {
    prompt_tokens: u64,
    total_tokens: u64,
}

pub(super) async fn embed(gateway: &Gateway, request: &Request) -> Result<WholeAnswer> {
    let Some(embedder) = &gateway.embedder else {
        let message = "the embedder is not loaded; `GET /readyz` says what is missing";
        return Err(
            Error::new(crate::error::Blame::Gateway, 503, "server_error", message).with_code("no_upstream")
        );
    };
    if request.has_media() {
        return Err(
            Error::invalid("`input` holds token ids; the built-in embedder takes text").with_param("input")
        );
    }
    let is_base64 = encoding(request)?;
    let mut data = Vec::with_capacity(request.messages.len());
    for (index, message) in request.messages.iter().enumerate() {
        let vector = embedder.embed(&message.text).await.map_err(|error| refuse(index, &error))?;
        let embedding = if is_base64 { Values::Base64(base64_of(&vector)) } else { Values::Float(vector) };
        data.push(Embedding { object: "embedding", index, embedding });
    }
    let usage = Usage { input: estimate_tokens(request.n_chars()), ..Usage::default() };
    let used = Used { prompt_tokens: usage.input, total_tokens: usage.input };
    let list = List { object: "list", data, model: request.route.as_str(), usage: used };
    let body = serde_json::to_vec(&list).expect("finite floats and text are JSON");
    Ok(WholeAnswer { status: 200, body: body.into(), usage: Some(usage), model: None, declined: false })
}

fn encoding(request: &Request) -> Result<bool> {
    match request.fields.read::<String>("encoding_format").and_then(std::result::Result::ok).as_deref() {
        None | Some("float") => Ok(false),
        Some("base64") => Ok(true),
        Some(_) => {
            let message = "`encoding_format` must be `float` or `base64`";
            Err(Error::invalid(message).with_param("encoding_format"))
        }
    }
}

/// Little-endian 32-bit floats, as the official SDKs read them.
fn base64_of(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

fn refuse(idx: usize, error: &EmbedError) -> Error {
    match error {
        EmbedError::TooLong { .. } => Error::invalid(format!("`input[{idx}]`: {error}")).with_param("input"),
        EmbedError::Deadline { .. } | EmbedError::Failed(_) => {
            Error::new(crate::error::Blame::Gateway, 503, "server_error", error.to_string())
                .with_code("embedder_busy")
        }
    }
}
