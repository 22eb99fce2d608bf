//! What a caller asks of the engine, and what it hears back.
//!
//! Tokens in, tokens and text out. Chat messages, tools and wire formats are for `chat`; HTTP is nobody's.
//!
//! Invariants: a generation ends with exactly one [`Event::Finished`], whatever becomes of it, and
//! nothing follows it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::grammar::Constraint;
use crate::sampling::SamplingParams;

/// A token's number in its vocabulary.
pub type TokenId = u32;

/// One text to be continued.
#[derive(Debug)]
pub struct GenerateRequest {
    /// Never empty.
    pub prompt: Arc<[TokenId]>,
    /// The greatest number of tokens to generate; the context bounds it, too.
    pub max_tokens: usize,
    pub sampling: SamplingParams,
    pub stop: Stop,
    /// What every token has to obey.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Report log-probabilities, with this many of the likeliest alternatives; 0 for the chosen only.
    pub logprobs: Option<usize>,
    /// Who may share cached prefixes: only requests of equal salt do.
    pub salt: u64,
    /// For the policy `fair`: whose turn is counted.
    pub tenant: u64,
    /// For the policy `priority`: the greater goes first.
    pub priority: i32,
    /// After this moment the generation ends with [`FinishReason::Deadline`].
    pub deadline: Option<Instant>,
}

impl GenerateRequest {
    /// The likeliest continuation, asked for by nobody in particular.
    pub fn new(prompt: impl Into<Arc<[TokenId]>>, max_tokens: usize) -> Self {
        Self {
            prompt: prompt.into(),
            max_tokens,
            sampling: SamplingParams::default(),
            stop: Stop::default(),
            constraint: None,
            logprobs: None,
            salt: 0,
            tenant: 0,
            priority: 0,
            deadline: None,
        }
    }
}

/// What ends a text before its greatest length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stop {
    /// Texts that end the answer and do not show in it, wherever token boundaries fall.
    pub strings: Vec<String>,
    /// Tokens that end the answer and do not show in it, besides the model's own.
    pub tokens: Vec<TokenId>,
    /// Go on past the model's own end of text.
    pub ignore_eos: bool,
}

/// What happens to a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More of the answer.
    Delta(Delta),
    /// The end.
    Finished(Finish),
}

/// Some more text, and the tokens that became final with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Delta {
    /// Whole characters only; held back while it might be the beginning of a stop string.
    pub text: String,
    pub tokens: Vec<TokenOut>,
}

/// A generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenOut {
    pub id: TokenId,
    /// Its natural log-probability under the model, before temperature, penalties and masks.
    pub logprob: Option<f32>,
    /// The likeliest tokens there, best first.
    pub top: Vec<(TokenId, f32)>,
}

/// How a generation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    pub reason: FinishReason,
    pub usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FinishReason {
    /// The model's end of text, a stop token, a stop string, or the end of a grammar.
    Stop,
    /// The greatest length, or the end of the context.
    Length,
    /// The caller went away or asked for it.
    Aborted,
    Deadline,
    /// The request's own grammar could not be obeyed to the end; why.
    Grammar(String),
    /// The engine could not go on; what and why.
    Failed(String),
}

/// What a generation took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    pub n_prompt: usize,
    /// Tokens of the prompt that were found in the prefix cache.
    pub n_cached: usize,
    pub n_generated: usize,
    /// Tokens that speculation proposed, and how many of them held.
    pub n_drafted: usize,
    pub n_accepted: usize,
    /// From submission to the first chunk of the prompt.
    pub queued: Duration,
    /// From submission to the first token.
    pub first_token: Option<Duration>,
    /// The request's share of the device: step time divided by tokens computed in the step.
    pub device: Duration,
}

/// Why a request was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    #[error("the queue is full with {n_waiting} requests; try again later or raise `max_queue`")]
    QueueFull { n_waiting: usize },
    #[error("the prompt has {n_prompt} tokens, and the context holds {context} with at least one to answer")]
    PromptTooLong { n_prompt: usize, context: usize },
    #[error("the prompt is empty; it must have at least one token")]
    EmptyPrompt,
    #[error("{0}")]
    Invalid(String),
    #[error("the engine is shutting down")]
    Closed,
}
