//! Teams over HTTP: make, list, change, let expire, revoke.
//!
//! What a team may do is said in the words of `[teams.NAME]`, and checked as the file's is.
//!
//! Invariants: a team of the file is changed in the file alone; every change counts at once here and within seconds
//! in other replicas; a webhook is shown by its host alone.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::read::unreadable;
use super::{asking, checked, followed, in_force, parsed, respond, table, taken_from_operator};
use crate::admission::{Team, shown_webhook};
use crate::config::both;
use crate::error::{Error, Result};
use crate::gateway::{Gateway, Live};
use crate::ledger::budget::{Budget, Of, Payer, Window};
use crate::money::NanoUsd;
use crate::team::{TeamName, TeamRecord, Term};

const MS_PER_HOUR: i64 = 3_600_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpireBody {
    /// `null` for never; it has to be said.
    #[serde(deserialize_with = "Option::deserialize")]
    in_hours: Option<u32>,
}

pub(super) async fn list(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let viewer = asking(&gateway, &request.into_parts().0)?;
        let live = gateway.live();
        let ring = live.key_ring();
        let mut data: Vec<Value> = Vec::new();
        for team in ring.teams().filter(|team| viewer.may_see(&team.name)) {
            data.push(shown(&gateway, &live, team).await);
        }
        Ok(json!({"object": "list", "data": data}))
    };
    respond(answer.await)
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let viewer = asking(&gateway, &request.into_parts().0)?;
        let name = TeamName::from(&name);
        if !viewer.may_see(&name) {
            return Err(unknown(&name));
        }
        told(&gateway, &name).await
    };
    respond(answer.await)
}

pub(super) async fn create(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let mut given: Map<String, Value> = parsed(&body)?;
        let name = new_name(&mut given)?;
        let now_ms = gateway.clock.now_ms();
        let term = Term::from(now_ms, new_end(&mut given, now_ms)?);
        let live = gateway.live();
        if live.config.has_team(&name) {
            return Err(in_file(&name));
        }
        let (config, team) = checked(live.config.read_team(&name, &Value::Object(given), term))?;
        followed(&gateway, &name, &team.budgets).await?;
        let record = TeamRecord { name, config, changed_ms: now_ms, term };
        let is_new =
            gateway.ledger.keys().teams().create(&record).await.map_err(|error| unreadable(&error))?;
        if !is_new {
            return Err(conflict(format!(
                "there is a team `{}` already, or there was one; change it, or choose another name",
                record.name
            )));
        }
        in_force(&gateway).await?;
        told(&gateway, &record.name).await
    };
    respond(answer.await)
}

pub(super) async fn replace(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let given: Map<String, Value> = parsed(&body)?;
        put(&gateway, &TeamName::from(&name), |_| Value::Object(given)).await
    };
    respond(answer.await)
}

/// Fields that are given take the place of those that were, lists as a whole; `null` takes one out.
pub(super) async fn change(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let given: Map<String, Value> = parsed(&body)?;
        put(&gateway, &TeamName::from(&name), |was| merged(was, Value::Object(given))).await
    };
    respond(answer.await)
}

pub(super) async fn expire(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let body: ExpireBody = parsed(&body)?;
        let team = known(&gateway, &TeamName::from(&name)).await?;
        let now_ms = gateway.clock.now_ms();
        let at_ms = body.in_hours.map(|hours| now_ms + i64::from(hours) * MS_PER_HOUR);
        let teams = gateway.ledger.keys().teams();
        if !teams.expire(&team.name, at_ms, now_ms).await.map_err(|error| unreadable(&error))? {
            return Err(revoked(&team.name));
        }
        in_force(&gateway).await?;
        told(&gateway, &team.name).await
    };
    respond(answer.await)
}

pub(super) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        taken_from_operator(&gateway, request).await?;
        let team = known(&gateway, &TeamName::from(&name)).await?;
        // Revoking twice is no mistake: the team is as gone as was wished.
        let revoked = gateway.ledger.keys().teams().revoke(&team.name, gateway.clock.now_ms()).await;
        revoked.map_err(|error| unreadable(&error))?;
        in_force(&gateway).await?;
        told(&gateway, &team.name).await
    };
    respond(answer.await)
}

/// Stores what `make` makes of a team's document, and lets it count.
pub(super) async fn put(
    gateway: &Gateway,
    name: &TeamName,
    make: impl FnOnce(Value) -> Value,
) -> Result<Value> {
    let old = known(gateway, name).await?;
    if old.term.revoked_ms.is_some() {
        return Err(revoked(name));
    }
    // One that cannot be read is written anew.
    let was: Map<String, Value> = serde_json::from_str(old.config.as_str()).unwrap_or_default();
    let webhook = was.get("webhook").and_then(Value::as_str).map(str::to_owned);
    let mut wanted = make(Value::Object(was));
    // What was read here and sent back is no new address.
    if let Some(url) = webhook.filter(|url| wanted["webhook"] == shown_webhook(url)) {
        wanted["webhook"] = Value::from(url);
    }
    let (config, team) = checked(gateway.live().config.read_team(name, &wanted, old.term))?;
    followed(gateway, name, &team.budgets).await?;
    let teams = gateway.ledger.keys().teams();
    let now_ms = gateway.clock.now_ms();
    if !teams.replace(&old, &config, now_ms).await.map_err(|error| unreadable(&error))? {
        return Err(conflict(format!(
            "team `{name}` was changed by somebody else meanwhile; read it and try again"
        )));
    }
    in_force(gateway).await?;
    told(gateway, name).await
}

/// RFC 7396.
fn merged(was: Value, given: Value) -> Value {
    let Value::Object(given) = given else { return given };
    let mut fields = match was {
        Value::Object(fields) => fields,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    for (name, value) in given {
        let before = fields.remove(&name).unwrap_or(Value::Null);
        if !value.is_null() {
            fields.insert(name, merged(before, value));
        }
    }
    Value::Object(fields)
}

fn new_name(given: &mut Map<String, Value>) -> Result<TeamName> {
    let bad = |message: &str| Err(Error::invalid(message).with_param("name"));
    let Some(Value::String(name)) = given.remove("name") else {
        return bad("`name` is missing, or no text; name the team");
    };
    match TeamName::fault(name.trim()) {
        Some(fault) => bad(&format!("`name` {fault}")),
        None => Ok(TeamName::from(name.trim())),
    }
}

fn new_end(given: &mut Map<String, Value>, now_ms: i64) -> Result<Option<i64>> {
    let Some(hours) = given.remove("expires_in_hours").filter(|hours| !hours.is_null()) else {
        return Ok(None);
    };
    let Some(hours) = hours.as_u64().and_then(|hours| u32::try_from(hours).ok()) else {
        let message = "`expires_in_hours` is no whole number of hours; leave it out for never";
        return Err(Error::invalid(message).with_param("expires_in_hours"));
    };
    Ok(Some(now_ms + i64::from(hours) * MS_PER_HOUR))
}

/// A team that may be changed here.
pub(super) async fn known(gateway: &Gateway, name: &TeamName) -> Result<TeamRecord> {
    if gateway.live().config.has_team(name) {
        return Err(in_file(name));
    }
    let found = gateway.ledger.keys().teams().find(name).await.map_err(|error| unreadable(&error))?;
    found.ok_or_else(|| unknown(name))
}

fn in_file(name: &TeamName) -> Error {
    Error::invalid(format!("team `{name}` stands in the configuration file; change it there"))
        .with_param("name")
}

fn revoked(name: &TeamName) -> Error {
    Error::invalid(format!("team `{name}` was revoked; make one of another name instead")).with_param("name")
}

pub(super) fn unknown(name: &TeamName) -> Error {
    let message = format!("there is no team `{name}`; `GET /admin/v1/teams` lists them");
    let mut error = Error::invalid(message).with_code("unknown_team").with_param("name");
    error.status = 404;
    error
}

fn conflict(message: String) -> Error {
    let mut error = Error::invalid(message).with_code("conflict").with_param("name");
    error.status = 409;
    error.should_retry = Some(false);
    error
}

async fn told(gateway: &Gateway, name: &TeamName) -> Result<Value> {
    let live = gateway.live();
    let ring = live.key_ring();
    let team = ring.team(name).ok_or_else(|| unknown(name))?;
    Ok(shown(gateway, &live, team).await)
}

/// What a team may do and how that stands. Whatever else its document says is shown as it was given.
async fn shown(gateway: &Gateway, live: &Live, team: &Team) -> Value {
    let now_ms = gateway.clock.now_ms();
    let members = live.members();
    let in_file = live.config.has_team(&team.name);
    let record = members.roster.team(&team.name).filter(|_| !in_file);
    let kept_in = if in_file { Some("file") } else { record.map(|_| "database") };
    let state = if team.is_unreadable { "unreadable" } else { team.term.state(now_ms).as_str() };
    let limits: Map<String, Value> =
        team.limits.given().map(|(what, limit)| (what.to_owned(), Value::from(limit))).collect();
    let mut told = json!({
        "object": "team",
        "name": team.name,
        "kept_in": kept_in,
        "state": state,
        "note": note(live, team, now_ms),
        "created_ms": record.map(|record| record.term.created_ms),
        "changed_ms": record.map(|record| record.changed_ms),
        "expires_ms": team.term.expires_ms,
        "revoked_ms": team.term.revoked_ms,
        "routes": team.routes,
        "budgets": &team.budgets[..],
        "limits": limits,
        "webhook": team.shown_webhook(),
        "text_kept_days": team.text.map(|keep| keep.days),
        "spent_usd": spent(gateway, &team.name).await,
        "remaining_usd": remaining(gateway, team).map(|left| left.to_string()),
        "calls_in_flight": gateway.limiter.in_flight(&team.name),
    });
    let document = record.and_then(|record| serde_json::from_str(record.config.as_str()).ok());
    if let (Some(Value::Object(document)), Some(told)) = (document, told.as_object_mut()) {
        for (name, value) in document {
            told.entry(name).or_insert(value);
        }
    }
    told
}

/// What an operator may not expect of a team.
fn note(live: &Live, team: &Team, now_ms: i64) -> Option<String> {
    let members = live.members();
    if live.config.has_team(&team.name) {
        return members.roster.team(&team.name).map(|_| both(&team.name));
    }
    if team.is_unreadable {
        return Some(
            "what is kept of it cannot be read, so its keys open nothing; the log says why".to_owned(),
        );
    }
    let unlimited = members.ring.unlimited_teams(now_ms);
    let names = unlimited.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| {
        format!("keys from before the first team go on without limits, of: {names}; make these teams, too")
    })
}

/// Of the budgets that the team has as a whole.
fn remaining(gateway: &Gateway, team: &Team) -> Option<NanoUsd> {
    let of_all: Vec<Budget> = team.budgets.iter().filter(|budget| budget.of == Of::Team).cloned().collect();
    gateway.ledger.remaining(&Payer::of_team(&team.name), &of_all)
}

/// All replicas together; where they cannot be asked, as this one last heard.
async fn spent(gateway: &Gateway, team: &TeamName) -> Value {
    let mut windows = Map::new();
    for window in Window::ALL {
        let budget = Budget::new(NanoUsd::ZERO, window);
        let of_all = gateway.ledger.balance_of_all(&Payer::of_team(team), &budget).await;
        let balance = of_all.unwrap_or_else(|_| gateway.ledger.balance(team, window));
        let told = json!({
            "spent_usd": balance.spent.to_string(),
            "held_usd": balance.held.to_string(),
            "resets_at": table::time(balance.resets_at_ms),
        });
        windows.insert(window.to_string(), told);
    }
    Value::Object(windows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_takes_the_place_of_what_was_and_null_takes_it_out() {
        for (was, given, expected) in [
            (json!({"a": 1, "b": 2}), json!({"a": 3}), json!({"a": 3, "b": 2})),
            (json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 3}}), json!({"a": {"x": 3, "y": 2}})),
            (json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": null}}), json!({"a": {"y": 2}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({"a": 1}), json!({"a": null, "b": null}), json!({})),
            (json!({}), json!({"a": {"b": {"c": null}}}), json!({"a": {"b": {}}})),
        ] {
            assert_eq!(merged(was.clone(), given.clone()), expected, "{was} {given}");
        }
    }
}
