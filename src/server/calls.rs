//! The endpoints that answer calls: from an HTTP request to a [`Call`] and from its reply to a response.
//!
//! Siblings differ in their [`Endpoint`] only.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use super::body;
use super::respond::{error_response, json_response, reply_response, write_call_id};
use crate::chat::{Endpoint, Request};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::pipeline::{Call, Options, explain, serve_chat};
use crate::team::CallId;
use crate::telemetry::events::CallRefused;

pub(super) async fn chat(State(gateway): State<Arc<Gateway>>, request: HttpRequest) -> Response {
    answer(gateway, Endpoint::Chat, request).await
}

pub(super) async fn completions(State(gateway): State<Arc<Gateway>>, request: HttpRequest) -> Response {
    answer(gateway, Endpoint::Completions, request).await
}

pub(super) async fn embeddings(State(gateway): State<Arc<Gateway>>, request: HttpRequest) -> Response {
    answer(gateway, Endpoint::Embeddings, request).await
}

async fn answer(gateway: Arc<Gateway>, endpoint: Endpoint, request: HttpRequest) -> Response {
    let began = Instant::now();
    let ts_ms = gateway.clock.now_ms();
    let id = CallId::new(ts_ms, rand::random());
    let reply = match read(&gateway, endpoint, request).await {
        Ok((request, options)) => reply(&gateway, Call::new(id, began, ts_ms, request, options)).await,
        Err(error) => Err(error),
    };
    let mut response = reply.unwrap_or_else(|error| refuse(&error));
    write_call_id(response.headers_mut(), id);
    response
}

async fn reply(gateway: &Arc<Gateway>, call: Call) -> Result<Response> {
    if call.options.dry_run {
        let decision = explain(gateway, &call).await?;
        return Ok(json_response(StatusCode::OK, decision.to_string()));
    }
    serve_chat(gateway, call).await.map(reply_response)
}

async fn read(gateway: &Gateway, endpoint: Endpoint, request: HttpRequest) -> Result<(Request, Options)> {
    let (head, body) = request.into_parts();
    let live = gateway.live();
    // A split that a reload brings in the middle of this call may go by a header not kept: it has no arm then.
    let get = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let options = read_options(&head.headers)?.keep(live.config.splits.headers(), get);
    // A stranger must not make us read a large body.
    super::models::check_key(&live, &options, gateway.clock.now_ms())?;
    let body = body::read(body, &live.config.server).await?;
    Ok((Request::parse(endpoint, &body)?, options))
}

pub(super) fn read_options(headers: &HeaderMap) -> Result<Options> {
    // Proxies add headers of their own in any encoding; only those we read must be readable.
    let is_ours =
        |name: &str| name.starts_with("x-stiver-") || matches!(name, "authorization" | "cache-control");
    let unreadable = headers.iter().find(|(name, value)| is_ours(name.as_str()) && value.to_str().is_err());
    if let Some((name, _)) = unreadable {
        return Err(Error::invalid(format!("header `{name}` holds bytes that are not visible ASCII")));
    }
    let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    Ok(Options::read(get)?)
}

pub(super) fn refuse(error: &Error) -> Response {
    CallRefused {
        blame: error.blame.as_str(),
        code: error.code.unwrap_or("none"),
        status: error.status,
        param: error.param.as_deref(),
        message: &error.message,
    }
    .emit();
    error_response(error)
}
