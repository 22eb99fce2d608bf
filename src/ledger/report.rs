//! What was spent, by whom and on what: every question the dashboard, the admin endpoints and the command
//! line ask of the book.
//!
//! Reads only, and only what is in the database: rows still in the journal are not in a report.
//!
//! Invariants: a saving sums only rows whose cost and baseline are both known, so that an unknown price
//! never looks like one; any window is exact, whatever sums it is read from.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::budget::Subject;
use super::entry::{Entry, Outcome};
use super::latency::quantile_ms;
use super::savings::Savings;
use super::store::{Store, StoreError};
use crate::chat::Usage;
use crate::money::NanoUsd;
use crate::team::{CallId, KeyId, RouteName, TeamName};

/// What a sum is grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Team,
    Key,
    User,
    Tag,
    Endpoint,
    Route,
    Tier,
    Upstream,
    Model,
    Path,
    Cache,
    Split,
    Arm,
    Outcome,
}

impl By {
    pub const ALL: [Self; 14] = [
        Self::Team,
        Self::Key,
        Self::User,
        Self::Tag,
        Self::Endpoint,
        Self::Route,
        Self::Tier,
        Self::Upstream,
        Self::Model,
        Self::Path,
        Self::Cache,
        Self::Split,
        Self::Arm,
        Self::Outcome,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Key => "key",
            Self::User => "user",
            Self::Tag => "tag",
            Self::Endpoint => "endpoint",
            Self::Route => "route",
            Self::Tier => "tier",
            Self::Upstream => "upstream",
            Self::Model => "model",
            Self::Path => "path",
            Self::Cache => "cache",
            Self::Split => "split",
            Self::Arm => "arm",
            Self::Outcome => "outcome",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.as_str() == word)
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The spans of time that sums are told apart by, in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Hour,
    Day,
    /// One sum over the whole window.
    #[default]
    Whole,
}

/// Which calls are counted; nothing given means all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub team: Option<TeamName>,
    pub route: Option<RouteName>,
    pub model: Option<String>,
    pub upstream: Option<String>,
    pub path: Option<String>,
    pub split: Option<String>,
    pub key: Option<KeyId>,
    pub user: Option<String>,
    pub tag: Option<String>,
}

/// Which sums are wanted: a few are added up in a fraction of the time of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Figures {
    #[default]
    All,
    /// Calls and what they cost; the other sums are zero.
    Spent,
}

/// A question about spending: calls that began in `from_ms..to_ms`.
#[derive(Debug, Clone, Default)]
pub struct SpendAsk {
    pub by: Vec<By>,
    pub step: Step,
    pub figures: Figures,
    pub from_ms: i64,
    pub to_ms: i64,
    pub filter: Filter,
}

impl SpendAsk {
    /// Sums over a window, grouped by `by`; one line over everything where that is empty.
    pub fn over(by: &[By], from_ms: i64, to_ms: i64) -> Self {
        Self { by: by.to_vec(), from_ms, to_ms, ..Self::default() }
    }
}

/// One line of a spend report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendRow {
    /// Where its span begins; the beginning of the window for [`Step::Whole`].
    pub at_ms: i64,
    /// One for each [`By`] of the question; empty text where the calls had none.
    pub names: Vec<String>,
    pub sums: Sums,
}

/// What a group of calls came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Calls of clients, as in all counts; audits are counted apart, and what they used and cost is in `usage`, `cost`
    /// and `saved.own_cost`.
    pub n_calls: u64,
    /// Calls of our own that check what the cache gave.
    pub n_audits: u64,
    /// Calls that ended in a failure that was not the client's.
    pub n_errors: u64,
    /// Calls whose price is unknown; they are not in `cost`.
    pub n_unpriced: u64,
    pub n_estimated: u64,
    pub n_hits_exact: u64,
    pub n_hits_semantic: u64,
    /// Calls that the house's own engine answered.
    pub n_local: u64,
    /// Calls that an upstream answered.
    pub n_upstream: u64,
    pub n_attempts: u64,
    pub cost: NanoUsd,
    pub baseline: NanoUsd,
    pub saved: Savings,
    pub usage: Usage,
    pub overhead_us: u64,
}

impl Sums {
    pub fn add(&mut self, other: &Self) {
        self.n_calls += other.n_calls;
        self.n_audits += other.n_audits;
        self.n_errors += other.n_errors;
        self.n_unpriced += other.n_unpriced;
        self.n_estimated += other.n_estimated;
        self.n_hits_exact += other.n_hits_exact;
        self.n_hits_semantic += other.n_hits_semantic;
        self.n_local += other.n_local;
        self.n_upstream += other.n_upstream;
        self.n_attempts += other.n_attempts;
        self.cost += other.cost;
        self.baseline += other.baseline;
        self.saved.add(&other.saved);
        self.usage.input += other.usage.input;
        self.usage.cached_read += other.usage.cached_read;
        self.usage.cache_write += other.usage.cache_write;
        self.usage.output += other.usage.output;
        self.usage.reasoning += other.usage.reasoning;
        self.usage.audio_input += other.usage.audio_input;
        self.usage.audio_output += other.usage.audio_output;
        self.overhead_us += other.overhead_us;
    }
}

/// How long calls took that began in `from_ms..to_ms`, both rounded outward to the hour.
#[derive(Debug, Clone, Default)]
pub struct LatencyAsk {
    pub by: Option<LatencyBy>,
    pub from_ms: i64,
    pub to_ms: i64,
    pub team: Option<TeamName>,
    pub route: Option<RouteName>,
    pub split: Option<String>,
}

/// What durations are kept apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyBy {
    Team,
    Route,
    Split,
    Arm,
    /// Both, as `split=arm`; calls in no arm are `=`.
    SplitArm,
    Hour,
    Day,
}

/// Quantiles of the duration of calls, in milliseconds, within a tenth.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyRow {
    /// A name, or the beginning of an hour or a day in milliseconds; empty for the whole.
    pub name: String,
    pub n_calls: u64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
}

impl LatencyRow {
    pub(super) fn new(name: String, counts: &[(i64, u64)]) -> Self {
        let quantile = |q| quantile_ms(counts, q).unwrap_or(0.0);
        let n_calls = counts.iter().map(|(_, n)| n).sum();
        Self { name, n_calls, p50_ms: quantile(0.5), p95_ms: quantile(0.95), p99_ms: quantile(0.99) }
    }
}

/// A search for single calls, the newest first.
#[derive(Debug, Clone, Default)]
pub struct CallsAsk {
    pub from_ms: i64,
    pub to_ms: i64,
    pub filter: Filter,
    pub outcome: Option<Outcome>,
    /// Part of an id, a user, a tag, a model or an upstream.
    pub text: Option<String>,
    /// Only calls older than this one: the last of the page before.
    pub before: Option<CallId>,
    pub limit: u32,
}

/// Asks the book.
#[derive(Debug, Clone)]
pub struct Reports {
    store: Store,
}

impl Reports {
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Sums over calls, in the order of time, then the dearest first.
    pub async fn spend(&self, ask: &SpendAsk) -> Result<Vec<SpendRow>, StoreError> {
        self.store.spend(ask).await
    }

    pub async fn latency(&self, ask: &LatencyAsk) -> Result<Vec<LatencyRow>, StoreError> {
        let counts = self.store.latency_counts(ask).await?;
        Ok(counts.into_iter().map(|(name, counts)| LatencyRow::new(name, &counts)).collect())
    }

    /// The same, and before it all groups together, from one look at the sums.
    pub async fn latency_with_whole(
        &self,
        ask: &LatencyAsk,
    ) -> Result<(Option<LatencyRow>, Vec<LatencyRow>), StoreError> {
        let counts = self.store.latency_counts(ask).await?;
        let mut whole = BTreeMap::<i64, u64>::new();
        for (bucket, n) in counts.values().flatten() {
            *whole.entry(*bucket).or_default() += n;
        }
        let whole: Vec<(i64, u64)> = whole.into_iter().collect();
        let rows = counts.into_iter().map(|(name, counts)| LatencyRow::new(name, &counts)).collect();
        Ok(((!whole.is_empty()).then(|| LatencyRow::new(String::new(), &whole)), rows))
    }

    /// What an account spent in each of the stretches between `edges_ms`, which rise.
    pub async fn burned(
        &self,
        team: &TeamName,
        subject: &Subject,
        edges_ms: &[i64],
    ) -> Result<Vec<NanoUsd>, StoreError> {
        self.store.burned(team, subject, edges_ms).await
    }

    pub async fn calls(&self, ask: &CallsAsk) -> Result<Vec<Entry>, StoreError> {
        self.store.calls(ask).await
    }

    pub async fn call(&self, id: CallId) -> Result<Option<Entry>, StoreError> {
        self.store.call(id).await
    }

    /// The newest `n_rows` rows, the newest first.
    pub async fn recent(&self, n_rows: u32, team: Option<&TeamName>) -> Result<Vec<Entry>, StoreError> {
        let filter = Filter { team: team.cloned(), ..Filter::default() };
        let ask = CallsAsk { filter, to_ms: i64::MAX, limit: n_rows, ..CallsAsk::default() };
        self.store.calls(&ask).await
    }
}
