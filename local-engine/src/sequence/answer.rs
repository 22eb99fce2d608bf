//! How the next token is chosen, what it means for the answer, and what the caller hears of it.
//!
//! Knows no blocks and no schedule.
//!
//! Invariants: a token that ends the answer is no part of it; the caller hears `Finished` once, last.

use std::sync::Arc;

use async_channel::Sender;

use crate::grammar::{Constraint, GrammarError, TokenMask};
use crate::request::{Delta, Event, Finish, FinishReason, GenerateRequest, TokenId, TokenOut, Usage};
use crate::sampling::{Choice, Sampler};
use crate::tokenizer::{TextOut, Vocabulary};

/// What became of a chosen token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It belongs to the answer, and more may follow.
    Kept,
    /// It belongs to the answer and is the last.
    Last(FinishReason),
    /// It ends the answer and is no part of it.
    End,
}

/// The answer as it grows.
#[derive(Debug)]
pub struct Answer {
    sampler: Sampler,
    constraint: Option<Box<dyn Constraint>>,
    /// Tokens that end it, the model's own among them unless they are to be ignored.
    ends: Vec<TokenId>,
    n_top: Option<usize>,
    n_left: usize,
    text: TextOut,
    is_text_over: bool,
    /// Not yet sent: tokens wait for the text that they are part of.
    pending: Delta,
    events: Sender<Event>,
}

impl Answer {
    /// `model_ends` are the tokens by which the model ends a text.
    pub fn new(
        request: GenerateRequest,
        model_ends: &[TokenId],
        vocabulary: Arc<Vocabulary>,
        events: Sender<Event>,
    ) -> Self {
        let mut ends = request.stop.tokens;
        // Where a grammar allows the end of the text there is nothing to go on with.
        if !request.stop.ignore_eos || request.constraint.is_some() {
            ends.extend_from_slice(model_ends);
        }
        Self {
            sampler: Sampler::new(request.sampling, &request.prompt),
            constraint: request.constraint,
            ends,
            n_top: request.logprobs,
            n_left: request.max_tokens,
            text: TextOut::new(vocabulary, request.stop.strings),
            is_text_over: false,
            pending: Delta::default(),
            events,
        }
    }

    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// How many more tokens it may have.
    pub fn n_left(&self) -> usize {
        self.n_left
    }

    pub fn is_end(&self, token: TokenId) -> bool {
        self.ends.contains(&token)
    }

    /// Tokens that must come next, whatever the model says.
    pub fn forced(&mut self) -> Vec<TokenId> {
        self.constraint.as_mut().map_or_else(Vec::new, |constraint| constraint.forced())
    }

    /// Whether nobody listens any more.
    pub fn is_unheard(&self) -> bool {
        self.events.is_closed()
    }

    /// Chooses the token at a position from its row of logits; none when nothing may follow.
    pub fn choose(&mut self, row: &mut [f32], position: usize) -> Result<Option<Choice>, GrammarError> {
        let mask = match &mut self.constraint {
            None => None,
            Some(constraint) if constraint.is_done() => return Ok(None),
            Some(constraint) => Some(constraint.mask()?),
        };
        if mask.as_ref().is_some_and(is_empty) {
            return Err(GrammarError::Failed("the grammar allows no token here".into()));
        }
        Ok(Some(self.sampler.choose(row, position, mask.as_ref(), self.n_top)))
    }

    /// Makes a chosen token part of the answer, or the end of it.
    pub fn take(&mut self, choice: Choice) -> Result<Taken, GrammarError> {
        self.n_left = self.n_left.saturating_sub(1);
        if self.is_end(choice.token) {
            return Ok(Taken::End);
        }
        self.sampler.push(choice.token);
        let piece = self.text.push(choice.token);
        self.pending.text.push_str(&piece.text);
        self.is_text_over = piece.stopped;
        let mut is_done = piece.stopped;
        if let Some(constraint) = &mut self.constraint {
            constraint.push(choice.token)?;
            is_done |= constraint.is_done();
        }
        self.pending.tokens.push(TokenOut { id: choice.token, logprob: choice.logprob, top: choice.top });
        Ok(match (is_done, self.n_left) {
            (true, _) => Taken::Last(FinishReason::Stop),
            (false, 0) => Taken::Last(FinishReason::Length),
            (false, _) => Taken::Kept,
        })
    }

    /// Sends what the step has brought, if there is text to show.
    pub fn send(&mut self) {
        if !self.pending.text.is_empty() {
            self.emit(Event::Delta);
        }
    }

    /// Sends what is left, and the end.
    pub fn finish(&mut self, reason: FinishReason, usage: Usage) {
        if !self.is_text_over {
            self.pending.text.push_str(&self.text.finish());
        }
        if !self.pending.text.is_empty() || !self.pending.tokens.is_empty() {
            self.emit(Event::Delta);
        }
        // Whoever does not listen any more need not know.
        let _ = self.events.try_send(Event::Finished(Finish { reason, usage }));
        self.events.close();
    }

    fn emit(&mut self, event: fn(Delta) -> Event) {
        // The channel is unbounded, so this fails only when nobody listens, which `is_unheard` tells.
        let _ = self.events.try_send(event(std::mem::take(&mut self.pending)));
    }
}

fn is_empty(mask: &TokenMask) -> bool {
    mask.words().iter().all(|word| *word == 0)
}
