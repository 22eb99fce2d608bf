//! What a text already holds, and what that takes from the logits.
//!
//! Knows neither masks nor randomness.

use std::collections::HashMap;

use super::SamplingParams;
use crate::request::TokenId;

/// How often each token was in the answer, and which were in the prompt.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    /// Times in the answer; 0 for a token that only the prompt has.
    counts: HashMap<TokenId, u32>,
}

impl History {
    /// The prompt is kept only if something depends on it.
    pub(super) fn new(params: &SamplingParams, prompt: &[TokenId]) -> Self {
        let prompt = if params.repetition_penalty == 1.0 { &[] } else { prompt };
        Self { counts: prompt.iter().map(|token| (*token, 0)).collect() }
    }

    pub(super) fn push(&mut self, params: &SamplingParams, token: TokenId) {
        if params.repetition_penalty != 1.0
            || params.presence_penalty != 0.0
            || params.frequency_penalty != 0.0
        {
            *self.counts.entry(token).or_default() += 1;
        }
    }

    /// Writes the penalised and biased logits into the row; gives back what was there before.
    pub(super) fn adjust(&self, params: &SamplingParams, row: &mut [f32]) -> Vec<(TokenId, f32)> {
        let n_vocab = row.len();
        let within = |token: &TokenId| (*token as usize) < n_vocab;
        let mut before = Vec::with_capacity(self.counts.len() + params.logit_bias.len());
        for (token, n_answer) in self.counts.iter().filter(|(token, _)| within(token)) {
            let logit = &mut row[*token as usize];
            before.push((*token, *logit));
            *logit = penalised(params, *n_answer, *logit);
        }
        for (token, bias) in params.logit_bias.iter().filter(|(token, _)| within(token)) {
            let logit = &mut row[*token as usize];
            before.push((*token, *logit));
            *logit += bias;
        }
        before
    }
}

fn penalised(params: &SamplingParams, n_answer: u32, logit: f32) -> f32 {
    let repeated =
        if logit > 0.0 { logit / params.repetition_penalty } else { logit * params.repetition_penalty };
    let presence = if n_answer > 0 { params.presence_penalty } else { 0.0 };
    repeated - presence - params.frequency_penalty * n_answer as f32
}
