//! How far the quantised model's predictions are from the float one's, on held-out text.
//!
//! Says nothing about answers: a demonstration needs tasks, and this needs only some text.
//!
//! Invariants: both models have the same norm and head, which are not quantised; no row of logits is ever
//! held, so a large vocabulary takes no memory.

use serde::Serialize;

use super::calibration::Sequence;
use super::dense::{Dense, Rows};
use super::layer::Norm;
use super::threads;
use crate::request::TokenId;
use crate::weights::{Matrix, Tensor, Weights};

/// Over some hundred positions of held-out text.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Divergence {
    pub n_positions: usize,
    /// Of the quantised model's next tokens from the float one's, in nats.
    pub mean_kl: f64,
    /// The share of positions where both think the same token the likeliest.
    pub same_top_share: f64,
    pub perplexity_float: f64,
    pub perplexity_quantised: f64,
}

/// Rows of the head that are widened together.
const HEAD_ROWS: usize = 512;

pub(super) fn measure(weights: &Weights, sequences: &[Sequence], n_threads: usize) -> Divergence {
    let norm = Norm::new(&weights.norm, weights.hparams.norm_eps);
    let of_sequences = threads::map(n_threads, sequences.len(), |idx| {
        let quantised = sequences[idx].quantised.as_ref();
        quantised.map(|quantised| of_sequence(weights, &norm, &sequences[idx], quantised)).unwrap_or_default()
    });
    let positions: Vec<Position> = of_sequences.into_iter().flatten().collect();
    let mean = |of: fn(&Position) -> f64| positions.iter().map(of).sum::<f64>() / positions.len() as f64;
    Divergence {
        n_positions: positions.len(),
        mean_kl: mean(Position::kl),
        same_top_share: mean(|of| f64::from(u8::from(of.float.top == of.quantised.top))),
        perplexity_float: mean(|of| of.float.surprise()).exp(),
        perplexity_quantised: mean(|of| of.quantised.surprise()).exp(),
    }
}

fn of_sequence(weights: &Weights, norm: &Norm, sequence: &Sequence, quantised: &Rows) -> Vec<Position> {
    // The last token has no next one.
    let kept: Vec<usize> =
        sequence.kept.iter().copied().filter(|position| position + 1 < sequence.tokens.len()).collect();
    let normed = |states: &Rows| {
        let values = kept.iter().flat_map(|position| states.row(*position)).copied().collect();
        norm.of(&Rows { width: states.width, values })
    };
    let (float, quantised) = (normed(&sequence.float), normed(quantised));
    let mut positions: Vec<Position> =
        kept.iter().map(|position| Position::new(sequence.tokens[position + 1])).collect();
    let (n_hidden, n_vocab) = (weights.hparams.n_hidden, weights.hparams.n_vocab);
    for first in (0..n_vocab).step_by(HEAD_ROWS) {
        let part = head_part(weights, first, HEAD_ROWS.min(n_vocab - first), n_hidden);
        let (float, quantised) = (part.apply(&float), part.apply(&quantised));
        for ((position, float), quantised) in positions.iter_mut().zip(float.iter()).zip(quantised.iter()) {
            for (idx, (float, quantised)) in float.iter().zip(quantised).enumerate() {
                position.push((first + idx) as TokenId, f64::from(*float), f64::from(*quantised));
            }
        }
    }
    positions
}

/// Some rows of the head, or of the embedding where that is the head.
fn head_part(weights: &Weights, first: usize, n_rows: usize, n_hidden: usize) -> Dense {
    let mut rows = vec![0.0; n_rows * n_hidden];
    let tensor: &Tensor = match weights.head.as_ref().map(|head| &head.matrix) {
        Some(Matrix::Float(tensor)) => tensor,
        // A quantised head is refused before anything begins.
        Some(Matrix::Int4(_)) | None => &weights.embedding,
    };
    tensor.read_floats(first * n_hidden, &mut rows);
    Dense { name: String::new(), n_in: n_hidden, n_out: n_rows, rows, bias: None }
}

/// Both models' logits of one position, as far as they have been seen.
#[derive(Debug)]
struct Position {
    next: TokenId,
    float: Likelihood,
    quantised: Likelihood,
    /// The float model's weights times how much its logits are above the other's, under its greatest logit.
    gap: f64,
}

impl Position {
    fn new(next: TokenId) -> Self {
        Self { next, float: Likelihood::default(), quantised: Likelihood::default(), gap: 0.0 }
    }

    fn push(&mut self, token: TokenId, float: f64, quantised: f64) {
        let is_next = token == self.next;
        self.gap *= self.float.push(token, float, is_next);
        self.quantised.push(token, quantised, is_next);
        self.gap += (float - self.float.greatest).exp() * (float - quantised);
    }

    fn kl(&self) -> f64 {
        // Rounding may leave it a hair below zero.
        (self.gap / self.float.sum - self.float.log_sum() + self.quantised.log_sum()).max(0.0)
    }
}

/// A softmax' denominator that grows logit by logit.
#[derive(Debug)]
struct Likelihood {
    greatest: f64,
    /// Of `exp(logit - greatest)`.
    sum: f64,
    top: TokenId,
    /// The logit of the token that did come next.
    of_next: f64,
}

impl Default for Likelihood {
    fn default() -> Self {
        Self { greatest: f64::NEG_INFINITY, sum: 0.0, top: 0, of_next: 0.0 }
    }
}

impl Likelihood {
    /// By how much sums under the greatest logit shrank.
    fn push(&mut self, token: TokenId, logit: f64, is_next: bool) -> f64 {
        let factor = if logit > self.greatest { (self.greatest - logit).exp() } else { 1.0 };
        if logit > self.greatest {
            (self.greatest, self.top) = (logit, token);
        }
        self.sum = self.sum * factor + (logit - self.greatest).exp();
        if is_next {
            self.of_next = logit;
        }
        factor
    }

    fn log_sum(&self) -> f64 {
        self.greatest + self.sum.ln()
    }

    fn surprise(&self) -> f64 {
        self.log_sum() - self.of_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_seen_one_by_one_give_the_divergence_of_the_definition() {
        let (float, quantised) = ([1.0, 3.0, -2.0, 3.5], [0.5, 3.25, -1.0, 2.0]);
        let softmax = |logits: &[f64]| {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            logits.iter().map(|logit| logit.exp() / sum).collect::<Vec<f64>>()
        };
        let mut position = Position::new(1);

        for token in 0..4 {
            position.push(token as TokenId, float[token], quantised[token]);
        }

        let (p, q) = (softmax(&float), softmax(&quantised));
        let kl: f64 = p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum();
        assert!((position.kl() - kl).abs() < 1e-12, "{} and {kl}", position.kl());
        assert!((position.float.surprise() + p[1].ln()).abs() < 1e-12);
        assert!((position.quantised.surprise() + q[1].ln()).abs() < 1e-12);
        assert_eq!((position.float.top, position.quantised.top), (3, 1));
    }
}
