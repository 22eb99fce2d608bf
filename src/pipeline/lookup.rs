//! Stage 2: whether an earlier answer may be given again.
//!
//! Never fails: a cache that is down is a miss.

use super::admit::Admitted;
use super::call::Call;
use super::timeline::Stage;
use crate::cache::policy::{Eligibility, RequestFacts, eligibility};
use crate::cache::{Fill, Found, Hit, Question};
use crate::chat::Endpoint;
use crate::gateway::Gateway;
use crate::ledger::entry::CacheOutcome;
use crate::routing::split::ArmCache;

/// What the caches said.
pub(super) enum Lookup {
    Hit(Hit),
    Miss(Filling),
}

/// What to do with the answer that somebody else has to give now.
pub(super) enum Filling {
    /// Put it here; others may be waiting for it.
    Fill(Fill),
    /// Keep nothing.
    Bypass,
}

impl Filling {
    pub(super) fn outcome(&self) -> CacheOutcome {
        match self {
            Self::Fill(_) => CacheOutcome::Miss,
            Self::Bypass => CacheOutcome::Bypass,
        }
    }
}

pub(super) async fn lookup(gateway: &Gateway, admitted: &Admitted, call: &Call) -> Lookup {
    let config = &admitted.live.config.cache;
    let own = admitted.assignment.arm().map_or(ArmCache::On, |assigned| assigned.arm().cache);
    let open = eligibility(&RequestFacts::of(&call.request), config.max_temperature);
    let Eligibility { exact: Ok(()), semantic } = open else {
        return Lookup::Miss(Filling::Bypass);
    };
    let mut control = call.options.control;
    match own {
        ArmCache::Off => return Lookup::Miss(Filling::Bypass),
        ArmCache::Stricter(bar) => {
            control.min_similarity = Some(control.min_similarity.map_or(bar, |asked| asked.max(bar)));
        }
        ArmCache::On | ArmCache::Exact => {}
    }
    let canonical = &admitted.canonical;
    let compares_by_meaning =
        semantic.is_ok() && own != ArmCache::Exact && call.request.endpoint == Endpoint::Chat;
    let question = Question {
        exact: canonical.exact,
        scope: canonical.scope,
        text: canonical.question.as_deref().filter(|_| compares_by_meaning),
        control,
        promise: &format!("{}/{}", admitted.caller.team.name, call.request.route),
        draw: rand::random(),
        may_audit: false,
    };
    let found = gateway.cache.find(&question, call.ts_ms).await;
    call.mark(Stage::LookedUp);
    match found {
        Found::Hit(hit) | Found::Audited(hit, _) => Lookup::Hit(hit),
        Found::Miss(fill) => Lookup::Miss(Filling::Fill(fill)),
        Found::Bypass(_) => Lookup::Miss(Filling::Bypass),
    }
}
