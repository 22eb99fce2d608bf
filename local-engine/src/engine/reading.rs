//! What rows of logits mean for one sequence: its next tokens, or its end.
//!
//! Touches nothing but the sequence and its rows. Frees no blocks and tells nobody: `commit` does.
//!
//! Rows are read one after the other, on the engine's thread. Sharing them out to two threads was measured
//! and given up: where cores are shared with others, waiting for the last thread took twice as long.
//!
//! Invariants: a row counts only if every token before it was chosen as it was computed; a grammar that
//! fails or panics is the end of its own sequence only.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::grammar::GrammarError;
use crate::request::FinishReason;
use crate::sequence::{Sequence, Share, Taken};

/// What reading goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadingRules {
    /// Positions that a sequence may have.
    pub(super) max_len: usize,
    /// Tokens that every model here knows; a row may be longer.
    pub(super) n_vocab: usize,
}

/// A sequence and what a step brought it.
pub(super) struct Part<'a> {
    pub(super) sequence: &'a mut Sequence,
    pub(super) share: Share,
    /// The rows of its last known token and of its drafts; none if it has not read its prompt to the end.
    pub(super) rows: &'a mut [f32],
    pub(super) row_len: usize,
    pub(super) outcome: Outcome,
}

/// What the rows came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) n_generated: usize,
    pub(super) n_accepted: usize,
    pub(super) end: Option<FinishReason>,
}

/// Reads the rows of one sequence.
pub(super) fn read(part: &mut Part<'_>, rules: ReadingRules) {
    let read = catch_unwind(AssertUnwindSafe(|| read_rows(part, rules)));
    match read {
        Ok(Ok(())) => {}
        Ok(Err(error)) => part.outcome.end = Some(FinishReason::Grammar(error.to_string())),
        Err(_) => {
            let why = "the grammar or the text met a fault of its own";
            part.outcome.end = Some(FinishReason::Failed(why.into()));
        }
    }
    part.sequence.tokens.truncate_drafts(0);
    part.sequence.table.unfollow();
}

fn read_rows(part: &mut Part<'_>, rules: ReadingRules) -> Result<(), GrammarError> {
    for row in part.rows.chunks_exact_mut(part.row_len) {
        let is_drafted =
            read_row(part.sequence, &mut row[..rules.n_vocab], rules.max_len, &mut part.outcome)?;
        part.outcome.n_accepted += usize::from(is_drafted);
        if part.outcome.end.is_some() || !is_drafted {
            break;
        }
    }
    Ok(())
}

/// Chooses one token and makes it known. Says whether it had been guessed, so that the next row counts.
fn read_row(
    sequence: &mut Sequence,
    row: &mut [f32],
    max_len: usize,
    outcome: &mut Outcome,
) -> Result<bool, GrammarError> {
    let position = sequence.tokens.known().len();
    let Some(choice) = sequence.answer.choose(row, position)? else {
        outcome.end = Some(FinishReason::Stop);
        return Ok(false);
    };
    let token = choice.token;
    let taken = sequence.answer.take(choice)?;
    outcome.n_generated += 1;
    if taken == Taken::End {
        outcome.end = Some(FinishReason::Stop);
        return Ok(sequence.tokens.drafts().first() == Some(&token));
    }
    let is_drafted = sequence.tokens.push(token);
    // A guess that holds is computed already, since all before it were.
    sequence.table.advance(usize::from(is_drafted));
    sequence.drafting.push(token);
    outcome.end = match taken {
        Taken::Last(reason) => Some(reason),
        Taken::Kept if position + 1 >= max_len => Some(FinishReason::Length),
        Taken::Kept | Taken::End => None,
    };
    Ok(is_drafted)
}
