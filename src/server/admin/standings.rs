//! How every budget stands, as the dashboard tells it.
//!
//! Changes nothing.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::ask;
use super::read::{question, unreadable};
use super::{respond, table};
use crate::gateway::Gateway;
use crate::server::standing::{Outlook, Standing, standings};

pub(super) async fn list(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let (viewer, given) = question(&gateway, request)?;
        let team = ask::team(given)?;
        let now_ms = gateway.clock.now_ms();
        let found = standings(&gateway, &viewer, team.as_ref(), now_ms).await;
        let found = found.map_err(|error| unreadable(&error))?;
        let data: Vec<Value> = found.iter().map(|standing| told(standing, now_ms)).collect();
        Ok(json!({"object": "list", "data": data}))
    };
    respond(answer.await)
}

fn told(standing: &Standing, now_ms: i64) -> Value {
    let (outlook, runs_out_at, at_end) = match standing.outlook(now_ms) {
        Outlook::TooEarly => ("too_early", None, None),
        Outlook::UsedUp => ("used_up", None, None),
        Outlook::RunsOut { at_ms } => ("runs_out", Some(table::time(at_ms)), None),
        Outlook::Lasts { at_end } => ("lasts", None, Some(at_end.to_string())),
    };
    json!({
        "object": "budget",
        "team": standing.team,
        "of": standing.budget.of,
        "name": standing.name,
        "per": standing.budget.per,
        "time_zone": standing.budget.time_zone.name(),
        "on_exceed": standing.budget.on_exceed,
        "from": table::time(standing.from_ms),
        "to": table::time(standing.to_ms),
        "limit_usd": standing.limit().to_string(),
        "spent_usd": standing.spent.to_string(),
        "held_usd": standing.held.to_string(),
        "left_usd": standing.left().to_string(),
        "outlook": outlook,
        "runs_out_at": runs_out_at,
        "used_at_end_usd": at_end,
    })
}
