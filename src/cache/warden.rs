//! The risk control as the cache holds it: one for all calls of this process, asked from many tasks.
//!
//! Decides nothing itself: [`Risk`] does. Does no I/O; who keeps its state asks for it here.
//!
//! Invariants: the lock is never held over an await, nor while a state is written or read as text.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Cache;
use super::risk::{Candidate, Decision, Risk, RiskConfig, Scope, Standing, Tier};
use crate::telemetry::events::ScopeStood;

/// The risk control of all scopes, shared by all who serve.
#[derive(Debug)]
pub struct Warden {
    risk: Mutex<Risk>,
}

impl Warden {
    pub fn new(config: &RiskConfig) -> Self {
        Self { risk: Mutex::new(Risk::new(config)) }
    }

    /// Counts a request and judges its candidate; see [`Risk::decide`].
    pub fn decide(&self, scope: &str, candidate: Option<Candidate>, draw: f64) -> Decision {
        self.risk.lock().decide(&Scope::new(scope), candidate, draw)
    }

    /// Tells what became of a decision; see [`Risk::observe`].
    pub fn observe(&self, scope: &str, decision: &Decision, right: bool) {
        self.risk.lock().observe(&Scope::new(scope), decision, right);
    }

    /// Every scope that had a request, by name.
    pub fn standings(&self) -> Vec<(Scope, Standing)> {
        self.risk.lock().standings()
    }

    pub(super) fn with<T>(&self, ask: impl FnOnce(&mut Risk) -> T) -> T {
        ask(&mut self.risk.lock())
    }

    pub fn standing(&self, scope: &str) -> Option<Standing> {
        self.risk.lock().standing(&Scope::new(scope))
    }

    /// Of all scopes together.
    pub fn false_hit_rate_upper(&self) -> f64 {
        self.risk.lock().false_hit_rate_upper()
    }
}

impl Cache {
    /// Whether the risk control decides about alike questions.
    pub fn keeps_promise(&self) -> bool {
        self.0.keeps_promise
    }

    /// How every scope stands that had a request, by name.
    pub fn standings(&self) -> Vec<(Scope, Standing)> {
        self.0.warden.standings()
    }

    /// Tells the metrics how every scope stands.
    pub fn report_standings(&self) {
        for (scope, standing) in self.standings() {
            let stood = ScopeStood {
                scope: scope.as_str(),
                false_hit_rate: standing.false_hit_rate,
                false_hit_rate_upper: standing.false_hit_rate_upper,
                audit_share: standing.audit_share.unwrap_or(1.0),
                is_open: standing.tier == Tier::Open,
            };
            stood.emit();
        }
    }

    /// The risk control of the semantic tier.
    pub fn warden(&self) -> &Arc<Warden> {
        &self.0.warden
    }
}
