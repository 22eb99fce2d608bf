//! Budgets over HTTP: those of a team, and those that a key has besides.
//!
//! Invariants: budgets of the file are changed in the file alone; a budget is in force when the answer is sent, with
//! what its window has spent already.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{asking, checked, followed, in_force, keys, parsed, respond, table, taken_from_operator, teams};
use crate::error::{Error, Result};
use crate::gateway::{Gateway, Live};
use crate::ledger::budget::{Budget, Of, Payer};
use crate::team::{Document, KeyId, KeyRecord, TeamName};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    budgets: Vec<Value>,
}

pub(super) async fn of_team(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let viewer = asking(&gateway, &request.into_parts().0)?;
        let name = TeamName::from(&name);
        let ring = gateway.live().key_ring();
        let team = ring.team(&name).filter(|team| viewer.may_see(&team.name));
        let team = team.ok_or_else(|| teams::unknown(&name))?;
        Ok(list(&gateway, &Payer::of_team(&name), &team.budgets).await)
    };
    respond(answer.await)
}

pub(super) async fn set_of_team(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let Body { budgets } = parsed(&body)?;
        let name = TeamName::from(&name);
        let with_these = |mut was: Value| {
            was["budgets"] = Value::Array(budgets);
            was
        };
        teams::put(&gateway, &name, with_these).await?;
        let ring = gateway.live().key_ring();
        let team = ring.team(&name).ok_or_else(|| teams::unknown(&name))?;
        Ok(list(&gateway, &Payer::of_team(&name), &team.budgets).await)
    };
    respond(answer.await)
}

pub(super) async fn of_key(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let viewer = asking(&gateway, &request.into_parts().0)?;
        let live = gateway.live();
        let key =
            find(&live, &id).filter(|key| viewer.may_see(&key.team)).ok_or_else(|| keys::unknown(&id))?;
        Ok(list_of_key(&gateway, &live, &key).await)
    };
    respond(answer.await)
}

pub(super) async fn set_of_key(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let Body { budgets } = parsed(&body)?;
        let key = keys::known(&gateway, &id).await?;
        let budgets = checked_for_key(&gateway, &key.team, &Value::Array(budgets)).await?;
        let set = gateway.ledger.keys().set_budgets(&key.id, budgets.as_ref()).await;
        if !set.map_err(|error| super::read::unreadable(&error))? {
            return Err(Error::invalid(format!("key `{id}` was revoked; make a new one instead")));
        }
        in_force(&gateway).await?;
        Ok(list_of_key(&gateway, &gateway.live(), &key).await)
    };
    respond(answer.await)
}

/// What a key of `team` may spend, as it is to be kept; `None` for nothing of its own.
pub(super) async fn checked_for_key(
    gateway: &Gateway,
    team: &TeamName,
    given: &Value,
) -> Result<Option<Document>> {
    if given.is_null() {
        return Ok(None);
    }
    let (document, budgets) = checked(gateway.live().config.read_key_budgets(given))?;
    followed(gateway, team, &budgets).await?;
    Ok((!budgets.is_empty()).then_some(document))
}

/// A key of the file or of the database; the file's goes first.
fn find(live: &Live, id: &str) -> Option<KeyRecord> {
    let members = live.members();
    live.config.keys.iter().chain(&members.roster.keys).find(|key| key.id.as_str() == id).cloned()
}

async fn list_of_key(gateway: &Gateway, live: &Live, key: &KeyRecord) -> Value {
    let payer = Payer { key: Some(KeyId::clone(&key.id)), ..Payer::of_team(&key.team) };
    list(gateway, &payer, live.key_ring().own_budgets(&key.id)).await
}

async fn list(gateway: &Gateway, payer: &Payer, budgets: &[Budget]) -> Value {
    let mut data = Vec::new();
    for budget in budgets {
        data.push(standing(gateway, payer, budget).await);
    }
    json!({"object": "list", "data": data})
}

/// A budget and how it stands, all replicas together; of one that each key or each user has for itself, and while
/// the others cannot be asked, that is `null`.
async fn standing(gateway: &Gateway, payer: &Payer, budget: &Budget) -> Value {
    let is_one_account = match budget.of {
        Of::Team => true,
        Of::EachKey => payer.key.is_some(),
        Of::EachUser => false,
    };
    let balance = match is_one_account {
        true => gateway.ledger.balance_of_all(payer, budget).await.ok(),
        false => None,
    };
    let mut told = json!(budget);
    told["object"] = Value::from("budget");
    told["spent_usd"] = json!(balance.map(|balance| balance.spent.to_string()));
    told["held_usd"] = json!(balance.map(|balance| balance.held.to_string()));
    told["remaining_usd"] = json!(balance.map(|balance| balance.remaining(budget).to_string()));
    told["resets_at"] = json!(table::time(budget.calendar().span(gateway.clock.now_ms()).end_ms));
    told
}
