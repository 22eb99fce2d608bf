//! From a row of logits to a token.
//!
//! Knows neither sequences nor text; what came before is told to it token by token.
//!
//! Invariants: equal parameters, seed, position, history and logits give the equal token, whatever else
//! the engine does at the time.

use std::collections::BTreeMap;

use crate::grammar::TokenMask;
use crate::request::TokenId;

/// How the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Only so many of the likeliest; 0 for all.
    pub top_k: usize,
    /// Only the likeliest that together have this probability; 1 for all.
    pub top_p: f32,
    /// Only those at least this share as likely as the likeliest; 0 for all.
    pub min_p: f32,
    /// Logits of tokens that were in the prompt or the answer are divided by it, or multiplied if negative.
    pub repetition_penalty: f32,
    /// Taken from the logits of tokens that are in the answer.
    pub presence_penalty: f32,
    /// Taken from the logits for each time that a token is in the answer.
    pub frequency_penalty: f32,
    /// Added to the logits.
    pub logit_bias: BTreeMap<TokenId, f32>,
    /// Of the request; a token's randomness comes from it and from the token's position.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
        }
    }
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub token: TokenId,
    /// Under the model's own distribution, before temperature, penalties and masks; if asked for.
    pub logprob: Option<f32>,
    /// The likeliest under that distribution, best first.
    pub top: Vec<(TokenId, f32)>,
}

/// Chooses the tokens of one sequence.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
}

impl Sampler {
    pub fn new(params: SamplingParams, _prompt: &[TokenId]) -> Self {
        Self { params }
    }

    /// Chooses the token at a position; the row is used up. `n_top` asks for log-probabilities.
    pub fn choose(
        &self,
        row: &mut [f32],
        position: usize,
        mask: Option<&TokenMask>,
        n_top: Option<usize>,
    ) -> Choice {
        let _ = (&self.params, position, n_top);
        let allowed = |token: &usize| mask.is_none_or(|mask| mask.allows(*token as TokenId));
        let best = (0..row.len()).filter(allowed).fold(None, |best: Option<usize>, token| match best {
            Some(best) if row[best] >= row[token] => Some(best),
            Some(_) | None => Some(token),
        });
        Choice { token: best.unwrap_or(0) as TokenId, logprob: None, top: Vec::new() }
    }

    /// Tells a token that became part of the answer.
    pub fn push(&mut self, _token: TokenId) {}
}
