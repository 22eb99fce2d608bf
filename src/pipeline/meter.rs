//! What an answer used and cost, counted while it passes, and its one posting.
//!
//! Changes no byte of the answer. Listens to what it says only where the team has it kept.
//!
//! Invariants: a meter posts exactly once: by [`Meter::post`], or when it is dropped because the
//! client went away; reported usage always beats an estimate.

use std::time::{Duration, Instant};

use super::admit::Admitted;
use super::call::Call;
use super::dispatch::Answered;
use super::text::transcript;
use crate::admission::Pass;
use crate::chat::{Transcript, Usage};
use crate::gateway::Live;
use crate::ledger::Hold;
use crate::ledger::entry::{AnswerPath, Entry, Outcome, Stages};
use crate::money::NanoUsd;
use crate::prompt::estimate_tokens;
use crate::telemetry::events::CallEnded;
use crate::upstream::{Answer, StreamItem};

/// Counts one answer.
pub(super) struct Meter {
    hold: Option<Hold>,
    entry: Entry,
    pricing: Pricing,
    pass: Pass,
    reported: Option<Usage>,
    /// Where the upstream does not say: an estimate from the text itself.
    n_input_estimated: u64,
    n_chars: usize,
    n_chunks: u64,
    /// What the answer says, where that is kept.
    transcript: Option<Transcript>,
    began: Instant,
}

/// The prices of one call, looked up once.
#[derive(Debug, Clone)]
struct Pricing {
    price: Option<crate::pricing::Price>,
    baseline: Option<crate::pricing::Price>,
    /// What broken attempts of the same call cost.
    wasted: NanoUsd,
}

impl Pricing {
    fn cost(&self, usage: &Usage) -> Option<NanoUsd> {
        Some(self.price.as_ref()?.cost(usage).ok()? + self.wasted)
    }

    /// What the provider's prefix cache took off the bill; less than nothing where writing it cost more.
    fn prefix_saved(&self, usage: &Usage) -> NanoUsd {
        let uncached = Usage { cached_read: 0, cache_write: 0, ..*usage };
        let cost = |usage| self.price.as_ref()?.cost(usage).ok();
        cost(&uncached).zip(cost(usage)).map_or(NanoUsd::ZERO, |(dear, cheap)| dear - cheap)
    }

    fn baseline_cost(&self, usage: &Usage) -> Option<NanoUsd> {
        self.baseline.as_ref()?.cost(usage).ok()
    }
}

impl Meter {
    /// Begins to count the answer, which it hands back.
    pub(super) fn start(admitted: Admitted, call: &Call, answered: Answered) -> (Answer, Self) {
        let transcript = transcript(&admitted);
        let Admitted { live, pass, .. } = admitted;
        let Answered { held, answer, attempt, is_local, sent_at, first_byte_at, wasted, tried } = answered;
        let hold = held.hold;
        let mut entry = hold.draft().clone();
        entry.tier = attempt.tier.clone();
        entry.upstream = Some(attempt.upstream.clone());
        entry.model = Some(attempt.model.clone());
        if !entry.is_audit() {
            entry.path = if is_local { AnswerPath::Local } else { AnswerPath::Upstream };
        }
        entry.attempts = entry.attempts.max(1);
        entry.first_byte_ms = Some(millis(first_byte_at.duration_since(call.began)));
        entry.overhead_us = micros(sent_at.duration_since(call.began));
        entry.tried = tried;
        entry.stages = Stages {
            sent_us: Some(entry.overhead_us),
            first_byte_us: Some(micros(first_byte_at.duration_since(call.began))),
            ..call.stages()
        };
        entry.status = 200;
        let price = |model: &str| live.config.prices.price(model, call.ts_ms).cloned();
        let pricing = Pricing {
            price: attempt.price.clone(),
            baseline: live.baseline_model(&call.request.route).and_then(price),
            wasted,
        };
        let meter = Self {
            hold: Some(hold),
            entry,
            pricing,
            pass,
            reported: None,
            n_input_estimated: estimate_tokens(call.request.n_chars()),
            n_chars: 0,
            n_chunks: 0,
            transcript,
            began: call.began,
        };
        (answer, meter)
    }

    /// Counts a chunk of a stream; returns the cost once the upstream has said what was used.
    pub(super) fn see(&mut self, item: &StreamItem) -> Option<NanoUsd> {
        if let StreamItem::Chunk { data, usage, content_chars, .. } = item {
            if let Some(transcript) = &mut self.transcript {
                transcript.push(std::str::from_utf8(data).unwrap_or(""));
            }
            self.reported = usage.or(self.reported);
            self.n_chars += content_chars;
            self.n_chunks += u64::from(*content_chars > 0);
        }
        let usage = self.usage();
        let cost = self.pricing.cost(&usage);
        if let Some(hold) = &mut self.hold {
            hold.progress(usage, cost.unwrap_or(NanoUsd::ZERO));
        }
        self.reported.and(cost)
    }

    /// Takes the usage of a whole answer.
    pub(super) fn read_whole(&mut self, usage: Option<Usage>, body: &[u8]) -> Option<NanoUsd> {
        self.reported = usage;
        self.n_chars = body.len();
        if let Some(transcript) = &mut self.transcript {
            transcript.push_whole(body);
        }
        self.pricing.cost(&self.usage())
    }

    /// Ends the call in the book; the row as it was posted.
    pub(super) fn post(mut self, outcome: Outcome) -> Entry {
        self.end(outcome)
    }

    /// The row as it stands.
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    pub(super) fn usage(&self) -> Usage {
        self.reported.unwrap_or_else(|| Usage {
            input: self.n_input_estimated,
            output: estimate_tokens(self.n_chars).max(self.n_chunks),
            ..Usage::default()
        })
    }

    fn end(&mut self, outcome: Outcome) -> Entry {
        let usage = self.usage();
        self.entry.usage = usage;
        self.entry.estimated = self.reported.is_none() || self.pricing.wasted > NanoUsd::ZERO;
        self.entry.cost = self.pricing.cost(&usage);
        if !self.entry.is_audit() {
            self.entry.baseline = self.pricing.baseline_cost(&usage);
        }
        self.entry.outcome = outcome;
        self.entry.total_ms = millis(self.began.elapsed());
        self.entry.stages.ended_us = Some(micros(self.began.elapsed()));
        self.entry.aside.prefix_saved = self.pricing.prefix_saved(&usage);
        if let Some(mut hold) = self.hold.take() {
            if let Some(said) = self.transcript.take().map(|transcript| transcript.said()) {
                hold.answered(said.json, said.is_cut);
            }
            hold.post(self.entry.clone());
            self.pass.settle(usage.input + usage.output);
            emit_ended(&self.entry, self.began.elapsed());
        }
        self.entry.clone()
    }
}

/// The client left before the end.
impl Drop for Meter {
    fn drop(&mut self) {
        if self.hold.is_some() {
            self.end(Outcome::ClientGone);
        }
    }
}

/// What the route's baseline would have cost for the same tokens.
pub(super) fn baseline_cost(live: &Live, call: &Call, usage: &Usage) -> Option<NanoUsd> {
    let model = live.baseline_model(&call.request.route)?;
    live.config.prices.price(model, call.ts_ms)?.cost(usage).ok()
}

/// Tells the metrics how a call ended.
pub(super) fn emit_ended(entry: &Entry, total: Duration) {
    CallEnded {
        endpoint: endpoint_word(&entry.endpoint),
        route: entry.route.as_str(),
        upstream: entry.upstream.as_ref().map_or("", |name| name.as_str()),
        model: entry.model.as_deref().unwrap_or(""),
        path: entry.path.as_str(),
        outcome: entry.outcome.as_str(),
        usage: entry.usage,
        cost: entry.cost,
        saved: entry.saved(),
        overhead: Duration::from_micros(entry.overhead_us),
        first_byte: entry.first_byte_ms.map(Duration::from_millis),
        total,
    }
    .emit();
}

fn endpoint_word(endpoint: &str) -> &'static str {
    use crate::chat::Endpoint;
    let known = [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings];
    known.into_iter().map(Endpoint::as_str).find(|word| *word == endpoint).unwrap_or("other")
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
