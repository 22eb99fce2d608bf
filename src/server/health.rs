//! `/healthz`, `/readyz` and `/metrics`: for machines that watch.
//!
//! They need no key and tell no secret; a proxy in front decides who else may see them.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::json;

use super::respond::json_response;
use crate::gateway::Gateway;

/// The process answers; nothing more is meant.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// Every part, and what is wrong with it. 503 only when calls cannot be answered at all.
pub(super) async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let parts = gateway.readiness().await;
    let is_ready = parts.iter().all(|part| part.ready || !part.required);
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({"ready": is_ready, "parts": parts});
    json_response(status, format!("{body:#}\n"))
}

pub(super) async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response {
    // As of now, not of the last upkeep.
    gateway.ledger.report_waiting();
    gateway.cache.report_standings();
    gateway.metrics.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], gateway.metrics.render()).into_response()
}
