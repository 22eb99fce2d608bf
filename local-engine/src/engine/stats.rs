//! What the engine counts.
//!
//! Exports nothing: a [`Stats`] is a copy of the numbers, for whoever exports them.
//!
//! Invariants: counting takes no lock; every number only grows, but for the gauges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// A look at the engine's numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Gauges.
    pub n_running: usize,
    pub n_waiting: usize,
    pub n_blocks_used: usize,
    pub n_blocks: usize,
    /// Counters, since the start.
    pub n_steps: u64,
    pub n_finished: u64,
    pub n_preempted: u64,
    /// Prompt tokens of admitted requests, and how many of them were in the prefix cache.
    pub n_prompt_tokens: u64,
    pub n_prefix_hit_tokens: u64,
    /// Tokens of prompts that steps computed, and of answers again after a preemption.
    pub n_prefilled_tokens: u64,
    /// Tokens that were chosen.
    pub n_generated_tokens: u64,
    /// Guesses that steps computed, and how many held.
    pub n_drafted_tokens: u64,
    pub n_accepted_tokens: u64,
    /// Time in steps, and the part of it that was neither the model's nor the draft model's.
    pub busy: Duration,
    pub overhead: Duration,
    /// From submission to the first chunk.
    pub queue_wait: HistogramStats,
    /// From submission to the first token.
    pub first_token: HistogramStats,
    /// Between tokens of an answer; those of one step share its time.
    pub inter_token: HistogramStats,
}

/// A histogram's numbers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistogramStats {
    /// The upper bounds of the buckets, in seconds; the last bucket has none.
    pub bounds_s: &'static [f64],
    /// One more than there are bounds; not cumulative.
    pub counts: Vec<u64>,
    pub sum_s: f64,
}

impl HistogramStats {
    pub fn n_observed(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// About three buckets to a power of ten: from a step of a small model to a minute in the queue.
const BOUNDS_S: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
    60.0,
];

#[derive(Debug)]
pub(super) struct Histogram {
    counts: Box<[AtomicU64]>,
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        let counts = (0..=BOUNDS_S.len()).map(|_| AtomicU64::new(0)).collect();
        Self { counts, sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// The same duration so many times.
    pub(super) fn observe(&self, duration: Duration, n_times: usize) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS_S.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(n_times as u64, Relaxed);
        self.sum_ns.fetch_add(duration.as_nanos() as u64 * n_times as u64, Relaxed);
    }

    fn stats(&self) -> HistogramStats {
        HistogramStats {
            bounds_s: BOUNDS_S,
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum_s: self.sum_ns.load(Relaxed) as f64 / 1e9,
        }
    }
}

/// The numbers as they are counted.
#[derive(Debug, Default)]
pub struct Meters {
    pub(super) n_running: AtomicUsize,
    /// All that are there, in whatever state.
    pub(super) n_unfinished: Arc<AtomicUsize>,
    pub(super) n_blocks_used: AtomicUsize,
    pub(super) n_blocks: AtomicUsize,
    pub(super) n_steps: AtomicU64,
    pub(super) n_finished: AtomicU64,
    pub(super) n_preempted: AtomicU64,
    pub(super) n_prompt_tokens: AtomicU64,
    pub(super) n_prefix_hit_tokens: AtomicU64,
    pub(super) n_prefilled_tokens: AtomicU64,
    pub(super) n_generated_tokens: AtomicU64,
    pub(super) n_drafted_tokens: AtomicU64,
    pub(super) n_accepted_tokens: AtomicU64,
    pub(super) busy_ns: AtomicU64,
    pub(super) device_ns: AtomicU64,
    pub(super) queue_wait: Histogram,
    pub(super) first_token: Histogram,
    pub(super) inter_token: Histogram,
}

impl Meters {
    pub fn stats(&self) -> Stats {
        let (n_running, n_unfinished) = (self.n_running.load(Relaxed), self.n_unfinished.load(Relaxed));
        let (busy_ns, device_ns) = (self.busy_ns.load(Relaxed), self.device_ns.load(Relaxed));
        Stats {
            n_running,
            n_waiting: n_unfinished.saturating_sub(n_running),
            n_blocks_used: self.n_blocks_used.load(Relaxed),
            n_blocks: self.n_blocks.load(Relaxed),
            n_steps: self.n_steps.load(Relaxed),
            n_finished: self.n_finished.load(Relaxed),
            n_preempted: self.n_preempted.load(Relaxed),
            n_prompt_tokens: self.n_prompt_tokens.load(Relaxed),
            n_prefix_hit_tokens: self.n_prefix_hit_tokens.load(Relaxed),
            n_prefilled_tokens: self.n_prefilled_tokens.load(Relaxed),
            n_generated_tokens: self.n_generated_tokens.load(Relaxed),
            n_drafted_tokens: self.n_drafted_tokens.load(Relaxed),
            n_accepted_tokens: self.n_accepted_tokens.load(Relaxed),
            busy: Duration::from_nanos(busy_ns),
            overhead: Duration::from_nanos(busy_ns.saturating_sub(device_ns)),
            queue_wait: self.queue_wait.stats(),
            first_token: self.first_token.stats(),
            inter_token: self.inter_token.stats(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(500), 1);
        histogram.observe(Duration::from_micros(501), 2);
        histogram.observe(Duration::from_secs(61), 1);

        let stats = histogram.stats();

        assert_eq!(stats.counts[..3], [1, 2, 0]);
        assert_eq!(stats.counts.last(), Some(&1));
        assert_eq!(stats.n_observed(), 4);
        assert!((stats.sum_s - 61.001502).abs() < 1e-9);
    }
}
