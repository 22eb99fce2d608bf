//! What stands in the shared store, by name.
//!
//! Invariants: every key has the prefix and its team's hash tag; names of teams, keys and users are digests,
//! of one length and not to be read by whoever sees the store.

use crate::ledger::budget::{AccountId, Warning};
use crate::shared::digest;
use crate::team::{CallId, TeamName};

/// How long an account outlives its window, for calls that began in it.
const KEPT_FOR_MS: i64 = 86_400_000;

fn key(team: &TeamName, rest: &str) -> String {
    format!("stiver:budget:{{{}}}:{rest}", digest(team.as_str()))
}

pub(super) fn leases_key(team: &TeamName) -> String {
    key(team, "leases")
}

pub(super) fn call_key(team: &TeamName, id: CallId) -> String {
    key(team, &format!("call:{id}"))
}

pub(super) fn account_key(team: &TeamName, id: &AccountId) -> String {
    let AccountId { subject, span } = id;
    let (kind, name) = (subject.kind(), digest(subject.name()));
    key(team, &format!("{kind}:{name}:{}-{}", span.start_ms, span.end_ms))
}

pub(super) fn warned_key(warning: &Warning) -> String {
    let Warning { team, subject, budget, balance } = warning;
    let line = budget.soft_line().map_or(0, crate::money::NanoUsd::get);
    let (kind, name) = (subject.kind(), digest(subject.name()));
    key(team, &format!("warned:{kind}:{name}:{}:{}:{line}", budget.per, balance.resets_at_ms))
}

/// The keys of accounts, and for how many milliseconds each is kept from now.
pub(super) fn accounts(team: &TeamName, ids: &[AccountId], now_ms: i64) -> Vec<(String, i64)> {
    ids.iter().map(|id| (account_key(team, id), kept_for_ms(id, now_ms))).collect()
}

pub(super) fn kept_for_ms(id: &AccountId, now_ms: i64) -> i64 {
    id.span.end_ms.saturating_sub(now_ms).max(0).saturating_add(KEPT_FOR_MS)
}
