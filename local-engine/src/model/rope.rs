//! Rotary positions: how far each pair of a head's numbers turns at each position.
//!
//! Knows nothing of queries and keys: it turns whatever head it is given.
//!
//! A head is split into halves, and number `i` turns with number `i + head_dim / 2`. The angles are
//! taken in f64: at position 100,000 an f32 angle would be off by thousandths.
//!
//! Invariants: the table has `n_positions` rows of `head_dim / 2` cosines and as many sines, and the
//! scaling's attention factor is in both.

use std::f64::consts::TAU;

use super::{Hparams, Rope, RopeScaling};

/// Cosines and sines by position.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeTable {
    n_positions: usize,
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RopeTable {
    pub fn new(hparams: &Hparams, n_positions: usize) -> Self {
        let frequencies = hparams.rope.frequencies(hparams.head_dim);
        let factor = hparams.rope.attention_factor();
        let n_angles = n_positions * frequencies.len();
        let (mut cos, mut sin) = (Vec::with_capacity(n_angles), Vec::with_capacity(n_angles));
        for position in 0..n_positions {
            for frequency in &frequencies {
                let (of_sin, of_cos) = (position as f64 * frequency).sin_cos();
                cos.push((of_cos * factor) as f32);
                sin.push((of_sin * factor) as f32);
            }
        }
        Self { n_positions, half: frequencies.len(), cos, sin }
    }

    pub fn n_positions(&self) -> usize {
        self.n_positions
    }

    /// All cosines, `[n_positions, head_dim / 2]`.
    pub fn cos(&self) -> &[f32] {
        &self.cos
    }

    /// All sines, `[n_positions, head_dim / 2]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }

    /// The cosines and sines of a position.
    ///
    /// # Panics
    ///
    /// When the table does not reach that far.
    pub fn row(&self, position: usize) -> (&[f32], &[f32]) {
        let first = position * self.half;
        (&self.cos[first..][..self.half], &self.sin[first..][..self.half])
    }

    /// Turns one head to a position.
    ///
    /// # Panics
    ///
    /// When the table does not reach that far, or the head is of another length.
    pub fn apply(&self, position: usize, head: &mut [f32]) {
        assert_eq!(head.len(), 2 * self.half, "the head has the table's length");
        let (cos, sin) = self.row(position);
        let (first, second) = head.split_at_mut(self.half);
        for (((x, y), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*x, *y) = (*x * cos - *y * sin, *y * cos + *x * sin);
        }
    }
}

impl Rope {
    /// How far each pair of a head turns from one position to the next, in radians.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        let plain = |pair: usize| self.theta.powf(-((2 * pair) as f64) / head_dim as f64);
        let pairs = 0..head_dim / 2;
        match &self.scaling {
            RopeScaling::None => pairs.map(plain).collect(),
            RopeScaling::Linear { factor } => pairs.map(|pair| plain(pair) / factor).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let bend = Llama3 {
                    factor: *factor,
                    low: *low_freq_factor,
                    high: *high_freq_factor,
                    original_context: *original_context as f64,
                };
                pairs.map(|pair| bend.frequency(plain(pair))).collect()
            }
            RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, truncate, .. } => {
                let dim_of = |n_turns: f64| {
                    let turned = (*original_context as f64 / (n_turns * TAU)).ln();
                    head_dim as f64 * turned / (2.0 * self.theta.ln())
                };
                let ramp = Ramp::new(dim_of(*beta_fast), dim_of(*beta_slow), *truncate, head_dim);
                let mixed = |pair: usize| {
                    let kept = 1.0 - ramp.at(pair);
                    plain(pair) / factor * (1.0 - kept) + plain(pair) * kept
                };
                pairs.map(mixed).collect()
            }
        }
    }

    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match self.scaling {
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => 1.0,
            RopeScaling::Yarn { attention_factor, .. } => attention_factor,
        }
    }
}

/// Llama 3.1's bend: short waves stay, long ones are stretched, those between are mixed.
struct Llama3 {
    factor: f64,
    low: f64,
    high: f64,
    original_context: f64,
}

impl Llama3 {
    fn frequency(&self, frequency: f64) -> f64 {
        let wave = TAU / frequency;
        if wave < self.original_context / self.high {
            frequency
        } else if wave > self.original_context / self.low {
            frequency / self.factor
        } else {
            let kept = (self.original_context / wave - self.low) / (self.high - self.low);
            (1.0 - kept) * frequency / self.factor + kept * frequency
        }
    }
}

/// YaRN's way from pairs that stay (0) to pairs that are interpolated (1).
struct Ramp {
    low: f64,
    high: f64,
}

impl Ramp {
    fn new(fast: f64, slow: f64, truncate: bool, head_dim: usize) -> Self {
        let (low, high) = if truncate { (fast.floor(), slow.ceil()) } else { (fast, slow) };
        let (low, high) = (low.max(0.0), high.min((head_dim - 1) as f64));
        // A ramp of no width would divide by zero.
        Self { low, high: if low == high { high + 0.001 } else { high } }
    }

    fn at(&self, pair: usize) -> f64 {
        ((pair as f64 - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests;
