//! Which inputs of a place are worth a finer grid: a scale for each, found on a sample of activations.
//!
//! A weight's rounding error is as large as its group's range asks, and what it costs is as large as the
//! activation it meets. Multiplying the columns of large activations by more than one makes their share of
//! the error smaller; dividing the activations by the same leaves the product as it was. How much more is
//! one number for all matrices that read the same: `scale = (mean |x|)^alpha`, as in "AWQ: Activation-aware
//! Weight Quantization" (Lin et al., 2023).
//!
//! Changes no weights: `layer` folds what is found.
//!
//! Invariants: the scales' geometric middle is 1; alpha 0, no scales at all, is among what is tried, so
//! nothing is found that is worse on the sample than rounding to nearest.

use super::dense::{Dense, Panels};
use super::grid::snap_row;
use super::{Options, threads};

const N_ALPHAS: usize = 20;

/// Rows of a matrix that one task takes: some milliseconds.
const TASK_ROWS: usize = 64;

/// Bounds of a mean activation, and so of a scale: a norm divided by it has to stay an f16.
const LEAST_MEAN: f32 = 1e-4;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scales {
    pub(super) alpha: f32,
    pub(super) of_inputs: Vec<f32>,
}

impl Scales {
    pub(super) fn none(n_inputs: usize) -> Self {
        Self { alpha: 0.0, of_inputs: vec![1.0; n_inputs] }
    }

    fn new(alpha: f32, mean_abs: &[f32]) -> Self {
        let mut of_inputs: Vec<f32> = mean_abs.iter().map(|mean| mean.max(LEAST_MEAN).powf(alpha)).collect();
        let (least, greatest) = of_inputs
            .iter()
            .fold((f32::INFINITY, 0.0_f32), |(least, greatest), of| (least.min(*of), greatest.max(*of)));
        let middle = (least * greatest).sqrt();
        for scale in &mut of_inputs {
            *scale /= middle;
        }
        Self { alpha, of_inputs }
    }
}

/// The scales with the least error of the readers' outputs on the sample.
pub(super) fn search(readers: &[&Dense], mean_abs: &[f32], sample: &Panels, options: Options) -> Scales {
    let (group_size, n_threads) = (options.group_size.get(), options.n_threads);
    let alpha = |alpha_idx: usize| alpha_idx as f32 / N_ALPHAS as f32;
    let mut candidates: Vec<Scales> =
        (0..N_ALPHAS).map(|alpha_idx| Scales::new(alpha(alpha_idx), mean_abs)).collect();
    let tasks: Vec<(&Dense, usize)> = readers
        .iter()
        .flat_map(|reader| (0..reader.n_out).step_by(TASK_ROWS).map(|first| (*reader, first)))
        .collect();
    let errors = threads::map(n_threads, candidates.len() * tasks.len(), |piece_idx| {
        let (reader, first) = tasks[piece_idx % tasks.len()];
        error(reader, first, &candidates[piece_idx / tasks.len()], group_size, sample)
    });
    let of_candidates = errors.chunks_exact(tasks.len()).map(|errors| {
        let error: f64 = errors.iter().sum();
        // An overflow is no candidate.
        if error.is_finite() { error } else { f64::INFINITY }
    });
    let best = of_candidates.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
    candidates.swap_remove(best.map_or(0, |(candidate_idx, _)| candidate_idx))
}

/// The squared error of some rows' outputs when they are rounded under the scales.
fn error(reader: &Dense, first: usize, scales: &Scales, group_size: usize, sample: &Panels) -> f64 {
    let last = (first + TASK_ROWS).min(reader.n_out);
    let lost: Vec<f32> =
        (first..last).flat_map(|out| lost(reader.row(out), &scales.of_inputs, group_size)).collect();
    sample.energy(&lost)
}

/// What rounding takes from a row, as its unscaled inputs see it.
fn lost(row: &[f32], scales: &[f32], group_size: usize) -> Vec<f32> {
    let mut snapped: Vec<f32> = row.iter().zip(scales).map(|(weight, scale)| weight * scale).collect();
    snap_row(&mut snapped, group_size);
    for ((snapped, scale), weight) in snapped.iter_mut().zip(scales).zip(row) {
        *snapped = *snapped / scale - weight;
    }
    snapped
}

#[cfg(test)]
mod tests;
