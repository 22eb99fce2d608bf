//! Stage 1: who calls, whether they may ask for this route, and whether it is within their limits.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::assign::assign;
use super::call::Call;
use super::timeline::Stage;
use crate::admission::{Caller, Pass};
use crate::chat::Request;
use crate::error::{Error, Result};
use crate::gateway::{Gateway, Live};
use crate::prompt::{Canonical, estimate_tokens, normalize};
use crate::routing::Route;
use crate::routing::split::Assignment;

/// A call that may go on. Its slot in the team's concurrency is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    pub caller: Caller,
    pub pass: Pass,
    /// The configuration this call is answered under, whatever is reloaded meanwhile.
    pub live: Arc<Live>,
    /// The arm it is answered in, from here to its row.
    pub assignment: Assignment,
    pub canonical: Canonical,
}

impl Admitted {
    /// The same call, asked once more on our own account.
    pub(super) fn for_own_call(&self, gateway: &Gateway) -> Self {
        Self {
            caller: self.caller.for_own_call(),
            pass: gateway.limiter.uncounted(&self.caller.team.name),
            live: Arc::clone(&self.live),
            assignment: self.assignment.clone(),
            canonical: self.canonical.clone(),
        }
    }

    /// The route that the call asked for, as its arm sees it.
    pub(super) fn route(&self, call: &Call) -> Result<&Route> {
        match self.assignment.arm() {
            Some(assigned) => Ok(&assigned.arm().route),
            None => Ok(self.live.config.catalog.find(&call.request.route)?),
        }
    }
}

pub(super) async fn admit(gateway: &Gateway, call: &Call) -> Result<Admitted> {
    let live = gateway.live();
    let key = call.options.key.as_ref().map(ExposeSecret::expose_secret);
    let caller = live.key_ring().admit(key, call.ts_ms)?;
    let route = &call.request.route;
    if !caller.may_ask(route) {
        return Err(Error::route_not_allowed(route));
    }
    live.config.catalog.find(route)?;
    let n_tokens = likely_tokens(&call.request);
    let pass = gateway.limiter.admit(&caller.team.name, &caller.team.limits, n_tokens).await?;
    let assignment = assign(&live, &caller, call);
    let canonical = canonical(&caller, call, &assignment);
    call.mark(Stage::Admitted);
    Ok(Admitted { caller, pass, live, assignment, canonical })
}

fn canonical(caller: &Caller, call: &Call, assignment: &Assignment) -> Canonical {
    let team = caller.team.name.as_str();
    let scope = call.options.cache_scope.as_deref().unwrap_or("");
    // Who wants no cheaper tier must not get a cheaper tier's answer.
    let min_tier = call.options.min_tier.as_ref().map_or("", |tier| tier.as_str());
    match assignment.arm() {
        None => normalize(&call.request, &[team, scope, min_tier]),
        // An answer given in one arm would spoil the other's figures.
        Some(assigned) => {
            let (split, arm) = (assigned.split().name.as_str(), assigned.arm().name.as_str());
            normalize(&call.request, &[team, scope, min_tier, split, arm])
        }
    }
}

/// What a call will take of the tokens a minute, until its usage is known.
pub(super) fn likely_tokens(request: &Request) -> u64 {
    estimate_tokens(request.n_chars())
}
