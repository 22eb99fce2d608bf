//! What a generation has taken so far.
//!
//! Reads no clock: moments are told to it.

use std::time::{Duration, Instant};

use crate::request::Usage;

/// Counts and moments of one generation.
#[derive(Debug, Clone)]
pub struct Tally {
    submitted: Instant,
    last_token: Option<Instant>,
    is_started: bool,
    usage: Usage,
}

impl Tally {
    pub fn new(submitted: Instant, n_prompt: usize) -> Self {
        let usage = Usage { n_prompt, ..Usage::default() };
        Self { submitted, last_token: None, is_started: false, usage }
    }

    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// It is admitted, with so many tokens from the prefix cache; how long it waited, if it is the first
    /// time. Later admissions follow a preemption, which is no concern of the caller.
    pub fn start(&mut self, now: Instant, n_cached: usize) -> Option<Duration> {
        if std::mem::replace(&mut self.is_started, true) {
            return None;
        }
        self.usage.n_cached = n_cached;
        self.usage.queued = now.saturating_duration_since(self.submitted);
        Some(self.usage.queued)
    }

    /// The device worked so long for it.
    pub fn charge(&mut self, device: Duration) {
        self.usage.device += device;
    }

    pub fn speculated(&mut self, n_drafted: usize, n_accepted: usize) {
        self.usage.n_drafted += n_drafted;
        self.usage.n_accepted += n_accepted;
    }

    /// Tokens came out of a step.
    pub fn generated(&mut self, now: Instant, n_tokens: usize) -> Pause {
        self.usage.n_generated += n_tokens;
        match self.last_token.replace(now) {
            Some(last) => Pause::Between(now.saturating_duration_since(last)),
            None => {
                let first = now.saturating_duration_since(self.submitted);
                self.usage.first_token = Some(first);
                Pause::First(first)
            }
        }
    }
}

/// What the caller waited for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Since submission.
    First(Duration),
    /// Since the tokens before.
    Between(Duration),
}
