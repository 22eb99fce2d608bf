//! Stage 5: sets the worst-case cost aside. Only what is held may be sent.
//!
//! Where only a budget that leaves local answers cannot cover a call, the call is planned again among
//! upstreams of the house's own.
//!
//! Invariant: the plan that is handed back is the one that the money is held for.

use std::sync::Arc;

use super::admit::Admitted;
use super::call::{Call, Errand};
use super::lookup::Said;
use super::plan::{Planned, plan_local};
use super::text::asked;
use super::timeline::Stage;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::ledger::budget::{Budget, OnExceed, Payer};
use crate::ledger::entry::{AnswerPath, CacheOutcome, Entry};
use crate::ledger::{Hold, HoldAsk, HoldError};
use crate::money::NanoUsd;

/// Money set aside for a planned call: the leave to send it.
#[derive(Debug)]
#[must_use = "a hold that is dropped is released"]
pub(super) struct Held {
    pub(super) hold: Hold,
}

impl Held {
    fn with_text(mut hold: Hold, admitted: &Admitted, call: &Call) -> Self {
        if let Some(text) = asked(admitted, call) {
            hold.keep_text(text);
        }
        Self { hold }
    }
}

pub(super) async fn hold(
    gateway: &Gateway,
    admitted: &Admitted,
    call: &Call,
    planned: Planned,
    said: Said,
) -> Result<(Planned, Held)> {
    let budgets = Arc::clone(&admitted.caller.budgets);
    let of_hold = |refused: &HoldError| Error::of_hold(refused, gateway.clock.now_ms());
    let refused = match gateway.ledger.hold(ask(admitted, call, &planned, said, budgets)).await {
        Ok(hold) => {
            call.mark(Stage::Held);
            return Ok((planned, Held::with_text(hold, admitted, call)));
        }
        Err(refused) => refused,
    };
    let HoldError::BudgetExceeded { on_exceed: OnExceed::LocalOnly, .. } = &refused else {
        call.mark(Stage::Held);
        return Err(of_hold(&refused));
    };
    let Some(planned) = plan_local(gateway, admitted, call, planned.scored, refused.to_string()) else {
        return Err(of_hold(&refused));
    };
    let is_left = |budget: &&Budget| budget.on_exceed != OnExceed::LocalOnly;
    let others = admitted.caller.budgets.iter().filter(is_left).cloned().collect();
    let held = gateway.ledger.hold(ask(admitted, call, &planned, said, others)).await;
    call.mark(Stage::Held);
    let hold = held.map_err(|refused| of_hold(&refused))?;
    Ok((planned, Held::with_text(hold, admitted, call)))
}

fn ask(admitted: &Admitted, call: &Call, planned: &Planned, said: Said, budgets: Arc<[Budget]>) -> HoldAsk {
    let mut entry_draft = draft(admitted, call);
    entry_draft.score = planned.scored.map(|scored| scored.score);
    entry_draft.score_source = planned.scored.map(|scored| scored.source.as_str().to_owned());
    entry_draft.cache = said.outcome;
    entry_draft.cache_why = said.why.map(|why| why.as_str().to_owned());
    let is_of_entry = !matches!(call.errand(), Some(Errand::Judge(_)));
    if said.outcome != CacheOutcome::Bypass && is_of_entry {
        entry_draft.cache_entry = Some(admitted.canonical.exact.to_hex());
    }
    entry_draft.tier = planned.plan.first.tier.clone();
    entry_draft.reason = planned.plan.reason.to_string();
    entry_draft.path = AnswerPath::Upstream;
    if let Some(errand) = call.errand() {
        entry_draft.reason = errand.to_string();
        // Without a cache there were nothing to check or judge, so all of it is our own cost.
        (entry_draft.path, entry_draft.baseline) = (AnswerPath::Audit, Some(NanoUsd::ZERO));
    }
    // What a crash would post; `None` where a model without a price is metered as null.
    entry_draft.cost = planned.plan.first.ceiling.map(|_| planned.plan.ceiling);
    HoldAsk { entry_draft, ceiling: planned.plan.ceiling, budgets }
}

/// The row of a call, as far as it is known before anything answers.
pub(super) fn draft(admitted: &Admitted, call: &Call) -> Entry {
    let team = admitted.caller.team.name.clone();
    let request = &call.request;
    let mut entry = Entry::draft(call.id, call.ts_ms, team, request.endpoint.as_str(), request.route.clone());
    entry.key = admitted.caller.key.clone();
    entry.user = call.user().map(str::to_owned);
    entry.tags = call.options.tags.clone();
    // What an arm's users wait for and pay is told of it, and they neither wait for an audit nor pay it.
    if let Some(assigned) = admitted.assignment.arm().filter(|_| call.errand().is_none()) {
        entry.split = Some(assigned.split().name.to_string());
        entry.arm = Some(assigned.arm().name.to_string());
    }
    entry
}

/// Whose money the call spends.
pub(super) fn payer(admitted: &Admitted, call: &Call) -> Payer {
    let (team, key) = (admitted.caller.team.name.clone(), admitted.caller.key.clone());
    Payer { team, key, user: call.user().map(Arc::from) }
}
