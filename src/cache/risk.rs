//! Decides whether a stored answer is served, so that few enough answers are wrong, and proves it.
//!
//! Three parts with one task each. The *model* says how likely a candidate is wrong. The *bar* says how
//! doubtful a candidate may be, so that the promised share of wrong answers is made use of. The *account*
//! says whether it can be paid for, and its bound holds however wrong the other two are. Some served
//! answers are audited: the question also goes upstream, and the answers are compared.
//!
//! Pure: no clock, no randomness, no I/O; draws are handed in. Does not look for neighbours, compare
//! answers or send audits.
//!
//! Invariants: with the promised confidence, wrong answers of a scope never exceed its rate times its
//! requests, at any moment; a request is counted once, with or without a candidate.

mod account;
mod bar;
mod candidate;
mod control;
mod custody;
mod model;
mod models;
mod seen;
mod shared;
mod standing;
mod state;
mod vcache;

pub use account::Promise;
pub use candidate::{Candidate, EntryKey, GroupKey, N_NEIGHBOURS, Neighbour};
pub use standing::{Standing, Tier, WhyClosed};
pub use state::{AccountState, ModelState, StateError};
pub use vcache::VCache;

use std::collections::BTreeMap;

use serde::Deserialize;

use account::Account;
use control::Control;
use model::Model;
use models::Models;

/// What the operator promises, in `[cache.semantic]`.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RiskConfig {
    /// Share of requests that may get a wrong cached answer, above 0 and below 1. Default 0.01.
    pub max_false_hit_rate: f64,
    /// How sure it must be that the share holds at every moment, from 0.5 to below 1. Default 0.95.
    pub confidence: f64,
    /// Share of hits also sent upstream to be compared, in the long run, above 0 and up to 1; it begins
    /// at 1 and falls as the promise is proved. Default 0.02.
    pub audit_share: f64,
}

impl Default for RiskConfig {
    fn default() -> Self {
        Self { max_false_hit_rate: 0.01, confidence: 0.95, audit_share: 0.02 }
    }
}

impl RiskConfig {
    /// Every value that makes no sense, each with its key and what is allowed.
    pub fn mistakes(&self) -> Vec<String> {
        let rules = [
            (
                self.max_false_hit_rate > 0.0 && self.max_false_hit_rate < 1.0,
                "cache.semantic.max_false_hit_rate must be above 0 and below 1",
            ),
            (
                (0.5..1.0).contains(&self.confidence),
                "cache.semantic.confidence must be at least 0.5 and below 1",
            ),
            (
                self.audit_share > 0.0 && self.audit_share <= 1.0,
                "cache.semantic.audit_share must be above 0 and at most 1",
            ),
        ];
        rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| rule.to_owned()).collect()
    }

    fn promise(&self) -> Promise {
        Promise {
            max_false_hit_rate: self.max_false_hit_rate,
            confidence: self.confidence,
            audit_share: self.audit_share,
        }
    }
}

/// Requests that share a promise, such as a team's on a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope(String);

impl Scope {
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The cached answer is served; with `audit` the question goes upstream as well.
    Serve { audit: bool },
    /// The question goes upstream alone.
    Refuse(Refusal),
}

/// Why a candidate is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    #[error("nothing is near")]
    NoCandidate,
    #[error("the candidate is too likely to be wrong")]
    Doubtful,
    #[error("too few verdicts, or too many that were bad: the tier is closed")]
    Closed,
    #[error("the promise leaves no wrong answer to pay with: the tier is closed")]
    Unpayable,
}

impl Refusal {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoCandidate => "no_candidate",
            Self::Doubtful => "doubtful",
            Self::Closed => "closed",
            Self::Unpayable => "unpayable",
        }
    }
}

/// A verdict, and what is needed to learn from what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    pub verdict: Verdict,
    /// How likely the candidate was thought to be wrong.
    pub p_wrong: f64,
    /// The probability with which an audit was drawn; 1 for a miss, which shows everything.
    pub audit_share: f64,
    candidate: Option<Candidate>,
    /// Which of the scope's accounts it is in.
    mark: u64,
}

/// The risk control of all scopes.
#[derive(Debug, Clone, PartialEq)]
pub struct Risk {
    promise: Promise,
    /// What all scopes have in common; new ones begin with it.
    pool: Models,
    scopes: BTreeMap<Scope, Control>,
}

impl Risk {
    pub fn new(config: &RiskConfig) -> Self {
        let pool = Models::of(Model::first());
        Self { promise: config.promise(), pool, scopes: BTreeMap::new() }
    }

    /// Counts a request and judges its candidate, if there is one. `draw` is uniform in [0, 1) and
    /// decides about an audit; it must not depend on anything else.
    pub fn decide(&mut self, scope: &Scope, candidate: Option<Candidate>, draw: f64) -> Decision {
        self.control(scope).decide(candidate, draw)
    }

    /// What became of a decision: after a miss or an audit, whether the candidate's answer was right.
    /// An audit that never comes back is not told: it stays charged as if it had found a wrong answer.
    pub fn observe(&mut self, scope: &Scope, decision: &Decision, right: bool) {
        let (Some(candidate), Some(control)) = (&decision.candidate, self.scopes.get_mut(scope)) else {
            return;
        };
        if decision.verdict == (Verdict::Serve { audit: false }) {
            // What comes without a coin, such as a complaint, comes more often when it was wrong.
            return;
        }
        control.observe(candidate, decision, right);
        self.pool.learn(candidate, right);
    }

    pub fn standing(&self, scope: &Scope) -> Option<Standing> {
        self.scopes.get(scope).map(Control::standing)
    }

    /// Every scope that had a request, by name.
    pub fn standings(&self) -> Vec<(Scope, Standing)> {
        let all = self.scopes.iter().map(|(scope, control)| (scope.clone(), control.standing()));
        all.filter(|(_, standing)| standing.n_requests > 0).collect()
    }

    /// Wrong answers a request, at most, over all scopes: the sum of what each can prove.
    pub fn false_hit_rate_upper(&self) -> f64 {
        let accounts = || self.scopes.values().map(Control::account);
        let n_requests: u64 = accounts().map(Account::n_requests).sum();
        accounts().map(Account::bound).sum::<f64>() / n_requests.max(1) as f64
    }
}

#[cfg(test)]
mod tests;
