//! The control of one scope: what is known of it, how doubtful a candidate may be, and what it can pay for.
//!
//! Invariants: an answer is served only where model, bar and account agree.

use super::account::{Account, Promise};
use super::bar::{Aim, Bar, MIN_LABELS};
use super::candidate::Candidate;
use super::custody::Custody;
use super::model::Model;
use super::models::Models;
use super::standing::{Standing, Tier, WhyClosed};
use super::state::AccountState;
use super::{Decision, Refusal, Verdict};

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

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Control {
    pub(super) models: Models,
    bar: Bar,
    pub(super) custody: Custody,
    /// Other replicas' accounts as last heard, added up; only to be looked at.
    others: Option<Account>,
}

impl Control {
    pub(super) fn open(pool: &Model, promise: Promise) -> Self {
        Self {
            models: Models::of(pool.heir()),
            bar: Bar::new(),
            custody: Custody::open(promise),
            others: None,
        }
    }

    pub(super) fn account(&self) -> &Account {
        self.custody.account()
    }

    pub(super) fn decide(&mut self, candidate: Option<Candidate>, draw: f64) -> Decision {
        self.custody.earn();
        self.bar.pass();
        let mark = self.custody.mark();
        let Some(candidate) = candidate else {
            let verdict = Verdict::Refuse(Refusal::NoCandidate);
            return Decision { verdict, p_wrong: 1.0, audit_share: 1.0, candidate: None, mark };
        };
        let p_wrong = self.models.all().opinion(&candidate).p_wrong();
        self.bar.expect(p_wrong);
        self.bar.choose(&self.aim());
        let (verdict, audit_share) = match self.admit(p_wrong) {
            Ok(share) => (Verdict::Serve { audit: draw < share }, share),
            Err(refusal) => (Verdict::Refuse(refusal), 1.0),
        };
        if let Verdict::Serve { audit } = verdict {
            self.bar.serve();
            self.custody.serve(audit_share);
            if audit {
                self.custody.hold(audit_share);
            }
        }
        Decision { verdict, p_wrong, audit_share, candidate: Some(candidate), mark }
    }

    /// The audit share a candidate is served with.
    fn admit(&self, p_wrong: f64) -> Result<f64, Refusal> {
        let p_wrong_max = self.bar.p_wrong_max().ok_or(Refusal::Closed)?;
        if p_wrong > p_wrong_max {
            return Err(Refusal::Doubtful);
        }
        let least = self.account().least_share().ok_or(Refusal::Unpayable)?;
        Ok(least.max(AUDITS_PER_DOUBT * p_wrong).min(1.0))
    }

    fn aim(&self) -> Aim {
        let few = 1.0 - (self.bar.hit_rate() / MANY_HITS).min(1.0);
        let spent_share = SPENT_SHARE + (SPENT_SHARE_OF_FEW - SPENT_SHARE) * few;
        let account = self.account();
        let rate = spent_share * account.promise().max_false_hit_rate;
        Aim {
            rate: rate + account.spare() / SPENT_OVER_REQUESTS,
            price: account.price_of_one(),
            caution: account.weight(),
            n_labels: self.models.all().n_labels(),
        }
    }

    pub(super) fn observe(&mut self, candidate: &Candidate, decision: &Decision, right: bool) {
        if decision.verdict == (Verdict::Serve { audit: true }) {
            match right {
                true => self.custody.release(decision.audit_share, decision.mark),
                false => self.custody.find_wrong(decision.audit_share, decision.mark),
            }
        }
        self.bar.judge(decision.p_wrong, 1.0 / decision.audit_share, right);
        self.models.learn(candidate, right);
    }

    pub(super) fn standing(&self) -> Standing {
        let own = self.account();
        let mut all = own.clone();
        if let Some(others) = &self.others {
            all.merge(others);
        }
        let (n_requests, seen, promise) = (all.n_requests(), all.seen(), own.promise());
        let of_requests = |amount: f64| amount / n_requests.max(1) as f64;
        Standing {
            n_requests,
            n_hits: seen.n_hits,
            false_hit_rate: of_requests(seen.n_wrong_estimated),
            false_hit_rate_upper: of_requests(all.bound()),
            confidence: promise.confidence,
            max_false_hit_rate: promise.max_false_hit_rate,
            n_audits: seen.n_audits,
            n_wrong_audits: seen.n_wrong_audits,
            n_labels: self.models.all().n_labels(),
            tier: self.tier(),
            p_wrong_max: self.bar.p_wrong_max(),
            audit_share: own.least_share(),
            available: own.available(),
        }
    }

    fn tier(&self) -> Tier {
        let is_payable = self.account().least_share().is_some();
        match self.bar.p_wrong_max() {
            Some(_) if is_payable => Tier::Open,
            _ if self.account().seen().n_hits == 0 || self.models.all().n_labels() < MIN_LABELS => {
                Tier::Learning
            }
            Some(_) => Tier::Closed(WhyClosed::Unpayable),
            None => Tier::Closed(WhyClosed::Doubtful),
        }
    }

    /// The state to be saved now.
    pub(super) fn send(&mut self) -> AccountState {
        AccountState::of(Some(self.custody.send()), Some(self.bar.clone()))
    }

    pub(super) fn take_over(&mut self, state: &AccountState) {
        if let Some(account) = state.account.as_ref().filter(|account| self.is_of_promise(account)) {
            self.custody.take_over(account);
        }
        if let Some(bar) = &state.bar {
            self.bar.merge(bar);
        }
    }

    /// What other replicas counted, to be looked at beside what is counted here.
    pub(super) fn look_at(&mut self, others: &[AccountState]) {
        let accounts = others.iter().filter_map(|state| state.account.as_ref());
        let ours = accounts.filter(|account| self.is_of_promise(account));
        self.others = ours.cloned().reduce(|mut all, account| {
            all.merge(&account);
            all
        });
    }

    fn is_of_promise(&self, account: &Account) -> bool {
        account.promise() == self.account().promise()
    }
}
