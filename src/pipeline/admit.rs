//! Stage 1: who calls, whether they may ask for this route, and whether it is within their limits.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::call::Call;
use crate::admission::{Caller, Pass};
use crate::chat::Request;
use crate::error::{Error, Result};
use crate::gateway::{Gateway, Live};
use crate::prompt::{Canonical, estimate_tokens, normalize};

/// A call that may go on. Its slot in the team's concurrency is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    pub caller: Caller,
    pub pass: Pass,
    /// The configuration this call is answered under, whatever is reloaded meanwhile.
    pub live: Arc<Live>,
    pub canonical: Canonical,
}

pub(super) async fn admit(gateway: &Gateway, call: &Call) -> Result<Admitted> {
    let live = gateway.live();
    let key = call.options.key.as_ref().map(ExposeSecret::expose_secret);
    let caller = live.key_ring().admit(key, call.ts_ms)?;
    let route = &call.request.route;
    if !caller.may_ask(route) {
        return Err(Error::route_not_allowed(route));
    }
    if live.config.catalog.route(route).is_none() {
        return Err(crate::routing::NoPlan::UnknownRoute { route: route.clone() }.into());
    }
    let n_tokens = likely_tokens(&call.request);
    let pass = gateway.limiter.admit(&caller.team.name, &caller.team.limits, n_tokens).await?;
    let scope = call.options.cache_scope.as_deref().unwrap_or("");
    // Who wants no cheaper tier must not get a cheaper tier's answer.
    let min_tier = call.options.min_tier.as_ref().map_or("", |tier| tier.as_str());
    let share = [caller.team.name.as_str(), scope, min_tier];
    let canonical = normalize(&call.request, &share);
    Ok(Admitted { caller, pass, live, canonical })
}

/// What a call will take of the tokens a minute, until its usage is known.
pub(super) fn likely_tokens(request: &Request) -> u64 {
    estimate_tokens(request.n_chars())
}
