//! The calls that this replica holds money for, and the names it holds it under.
//!
//! Invariants: a name whose lease ran out is never used again.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Asking;
use crate::ledger::budget::{AccountId, Payer};
use crate::money::NanoUsd;
use crate::team::{CallId, TeamName};

/// A call in flight, as it has to be held again when the store has lost it.
#[derive(Debug, Clone)]
pub(super) struct OpenCall {
    pub(super) payer: Payer,
    pub(super) ts_ms: i64,
    pub(super) ceiling: NanoUsd,
    pub(super) accounts: Arc<[AccountId]>,
}

impl OpenCall {
    pub(super) fn new(ask: Asking<'_>, accounts: &[AccountId]) -> Self {
        let Asking { payer, ts_ms, ceiling, .. } = ask;
        Self { payer: payer.clone(), ts_ms, ceiling, accounts: accounts.into() }
    }
}

#[derive(Debug, Default)]
pub(super) struct OpenCalls {
    teams: Mutex<HashMap<TeamName, OfTeam>>,
}

#[derive(Debug, Default)]
struct OfTeam {
    /// How many leases of this replica ran out.
    n_lapsed: u64,
    calls: HashMap<CallId, OpenCall>,
}

impl OpenCalls {
    /// How many calls of the team were open before.
    pub(super) fn add(&self, id: CallId, call: OpenCall) -> usize {
        let mut teams = self.teams.lock();
        let of_team = teams.entry(call.payer.team.clone()).or_default();
        let n_before = of_team.calls.len();
        of_team.calls.insert(id, call);
        n_before
    }

    pub(super) fn remove(&self, payer: &Payer, id: CallId) {
        if let Some(of_team) = self.teams.lock().get_mut(&payer.team) {
            of_team.calls.remove(&id);
        }
    }

    pub(super) fn n_lapsed(&self, team: &TeamName) -> u64 {
        self.teams.lock().get(team).map_or(0, |of_team| of_team.n_lapsed)
    }

    /// The lease of the name with this number ran out; the first to notice counts.
    pub(super) fn lapse(&self, team: &TeamName, n_lapsed: u64) {
        let mut teams = self.teams.lock();
        let of_team = teams.entry(team.clone()).or_default();
        of_team.n_lapsed = of_team.n_lapsed.max(n_lapsed + 1);
    }

    pub(super) fn teams(&self) -> Vec<TeamName> {
        let teams = self.teams.lock();
        teams.iter().filter(|(_, of_team)| !of_team.calls.is_empty()).map(|(team, _)| team.clone()).collect()
    }

    pub(super) fn of_team(&self, team: &TeamName) -> Vec<(CallId, OpenCall)> {
        let teams = self.teams.lock();
        let calls = teams.get(team).map(|of_team| &of_team.calls);
        calls.into_iter().flatten().map(|(id, call)| (*id, call.clone())).collect()
    }
}
