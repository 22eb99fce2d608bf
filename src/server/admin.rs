//! `/admin/v1`: keys, spending, calls, budgets, splits, the cache and health, for programs; every figure of the
//! dashboard can be asked for here.
//!
//! Everything here asks for a key: the operator's, or a team's, which then sees itself alone and changes
//! nothing.
//!
//! Invariants: what is changed counts when the answer is sent; an unknown parameter is an error that names it.

mod ask;
mod budgets;
mod cache;
mod keys;
mod read;
mod splits;
mod table;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use http::StatusCode;
use http::request::Parts;

use super::respond::json_response;
use super::viewer::{Viewer, presented_key, refuse_foreign, viewer};
use crate::error::Result;
use crate::gateway::Gateway;

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/admin/v1/keys", get(keys::list).post(keys::create))
        .route("/admin/v1/keys/{id}", get(keys::one).delete(keys::revoke))
        .route("/admin/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/admin/v1/keys/{id}/expire", post(keys::expire))
        .route("/admin/v1/teams", get(read::teams))
        .route("/admin/v1/spend", get(read::spend))
        .route("/admin/v1/latency", get(read::latency))
        .route("/admin/v1/calls", get(read::calls))
        .route("/admin/v1/calls/{id}", get(read::call))
        .route("/admin/v1/budgets", get(budgets::list))
        .route("/admin/v1/splits", get(splits::list))
        .route("/admin/v1/cache", get(cache::show))
        .route("/admin/v1/cache/purge", post(cache::purge))
        .route("/admin/v1/health", get(read::health))
}

/// Who asks; an error where nobody may, or where a browser was led here by another site.
fn asking(gateway: &Gateway, head: &Parts) -> Result<Viewer> {
    let live = gateway.live();
    refuse_foreign(&live, &head.method, &head.headers)?;
    viewer(&live, presented_key(&head.headers).as_deref(), gateway.clock.now_ms())
}

fn respond(answer: Result<serde_json::Value>) -> axum::response::Response {
    match answer {
        Ok(body) => json_response(StatusCode::OK, body.to_string()),
        Err(error) => super::calls::refuse(&error),
    }
}

/// The body of a request that only the operator may make.
async fn taken_from_operator(gateway: &Gateway, request: Request) -> Result<bytes::Bytes> {
    let (viewer, body) = taken(gateway, request).await?;
    viewer.require_operator()?;
    Ok(body)
}

/// The head of a request, checked, and its body.
async fn taken(gateway: &Gateway, request: Request) -> Result<(Viewer, bytes::Bytes)> {
    let (head, body) = request.into_parts();
    let viewer = asking(gateway, &head)?;
    let live = gateway.live();
    Ok((viewer, super::body::read(body, &live.config.server).await?))
}
