//! The decision and the predicted cost of a call, with nothing called and nothing held.
//!
//! Runs the same stages as a call up to the plan; the cache is left out, because looking changes it.

use serde_json::{Value, json};

use super::admit::admit;
use super::call::Call;
use super::plan::plan;
use super::score::score;
use crate::error::Result;
use crate::gateway::Gateway;
use crate::prompt::estimate_tokens;
use crate::routing::split::Assignment;

pub async fn explain(gateway: &Gateway, call: &Call) -> Result<Value> {
    let admitted = admit(gateway, call).await?;
    let scored = score(gateway, &admitted, call).await;
    let planned = plan(gateway, &admitted, call, scored)?;
    let attempts: Vec<Value> = planned
        .plan
        .attempts()
        .map(|attempt| {
            json!({
                "upstream": attempt.upstream,
                "model": attempt.model,
                "tier": attempt.tier,
                "cost_usd_at_most": attempt.ceiling.map(|ceiling| ceiling.to_string()),
            })
        })
        .collect();
    Ok(json!({
        "object": "stiver.decision",
        "route": call.request.route,
        "team": admitted.caller.team.name,
        "split": split(&admitted.assignment),
        "fingerprint": admitted.canonical.exact.to_hex(),
        "score": scored.map(|scored| scored.score),
        "score_source": scored.map(|scored| scored.source.as_str()),
        "reason": planned.plan.reason.to_string(),
        "attempts": attempts,
        "input_tokens_estimated": estimate_tokens(call.request.n_chars()),
        "cost_usd_at_most": planned.plan.ceiling.to_string(),
        "baseline": planned.plan.baseline,
    }))
}

/// The arm, or why there is none; null where the route has no split.
fn split(assignment: &Assignment) -> Value {
    match assignment {
        Assignment::NoSplit => Value::Null,
        Assignment::NoUnit(split) => json!({
            "name": split.name,
            "unit": split.unit.to_string(),
            "arm": null,
            "reason": format!("{}, so it is in no arm", split.unit.why_absent()),
        }),
        Assignment::Arm(assigned) => json!({
            "name": assigned.split().name,
            "unit": assigned.split().unit.to_string(),
            "arm": assigned.arm().name,
        }),
    }
}
