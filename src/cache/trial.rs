//! A recorded stream of questions asked of an empty cache: how much it would have answered, and how well.
//!
//! Asks the semantic tier itself, over an index in memory; only what compares two answers is another: they
//! are the same exactly when the stream says so. A policy is told the right answer after a miss or an
//! audit only; the count knows it always. Calls no upstream and leaves nothing behind.
//!
//! Invariants: each row is asked once, in order; what was served without an audit is not stored.

mod remembered;

pub use remembered::remembering;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::agree::{Agree, Agreement};
use super::answer::StoredAnswer;
use super::control::Control;
use super::embedder::Embed;
use super::index::{EntryId, ScanConfig, ScanIndex};
use super::judge::Judge;
use super::question::Question;
use super::reader::ReadPair;
use super::risk::{RiskConfig, VCache};
use super::semantic::{Asked, Fresh, Organs, Semantic, SemanticConfig};
use super::warden::Warden;
use crate::chat::{Fingerprint, Usage};

/// Of the normal distribution: 95 % of it lie within so many deviations.
const DEVIATIONS_95: f64 = 1.96;

/// A line of the stream.
#[derive(Debug, Clone, Deserialize)]
pub struct Row {
    pub text: String,
    pub answer: String,
    /// Only rows of one scope share answers.
    #[serde(default)]
    pub scope: String,
}

/// Who decides whether a neighbour's answer is served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// The nearest that the guard lets pass, if its cosine is at least this.
    Static(f64),
    /// Thresholds that each entry learns, for at most this many wrong answers a request.
    VCache(f64),
    Stiver(RiskConfig),
}

/// What a stream came to. Rates are of all requests; an interval holds the true rate in 95 of 100 cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub n: u64,
    pub hits: u64,
    pub hit_rate: f64,
    pub hit_rate_ci: [f64; 2],
    pub false_hits: u64,
    pub false_hit_rate: f64,
    pub false_hit_rate_ci: [f64; 2],
    /// What the policy itself can prove at the end; for policies that prove nothing the interval's end.
    pub false_hit_rate_upper: f64,
    /// Requests at which more was wrong so far than `max_false_hit_rate` allows, where it is promised.
    pub broken_at: u64,
    pub audits: u64,
    pub audit_rate: f64,
    pub lookup_ms_p50: f64,
    pub lookup_ms_p99: f64,
}

#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error("row {row}: the embedder, the guard or the index failed; the log says why")]
    Failed { row: u64 },
}

pub struct Trial {
    semantic: Semantic,
    promised: f64,
    tally: Tally,
    lookup_ms: Vec<f64>,
}

#[derive(Debug, Default)]
struct Tally {
    n: u64,
    hits: u64,
    false_hits: u64,
    audits: u64,
    broken_at: u64,
}

/// Answers of a stream are the same when they are spelled the same.
struct Spelled;

impl Agree for Spelled {
    fn agree<'a>(&'a self, cached: &'a StoredAnswer, fresh: &'a StoredAnswer) -> BoxFuture<'a, Agreement> {
        let is_same = cached.body == fresh.body;
        std::future::ready(if is_same { Agreement::Same } else { Agreement::Different }).boxed()
    }
}

impl Trial {
    pub fn new(embedder: Arc<dyn Embed>, reader: Option<Arc<dyn ReadPair>>, policy: Policy) -> Self {
        let (judge, bar, promised) = match policy {
            Policy::Static(bar) => (Judge::Threshold, bar as f32, 1.0),
            Policy::VCache(delta) => (Judge::VCache(Mutex::new(VCache::new(delta))), -1.0, delta),
            Policy::Stiver(config) => {
                (Judge::Proven(Arc::new(Warden::new(&config))), -1.0, config.max_false_hit_rate)
            }
        };
        let unbounded = ScanConfig { max_entries: usize::MAX, max_bytes: u64::MAX, dir: None };
        let index = Arc::new(ScanIndex::open(&unbounded, 0));
        let config = SemanticConfig { min_similarity: Some(bar), ..SemanticConfig::default() };
        let semantic = Semantic::new(&config, Organs { embedder, reader, index, judge });
        Self {
            semantic: semantic.agreeing_by(Arc::new(Spelled)),
            promised,
            tally: Tally::default(),
            lookup_ms: Vec::new(),
        }
    }

    /// Asks the next row. `draw` is uniform in [0, 1).
    pub async fn ask(&mut self, row: &Row, draw: f64) -> Result<(), TrialError> {
        let hash = |bytes: &[u8]| Fingerprint::new(*blake3::hash(bytes).as_bytes());
        let exact = hash(&self.tally.n.to_le_bytes());
        let question = Question {
            exact,
            scope: hash(row.scope.as_bytes()),
            text: Some(&row.text),
            control: Control::default(),
            promise: &row.scope,
            draw,
            may_audit: true,
        };
        let asked =
            Asked { id: EntryId::of(exact), scope: question.scope, text: Arc::from(row.text.as_str()) };
        let began = Instant::now();
        let sighting = self.semantic.find(&asked, &question, None, 0).await;
        self.lookup_ms.push(began.elapsed().as_secs_f64() * 1_000.0);

        let served = sighting.similar.map(|similar| similar.answer.body == row.answer.as_bytes());
        self.tally.count(served, sighting.is_audited, self.promised);
        if served.is_none() || sighting.is_audited {
            let answer = Arc::new(answer_of(row));
            let fresh = Fresh { bytes: answer.encode(), answer, is_kept: true, arbiter: None };
            if let Some(vector) = sighting.vector {
                self.semantic.settle(asked, Some(vector), sighting.pending, fresh).await;
            }
        }
        match self.semantic.n_errors() {
            0 => Ok(()),
            _ => Err(TrialError::Failed { row: self.tally.n }),
        }
    }

    pub fn report(&self) -> Report {
        let Tally { n, hits, false_hits, audits, broken_at } = self.tally;
        let rate = |count: u64| count as f64 / n.max(1) as f64;
        let false_hit_rate_ci = interval(false_hits, n);
        let mut sorted = self.lookup_ms.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let proven = self.semantic.judge().warden().map(|warden| warden.false_hit_rate_upper());
        Report {
            n,
            hits,
            hit_rate: rate(hits),
            hit_rate_ci: interval(hits, n),
            false_hits,
            false_hit_rate: rate(false_hits),
            false_hit_rate_ci,
            false_hit_rate_upper: proven.unwrap_or(false_hit_rate_ci[1]),
            broken_at,
            audits,
            audit_rate: rate(audits),
            lookup_ms_p50: quantile(&sorted, 0.5),
            lookup_ms_p99: quantile(&sorted, 0.99),
        }
    }
}

fn answer_of(row: &Row) -> StoredAnswer {
    StoredAnswer {
        body: Bytes::copy_from_slice(row.answer.as_bytes()),
        model: String::new(),
        upstream: String::new(),
        usage: Usage::default(),
        cost: None,
        stored_at_ms: 0,
        origin: None,
    }
}

impl Tally {
    /// `served` says whether the answer was right; none for a miss.
    fn count(&mut self, served: Option<bool>, is_audited: bool, promised: f64) {
        self.n += 1;
        self.hits += u64::from(served.is_some());
        self.false_hits += u64::from(served == Some(false));
        self.audits += u64::from(is_audited);
        self.broken_at += u64::from(self.false_hits as f64 > promised * self.n as f64);
    }
}

/// Wilson's interval of a rate, which holds near 0 and 1 too.
fn interval(count: u64, n: u64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let (n, rate) = (n as f64, count as f64 / n as f64);
    let squared = DEVIATIONS_95.powi(2);
    let centre = rate + squared / (2.0 * n);
    let width = DEVIATIONS_95 * (rate * (1.0 - rate) / n + squared / (4.0 * n * n)).sqrt();
    let of = |value: f64| (value / (1.0 + squared / n)).clamp(0.0, 1.0);
    [of(centre - width), of(centre + width)]
}

/// The value that this share of `sorted` does not exceed.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let idx = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(idx.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::embedder::EmbedError;
    use super::*;

    /// The first letter tells the direction; the length tells a little turn away from it.
    struct Letters;

    impl Embed for Letters {
        fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
            let mut vector = vec![0.0; 28];
            vector[usize::from(text.as_bytes()[0] - b'a')] = 1.0;
            vector[27] = 0.01 * text.len() as f32;
            let vector = super::super::embedder::of_length_one(vector);
            std::future::ready(vector.ok_or_else(|| EmbedError::Failed("no direction".to_owned()))).boxed()
        }

        fn id(&self) -> &str {
            "letters"
        }

        fn n_dims(&self) -> usize {
            28
        }
    }

    fn row(text: &str, answer: &str) -> Row {
        Row { text: text.to_owned(), answer: answer.to_owned(), scope: String::new() }
    }

    async fn run(policy: Policy, rows: &[Row]) -> Report {
        let mut trial = Trial::new(Arc::new(Letters), None, policy);
        for row in rows {
            trial.ask(row, 0.5).await.unwrap();
        }
        trial.report()
    }

    #[tokio::test]
    async fn a_static_bar_serves_what_is_near_and_counts_what_was_wrong() {
        let rows = [row("apple", "a"), row("apples", "a"), row("berry", "b"), row("aria", "x")];

        let report = run(Policy::Static(0.9), &rows).await;

        assert_eq!((report.n, report.hits, report.false_hits, report.audits), (4, 2, 1, 0));
        assert!(report.false_hit_rate_upper > report.false_hit_rate);
    }

    #[tokio::test]
    async fn rows_of_two_scopes_share_nothing() {
        let other = Row { scope: "b".to_owned(), ..row("apple", "a") };

        assert_eq!(run(Policy::Static(0.5), &[row("apple", "a"), other]).await.hits, 0);
    }

    #[tokio::test]
    async fn vcache_explores_until_an_entry_is_known() {
        let rows = vec![row("apple", "a"); 200];

        let report = run(Policy::VCache(0.01), &rows).await;

        assert!(report.hits < 196 && report.false_hits == 0, "{report:?}");
    }

    #[tokio::test]
    async fn the_risk_control_opens_audits_and_proves_its_rate() {
        let letters = ["a", "b", "c", "d", "e"];
        let rows: Vec<Row> =
            (0..600).map(|idx| row(&format!("{}{}", letters[idx % 5], idx), letters[idx % 5])).collect();

        let report = run(Policy::Stiver(RiskConfig::default()), &rows).await;

        assert!(report.hits > 100, "{report:?}");
        assert_eq!((report.false_hits, report.audits, report.broken_at), (0, report.hits, 0));
        assert!(report.false_hit_rate_upper <= 0.01);
    }

    #[test]
    fn an_interval_holds_its_rate_and_shrinks() {
        let ([low, high], [lower, higher]) = (interval(5, 100), interval(50, 1_000));

        assert!(low < 0.05 && 0.05 < high && low < lower && higher < high);
        assert_eq!(interval(0, 100)[0], 0.0);
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let sorted: Vec<f64> = (1..=100).map(f64::from).collect();

        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.99)), (50.0, 99.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
