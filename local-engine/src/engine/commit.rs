//! Makes a step count: for the sequences, for who may hit their blocks, for the numbers, for the callers.
//!
//! Chooses no tokens: `reading` does.
//!
//! Invariants: a block is registered when it is full of confirmed tokens, in the draft model's pages, too,
//! and before its sequence lets it go.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::reading::{Outcome, Part, read};
use super::stats::Meters;
use super::step::Core;
use crate::kv::KvCache;
use crate::request::FinishReason;
use crate::sequence::{Pause, Sequence, Share};

impl Core {
    /// Makes what the device computed count.
    pub(super) fn commit(&mut self, now: Instant, on_device: Duration) {
        let Self { running, logits, kv, meters, served, drafter, reading, .. } = self;
        let n_computed: usize = running.iter().map(|sequence| sequence.share.n_computed()).sum();
        for mut part in parts(running, &mut logits.values, logits.n_vocab, meters) {
            read(&mut part, *reading);
            let Part { sequence, share, outcome, .. } = part;
            sequence.tally.charge(on_device.mul_f64(share.n_computed() as f64 / n_computed as f64));
            count(sequence, share, &outcome, (meters, now));
            served.charge(sequence.turn.tenant, outcome.n_generated);
            keep(kv, sequence, drafter.is_some(), outcome.end);
        }
    }
}

/// The sequences of a step, each with its rows; what they know is computed from now on.
fn parts<'a>(
    running: &'a mut [Sequence],
    mut rows: &'a mut [f32],
    row_len: usize,
    meters: &Meters,
) -> Vec<Part<'a>> {
    let mut parts = Vec::with_capacity(running.len());
    for sequence in running.iter_mut().filter(|sequence| sequence.share.n_tokens > 0) {
        let n_rows = if sequence.reaches_end() { 1 + sequence.share.n_drafts } else { 0 };
        if sequence.gap() > 1 || sequence.tally.usage().n_generated == 0 {
            meters.n_prefilled_tokens.fetch_add(sequence.share.n_tokens as u64, Relaxed);
        }
        let share = std::mem::take(&mut sequence.share);
        sequence.table.advance(share.n_tokens);
        let (own, rest) = rows.split_at_mut(n_rows * row_len);
        rows = rest;
        parts.push(Part { sequence, share, rows: own, row_len, outcome: Outcome::default() });
    }
    parts
}

fn count(sequence: &mut Sequence, share: Share, outcome: &Outcome, (meters, now): (&Meters, Instant)) {
    let Outcome { n_generated, n_accepted, .. } = *outcome;
    if n_generated > 0 {
        meters.n_generated_tokens.fetch_add(n_generated as u64, Relaxed);
        match sequence.tally.generated(now, n_generated) {
            Pause::First(pause) => meters.first_token.observe(pause, 1),
            Pause::Between(pause) => meters.inter_token.observe(pause / n_generated as u32, n_generated),
        }
    }
    if share.n_drafts > 0 {
        meters.n_drafted_tokens.fetch_add(share.n_drafts as u64, Relaxed);
        meters.n_accepted_tokens.fetch_add(n_accepted as u64, Relaxed);
        sequence.tally.speculated(share.n_drafts, n_accepted);
        sequence.drafting.learn(share.n_drafts, n_accepted);
    }
}

/// Registers what is full, and tells the caller.
fn keep(kv: &mut KvCache, sequence: &mut Sequence, has_drafter: bool, end: Option<FinishReason>) {
    let n_followed = if has_drafter { sequence.table.n_followed() } else { usize::MAX };
    let n_filled = sequence.table.n_computed().min(n_followed);
    kv.register(&mut sequence.table, sequence.tokens.known(), n_filled);
    match end {
        Some(reason) => {
            kv.release(&mut sequence.table);
            sequence.finish(reason);
        }
        None => {
            kv.trim(&mut sequence.table, sequence.tokens.known().len());
            sequence.answer.send();
        }
    }
}
