//! The order of rungs for one call: the rung its score falls on, then dearer ones, then cheaper ones.
//!
//! Knows nothing of health or price; those only leave upstreams out of the order given here.

use super::catalog::{FallBack, Route};
use super::{NoPlan, Reason};
use crate::team::{TierName, UpstreamName};

/// The rung a call is meant for.
pub(super) struct Choice {
    pub(super) rung_idx: usize,
    pub(super) reason: Reason,
}

pub(super) fn choose(route: &Route, score: f32, min_tier: Option<&TierName>) -> Result<Choice, NoPlan> {
    let last = route.rungs.len() - 1;
    let by_score = route.rungs.iter().position(|rung| score <= rung.up_to).unwrap_or(last);
    let floor = match min_tier {
        None => 0,
        Some(tier) => {
            route.rungs.iter().position(|rung| rung.tier == *tier).ok_or_else(|| unknown_tier(route, tier))?
        }
    };
    let reason = match min_tier {
        _ if !route.has_ladder() => Reason::Direct,
        Some(asked) if floor > by_score => Reason::MinTier { asked: asked.clone() },
        Some(_) | None => Reason::Score { score, up_to: route.rungs[by_score].up_to },
    };
    Ok(Choice { rung_idx: by_score.max(floor), reason })
}

fn unknown_tier(route: &Route, tier: &TierName) -> NoPlan {
    let known = route.rungs.iter().map(|rung| format!("`{}`", rung.tier)).collect::<Vec<_>>().join(", ");
    NoPlan::UnknownTier { route: route.name.clone(), tier: tier.clone(), known }
}

/// Every upstream of the route in the order of preference, with its tier.
pub(super) fn in_order(route: &Route, rung_idx: usize) -> impl Iterator<Item = (&TierName, &UpstreamName)> {
    let cheaper = match route.fall_back {
        FallBack::Any => &route.rungs[..rung_idx],
        FallBack::Up => &[],
    };
    let rungs = route.rungs[rung_idx..].iter().chain(cheaper.iter().rev());
    rungs.flat_map(|rung| rung.upstreams.iter().map(|upstream| (&rung.tier, upstream)))
}
