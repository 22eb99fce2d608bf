//! Stage 2: whether an earlier answer may be given again.
//!
//! Never fails: a cache that is down is a miss.

use super::admit::Admitted;
use super::call::Call;
use super::timeline::Stage;
use crate::cache::policy::{Allowed, Eligibility, Ineligible, RequestFacts, eligibility};
use crate::cache::{Bypassed, CacheConfig, Fill, Found, Hit, Question};
use crate::gateway::Gateway;
use crate::ledger::entry::CacheOutcome;
use crate::routing::split::ArmCache;

/// What the caches said.
pub(super) enum Lookup {
    Hit(Hit),
    /// Given, and asked anew in the background: the fresh answer goes in here.
    Audited(Hit, Fill),
    Miss(Filling),
}

/// What to do with the answer that somebody else has to give now.
pub(super) enum Filling {
    /// Put it here; others may be waiting for it.
    Fill { fill: Fill, semantic: Result<(), Ineligible> },
    /// The same, of a call of our own: it is compared with the answer that was given.
    Audit(Fill),
    /// Keep nothing of what a call of our own says of two answers.
    Judge,
    /// Keep nothing.
    Bypass(Ineligible),
}

/// What the row of a call says of the cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub outcome: CacheOutcome,
    pub why: Option<Ineligible>,
}

impl Filling {
    pub(super) fn said(&self) -> Said {
        match self {
            Self::Fill { semantic, .. } => Said { outcome: CacheOutcome::Miss, why: semantic.err() },
            Self::Audit(_) | Self::Judge => Said { outcome: CacheOutcome::Audit, why: None },
            Self::Bypass(why) => Said { outcome: CacheOutcome::Bypass, why: Some(*why) },
        }
    }

    pub(super) fn into_fill(self) -> Option<Fill> {
        match self {
            Self::Fill { fill, .. } | Self::Audit(fill) => Some(fill),
            Self::Judge | Self::Bypass(_) => None,
        }
    }
}

pub(super) async fn lookup(gateway: &Gateway, admitted: &Admitted, call: &Call) -> Lookup {
    let Eligibility { exact, semantic } = open_tiers(admitted, call);
    if let Err(why) = exact {
        return Lookup::Miss(Filling::Bypass(why));
    }
    let mut control = call.options.control;
    if let ArmCache::Stricter(bar) = arm_cache(admitted) {
        control.min_similarity = Some(control.min_similarity.map_or(bar, |asked| asked.max(bar)));
    }
    let canonical = &admitted.canonical;
    let question = Question {
        exact: canonical.exact,
        scope: canonical.scope,
        text: canonical.question.as_deref().filter(|_| semantic.is_ok()),
        control,
        promise: &format!("{}/{}", admitted.caller.team.name, call.request.route),
        draw: rand::random(),
        may_audit: semantic.is_ok() && may_audit(gateway, admitted, call),
    };
    let found = gateway.cache.find(&question, call.ts_ms).await;
    call.mark(Stage::LookedUp);
    match found {
        Found::Hit(hit) => Lookup::Hit(hit),
        Found::Audited(hit, fill) => Lookup::Audited(hit, fill),
        Found::Miss(fill) => Lookup::Miss(Filling::Fill { fill, semantic }),
        Found::Bypass(Bypassed::Off) => Lookup::Miss(Filling::Bypass(Ineligible::Off)),
        Found::Bypass(Bypassed::Client) => Lookup::Miss(Filling::Bypass(Ineligible::Client)),
    }
}

fn may_audit(gateway: &Gateway, admitted: &Admitted, call: &Call) -> bool {
    let usd_per_day = admitted.live.config.cache.semantic.audit_usd_per_day;
    gateway.audits.have_room(&gateway.ledger, usd_per_day, call.ts_ms)
}

fn arm_cache(admitted: &Admitted) -> ArmCache {
    admitted.assignment.arm().map_or(ArmCache::On, |assigned| assigned.arm().cache)
}

/// The tiers that the operator, the request and its arm leave open.
fn open_tiers(admitted: &Admitted, call: &Call) -> Eligibility {
    let CacheConfig { max_temperature, personal_data, semantic, .. } = &admitted.live.config.cache;
    let (max_temperature, personal_data) = (*max_temperature, *personal_data);
    let allowed = Allowed { max_temperature, max_text_bytes: semantic.max_text_bytes, personal_data };
    let open = eligibility(&RequestFacts::of(&call.request, personal_data), &allowed);
    match arm_cache(admitted) {
        ArmCache::Off => {
            let left_out = Err(Ineligible::Arm);
            Eligibility { exact: open.exact.and(left_out), semantic: left_out }
        }
        ArmCache::Exact => Eligibility { semantic: open.semantic.and(Err(Ineligible::Arm)), ..open },
        ArmCache::On | ArmCache::Stricter(_) => open,
    }
}
