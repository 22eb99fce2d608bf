//! The risk control as the cache holds it: one for all calls of this process, asked from many tasks.
//!
//! Decides nothing itself: [`Risk`] does. Does no I/O; who keeps its state asks for it here.
//!
//! Invariants: the lock is never held over an await, nor while a state is written or read as text.

use parking_lot::Mutex;

use super::risk::{Candidate, Decision, Risk, RiskConfig, Scope, Standing};

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

    pub fn standing(&self, scope: &str) -> Option<Standing> {
        self.risk.lock().standing(&Scope::new(scope))
    }

    /// Of all scopes together.
    pub fn false_hit_rate_upper(&self) -> f64 {
        self.risk.lock().false_hit_rate_upper()
    }
}
