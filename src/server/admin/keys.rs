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

use super::{respond, taken, taken_from_operator};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::ledger::keys::{KeyError, NewKey};
use crate::team::{KeyId, KeyRecord, RouteName, TeamName};

const MS_PER_HOUR: i64 = 3_600_000;
const MAX_NAME_CHARS: usize = 128;
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
        let of_file = live.config.keys.iter().map(|key| shown(key, "file", now_ms));
        let stored = all.iter().map(|key| shown(key, "database", now_ms));
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
        Ok(shown(&key, "database", gateway.clock.now_ms()))
    };
    respond(answer.await)
}

pub(super) async fn create(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let body: CreateBody = read(&body)?;
        let new = checked(&gateway, body)?;
        let now_ms = gateway.clock.now_ms();
        let made = gateway.ledger.keys().create(new, now_ms).await.map_err(failed)?;
        gateway.refresh_keys().await;
        Ok(with_secret(&made, now_ms))
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
        let body: RotateBody = if body.is_empty() { RotateBody::default() } else { read(&body)? };
        let old = known(&gateway, &id).await?;
        let now_ms = gateway.clock.now_ms();
        if old.revoked_ms.is_some() {
            return Err(Error::invalid(format!("key `{id}` was revoked; make a new one instead")));
        }
        let until_ms = now_ms + i64::from(body.grace_hours.unwrap_or(GRACE_HOURS)) * MS_PER_HOUR;
        let made = gateway.ledger.keys().rotate(&old, until_ms, now_ms).await.map_err(failed)?;
        gateway.refresh_keys().await;
        let mut told = with_secret(&made, now_ms);
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
        let body: ExpireBody = read(&body)?;
        let key = known(&gateway, &id).await?;
        let at_ms = gateway.clock.now_ms() + i64::from(body.in_hours) * MS_PER_HOUR;
        let is_sooner = gateway.ledger.keys().expire(&key.id, at_ms).await.map_err(failed)?;
        if !is_sooner {
            let message = format!("key `{id}` was revoked or expires before that anyway");
            return Err(Error::invalid(message).with_param("in_hours"));
        }
        gateway.refresh_keys().await;
        Ok(shown(&known(&gateway, &id).await?, "database", gateway.clock.now_ms()))
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
        gateway.refresh_keys().await;
        Ok(shown(&known(&gateway, &id).await?, "database", now_ms))
    };
    respond(answer.await)
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body)
        .map_err(|error| Error::invalid(format!("the body is not as expected: {error}")))
}

fn checked(gateway: &Gateway, body: CreateBody) -> Result<NewKey> {
    let live = gateway.live();
    let team = TeamName::from(body.team.trim());
    let config = &live.config;
    if team.as_str().is_empty() || (!config.teams.is_empty() && !config.teams.contains_key(&team)) {
        let known = config.teams.keys().map(TeamName::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("there is no team `{team}`; there are: {known}");
        return Err(Error::invalid(message).with_param("team"));
    }
    for (param, text) in [("team", team.as_str()), ("name", body.name.as_str())] {
        if text.chars().count() > MAX_NAME_CHARS {
            let message = format!("`{param}` is longer than {MAX_NAME_CHARS} characters; shorten it");
            return Err(Error::invalid(message).with_param(param));
        }
    }
    let routes: Option<Vec<RouteName>> =
        body.routes.map(|routes| routes.iter().map(RouteName::from).collect());
    let is_unknown = |route: &&RouteName| config.catalog.route(route).is_none();
    if let Some(unknown) = routes.iter().flatten().find(is_unknown) {
        let message = format!("there is no route `{unknown}`; `GET /v1/models` lists the routes");
        return Err(Error::invalid(message).with_param("routes"));
    }
    let hours_ms = |hours: u32| gateway.clock.now_ms() + i64::from(hours) * MS_PER_HOUR;
    Ok(NewKey { name: body.name, team, routes, expires_ms: body.expires_in_hours.map(hours_ms) })
}

async fn known(gateway: &Gateway, id: &str) -> Result<KeyRecord> {
    let all = gateway.ledger.keys().load_all().await.map_err(failed)?;
    let live = gateway.live();
    if live.config.keys.iter().any(|key| key.id.as_str() == id) {
        let message = format!("key `{id}` stands in the configuration file; change it there");
        return Err(Error::invalid(message).with_param("id"));
    }
    all.into_iter().find(|key| key.id.as_str() == id).ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Error {
    let message = format!("there is no key `{id}`; `GET /admin/v1/keys` lists them");
    let mut error = Error::invalid(message).with_code("unknown_key").with_param("id");
    error.status = 404;
    error
}

fn failed(error: KeyError) -> Error {
    super::read::unreadable(&error)
}

fn with_secret((key, secret): &(KeyRecord, SecretString), now_ms: i64) -> Value {
    let mut told = shown(key, "database", now_ms);
    told["key"] = Value::from(secret.expose_secret());
    told
}

fn shown(key: &KeyRecord, kept_in: &str, now_ms: i64) -> Value {
    let is_expired = key.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms);
    let state = match (key.revoked_ms, is_expired) {
        (Some(_), _) => "revoked",
        (None, true) => "expired",
        (None, false) => "good",
    };
    json!({
        "object": "key",
        "id": key.id,
        "name": key.name,
        "team": key.team,
        "routes": key.routes,
        "kept_in": kept_in,
        "state": state,
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "revoked_ms": key.revoked_ms,
    })
}
