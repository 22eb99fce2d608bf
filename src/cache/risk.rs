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
mod model;
mod vcache;

pub use account::Promise;
pub use candidate::{Candidate, EntryKey, GroupKey, N_NEIGHBOURS, Neighbour};
pub use vcache::VCache;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use account::Account;
use bar::{Aim, Bar};
use model::Model;

/// The part of the income that wrong answers may take; the rest pays for fewer audits. Where hits are
/// few, so are audits, and there is nothing to save.
const SPENT_SHARE: f64 = 0.5;
const SPENT_SHARE_OF_FEW: f64 = 0.95;
/// Hits a request from which on they are not few.
const MANY_HITS: f64 = 0.1;
/// What lies in the account beyond its reserve is spent over so many requests.
const SPENT_OVER_REQUESTS: f64 = 4_000.0;
/// An answer is audited at least this many times as often as it is thought wrong.
const AUDITS_PER_DOUBT: f64 = 4.0;
/// Of the state that is written; another one is not read.
const STATE_VERSION: u32 = 1;

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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
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
}

/// What a scope can show for itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    pub n_requests: u64,
    /// Wrong answers a request, at most, with `confidence`.
    pub false_hit_rate_upper: f64,
    pub confidence: f64,
    /// The most doubtful candidate that is served; none while the tier is closed.
    pub p_wrong_max: Option<f64>,
    /// The least audit share at present; none while nothing can be paid for.
    pub audit_share: Option<f64>,
    /// Wrong answers that could still be paid for.
    pub available: f64,
}

/// The risk control of all scopes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Risk {
    version: u32,
    promise: Promise,
    /// What all scopes have in common; new ones begin with it.
    pool: Model,
    scopes: BTreeMap<Scope, Control>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Control {
    model: Model,
    bar: Bar,
    account: Account,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the cache's risk state cannot be read: {0}; remove it, and the tier opens anew")]
    Unreadable(#[from] serde_json::Error),
    #[error(
        "the cache's risk state has version {found}, this build reads {STATE_VERSION}; remove it, and the tier opens anew"
    )]
    Version { found: u32 },
}

impl Risk {
    pub fn new(config: &RiskConfig) -> Self {
        Self {
            version: STATE_VERSION,
            promise: config.promise(),
            pool: Model::first(),
            scopes: BTreeMap::new(),
        }
    }

    /// Counts a request and judges its candidate, if there is one. `draw` is uniform in [0, 1) and
    /// decides about an audit; it must not depend on anything else.
    pub fn decide(&mut self, scope: &Scope, candidate: Option<Candidate>, draw: f64) -> Decision {
        let (pool, promise) = (&self.pool, self.promise);
        if !self.scopes.contains_key(scope) {
            self.scopes.insert(scope.clone(), Control::open(pool, promise));
        }
        let control = self.scopes.get_mut(scope).expect("it was just put there");
        control.decide(candidate, draw)
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

    /// Wrong answers a request, at most, over all scopes: the sum of what each can prove.
    pub fn false_hit_rate_upper(&self) -> f64 {
        let accounts = || self.scopes.values().map(|control| &control.account);
        let n_requests: u64 = accounts().map(Account::n_requests).sum();
        accounts().map(Account::bound).sum::<f64>() / n_requests.max(1) as f64
    }

    pub fn to_json(&self) -> Result<Vec<u8>, StateError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads back what [`Self::to_json`] wrote, under the promise of today: what was charged stays
    /// charged, and scopes that were promised something else begin anew with what they learned.
    pub fn from_json(bytes: &[u8], config: &RiskConfig) -> Result<Self, StateError> {
        let mut risk: Self = serde_json::from_slice(bytes)?;
        if risk.version != STATE_VERSION {
            return Err(StateError::Version { found: risk.version });
        }
        if risk.promise != config.promise() {
            risk.promise = config.promise();
            for control in risk.scopes.values_mut() {
                control.account = Account::open(risk.promise);
            }
        }
        Ok(risk)
    }

    /// Takes in what another replica saw of other requests under the same promise, once: a state that
    /// was merged before, or that began as a copy of this one, would count twice.
    pub fn merge(&mut self, other: &Self) {
        self.pool.merge(&other.pool);
        for (scope, theirs) in &other.scopes {
            match self.scopes.get_mut(scope) {
                Some(ours) => ours.merge(theirs),
                None => {
                    self.scopes.insert(scope.clone(), theirs.clone());
                }
            }
        }
    }
}

impl Control {
    fn open(pool: &Model, promise: Promise) -> Self {
        Self { model: pool.heir(), bar: Bar::new(), account: Account::open(promise) }
    }

    fn decide(&mut self, candidate: Option<Candidate>, draw: f64) -> Decision {
        self.account.earn();
        self.bar.pass();
        let Some(candidate) = candidate else {
            return Decision {
                verdict: Verdict::Refuse(Refusal::NoCandidate),
                p_wrong: 1.0,
                audit_share: 1.0,
                candidate: None,
            };
        };
        let p_wrong = self.model.opinion(&candidate).p_wrong();
        self.bar.expect(p_wrong);
        self.bar.choose(&self.aim());
        let (verdict, audit_share) = match self.admit(p_wrong) {
            Ok(share) => (Verdict::Serve { audit: draw < share }, share),
            Err(refusal) => (Verdict::Refuse(refusal), 1.0),
        };
        if let Verdict::Serve { audit } = verdict {
            self.bar.serve();
            self.account.serve(audit_share);
            if audit {
                self.account.hold(audit_share);
            }
        }
        Decision { verdict, p_wrong, audit_share, candidate: Some(candidate) }
    }

    /// The audit share a candidate is served with.
    fn admit(&self, p_wrong: f64) -> Result<f64, Refusal> {
        let p_wrong_max = self.bar.p_wrong_max().ok_or(Refusal::Closed)?;
        if p_wrong > p_wrong_max {
            return Err(Refusal::Doubtful);
        }
        let least = self.account.least_share().ok_or(Refusal::Unpayable)?;
        Ok(least.max(AUDITS_PER_DOUBT * p_wrong).min(1.0))
    }

    fn aim(&self) -> Aim {
        let few = 1.0 - (self.bar.hit_rate() / MANY_HITS).min(1.0);
        let spent_share = SPENT_SHARE + (SPENT_SHARE_OF_FEW - SPENT_SHARE) * few;
        let rate = spent_share * self.account.promise().max_false_hit_rate;
        Aim {
            rate: rate + self.account.spare() / SPENT_OVER_REQUESTS,
            price: self.account.price_of_one(),
            caution: self.account.weight(),
            n_labels: self.model.n_labels(),
        }
    }

    fn observe(&mut self, candidate: &Candidate, decision: &Decision, right: bool) {
        if right && decision.verdict == (Verdict::Serve { audit: true }) {
            self.account.release(decision.audit_share);
        }
        self.bar.judge(decision.p_wrong, 1.0 / decision.audit_share, right);
        self.model.learn(candidate, right);
    }

    fn standing(&self) -> Standing {
        Standing {
            n_requests: self.account.n_requests(),
            false_hit_rate_upper: self.account.bound() / self.account.n_requests().max(1) as f64,
            confidence: self.account.promise().confidence,
            p_wrong_max: self.bar.p_wrong_max(),
            audit_share: self.account.least_share(),
            available: self.account.available(),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.model.merge(&other.model);
        self.bar.merge(&other.bar);
        self.account.merge(&other.account);
    }
}

#[cfg(test)]
mod tests;
