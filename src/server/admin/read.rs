//! What is asked of the book over HTTP: spending, latencies, single calls, health.
//!
//! Changes nothing.
//!
//! Invariant: every question goes through the viewer's filter before it is asked.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use super::ask::{self, Format, Given};
use super::{asking, respond, table, texts};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::server::parts::upstream_state;
use crate::server::viewer::Viewer;
use crate::team::CallId;

/// The book cannot be read now.
pub(super) fn unreadable(error: &dyn std::error::Error) -> Error {
    Error::ledger_away(error)
}

/// The viewer and the parameters of a request without a body.
pub(super) fn question(gateway: &Gateway, request: Request) -> Result<(Viewer, Given)> {
    let (head, _) = request.into_parts();
    let viewer = asking(gateway, &head)?;
    Ok((viewer, Given::read(head.uri.query(), gateway.clock.now_ms())?))
}

enum Answer {
    Json(Value),
    Csv(String),
}

fn respond_either(answer: Result<Answer>) -> Response {
    match answer {
        Ok(Answer::Json(body)) => respond(Ok(body)),
        Ok(Answer::Csv(body)) => {
            let mut response = Response::new(axum::body::Body::from(body));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
            let file = HeaderValue::from_static("attachment; filename=\"stiver.csv\"");
            headers.insert(CONTENT_DISPOSITION, file);
            response
        }
        Err(error) => respond(Err(error)),
    }
}

pub(super) async fn spend(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let (viewer, given) = question(&gateway, request)?;
        let (mut ask, format) = ask::spend(given)?;
        ask.filter = viewer.narrow(ask.filter);
        let rows = gateway.ledger.reports().spend(&ask).await.map_err(|error| unreadable(&error))?;
        Ok(match format {
            Format::Json => Answer::Json(table::spend_json(&ask, &rows)),
            Format::Csv => Answer::Csv(table::spend_csv(&ask, &rows)?),
        })
    };
    respond_either(answer.await)
}

pub(super) async fn latency(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let (viewer, given) = question(&gateway, request)?;
        let mut ask = ask::latency(given)?;
        let filter = crate::ledger::report::Filter { team: ask.team, ..Default::default() };
        ask.team = viewer.narrow(filter).team;
        let rows = gateway.ledger.reports().latency(&ask).await.map_err(|error| unreadable(&error))?;
        let row = |row: &crate::ledger::report::LatencyRow| json!({"name": row.name, "n_calls": row.n_calls, "p50_ms": row.p50_ms, "p95_ms": row.p95_ms, "p99_ms": row.p99_ms});
        Ok(json!({"object": "list", "data": rows.iter().map(row).collect::<Vec<_>>()}))
    };
    respond(answer.await)
}

pub(super) async fn calls(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let (viewer, given) = question(&gateway, request)?;
        let (mut ask, format) = ask::calls(given)?;
        ask.filter = viewer.narrow(ask.filter);
        let found = gateway.ledger.reports().calls(&ask).await.map_err(|error| unreadable(&error))?;
        if format == Format::Csv {
            return Ok(Answer::Csv(table::calls_csv(&found)?));
        }
        let has_more = found.len() == ask.limit as usize;
        let data: Vec<Value> = found.iter().map(|entry| Value::Object(table::call_object(entry))).collect();
        Ok(Answer::Json(json!({"object": "list", "data": data, "has_more": has_more})))
    };
    respond_either(answer.await)
}

pub(super) async fn call(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let (viewer, _) = question(&gateway, request)?;
        let call_id = CallId::parse(&id).ok_or_else(|| unknown_call(&id))?;
        let found = gateway.ledger.reports().call(call_id).await.map_err(|error| unreadable(&error))?;
        let entry = found.filter(|entry| viewer.may_see(&entry.team)).ok_or_else(|| unknown_call(&id))?;
        let mut told = table::call_object(&entry);
        told.insert("text".to_owned(), texts::of_call(&gateway, call_id).await?);
        Ok(Value::Object(told))
    };
    respond(answer.await)
}

pub(super) fn unknown_call(id: &str) -> Error {
    Error::unknown_call(id)
}

fn upstreams(gateway: &Gateway) -> Vec<Value> {
    let live = gateway.live();
    let state = |name: &str| upstream_state(gateway, &live, name).as_str();
    let names = live.config.upstreams.keys();
    names.map(|name| json!({"name": name, "state": state(name.as_str())})).collect()
}

pub(super) async fn health(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let (viewer, _) = question(&gateway, request)?;
        viewer.require_operator()?;
        let fill = gateway.ledger.journal_fill();
        let journal = json!({
            "size_bytes": fill.size_bytes,
            "max_bytes": fill.max_bytes,
            "share": fill.size_bytes as f64 / fill.max_bytes as f64,
        });
        Ok(json!({
            "parts": gateway.readiness().await,
            "upstreams": upstreams(&gateway),
            "journal": journal,
            "rows_not_in_the_database": gateway.ledger.n_pending(),
        }))
    };
    respond(answer.await)
}
