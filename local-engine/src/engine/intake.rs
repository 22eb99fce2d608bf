//! From a request to a sequence: what is refused at once, and all that can be made ready by the caller.
//!
//! Runs on the caller's thread, so that the engine's does not pay for it. Queues nothing.
//!
//! Invariants: a sequence that was made here can be finished: it fits the context and the blocks there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::Generation;
use super::stats::Meters;
use crate::kv::BlockTable;
use crate::request::{GenerateRequest, SubmitError, TokenId};
use crate::sequence::{Answer, Leave, Presence, Sequence, Share, State, Tally, Tokens, Turn};
use crate::speculate::{Drafting, SpeculationConfig};
use crate::tokenizer::Vocabulary;

/// Far beyond what anybody sends who means it.
const MOST_STOPS: usize = 32;
const MOST_STOP_BYTES: usize = 1_024;
const MOST_BIASES: usize = 2_048;
const MOST_TOP: usize = 64;

/// What requests are held to, and what sequences are made with.
#[derive(Debug)]
pub struct Intake {
    /// Positions that a sequence may have.
    pub(super) max_len: usize,
    pub(super) n_vocab: usize,
    /// Requests that may be unfinished at a time.
    pub(super) max_present: usize,
    pub(super) n_present: Arc<AtomicUsize>,
    pub(super) has_prefix_cache: bool,
    pub(super) speculation: SpeculationConfig,
    pub(super) vocabulary: Arc<Vocabulary>,
    pub(super) stop_ids: Vec<TokenId>,
    pub(super) meters: Arc<Meters>,
}

impl Intake {
    /// Makes a sequence and the caller's end of it.
    pub fn sequence(
        &self,
        request: GenerateRequest,
        now: Instant,
    ) -> Result<(Sequence, Generation), SubmitError> {
        self.check(&request)?;
        let (sender, receiver) = async_channel::unbounded();
        let is_aborted = Arc::new(AtomicBool::new(false));
        let GenerateRequest { priority, tenant, deadline, salt, .. } = request;
        let prompt = Arc::clone(&request.prompt);
        let mut table = BlockTable::new(self.has_prefix_cache.then_some(salt));
        table.prepare(&prompt);
        let sequence = Sequence {
            state: State::Waiting,
            turn: Turn { arrival: 0, priority, tenant, n_overtaken: 0 },
            tokens: Tokens::new(&prompt),
            table,
            share: Share::default(),
            drafting: Drafting::new(&self.speculation, &prompt),
            answer: Answer::new(request, &self.stop_ids, Arc::clone(&self.vocabulary), sender),
            leave: Leave { is_aborted: Arc::clone(&is_aborted), deadline },
            tally: Tally::new(now, prompt.len()),
            presence: None,
        };
        Ok((sequence, Generation::new(receiver, is_aborted)))
    }

    /// Counts a sequence among those that are there, if there is room for one more. One caller at a time.
    pub(super) fn register(&self, sequence: &mut Sequence) -> Result<(), SubmitError> {
        let n_present = self.n_present.load(Ordering::Acquire);
        if n_present >= self.max_present {
            let n_waiting = n_present.saturating_sub(self.meters.n_running.load(Ordering::Relaxed));
            return Err(SubmitError::QueueFull { n_waiting });
        }
        sequence.presence = Some(Presence::new(Arc::clone(&self.n_present)));
        Ok(())
    }

    /// The greatest number of positions of a sequence: the model's, or what all blocks hold.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    fn check(&self, request: &GenerateRequest) -> Result<(), SubmitError> {
        let n_prompt = request.prompt.len();
        if n_prompt == 0 {
            return Err(SubmitError::EmptyPrompt);
        }
        if n_prompt >= self.max_len {
            return Err(SubmitError::PromptTooLong { n_prompt, context: self.max_len });
        }
        if request.max_tokens == 0 {
            return Err(SubmitError::Invalid("`max_tokens` is 0; it must be at least 1".into()));
        }
        let n_vocab = self.n_vocab;
        let unknown = request.prompt.iter().enumerate().find(|(_, token)| **token as usize >= n_vocab);
        if let Some((position, token)) = unknown {
            return Err(SubmitError::Invalid(format!(
                "token {token} at position {position} of the prompt is not in the vocabulary of {n_vocab}; encode it with this model's tokenizer"
            )));
        }
        let mut mistakes = request.sampling.check(n_vocab);
        // What is looked at again for every token, on the thread that all share.
        let stops = &request.stop;
        let longest = stops.strings.iter().map(String::len).max().unwrap_or(0);
        for (name, n, most) in [
            ("`stop` has strings", stops.strings.len(), MOST_STOPS),
            ("`stop` has bytes in a string", longest, MOST_STOP_BYTES),
            ("`stop` has tokens", stops.tokens.len(), MOST_STOPS),
            ("`logit_bias` has tokens", request.sampling.logit_bias.len(), MOST_BIASES),
            ("`logprobs` has alternatives", request.logprobs.unwrap_or(0), MOST_TOP),
        ] {
            if n > most {
                mistakes.push(format!("{name}: {n}; {most} is the most"));
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(SubmitError::Invalid(mistakes.join("; "))) }
    }
}
