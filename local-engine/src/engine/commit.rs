//! What a step's logits mean for one sequence: its next tokens, or its end.
//!
//! Invariants: a row counts only if every token before it was chosen as it was computed; a block is
//! registered before its sequence lets it go.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::step::Core;
use crate::grammar::GrammarError;
use crate::request::FinishReason;
use crate::sequence::{Pause, Sequence, Share, Taken};

/// Makes one running sequence's share of a step count. Its rows begin with the given one; says how many
/// they were.
pub(super) fn commit(core: &mut Core, idx: usize, share: Share, (row_idx, now): (usize, Instant)) -> usize {
    let sequence = &mut core.running[idx];
    let is_prefill = sequence.gap() > 1 || sequence.tally.usage().n_generated == 0;
    let reaches_end = share.n_tokens == sequence.gap();
    sequence.table.advance(share.n_tokens);
    let n_rows = if reaches_end { 1 + share.n_drafts } else { 0 };
    let meters = &core.meters;
    if is_prefill {
        meters.n_prefilled_tokens.fetch_add(share.n_tokens as u64, Relaxed);
    }

    let mut outcome = Outcome::default();
    for row_idx in row_idx..row_idx + n_rows {
        let row = &mut core.logits.row_mut(row_idx)[..core.rules.n_vocab];
        match choose(sequence, row, core.rules.max_len) {
            Ok(chosen) => outcome.add(chosen),
            Err(error) => outcome.end = Some(FinishReason::Failed(error.to_string())),
        }
        if outcome.end.is_some() || !outcome.is_drafted {
            break;
        }
    }
    sequence.tokens.truncate_drafts(0);
    sequence.table.unfollow();
    if outcome.n_generated > 0 {
        match sequence.tally.generated(now, outcome.n_generated) {
            Pause::First(pause) => meters.first_token.observe(pause, 1),
            Pause::Between(pause) => {
                meters.inter_token.observe(pause / outcome.n_generated as u32, outcome.n_generated);
            }
        }
        meters.n_generated_tokens.fetch_add(outcome.n_generated as u64, Relaxed);
        core.served.charge(sequence.turn.tenant, outcome.n_generated);
    }
    if share.n_drafts > 0 {
        sequence.tally.speculated(share.n_drafts, outcome.n_accepted);
        sequence.drafting.learn(share.n_drafts, outcome.n_accepted);
        meters.n_drafted_tokens.fetch_add(share.n_drafts as u64, Relaxed);
        meters.n_accepted_tokens.fetch_add(outcome.n_accepted as u64, Relaxed);
    }
    keep(core, idx, outcome.end);
    n_rows
}

/// Registers what is full, and tells the caller.
fn keep(core: &mut Core, idx: usize, end: Option<FinishReason>) {
    let sequence = &mut core.running[idx];
    // Others who hit a block need it filled in both models' pages.
    let n_followed = core.drafter.as_ref().map(|_| sequence.table.n_followed());
    let n_filled = sequence.table.n_computed().min(n_followed.unwrap_or(usize::MAX));
    core.kv.register(&mut sequence.table, sequence.tokens.known(), n_filled);
    match end {
        Some(reason) => {
            core.kv.release(&mut sequence.table);
            sequence.finish(reason);
        }
        None => {
            core.kv.trim(&mut sequence.table, sequence.tokens.known().len());
            sequence.answer.send();
        }
    }
}

/// What the rows of one sequence came to.
#[derive(Default)]
struct Outcome {
    n_generated: usize,
    n_accepted: usize,
    /// The last token was the one that had been guessed, so that the next row counts.
    is_drafted: bool,
    end: Option<FinishReason>,
}

struct Chosen {
    /// None when nothing could follow.
    taken: Option<Taken>,
    is_drafted: bool,
}

impl Outcome {
    fn add(&mut self, chosen: Chosen) {
        self.n_generated += usize::from(chosen.taken.is_some());
        self.is_drafted = chosen.is_drafted;
        self.n_accepted += usize::from(chosen.is_drafted);
        self.end = match chosen.taken {
            None | Some(Taken::End) => Some(FinishReason::Stop),
            Some(Taken::Last(reason)) => Some(reason),
            Some(Taken::Kept) => None,
        };
    }
}

/// Chooses one token and makes it known.
fn choose(sequence: &mut Sequence, row: &mut [f32], max_len: usize) -> Result<Chosen, GrammarError> {
    let position = sequence.tokens.known().len();
    let Some(choice) = sequence.answer.choose(row, position)? else {
        return Ok(Chosen { taken: None, is_drafted: false });
    };
    let token = choice.token;
    let taken = sequence.answer.take(choice)?;
    if taken == Taken::End {
        let is_drafted = sequence.tokens.drafts().first() == Some(&token);
        return Ok(Chosen { taken: Some(taken), is_drafted });
    }
    let is_drafted = sequence.tokens.push(token);
    // A guess that holds is computed already, as the last known token or a guess that held always is.
    sequence.table.advance(usize::from(is_drafted));
    sequence.drafting.push(token);
    let is_full = position + 1 >= max_len;
    let taken = if is_full && taken == Taken::Kept { Taken::Last(FinishReason::Length) } else { taken };
    Ok(Chosen { taken: Some(taken), is_drafted })
}
