//! Sixteen levels for a group of weights, and a matrix rounded to them.
//!
//! Chooses no scales between layers and no clipping: a grid is made for the weights and the shrinking it is
//! given.
//!
//! Invariants: a scale is one that f16 holds exactly and is not zero; a zero is a level; zero is on every
//! grid, so an absent weight stays absent.

use bytes::Bytes;
use half::f16;

use super::dense::Dense;
use super::{QuantiseError, threads};
use crate::weights::awq::{self, N_PACKED};
use crate::weights::{Dtype, Int4Layout, Int4Matrix, Tensor};

const MAX_LEVEL: f32 = 15.0;

/// Subtracted again after it was added, it leaves an f32 below 2^22 rounded to a whole number: that becomes
/// two vector instructions where `round` is a call.
const ROUNDING: f32 = 12_582_912.0;

/// `w = (q - zero) * scale`, with `q` and `zero` from 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    pub(super) scale: f32,
    pub(super) zero: f32,
}

impl Grid {
    /// From the least to the greatest weight, with none farther from zero than `shrink` times the farthest.
    pub(super) fn of(weights: &[f32], shrink: f32) -> Self {
        let (mut low, mut high) = (0.0_f32, 0.0_f32);
        for weight in weights {
            low = if *weight < low { *weight } else { low };
            high = if *weight > high { *weight } else { high };
        }
        let bound = high.max(-low) * shrink;
        (low, high) = (low.max(-bound), high.min(bound));
        let step = f16::from_f32((high - low) / MAX_LEVEL);
        // The least half, lest weights be divided by zero.
        let scale = if step.to_bits() == 0 { f16::from_bits(1) } else { step }.to_f32();
        let zero = round((-low / scale).clamp(0.0, MAX_LEVEL));
        Self { scale, zero }
    }

    /// The level nearest to a weight.
    fn level(&self, weight: f32) -> f32 {
        // Clamped first: what is far off the grid would be too large to be rounded.
        self.zero + round((weight / self.scale).clamp(-self.zero, MAX_LEVEL - self.zero))
    }

    /// Puts weights onto the grid.
    pub(super) fn snap(&self, weights: &mut [f32]) {
        for weight in weights {
            *weight = (self.level(*weight) - self.zero) * self.scale;
        }
    }
}

fn round(value: f32) -> f32 {
    (value + ROUNDING) - ROUNDING
}

/// Puts every group of a row onto its own grid.
pub(super) fn snap_row(row: &mut [f32], group_size: usize) {
    for group in row.chunks_exact_mut(group_size) {
        Grid::of(group, 1.0).snap(group);
    }
}

/// How far each group's range is shrunk, `[n_out, n_groups]`.
pub(super) type Shrinks = [f32];

/// Rounds a matrix, which can be packed. Without `shrinks`, every group keeps its whole range.
pub(super) fn quantise(
    dense: &Dense,
    group_size: usize,
    shrinks: Option<&Shrinks>,
    n_threads: usize,
) -> Result<Int4Matrix, QuantiseError> {
    let n_groups = dense.n_in / group_size;
    let columns = threads::map(n_threads, dense.n_out / N_PACKED, |word_idx| {
        let outs = word_idx * N_PACKED..(word_idx + 1) * N_PACKED;
        let of_out = |out: usize| {
            let shrink = |group_idx: usize| shrinks.map_or(1.0, |of| of[out * n_groups + group_idx]);
            OutColumn::of(dense.row(out), group_size, shrink)
        };
        outs.map(of_out).collect::<Vec<OutColumn>>()
    })
    .concat();
    if let Some(out) = columns.iter().position(|column| column.scales.iter().any(|s| !s.is_finite())) {
        let what = format!("output {out} has weights too large for a scale in f16");
        return Err(QuantiseError::Tensor { tensor: format!("{}.weight", dense.name), what });
    }
    let words = |of: fn(&OutColumn) -> &[u8], n_rows: usize| {
        let word = |row: usize, eight: &[OutColumn]| {
            let levels = std::array::from_fn(|column| of(&eight[column])[row]);
            awq::pack(levels).expect("a level is at most 15").to_le_bytes()
        };
        let bytes: Vec<u8> = (0..n_rows)
            .flat_map(|row| columns.chunks_exact(N_PACKED).flat_map(move |eight| word(row, eight)))
            .collect();
        Tensor { dtype: Dtype::I32, shape: vec![n_rows, dense.n_out / N_PACKED], bytes: bytes.into() }
    };
    let qweight = words(|column| &column.levels, dense.n_in);
    let qzeros = words(|column| &column.zeros, n_groups);
    let halves = |group_idx: usize| columns.iter().flat_map(move |of| of.scales[group_idx].to_le_bytes());
    let bytes: Bytes = (0..n_groups).flat_map(halves).collect::<Vec<u8>>().into();
    let scales = Tensor { dtype: Dtype::F16, shape: vec![n_groups, dense.n_out], bytes };
    let layout = Int4Layout::AwqGemm { qweight, qzeros, scales };
    Ok(Int4Matrix { n_in: dense.n_in, n_out: dense.n_out, group_size, layout })
}

/// One output's weights: a column of the packed matrix.
#[derive(Debug, Clone)]
struct OutColumn {
    levels: Vec<u8>,
    zeros: Vec<u8>,
    scales: Vec<f16>,
}

impl OutColumn {
    fn of(row: &[f32], group_size: usize, shrink: impl Fn(usize) -> f32) -> Self {
        let (mut levels, mut zeros, mut scales) = (Vec::with_capacity(row.len()), Vec::new(), Vec::new());
        for (group_idx, group) in row.chunks_exact(group_size).enumerate() {
            let grid = Grid::of(group, shrink(group_idx));
            levels.extend(group.iter().map(|weight| grid.level(*weight) as u8));
            zeros.push(grid.zero as u8);
            scales.push(f16::from_f32(grid.scale));
        }
        Self { levels, zeros, scales }
    }
}

#[cfg(test)]
mod tests;
