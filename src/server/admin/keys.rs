//! Keys over HTTP: make, list, rotate, let expire, revoke.
//!
//! Invariants: a secret is in the answer that made it and nowhere else; every change counts at once here
//! and within seconds in other replicas.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{budgets, parsed, respond, taken, taken_from_operator};
use crate::error::{Error, Result};
use crate::gateway::{Gateway, Live};
use crate::ledger::keys::{KeyError, NewKey};
use crate::team::{KeyId, KeyRecord, RouteName, TeamName, text_fault};

const MS_PER_HOUR: i64 = 3_600_000;
/// How long a rotated key still opens, unless the caller says otherwise.
const GRACE_HOURS: u32 = 24;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    team: String,
    #[serde(default)]
    name: String,
    routes: Option<Vec<String>>,
    expires_in_hours: Option<u32>,
    budgets: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RotateBody {
    grace_hours: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpireBody {
    in_hours: u32,
}

pub(super) async fn list(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let (viewer, _) = taken(&gateway, request).await?;
        let now_ms = gateway.clock.now_ms();
        let all = gateway.ledger.keys().load_all().await.map_err(failed)?;
        let live = gateway.live();
        let of_file = live.config.keys.iter().map(|key| shown(&live, key, "file", now_ms));
        let stored = all.iter().map(|key| shown(&live, key, "database", now_ms));
        let mine = |key: &Value| viewer.may_see(&TeamName::from(key["team"].as_str().unwrap_or("")));
        let data: Vec<Value> = stored.chain(of_file).filter(mine).collect();
        Ok(json!({"object": "list", "data": data}))
    };
    respond(answer.await)
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let (viewer, _) = taken(&gateway, request).await?;
        let key = known(&gateway, &id).await?;
        if !viewer.may_see(&key.team) {
            return Err(unknown(&id));
        }
        Ok(shown(&gateway.live(), &key, "database", gateway.clock.now_ms()))
    };
    respond(answer.await)
}

pub(super) async fn create(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let body: CreateBody = parsed(&body)?;
        let new = checked(&gateway, body).await?;
        let now_ms = gateway.clock.now_ms();
        let made = gateway.ledger.keys().create(new, now_ms).await.map_err(failed)?;
        refreshed(&gateway).await;
        Ok(with_secret(&gateway, &made, now_ms))
    };
    respond(answer.await)
}

pub(super) async fn rotate(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let body: RotateBody = if body.is_empty() { RotateBody::default() } else { parsed(&body)? };
        let old = known(&gateway, &id).await?;
        let now_ms = gateway.clock.now_ms();
        if old.revoked_ms.is_some() {
            return Err(Error::invalid(format!("key `{id}` was revoked; make a new one instead")));
        }
        may_have_keys(&gateway, &old.team)?;
        let until_ms = now_ms + i64::from(body.grace_hours.unwrap_or(GRACE_HOURS)) * MS_PER_HOUR;
        let made = gateway.ledger.keys().rotate(&old, until_ms, now_ms).await.map_err(failed)?;
        refreshed(&gateway).await;
        let mut told = with_secret(&gateway, &made, now_ms);
        told["replaces"] =
            json!({"id": old.id, "expires_ms": old.expires_ms.map_or(until_ms, |known| known.min(until_ms))});
        Ok(told)
    };
    respond(answer.await)
}

pub(super) async fn expire(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let body: ExpireBody = parsed(&body)?;
        let key = known(&gateway, &id).await?;
        let at_ms = gateway.clock.now_ms() + i64::from(body.in_hours) * MS_PER_HOUR;
        let is_sooner = gateway.ledger.keys().expire(&key.id, at_ms).await.map_err(failed)?;
        if !is_sooner {
            let message = format!("key `{id}` was revoked or expires before that anyway");
            return Err(Error::invalid(message).with_param("in_hours"));
        }
        refreshed(&gateway).await;
        let key = known(&gateway, &id).await?;
        Ok(shown(&gateway.live(), &key, "database", gateway.clock.now_ms()))
    };
    respond(answer.await)
}

pub(super) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let answer = async {
        taken_from_operator(&gateway, request).await?;
        known(&gateway, &id).await?;
        let now_ms = gateway.clock.now_ms();
        // Revoking twice is no mistake: the key is as dead as was wished.
        gateway.ledger.keys().revoke(&KeyId::from(&id), now_ms).await.map_err(failed)?;
        refreshed(&gateway).await;
        Ok(shown(&gateway.live(), &known(&gateway, &id).await?, "database", now_ms))
    };
    respond(answer.await)
}

/// A key that is made or gone counts now; where it cannot be read again yet, as soon as it can.
async fn refreshed(gateway: &Gateway) {
    // What hinders it was logged, and whoever made a key must get its secret all the same.
    let _ = gateway.refresh_roster().await;
}

fn may_have_keys(gateway: &Gateway, team: &TeamName) -> Result<()> {
    let said = gateway.live().key_ring().may_have_keys(team, gateway.clock.now_ms());
    said.map_err(|message| Error::invalid(message).with_param("team"))
}

async fn checked(gateway: &Gateway, body: CreateBody) -> Result<NewKey> {
    let live = gateway.live();
    let team = TeamName::from(body.team.trim());
    may_have_keys(gateway, &team)?;
    if let Some(fault) = text_fault(&body.name) {
        return Err(Error::invalid(format!("`name` {fault}")).with_param("name"));
    }
    let routes: Option<Vec<RouteName>> =
        body.routes.map(|routes| routes.iter().map(RouteName::from).collect());
    let is_unknown = |route: &&RouteName| live.config.catalog.route(route).is_none();
    if let Some(unknown) = routes.iter().flatten().find(is_unknown) {
        let message = format!("there is no route `{unknown}`; `GET /v1/models` lists the routes");
        return Err(Error::invalid(message).with_param("routes"));
    }
    let hours_ms = |hours: u32| gateway.clock.now_ms() + i64::from(hours) * MS_PER_HOUR;
    let expires_ms = body.expires_in_hours.map(hours_ms);
    let budgets = match body.budgets {
        Some(given) => budgets::checked_for_key(gateway, &team, &given).await?,
        None => None,
    };
    Ok(NewKey { name: body.name, team, routes, expires_ms, budgets })
}

pub(super) async fn known(gateway: &Gateway, id: &str) -> Result<KeyRecord> {
    let all = gateway.ledger.keys().load_all().await.map_err(failed)?;
    let live = gateway.live();
    if live.config.keys.iter().any(|key| key.id.as_str() == id) {
        let message = format!("key `{id}` stands in the configuration file; change it there");
        return Err(Error::invalid(message).with_param("id"));
    }
    all.into_iter().find(|key| key.id.as_str() == id).ok_or_else(|| unknown(id))
}

pub(super) fn unknown(id: &str) -> Error {
    let message = format!("there is no key `{id}`; `GET /admin/v1/keys` lists them");
    let mut error = Error::invalid(message).with_code("unknown_key").with_param("id");
    error.status = 404;
    error
}

fn failed(error: KeyError) -> Error {
    super::read::unreadable(&error)
}

fn with_secret(gateway: &Gateway, (key, secret): &(KeyRecord, SecretString), now_ms: i64) -> Value {
    let mut told = shown(&gateway.live(), key, "database", now_ms);
    told["key"] = Value::from(secret.expose_secret());
    told
}

fn shown(live: &Live, key: &KeyRecord, kept_in: &str, now_ms: i64) -> Value {
    json!({
        "object": "key",
        "id": key.id,
        "name": key.name,
        "team": key.team,
        "routes": key.routes,
        "budgets": live.key_ring().own_budgets(&key.id),
        "kept_in": kept_in,
        "state": key.state(now_ms).as_str(),
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms,
    })
}
