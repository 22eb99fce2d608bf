//! `/v1/models`: the routes a key may ask for, in OpenAI's wire format.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::calls::{read_options, refuse};
use super::respond::json_response;
use crate::admission::Caller;
use crate::error::{Error, Result};
use crate::gateway::{Gateway, Live};
use crate::pipeline::Options;
use crate::routing::{NoPlan, Route};
use crate::team::RouteName;

pub(super) async fn list(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    respond(visible(&gateway, &headers).map(|routes| json!({"object": "list", "data": routes})))
}

pub(super) async fn one(
    State(gateway): State<Arc<Gateway>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let found = visible(&gateway, &headers).and_then(|routes| {
        let route = routes.into_iter().find(|route| route["id"] == *name);
        route.ok_or_else(|| Error::from(NoPlan::UnknownRoute { route: RouteName::from(&name) }))
    });
    respond(found)
}

fn respond(found: Result<Value>) -> Response {
    match found {
        Ok(body) => json_response(StatusCode::OK, body.to_string()),
        Err(error) => refuse(&error),
    }
}

fn visible(gateway: &Gateway, headers: &HeaderMap) -> Result<Vec<Value>> {
    let live = gateway.live();
    let caller = check_key(&live, &read_options(headers)?, gateway.clock.now_ms())?;
    Ok(live.config.catalog.routes().filter(|route| caller.may_ask(&route.name)).map(describe).collect())
}

pub(super) fn check_key(live: &Live, options: &Options, now_ms: i64) -> Result<Caller> {
    let key = options.key.as_ref().map(ExposeSecret::expose_secret);
    Ok(live.key_ring().admit(key, now_ms)?)
}

fn describe(route: &Route) -> Value {
    json!({"id": route.name, "object": "model", "created": 0, "owned_by": "stiver"})
}
