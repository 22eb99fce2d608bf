//! What models in this process did: one event an answer, and how busy each is.
//!
//! Invariant: the only label is the upstream's name, which comes from the configuration.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

pub(super) fn describe() {
    describe_gauge!("stiver_local_running", "Sequences that a local model computes now");
    describe_gauge!("stiver_local_waiting", "Requests that wait for a local model");
    describe_gauge!("stiver_local_kv_used_ratio", "Share of a local model's KV cache that is held");
    describe_counter!("stiver_local_preemptions_total", "Sequences put back for want of KV cache");
    describe_counter!("stiver_local_prompt_tokens_total", "Tokens of prompts that local models took");
    describe_counter!("stiver_local_prefix_hit_tokens_total", "Of these, found in the prefix cache");
    describe_counter!("stiver_local_generated_tokens_total", "Tokens that local models wrote");
    describe_counter!("stiver_local_drafted_tokens_total", "Tokens proposed by speculation");
    describe_counter!("stiver_local_accepted_tokens_total", "Of these, taken");
    describe_counter!("stiver_local_device_microseconds_total", "Time that local models computed");
    describe_counter!(
        "stiver_local_declined_total",
        "Answers that only said that the question is not the model's"
    );
    describe_histogram!("stiver_local_queue_seconds", "Time to the first chunk of a prompt");
    describe_histogram!("stiver_local_first_token_seconds", "Time to the first token, the queue included");
    describe_histogram!("stiver_local_inter_token_seconds", "Mean time between the tokens of an answer");
}

/// A local model finished an answer.
pub struct LocalAnswered<'a> {
    pub upstream: &'a str,
    pub n_prompt: usize,
    pub n_cached: usize,
    pub n_generated: usize,
    pub n_drafted: usize,
    pub n_accepted: usize,
    pub queued: Duration,
    pub first_token: Option<Duration>,
    pub total: Duration,
    pub device: Duration,
}

impl LocalAnswered<'_> {
    pub fn emit(&self) {
        let upstream = || self.upstream.to_owned();
        for (name, n) in [
            ("stiver_local_prompt_tokens_total", self.n_prompt),
            ("stiver_local_prefix_hit_tokens_total", self.n_cached),
            ("stiver_local_generated_tokens_total", self.n_generated),
            ("stiver_local_drafted_tokens_total", self.n_drafted),
            ("stiver_local_accepted_tokens_total", self.n_accepted),
        ] {
            counter!(name, "upstream" => upstream()).increment(n as u64);
        }
        let device_us = u64::try_from(self.device.as_micros()).unwrap_or(u64::MAX);
        counter!("stiver_local_device_microseconds_total", "upstream" => upstream()).increment(device_us);
        histogram!("stiver_local_queue_seconds", "upstream" => upstream()).record(self.queued.as_secs_f64());
        let Some(first_token) = self.first_token else { return };
        histogram!("stiver_local_first_token_seconds", "upstream" => upstream())
            .record(first_token.as_secs_f64());
        if self.n_generated > 1 {
            let rest_s = self.total.saturating_sub(first_token).as_secs_f64();
            histogram!("stiver_local_inter_token_seconds", "upstream" => upstream())
                .record(rest_s / (self.n_generated - 1) as f64);
        }
    }
}

/// A local model said that a question is not its own.
pub struct LocalDeclined<'a> {
    pub upstream: &'a str,
}

impl LocalDeclined<'_> {
    pub fn emit(&self) {
        counter!("stiver_local_declined_total", "upstream" => self.upstream.to_owned()).increment(1);
    }
}

/// How busy a local model is.
pub struct LocalLoad<'a> {
    pub upstream: &'a str,
    pub n_running: usize,
    pub n_waiting: usize,
    pub n_blocks_used: usize,
    pub n_blocks: usize,
    /// Since the start.
    pub n_preempted: u64,
}

impl LocalLoad<'_> {
    pub fn emit(&self) {
        let upstream = || self.upstream.to_owned();
        gauge!("stiver_local_running", "upstream" => upstream()).set(self.n_running as f64);
        gauge!("stiver_local_waiting", "upstream" => upstream()).set(self.n_waiting as f64);
        let used = self.n_blocks_used as f64 / self.n_blocks.max(1) as f64;
        gauge!("stiver_local_kv_used_ratio", "upstream" => upstream()).set(used);
        counter!("stiver_local_preemptions_total", "upstream" => upstream()).absolute(self.n_preempted);
    }
}
