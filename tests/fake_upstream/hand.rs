//! The pages for steering by hand and from other processes: bill, calls, scripts, models.
//!
//! Answers nothing that costs.
//!
//! Invariants: these requests are neither in the book nor on the bill.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::fault::ApiError;
use super::reply::{Body, error, json as reply};
use super::script::Script;
use super::server::Shared;

#[derive(Deserialize)]
#[serde(untagged)]
enum Posted {
    One(Script),
    Many(Vec<Script>),
}

pub fn page(
    shared: &Shared,
    (method, path): (&Method, &str),
    headers: &HeaderMap,
    body: &Bytes,
) -> Response<Body> {
    let ok = |body: &Value| reply(StatusCode::OK, body);
    match (method.as_str(), path) {
        ("GET", "/health" | "/healthz") => ok(&json!({ "ok": true })),
        ("GET", "/bill") => ok(&json!(shared.book.bill())),
        ("GET", "/calls") => ok(&shared.book.calls().iter().map(super::book::SeenCall::to_json).collect()),
        ("POST", "/script") => match add_scripts(shared, body) {
            Ok(n_added) => ok(&json!({ "added": n_added })),
            Err(message) => error(&ApiError::bad_request(message)),
        },
        ("POST", "/release") => {
            shared.gate.release();
            ok(&json!({ "released": true }))
        }
        ("POST", "/reset") => {
            shared.reset();
            ok(&json!({ "reset": true }))
        }
        ("GET", _) if path.starts_with("/v1/models") => models(shared, path, headers),
        (_, _) => {
            let message = format!("Invalid URL ({method} {path})");
            error(&ApiError { code: Some("unknown_url"), ..ApiError::of_status(404, Some(&message)) })
        }
    }
}

fn add_scripts(shared: &Shared, body: &Bytes) -> Result<usize, String> {
    let posted = serde_json::from_slice(body).map_err(|error| {
        format!("post {{\"settings\": \"…\", \"model\"?: \"…\", \"next\"?: N}} or an array of these: {error}")
    })?;
    let scripts = match posted {
        Posted::One(script) => vec![script],
        Posted::Many(scripts) => scripts,
    };
    let n_scripts = scripts.len();
    let mut in_force = shared.scripts.lock();
    scripts.into_iter().try_for_each(|script| in_force.add(script))?;
    Ok(n_scripts)
}

fn models(shared: &Shared, path: &str, headers: &HeaderMap) -> Response<Body> {
    if let Err(refusal) = shared.authorize(headers) {
        return error(&refusal);
    }
    let model =
        |id: &String| json!({ "id": id, "object": "model", "created": 1_700_000_000, "owned_by": "fake" });
    match path.strip_prefix("/v1/models/") {
        None => {
            let data: Vec<Value> = shared.options.models.iter().map(model).collect();
            reply(StatusCode::OK, &json!({ "object": "list", "data": data }))
        }
        Some(id) => match shared.options.models.iter().find(|known| *known == id) {
            Some(known) => reply(StatusCode::OK, &model(known)),
            None => error(&ApiError::of_status(404, Some(&format!("The model '{id}' does not exist")))),
        },
    }
}
