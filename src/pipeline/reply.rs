//! What a call came to: the facts a client is told in headers, and the body.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

use crate::admission::RateState;
use crate::ledger::Ledger;
use crate::ledger::budget::{Budget, Payer};
use crate::ledger::entry::{AnswerPath, CacheOutcome, Entry};
use crate::money::NanoUsd;
use crate::team::TierName;

/// An answer on its way to the client.
pub struct Reply {
    pub facts: Facts,
    pub body: ReplyBody,
}

pub enum ReplyBody {
    Whole(Bytes),
    /// Server-sent events, framed.
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

/// What the headers say. Costs are absent where they are not known before the body is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub path: AnswerPath,
    pub cache: CacheOutcome,
    /// Why the cache was not asked, or compared no meanings.
    pub cache_why: Option<String>,
    pub model: Option<String>,
    pub tier: Option<TierName>,
    pub score: Option<f32>,
    pub cost: Option<NanoUsd>,
    pub saved: Option<NanoUsd>,
    pub similarity: Option<f32>,
    pub age_s: Option<u64>,
    /// The name of the cached answer that was given, as a purge takes it.
    pub cache_entry: Option<String>,
    /// `split=arm`.
    pub split: Option<String>,
    pub n_attempts: u32,
    pub overhead: Duration,
    pub budget_remaining: Option<NanoUsd>,
    /// Budgets past their soft line, the fullest first.
    pub budget_warning: Option<String>,
    pub requests: Option<RateState>,
    pub tokens: Option<RateState>,
}

impl Facts {
    /// The facts of a posted row.
    pub fn of(entry: &Entry) -> Self {
        Self {
            path: entry.path,
            cache: entry.cache,
            cache_why: entry.cache_why.clone(),
            model: entry.model.clone(),
            tier: entry.tier.clone(),
            score: entry.score,
            cost: entry.cost,
            saved: entry.saved(),
            similarity: entry.similarity,
            age_s: None,
            cache_entry: entry.cache_entry.clone().filter(|_| entry.is_hit()),
            split: arm_of(entry),
            n_attempts: entry.attempts,
            overhead: Duration::from_micros(entry.overhead_us),
            budget_remaining: None,
            budget_warning: None,
            requests: None,
            tokens: None,
        }
    }

    /// Adds how the caller's budgets stand.
    pub(super) fn tell_budgets(&mut self, ledger: &Ledger, payer: &Payer, budgets: &[Budget]) {
        self.budget_remaining = ledger.remaining(payer, budgets);
        let warnings: Vec<String> = ledger.warnings(payer, budgets).iter().map(ToString::to_string).collect();
        self.budget_warning = (!warnings.is_empty()).then(|| warnings.join(", "));
    }

    /// What the cache said, and why it was not asked (`bypass; reason=temperature`), or not for an answer to a
    /// question of the same meaning (`miss; semantic=tools`).
    pub fn cache_told(&self) -> String {
        let said = self.cache.as_str();
        let why = |key: &str| self.cache_why.as_ref().map(|why| format!("{said}; {key}={why}"));
        let told = match self.cache {
            CacheOutcome::Bypass => why("reason"),
            CacheOutcome::Miss => why("semantic"),
            CacheOutcome::HitExact | CacheOutcome::HitSemantic | CacheOutcome::Audit => None,
        };
        told.unwrap_or_else(|| said.to_owned())
    }

    /// The facts of an answer that is still being given: its cost is not known yet.
    pub fn before_end(entry: &Entry) -> Self {
        Self { cost: None, saved: None, ..Self::of(entry) }
    }
}

/// The split and the arm of a row, as clients are told them.
pub(super) fn arm_of(entry: &Entry) -> Option<String> {
    Some(format!("{}={}", entry.split.as_ref()?, entry.arm.as_ref()?))
}
