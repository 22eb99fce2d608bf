//! The risk control of all calls of this process, behind one lock.
//!
//! Decides nothing itself and keeps nothing on disk.

use parking_lot::Mutex;

use super::risk::{Candidate, Decision, Risk, RiskConfig, Scope};

pub(super) struct Warden(Mutex<Risk>);

impl Warden {
    pub(super) fn new(config: &RiskConfig) -> Self {
        Self(Mutex::new(Risk::new(config)))
    }

    pub(super) fn decide(&self, scope: &str, candidate: Option<Candidate>, draw: f64) -> Decision {
        self.0.lock().decide(&Scope::new(scope), candidate, draw)
    }

    pub(super) fn observe(&self, scope: &str, decision: &Decision, right: bool) {
        self.0.lock().observe(&Scope::new(scope), decision, right);
    }

    pub(super) fn false_hit_rate_upper(&self) -> f64 {
        self.0.lock().false_hit_rate_upper()
    }
}
