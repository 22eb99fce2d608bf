//! The published alternative: each entry learns a threshold of its own and explores until it is sure.
//!
//! Kept to compare with, on the same embeddings and by the same command; nothing serves by it. An entry
//! fits a logistic curve in similarity to what it saw, takes the threshold pessimistically within its
//! confidence, and explores with the least probability that keeps the expected error below `delta`.
//! Nothing is pooled between entries.
//!
//! Invariants: an entry with fewer than six observations, the two it is born with among them, is not served.

use std::collections::HashMap;

use super::candidate::EntryKey;

const MIN_OBSERVATIONS: usize = 6;
/// Keeps the fit finite where one similarity parts right from wrong.
const RIDGE: f64 = 1e-3;
const N_STEPS_MAX: usize = 60;
const N_HALVINGS_MAX: i32 = 30;
/// Chances ε that the threshold lies higher still, with the normal quantile of 1 − ε.
const PESSIMISM: [(f64, f64); 10] = [
    (0.001, 3.0902),
    (0.002, 2.8782),
    (0.005, 2.5758),
    (0.01, 2.3263),
    (0.02, 2.0537),
    (0.05, 1.6449),
    (0.1, 1.2816),
    (0.2, 0.8416),
    (0.3, 0.5244),
    (0.5, 0.0),
];

#[derive(Debug, Clone)]
pub struct VCache {
    /// Wrong answers a request.
    delta: f64,
    entries: HashMap<EntryKey, Curve>,
}

/// What one entry saw, and the curve through it.
#[derive(Debug, Clone)]
struct Curve {
    seen: Vec<(f64, bool)>,
    threshold: f64,
    slope: f64,
    deviation: f64,
}

impl VCache {
    pub fn new(delta: f64) -> Self {
        Self { delta, entries: HashMap::new() }
    }

    /// Whether to ask upstream; `draw` is uniform in [0, 1).
    pub fn explores(&self, entry: EntryKey, similarity: f64, draw: f64) -> bool {
        let curve = self.entries.get(&entry).filter(|curve| curve.seen.len() >= MIN_OBSERVATIONS);
        curve.is_none_or(|curve| draw <= curve.exploration(similarity, self.delta))
    }

    /// What exploring showed. A new entry is to be stored only when the answer was another.
    pub fn observe(&mut self, entry: EntryKey, similarity: f64, right: bool) {
        let curve = self.entries.entry(entry).or_insert_with(Curve::born);
        curve.seen.push((similarity, right));
        curve.fit();
    }
}

impl Curve {
    fn born() -> Self {
        Self { seen: vec![(0.0, false), (1.0, true)], threshold: 0.5, slope: 1.0, deviation: f64::INFINITY }
    }

    fn exploration(&self, similarity: f64, delta: f64) -> f64 {
        let tau = |(doubt, quantile): (f64, f64)| {
            let threshold = self.threshold + quantile * self.deviation;
            let sure = (1.0 - doubt) * sigmoid(self.slope * (similarity - threshold));
            1.0 - delta / (1.0 - sure)
        };
        PESSIMISM.into_iter().map(tau).fold(1.0, f64::min)
    }

    /// Newton's method for intercept and slope, with steps halved until they help; the threshold is
    /// where the curve crosses one half.
    fn fit(&mut self) {
        let (mut intercept, mut slope) = (0.0, 1.0);
        for _ in 0..N_STEPS_MAX {
            let (gradient, [a, b, c]) = self.derivatives(intercept, slope);
            let determinant = a * c - b * b;
            let step = (
                (c * gradient.0 - b * gradient.1) / determinant,
                (a * gradient.1 - b * gradient.0) / determinant,
            );
            let before = self.likelihood(intercept, slope);
            let helps =
                |scale: &f64| self.likelihood(intercept + scale * step.0, slope + scale * step.1) >= before;
            let Some(scale) = (0..N_HALVINGS_MAX).map(|n| 0.5_f64.powi(n)).find(helps) else { break };
            intercept += scale * step.0;
            slope += scale * step.1;
            if step.0.abs().max(step.1.abs()) < 1e-4 {
                break;
            }
        }
        let (_, [a, b, c]) = self.derivatives(intercept, slope);
        self.slope = slope.max(1e-3);
        self.threshold = -intercept / self.slope;
        // The delta method, for threshold = −intercept ∕ slope.
        let (by_intercept, by_slope) = (-1.0 / self.slope, intercept / self.slope.powi(2));
        let variance = (by_intercept.powi(2) * c - 2.0 * by_intercept * by_slope * b + by_slope.powi(2) * a)
            / (a * c - b * b);
        self.deviation = variance.max(0.0).sqrt();
    }

    /// The penalised logarithm of the likelihood.
    fn likelihood(&self, intercept: f64, slope: f64) -> f64 {
        let of_one = |(similarity, right): &(f64, bool)| {
            let log_odds = intercept + slope * similarity;
            let against = if *right { -log_odds } else { log_odds };
            // ln σ(−x), without overflow.
            -(against.max(0.0) + (-against.abs()).exp().ln_1p())
        };
        self.seen.iter().map(of_one).sum::<f64>() - 0.5 * RIDGE * (intercept.powi(2) + slope.powi(2))
    }

    /// Gradient and negative Hessian of the penalised likelihood.
    fn derivatives(&self, intercept: f64, slope: f64) -> ((f64, f64), [f64; 3]) {
        let mut gradient = (-RIDGE * intercept, -RIDGE * slope);
        let mut hessian = [RIDGE, 0.0, RIDGE];
        for (similarity, right) in &self.seen {
            let p_right = sigmoid(intercept + slope * similarity);
            let rest = f64::from(u8::from(*right)) - p_right;
            let information = p_right * (1.0 - p_right);
            gradient.0 += rest;
            gradient.1 += rest * similarity;
            hessian[0] += information;
            hessian[1] += information * similarity;
            hessian[2] += information * similarity.powi(2);
        }
        (gradient, hessian)
    }
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: EntryKey = EntryKey(1);

    fn taught(seen: &[(f64, bool)]) -> VCache {
        let mut vcache = VCache::new(0.01);
        seen.iter().for_each(|(similarity, right)| vcache.observe(ENTRY, *similarity, *right));
        vcache
    }

    #[test]
    fn an_entry_explores_until_it_has_six_observations() {
        assert!(taught(&[(0.9, true); 3]).explores(ENTRY, 0.99, 0.999));
        assert!(VCache::new(0.01).explores(ENTRY, 0.99, 0.999));
    }

    #[test]
    fn more_that_was_right_means_less_exploration() {
        let exploration = |n_seen| {
            let vcache = taught(&vec![(0.9, true); n_seen]);
            vcache.entries[&ENTRY].exploration(0.95, 0.01)
        };

        assert!(exploration(200) < exploration(20), "{} {}", exploration(200), exploration(20));
    }

    #[test]
    fn a_threshold_lies_between_wrong_and_right() {
        let mut seen = vec![(0.70, false), (0.72, false), (0.95, true), (0.97, true)];
        seen.extend(seen.clone());
        let threshold = taught(&seen).entries[&ENTRY].threshold;

        assert!((0.72..0.95).contains(&threshold), "{threshold}");
    }

    #[test]
    fn far_below_the_threshold_it_always_explores() {
        let mut seen = vec![(0.80, false); 30];
        seen.extend(vec![(0.95, true); 30]);

        assert!(taught(&seen).explores(ENTRY, 0.5, 0.98));
    }
}
