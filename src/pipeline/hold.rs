//! Stage 5: sets the worst-case cost aside. Only what is held may be sent.

use std::sync::Arc;

use super::admit::Admitted;
use super::call::Call;
use super::plan::Planned;
use super::timeline::Stage;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::ledger::entry::{AnswerPath, CacheOutcome, Entry};
use crate::ledger::{Hold, HoldAsk};

/// Money set aside for a planned call: the leave to send it.
#[derive(Debug)]
#[must_use = "a hold that is dropped is released"]
pub(super) struct Held {
    pub(super) hold: Hold,
}

pub(super) fn hold(
    gateway: &Gateway,
    admitted: &Admitted,
    call: &Call,
    planned: &Planned,
    cache: CacheOutcome,
) -> Result<Held> {
    let mut entry_draft = draft(admitted, call);
    entry_draft.score = planned.scored.map(|scored| scored.score);
    entry_draft.score_source = planned.scored.map(|scored| scored.source.as_str().to_owned());
    entry_draft.cache = cache;
    entry_draft.tier = planned.plan.first.tier.clone();
    entry_draft.reason = planned.plan.reason.to_string();
    entry_draft.path = AnswerPath::Upstream;
    // What a crash would post; `None` where a model without a price is metered as null.
    entry_draft.cost = planned.plan.first.ceiling.map(|_| planned.plan.ceiling);
    let budgets = Arc::clone(&admitted.caller.team.budgets);
    let ask = HoldAsk { entry_draft, ceiling: planned.plan.ceiling, budgets };
    let held = gateway.ledger.hold(ask).map(|hold| Held { hold });
    call.mark(Stage::Held);
    held.map_err(|refused| Error::of_hold(&refused, gateway.clock.now_ms()))
}

/// The row of a call, as far as it is known before anything answers.
pub(super) fn draft(admitted: &Admitted, call: &Call) -> Entry {
    let team = admitted.caller.team.name.clone();
    let request = &call.request;
    let mut entry = Entry::draft(call.id, call.ts_ms, team, request.endpoint.as_str(), request.route.clone());
    entry.key = admitted.caller.key.clone();
    entry.user = call.user().map(str::to_owned);
    entry.tags = call.options.tags.clone();
    if let Some(assigned) = admitted.assignment.arm() {
        entry.split = Some(assigned.split().name.to_string());
        entry.arm = Some(assigned.arm().name.to_string());
    }
    entry
}
