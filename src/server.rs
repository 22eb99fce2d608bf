//! Every endpoint and every layer, on one screen.
//!
//! Decides nothing about calls; it reads HTTP, hands over to the pipeline and writes HTTP.
//!
//! Invariants: every answer has an `x-request-id`; every failure has an OpenAI-shaped body.

mod admin;
mod body;
mod calls;
mod dashboard;
mod feedback;
mod flood;
mod health;
mod listen;
mod models;
mod parts;
mod promise;
mod respond;
mod similarity;
mod standing;
mod viewer;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

pub use listen::serve;

use crate::config::ServerConfig;
use crate::error::Error;
use crate::gateway::Gateway;
use respond::error_response;

/// All paths, with the layers every request goes through.
pub fn routes(gateway: Arc<Gateway>, config: &ServerConfig) -> Router {
    let api = Router::new()
        .route("/v1/chat/completions", post(calls::chat))
        .route("/v1/completions", post(calls::completions))
        .route("/v1/embeddings", post(calls::embeddings))
        .route("/v1/feedback", post(feedback::take))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(models::one))
        .merge(admin::routes())
        .merge(dashboard::routes(Arc::clone(&gateway)));
    let api = match flood::guard(&config.flood) {
        Some(guard) => api.layer(guard),
        None => api,
    };
    api.route("/", get(|| async { Redirect::temporary("/dashboard") }))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(config.max_head_bytes, refuse_large_head))
        .layer(from_fn(body::ensure_request_id))
        .with_state(gateway)
}

async fn refuse_large_head(State(max_head_bytes): State<usize>, request: Request, next: Next) -> Response {
    let of_header =
        |(name, value): (&http::HeaderName, &http::HeaderValue)| name.as_str().len() + value.len() + 4;
    let n_bytes: usize =
        request.uri().to_string().len() + request.headers().iter().map(of_header).sum::<usize>();
    if n_bytes <= max_head_bytes {
        return next.run(request).await;
    }
    let message = format!("the request's headers take {n_bytes} bytes; at most {max_head_bytes} are read");
    let mut error = Error::invalid(message).with_code("headers_too_large");
    error.status = 431;
    error_response(&error)
}

async fn unknown_path(request: Request) -> Response {
    let message = format!(
        "there is nothing at `{} {}`; the paths are in the README",
        request.method(),
        request.uri().path()
    );
    let mut error = Error::invalid(message).with_code("unknown_path");
    error.status = 404;
    error_response(&error)
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("`{}` does not take {}", request.uri().path(), request.method());
    let mut error = Error::invalid(message).with_code("method_not_allowed");
    error.status = 405;
    error_response(&error)
}

/// A bug of ours costs one call, not the server.
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let what =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!("a call panicked: {}", what.unwrap_or("without a message"));
    error_response(&Error::internal("the gateway failed on this call; it was logged")).into_response()
}
