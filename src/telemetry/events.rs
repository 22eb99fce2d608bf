//! Notable events: one struct each, which emits its log line and its metrics together.
//!
//! Names follow the OpenTelemetry GenAI conventions where they have one (`gen_ai.*`); ours begin
//! with `stiver_`. Money is counted in whole nano-dollars.
//!
//! Invariant: labels come from the configuration or from fixed words, never from a caller, so their number is bounded.

mod counted;
mod local;
mod risk;
mod splits;

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, histogram};

pub use local::{LocalAnswered, LocalDeclined, LocalLoad};
pub use risk::ScopeStood;
pub use splits::{SplitMatched, SplitMissed, SplitWatched};

use crate::chat::Usage;
use crate::money::NanoUsd;

pub(super) fn describe() {
    counted::describe();
    local::describe();
    risk::describe();
    splits::describe();
    describe_counter!("stiver_calls_total", "Calls that ended, by endpoint, route, path and outcome");
    describe_counter!("stiver_refusals_total", "Calls refused or failed, by blame and code");
    describe_counter!("stiver_cost_nano_usd_total", "What calls cost, in billionths of a US dollar");
    describe_counter!(
        "stiver_saved_nano_usd_total",
        "What calls cost less than their baseline, in billionths of a US dollar"
    );
    describe_counter!(
        "stiver_unpriced_calls_total",
        "Calls metered with a null cost because the model has no price"
    );
    describe_counter!("stiver_upstream_failures_total", "Failed attempts, by upstream and reason");
    describe_counter!(
        "stiver_score_fallbacks_total",
        "Scores given by the heuristic instead of the classifier"
    );
    describe_counter!("stiver_cache_purged_total", "Cached answers that an operator had removed, by tier");
    describe_counter!("stiver_cache_audits_total", "Checks of cached answers that ended, by outcome");
    describe_counter!(
        "stiver_cache_judgements_total",
        "Questions to the judge whether two answers say the same, by outcome"
    );
    describe_counter!("stiver_cache_feedback_total", "Answers that clients rated, by rating");
    describe_counter!("stiver_config_reloads_total", "Configuration reloads, by result");
    describe_gauge!("stiver_calls_in_flight", "Calls being answered now");
    describe_histogram!("stiver_overhead_seconds", "Time a call spent in the gateway itself");
    describe_histogram!("gen_ai.client.token.usage", "Tokens used by a call, by kind");
    describe_histogram!("gen_ai.client.operation.duration", "Duration of a call, in seconds");
    describe_histogram!(
        "gen_ai.server.time_to_first_token",
        "Time to the first byte of an answer, in seconds"
    );
}

/// A call was answered, or failed after it had begun to be.
pub struct CallEnded<'a> {
    pub endpoint: &'static str,
    pub route: &'a str,
    pub upstream: &'a str,
    pub model: &'a str,
    pub path: &'static str,
    pub outcome: &'static str,
    pub usage: Usage,
    pub cost: Option<NanoUsd>,
    pub saved: Option<NanoUsd>,
    pub overhead: Duration,
    pub first_byte: Option<Duration>,
    pub total: Duration,
}

impl CallEnded<'_> {
    pub fn emit(&self) {
        let route = self.route.to_owned();
        if self.path == "audit" {
            // Nobody asked for it, so it is no call: it costs, and is counted where its answer is compared.
            self.emit_upstream(route);
            return;
        }
        counter!("stiver_calls_total", "endpoint" => self.endpoint, "route" => route.clone(), "path" => self.path, "outcome" => self.outcome)
            .increment(1);
        histogram!("stiver_overhead_seconds", "path" => self.path).record(self.overhead.as_secs_f64());
        histogram!("gen_ai.client.operation.duration", "gen_ai.operation.name" => self.endpoint, "gen_ai.request.model" => route.clone())
            .record(self.total.as_secs_f64());
        if let Some(saved) = self.saved.and_then(|saved| u64::try_from(saved.get()).ok()) {
            counter!("stiver_saved_nano_usd_total", "route" => route.clone(), "path" => self.path)
                .increment(saved);
        }
        if matches!(self.path, "upstream" | "local") {
            self.emit_upstream(route);
        }
        tracing::debug!(
            gen_ai.request.model = self.route,
            upstream.name = self.upstream,
            path = self.path,
            outcome = self.outcome,
            duration_ms = self.total.as_millis() as u64,
            "a call ended"
        );
    }

    fn emit_upstream(&self, route: String) {
        let upstream = self.upstream.to_owned();
        match self.cost.map(|cost| u64::try_from(cost.get()).unwrap_or(0)) {
            Some(cost) => {
                counter!("stiver_cost_nano_usd_total", "route" => route, "upstream" => upstream.clone())
                    .increment(cost);
            }
            None => counter!("stiver_unpriced_calls_total", "upstream" => upstream.clone()).increment(1),
        }
        for (kind, n_tokens) in [("input", self.usage.input), ("output", self.usage.output)] {
            histogram!("gen_ai.client.token.usage", "gen_ai.token.type" => kind, "gen_ai.response.model" => self.model.to_owned())
                .record(n_tokens as f64);
        }
        if let Some(first_byte) = self.first_byte {
            histogram!("gen_ai.server.time_to_first_token", "gen_ai.provider.name" => upstream)
                .record(first_byte.as_secs_f64());
        }
    }
}

/// A call ended without an answer.
pub struct CallRefused<'a> {
    pub blame: &'static str,
    pub code: &'static str,
    pub status: u16,
    /// The field at fault.
    pub param: Option<&'a str>,
    /// Logged only where we wrote it: what tells callers of their mistakes may quote what they sent.
    pub message: &'a str,
}

impl CallRefused<'_> {
    pub fn emit(&self) {
        let Self { blame, code, status, param, message } = *self;
        counter!("stiver_refusals_total", "blame" => blame, "code" => code).increment(1);
        if status >= 500 {
            tracing::warn!(blame, code, status, "{message}");
        } else if blame == "caller" {
            tracing::debug!(blame, code, status, param, "a call was refused");
        } else {
            tracing::debug!(blame, code, status, "{message}");
        }
    }
}

/// An attempt at an upstream failed.
pub struct AttemptFailed<'a> {
    pub upstream: &'a str,
    pub reason: &'static str,
    pub detail: &'a str,
}

impl AttemptFailed<'_> {
    pub fn emit(&self) {
        counter!("stiver_upstream_failures_total", "upstream" => self.upstream.to_owned(), "reason" => self.reason).increment(1);
        tracing::warn!(
            upstream.name = self.upstream,
            reason = self.reason,
            "an attempt failed: {}",
            self.detail
        );
    }
}

/// The heuristic scored a call because the classifier could not.
pub struct ScoreFellBack {
    pub why: &'static str,
}

impl ScoreFellBack {
    pub fn emit(&self) {
        counter!("stiver_score_fallbacks_total", "why" => self.why).increment(1);
    }
}

/// A client said that an answer was wrong, or right.
pub struct FeedbackGiven {
    pub rating: &'static str,
    pub n_exact: u64,
    pub n_semantic: u64,
}

impl FeedbackGiven {
    pub fn emit(&self) {
        let Self { rating, n_exact, n_semantic } = *self;
        counter!("stiver_cache_feedback_total", "rating" => rating).increment(1);
        tracing::debug!(rating, n_exact, n_semantic, "a client rated an answer");
    }
}

/// An operator had cached answers removed.
pub struct CachePurged {
    pub n_exact: u64,
    pub n_semantic: u64,
}

impl CachePurged {
    pub fn emit(&self) {
        let Self { n_exact, n_semantic } = *self;
        for (tier, n_entries) in [("exact", n_exact), ("semantic", n_semantic)] {
            counter!("stiver_cache_purged_total", "tier" => tier).increment(n_entries);
        }
        tracing::info!(n_exact, n_semantic, "cached answers were purged");
    }
}

/// A check of a cached answer ended: `answered` (whole), `broken` (off in the middle), `failed` (no answer) or
/// `stopped` with the gateway.
pub struct AuditEnded<'a> {
    pub id: &'a str,
    pub route: &'a str,
    pub outcome: &'static str,
    pub why: &'a str,
}

impl AuditEnded<'_> {
    pub fn emit(&self) {
        counter!("stiver_cache_audits_total", "outcome" => self.outcome).increment(1);
        tracing::debug!(
            call.id = self.id,
            gen_ai.request.model = self.route,
            outcome = self.outcome,
            "an audit ended: {}",
            self.why
        );
    }
}

/// A question to the judge whether two answers say the same ended: `same`, `different`, `unclear` (it said something
/// else), `failed` (no answer, or no money), `busy` (too many are under way) or `stopped` with the gateway.
pub struct JudgementEnded<'a> {
    pub route: &'a str,
    pub outcome: &'static str,
    pub why: &'a str,
}

impl JudgementEnded<'_> {
    pub fn emit(&self) {
        counter!("stiver_cache_judgements_total", "outcome" => self.outcome).increment(1);
        tracing::debug!(
            gen_ai.request.model = self.route,
            outcome = self.outcome,
            "a judgement of two answers ended: {}",
            self.why
        );
    }
}

/// The configuration was read again.
pub struct ConfigReloaded<'a> {
    pub problems: &'a [String],
}

impl ConfigReloaded<'_> {
    pub fn emit(&self) {
        let result = if self.problems.is_empty() { "ok" } else { "kept_last_good" };
        counter!("stiver_config_reloads_total", "result" => result).increment(1);
        if self.problems.is_empty() {
            tracing::info!("the configuration was reloaded");
        }
        for problem in self.problems {
            tracing::error!(
                "the configuration was not reloaded, the last good one stays in force: {problem}"
            );
        }
    }
}
