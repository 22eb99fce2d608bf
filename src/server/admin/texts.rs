//! What calls said, over HTTP: shown with one call, and deleted on demand.
//!
//! Keeps nothing and starts keeping nothing; that is the configuration's. Tables for spreadsheets hold no text.
//!
//! Invariants: only the operator deletes; a text is shown to whoever may see its call.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::read::{unknown_call, unreadable};
use super::{respond, table, taken_from_operator};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::ledger::text::TextError;
use crate::team::{CallId, TeamName};

/// The text of a call that the viewer may see; `null` where none is kept.
pub(super) async fn of_call(gateway: &Gateway, id: CallId) -> Result<Value> {
    let found = gateway.ledger.texts().of(id).await.map_err(failed)?;
    Ok(found.map_or(Value::Null, |text| {
        json!({
            "request": text.request,
            "request_is_cut": text.request_is_cut,
            "answer": text.answer,
            "answer_is_cut": text.answer_is_cut,
            "delete_after": table::time(text.delete_after_ms),
        })
    }))
}

pub(super) async fn delete_of_call(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        taken_from_operator(&gateway, request).await?;
        let call_id = CallId::parse(&id).ok_or_else(|| unknown_call(&id))?;
        // Deleting twice is no mistake: the text is as gone as was wished.
        let n_deleted = u64::from(gateway.ledger.texts().delete(call_id).await.map_err(failed)?);
        tracing::info!(call.id = %call_id, n_deleted, "the operator had the text of a call deleted");
        Ok(json!({"object": "call.text", "id": call_id.to_string(), "n_deleted": n_deleted}))
    };
    respond(answer.await)
}

pub(super) async fn delete_of_team(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        taken_from_operator(&gateway, request).await?;
        // A team that is configured no more may have left texts, so any name will do.
        let team = TeamName::from(&name);
        let n_deleted = gateway.ledger.texts().delete_of(&team).await.map_err(failed)?;
        tracing::info!(%team, n_deleted, "the operator had the texts of a team deleted");
        Ok(json!({"object": "team.text", "team": team, "n_deleted": n_deleted}))
    };
    respond(answer.await)
}

fn failed(error: TextError) -> Error {
    unreadable(&error)
}
