//! Stage 4: where the call goes. Gathers the facts; `routing::decide` decides.

use std::collections::BTreeSet;

use super::admit::Admitted;
use super::call::Call;
use super::timeline::Stage;
use crate::complexity::Scored;
use crate::error::Result;
use crate::gateway::Gateway;
use crate::prompt::most_input_tokens;
use crate::routing::{Facts, Plan, Reason, decide};
use crate::team::UpstreamName;

/// A plan and the score it was made from.
#[derive(Debug)]
pub(super) struct Planned {
    pub plan: Plan,
    pub scored: Option<Scored>,
}

pub(super) fn plan(
    gateway: &Gateway,
    admitted: &Admitted,
    call: &Call,
    scored: Option<Scored>,
) -> Result<Planned> {
    plan_among(gateway, admitted, call, scored, Among::All)
}

/// The plan of a call that a budget leaves only answers of the house's own, and `why`; none if there are none.
pub(super) fn plan_local(
    gateway: &Gateway,
    admitted: &Admitted,
    call: &Call,
    scored: Option<Scored>,
    why: String,
) -> Option<Planned> {
    let mut planned = plan_among(gateway, admitted, call, scored, Among::Local).ok()?;
    planned.plan.reason = Reason::OnlyLocal { why };
    Some(planned)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    All,
    Local,
}

fn plan_among(
    gateway: &Gateway,
    admitted: &Admitted,
    call: &Call,
    scored: Option<Scored>,
    among: Among,
) -> Result<Planned> {
    let config = &admitted.live.config;
    let tripped: BTreeSet<UpstreamName> = gateway.tripped(&admitted.live);
    let own_prices = admitted.live.own_prices();
    let request = &call.request;
    let facts = Facts {
        endpoint: request.endpoint,
        // A route with one rung is not scored and does not look at it.
        score: scored.map_or(1.0, |scored| scored.score),
        min_tier: call.options.min_tier.as_ref(),
        has_media: request.has_media(),
        has_tools: request.has_tools,
        most_input_tokens: most_input_tokens(request),
        max_output_tokens: request.max_output_tokens,
        n_prompts: request.n_prompts(),
        n_answers: request.n_answers(),
        may_be_audio: request.may_be_audio(),
        max_cost: call.options.max_cost,
        tripped: &tripped,
        prices: &config.prices,
        own_prices: &own_prices,
        unknown_price: config.pricing.unknown_price,
        only_local: among == Among::Local,
        now_ms: call.ts_ms,
    };
    let plan = decide(&config.catalog, admitted.route(call)?, &facts)?;
    call.mark(Stage::Planned);
    Ok(Planned { plan, scored })
}
