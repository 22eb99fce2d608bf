//! `/admin/v1`: teams, keys, budgets, spending, calls, splits, the cache and health, for programs; every figure of
//! the dashboard can be asked for here.
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
mod standings;
mod table;
mod teams;
mod texts;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::{delete, get, post};
use http::StatusCode;
use http::request::Parts;

use super::respond::json_response;
use super::viewer::{Viewer, presented_key, refuse_foreign, viewer};
use crate::config::{Checked, Mistake};
use crate::error::{Blame, Error, Result};
use crate::gateway::Gateway;
use crate::ledger::budget::Budget;
use crate::team::{Document, TeamName};

pub(super) fn routes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/admin/v1/keys", get(keys::list).post(keys::create))
        .route("/admin/v1/keys/{id}", get(keys::one).delete(keys::revoke))
        .route("/admin/v1/keys/{id}/rotate", post(keys::rotate))
        .route("/admin/v1/keys/{id}/expire", post(keys::expire))
        .route("/admin/v1/keys/{id}/budgets", get(budgets::of_key).put(budgets::set_of_key))
        .route("/admin/v1/teams", get(teams::list).post(teams::create))
        .route(
            "/admin/v1/teams/{name}",
            get(teams::one).put(teams::replace).patch(teams::change).delete(teams::revoke),
        )
        .route("/admin/v1/teams/{name}/expire", post(teams::expire))
        .route("/admin/v1/teams/{name}/budgets", get(budgets::of_team).put(budgets::set_of_team))
        .route("/admin/v1/spend", get(read::spend))
        .route("/admin/v1/latency", get(read::latency))
        .route("/admin/v1/calls", get(read::calls))
        .route("/admin/v1/calls/{id}", get(read::call))
        .route("/admin/v1/calls/{id}/text", delete(texts::delete_of_call))
        .route("/admin/v1/teams/{name}/text", delete(texts::delete_of_team))
        .route("/admin/v1/budgets", get(standings::list))
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

fn parsed<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|error| Error::invalid(format!("the body is not as expected: {error}")))
}

/// What was given, where nothing is wrong with it; else every mistake, and the place of the first.
fn checked<T>(read: Checked<T>) -> Result<(Document, T)> {
    read.map_err(|mistakes| {
        let told = |Mistake { key, problem, .. }: &Mistake| match key.as_str() {
            "" => format!("the body {problem}"),
            key => format!("`{key}`: {problem}"),
        };
        let error = Error::invalid(mistakes.iter().map(told).collect::<Vec<_>>().join("; "));
        match mistakes.iter().find(|mistake| !mistake.key.is_empty()) {
            Some(first) => error.with_param(&first.key),
            None => error,
        }
    })
}

/// Reads the past of the windows that new budgets name, before they are stored: what cannot be read now must not be
/// promised.
async fn followed(gateway: &Gateway, team: &TeamName, budgets: &[Budget]) -> Result<()> {
    let said = gateway.ledger.follow(&[(team.clone(), budgets.to_vec())]).await;
    said.map_err(|error| read::unreadable(&error))
}

/// Lets what was stored count here and now.
async fn in_force(gateway: &Gateway) -> Result<()> {
    gateway.refresh_roster().await.map_err(|_| {
        let message =
            "the change is stored, but could not be read again; it counts as soon as the database answers";
        let mut error = Error::new(Blame::Gateway, 503, "server_error", message).with_code("ledger_away");
        error.should_retry = Some(false);
        error
    })
}
