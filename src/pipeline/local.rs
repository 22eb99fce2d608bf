//! Embeddings from the model that ships with the gateway, in OpenAI's wire format.
//!
//! Token ids are refused: they belong to another model's vocabulary.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cache::embedder::EmbedError;
use crate::chat::{Request, Usage};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::prompt::estimate_tokens;
use crate::upstream::WholeAnswer;

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
    for (idx, message) in request.messages.iter().enumerate() {
        let vector = embedder.embed(&message.text).await.map_err(|error| refuse(idx, &error))?;
        let embedding = if is_base64 { base64_of(&vector) } else { json!(&vector[..]) };
        data.push(json!({"object": "embedding", "index": idx, "embedding": embedding}));
    }
    let usage = Usage { input: estimate_tokens(request.n_chars()), ..Usage::default() };
    let body = json!({
        "object": "list",
        "data": data,
        "model": request.route.as_str(),
        "usage": {"prompt_tokens": usage.input, "total_tokens": usage.input},
    });
    Ok(WholeAnswer {
        status: 200,
        body: body.to_string().into(),
        usage: Some(usage),
        model: None,
        headers: http::HeaderMap::new(),
    })
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
fn base64_of(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    Value::String(STANDARD.encode(bytes))
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
