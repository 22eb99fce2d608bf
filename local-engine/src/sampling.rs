//! From a row of logits to a token.
//!
//! Knows neither sequences nor text; what came before is told to it token by token.
//!
//! The order of things: penalties, then bias, on the logits; the grammar's mask; temperature; top-k; top-p
//! of what is left; min-p; the draw. Temperatures under [`LEAST_TEMPERATURE`] take the likeliest token and
//! need nothing after the mask.
//!
//! A draw takes the token with the greatest sum of scaled logit and Gumbel noise, which is a draw from the
//! softmax. The noise is a hash of seed, position and token, so that a draw depends on nothing else.
//!
//! Invariants: equal parameters, seed, position, history and logits give the equal token, whatever else
//! the engine does at the time. A token that the mask forbids is never chosen unless it forbids all.

mod history;
mod noise;
mod nucleus;
mod ranking;
mod softmax;

use std::collections::BTreeMap;

use crate::grammar::TokenMask;
use crate::request::TokenId;
use history::History;
use noise::Noise;
use nucleus::Left;
use ranking::{Candidate, Ranking};

/// Under this, differences of logits times 1e5 say the same as taking the likeliest.
pub const LEAST_TEMPERATURE: f32 = 1e-5;

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

impl SamplingParams {
    /// All that is wrong with them, each mistake with its field and what it may be; empty if nothing is.
    pub fn check(&self, n_vocab: usize) -> Vec<String> {
        let positive = f32::MIN_POSITIVE;
        let ranges = [
            ("temperature", self.temperature, 0.0, 100.0, "between 0 and 100"),
            ("top_p", self.top_p, positive, 1.0, "above 0 and at most 1"),
            ("min_p", self.min_p, 0.0, 1.0, "between 0 and 1"),
            ("repetition_penalty", self.repetition_penalty, positive, 10.0, "above 0 and at most 10"),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0, "between -2 and 2"),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0, "between -2 and 2"),
        ];
        let outside = ranges.into_iter().filter(|(_, value, low, high, _)| !(low..=high).contains(&value));
        let mut mistakes: Vec<String> = outside
            .map(|(field, value, _, _, range)| format!("`{field}` is {value}; it must be {range}"))
            .collect();
        for (token, bias) in &self.logit_bias {
            if *token as usize >= n_vocab {
                mistakes.push(format!("`logit_bias` names token {token}; it must be below {n_vocab}"));
            }
            if !(-100.0..=100.0).contains(bias) {
                mistakes.push(format!(
                    "`logit_bias` of token {token} is {bias}; it must be between -100 and 100"
                ));
            }
        }
        mistakes
    }
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub token: TokenId,
    /// Under the model's own distribution, before temperature, penalties and masks; if asked for.
    pub logprob: Option<f32>,
    /// The likeliest under that distribution, best first; equal ones by their numbers.
    pub top: Vec<(TokenId, f32)>,
}

/// Chooses the tokens of one sequence.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    history: History,
}

impl Sampler {
    pub fn new(params: SamplingParams, prompt: &[TokenId]) -> Self {
        let history = History::new(&params, prompt);
        Self { params, history }
    }

    /// Chooses the token at a position; the row is used up. `n_top` asks for log-probabilities.
    ///
    /// NaN counts as negative infinity. If no token is above negative infinity, the first that the mask
    /// allows is chosen, and token 0 if it allows none: the grammar then refuses it by its own error.
    pub fn choose(
        &self,
        row: &mut [f32],
        position: usize,
        mask: Option<&TokenMask>,
        n_top: Option<usize>,
    ) -> Choice {
        let report = n_top.map(|n_top| Report::of(row, n_top));
        let before = self.history.adjust(&self.params, row);
        if let Some(mask) = mask {
            forbid(row, mask);
        }
        let token = self.pick(row, position).unwrap_or_else(|| first_allowed(row.len(), mask));
        let before = before.iter().find(|(adjusted, _)| *adjusted == token);
        let logit = before.map_or(row.get(token as usize).copied(), |(_, logit)| Some(*logit));
        let logprob = report.as_ref().zip(logit).map(|(report, logit)| report.logprob(logit));
        Choice { token, logprob, top: report.map(|report| report.top).unwrap_or_default() }
    }

    /// Tells a token that became part of the answer.
    pub fn push(&mut self, token: TokenId) {
        self.history.push(&self.params, token);
    }

    /// None if no token is above negative infinity.
    fn pick(&self, row: &[f32], position: usize) -> Option<TokenId> {
        if self.params.temperature < LEAST_TEMPERATURE {
            return ranking::best(row);
        }
        let ranking = Ranking::of(row);
        let draw = Draw {
            noise: Noise::at(self.params.seed, position),
            max: ranking.max,
            factor: 1.0 / self.params.temperature,
        };
        match self.truncated(&ranking, draw.factor) {
            Left::Few(few) => draw.among(&few),
            Left::DownTo(last) => draw.down_to(&ranking, last),
        }
    }

    /// What top-k, top-p and min-p leave.
    fn truncated(&self, ranking: &Ranking<'_>, factor: f32) -> Left {
        let SamplingParams { top_k, top_p, min_p, .. } = self.params;
        let has_top_k = top_k > 0 && top_k < ranking.row().len();
        let least = (ranking.max + min_p.ln() / factor).max(f32::MIN);
        let left = match (has_top_k, top_p < 1.0) {
            (false, false) => return Left::DownTo(Candidate { token: TokenId::MAX, logit: least }),
            (false, true) => nucleus::of_all(ranking, top_p, factor),
            (true, false) => Left::Few(ranking.top(top_k)),
            (true, true) => {
                let mut left = ranking.top(top_k);
                let weight = nucleus::weight(ranking.max, factor);
                let total: f64 = left.iter().map(&weight).sum();
                nucleus::cut_to_mass(&mut left, f64::from(top_p) * total, weight);
                Left::Few(left)
            }
        };
        match left {
            Left::Few(mut few) => {
                few.retain(|found| found.logit >= least);
                Left::Few(few)
            }
            Left::DownTo(last) if last.logit < least => {
                Left::DownTo(Candidate { token: TokenId::MAX, logit: least })
            }
            Left::DownTo(last) => Left::DownTo(last),
        }
    }
}

/// One draw from the softmax of scaled logits.
#[derive(Debug, Clone, Copy)]
struct Draw {
    noise: Noise,
    max: f32,
    factor: f32,
}

impl Draw {
    fn scaled(&self, logit: f32) -> f32 {
        let behind = logit - self.max;
        if behind > 0.0 { 0.0 } else { behind * self.factor }
    }

    fn among(&self, left: &[Candidate]) -> Option<TokenId> {
        let mut best = Best { token: None, score: f32::NEG_INFINITY };
        left.iter().for_each(|found| self.consider(&mut best, found.token, found.logit));
        best.token
    }

    /// As [`Self::among`] of all tokens that do not rank behind the last; most are ruled out by a bound.
    fn down_to(&self, ranking: &Ranking<'_>, last: Candidate) -> Option<TokenId> {
        // The likeliest block first: what it scores rules out most others at once.
        let mut best = Best { token: None, score: f32::NEG_INFINITY };
        for (start, block) in ranking.blocks_from(ranking.max) {
            self.improve(&mut best, (start, block), last);
        }
        let least = ranking.max + (best.score - Noise::MAX) / self.factor;
        for (start, block) in ranking.blocks_from(least.max(last.logit)) {
            if self.may_improve(best.score, start, block) {
                self.improve(&mut best, (start, block), last);
            }
        }
        best.token
    }

    /// Whether a token's bound reaches the score; without a branch, so that compilers use vectors.
    fn may_improve(&self, score: f32, start: TokenId, block: &[f32]) -> bool {
        let mut any = false;
        for (within, logit) in block.iter().enumerate() {
            let bound = self.noise.bound(start.wrapping_add(within as TokenId));
            any |= (logit - self.max) * self.factor + bound >= score;
        }
        any
    }

    fn improve(&self, best: &mut Best, (start, block): (TokenId, &[f32]), last: Candidate) {
        for (token, logit) in (start..).zip(block) {
            if *logit > last.logit || (*logit == last.logit && token <= last.token) {
                self.consider(best, token, *logit);
            }
        }
    }

    /// Of equal scores the lower token wins, as everywhere.
    fn consider(&self, best: &mut Best, token: TokenId, logit: f32) {
        let scaled = self.scaled(logit);
        if scaled + self.noise.bound(token) < best.score {
            return;
        }
        let score = scaled + self.noise.gumbel(token);
        let wins_tie = score == best.score && best.token.is_some_and(|best| token < best);
        if score > best.score || wins_tie {
            *best = Best { token: Some(token), score };
        }
    }
}

/// The best score so far.
#[derive(Debug)]
struct Best {
    token: Option<TokenId>,
    score: f32,
}

/// The model's own distribution, as far as it was asked for.
#[derive(Debug)]
struct Report {
    max: f32,
    /// The logarithm of the sum of `e^(logit - max)`.
    log_sum: f64,
    top: Vec<(TokenId, f32)>,
}

impl Report {
    fn of(row: &[f32], n_top: usize) -> Self {
        let ranking = Ranking::of(row);
        let mut report =
            Self { max: ranking.max, log_sum: softmax::sum_exp(row, ranking.max, 1.0).ln(), top: Vec::new() };
        let mut top = ranking.top(n_top);
        top.sort_unstable_by(Candidate::rank);
        report.top = top.iter().map(|found| (found.token, report.logprob(found.logit))).collect();
        report
    }

    fn logprob(&self, logit: f32) -> f32 {
        let behind = f64::from(logit.min(f32::MAX)) - f64::from(self.max);
        if logit > f32::NEG_INFINITY { (behind - self.log_sum) as f32 } else { f32::NEG_INFINITY }
    }
}

/// Forbids what the mask does; tokens that it does not know, too.
fn forbid(row: &mut [f32], mask: &TokenMask) {
    let words = mask.words().iter().copied().chain(std::iter::repeat(0));
    for (logits, word) in row.chunks_mut(32).zip(words) {
        match word {
            u32::MAX => {}
            0 => logits.fill(f32::NEG_INFINITY),
            word => {
                for (bit, logit) in logits.iter_mut().enumerate() {
                    *logit = if word >> bit & 1 == 1 { *logit } else { f32::NEG_INFINITY };
                }
            }
        }
    }
}

fn first_allowed(n_vocab: usize, mask: Option<&TokenMask>) -> TokenId {
    let allowed = |token: &TokenId| mask.is_none_or(|mask| mask.allows(*token));
    (0..n_vocab as TokenId).find(allowed).unwrap_or(0)
}

#[cfg(test)]
mod tests;
