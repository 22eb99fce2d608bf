//! The last step of admission: what unit a call belongs to, and so which arm of its route's split.
//!
//! Reads the unit off the call; `routing::split` chooses. A unit is hashed and forgotten, never kept.

use std::borrow::Cow;

use super::admit::Admitted;
use super::call::Call;
use crate::admission::Caller;
use crate::gateway::{Gateway, Live};
use crate::prompt::opening;
use crate::routing::split::{Assignment, Unit};
use crate::telemetry::events::{SplitMatched, SplitMissed};

pub(super) fn assign(live: &Live, caller: &Caller, call: &Call) -> Assignment {
    live.config.splits.assign(&call.request.route, |unit| unit_of(unit, caller, call))
}

/// What is kept in one arm; `None` where the call has no such thing.
fn unit_of<'a>(unit: &Unit, caller: &'a Caller, call: &'a Call) -> Option<Cow<'a, str>> {
    let found = match unit {
        Unit::User => call.user().map(Cow::Borrowed),
        Unit::Key => caller.key.as_ref().map(|key| Cow::Borrowed(key.as_str())),
        Unit::Header(name) => call.options.header(name).map(Cow::Borrowed),
        Unit::Conversation => {
            // Two who begin with the same words hold two conversations.
            let who = [caller.team.name.as_str(), call.user().unwrap_or("")];
            opening(&call.request, &who).map(|opening| Cow::Owned(opening.to_hex()))
        }
    };
    found.filter(|unit| !unit.is_empty())
}

/// Counts a call that is going to be answered in its arm.
pub(super) fn count(gateway: &Gateway, admitted: &Admitted, call: &Call) {
    match &admitted.assignment {
        Assignment::NoSplit => {}
        Assignment::NoUnit(split) => SplitMissed { split: split.name.as_str() }.emit(),
        Assignment::Arm(assigned) => {
            let (split, arm) = (&assigned.split().name, &assigned.arm().name);
            gateway.split_watch.matched(split, call.ts_ms);
            SplitMatched { split: split.as_str(), arm: arm.as_str() }.emit();
        }
    }
}
