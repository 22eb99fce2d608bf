//! A four-bit matrix, whatever layout its checkpoint keeps it in.
//!
//! Multiplies nothing: a backend reads it once, tile by tile, into a layout of its own.
//!
//! Invariants: the tensors have the lengths that the shape asks for.

use super::Tensor;
use super::awq::AwqTensors;
use super::pack_quantized::PackedTensors;

/// Outputs in a tile.
pub const TILE_OUTS: usize = 16;

/// `w = (q - zero) * scale`, with a zero and a scale for each output and group of inputs.
#[derive(Debug, Clone)]
pub struct Int4Matrix {
    pub n_in: usize,
    pub n_out: usize,
    /// Inputs that share a scale; divides `n_in`.
    pub group_size: usize,
    pub layout: Int4Layout,
}

#[derive(Debug, Clone)]
pub enum Int4Layout {
    /// AutoAWQ's `gemm`: `qweight [n_in, n_out / 8]`, `qzeros [n_groups, n_out / 8]`, `scales [n_groups, n_out]`.
    /// There may be fewer scales than groups: then they are for several groups in a row each.
    AwqGemm { qweight: Tensor, qzeros: Tensor, scales: Tensor },
    /// compressed-tensors' `pack-quantized`: `packed [n_out, n_in / 8]`, `scales [n_out, n_groups]`, and
    /// `zeros [n_out / 8, n_groups]` unless all of them are 8. As to fewer scales: the same.
    PackQuantized { packed: Tensor, scales: Tensor, zeros: Option<Tensor> },
}

/// Sixteen outputs by one group of inputs. Outputs past the matrix' edge have scale 0.
#[derive(Debug, Clone)]
pub struct Int4Tile {
    /// `q[out * group_size + input]`, each at most 15.
    pub q: Vec<u8>,
    pub scales: [f32; TILE_OUTS],
    pub zeros: [u8; TILE_OUTS],
}

impl Int4Tile {
    pub fn new(group_size: usize) -> Self {
        Self { q: vec![0; TILE_OUTS * group_size], scales: [0.0; TILE_OUTS], zeros: [0; TILE_OUTS] }
    }
}

impl Int4Matrix {
    pub fn n_groups(&self) -> usize {
        self.n_in / self.group_size
    }

    /// All weights, `[n_out, n_in]`.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.n_out * self.n_in];
        let mut tile = Int4Tile::new(self.group_size);
        for first_out in (0..self.n_out).step_by(TILE_OUTS) {
            for group_idx in 0..self.n_groups() {
                self.read_tile(first_out, group_idx, &mut tile);
                for out in 0..TILE_OUTS.min(self.n_out - first_out) {
                    let first = (first_out + out) * self.n_in + group_idx * self.group_size;
                    let of_out = &tile.q[out * self.group_size..][..self.group_size];
                    for (weight, q) in weights[first..].iter_mut().zip(of_out) {
                        let steps = i16::from(*q) - i16::from(tile.zeros[out]);
                        *weight = f32::from(steps) * tile.scales[out];
                    }
                }
            }
        }
        weights
    }

    /// Reads the outputs from `first_out`, a multiple of 16, on, over the group's inputs.
    pub fn read_tile(&self, first_out: usize, group_idx: usize, tile: &mut Int4Tile) {
        tile.q.fill(0);
        (tile.scales, tile.zeros) = ([0.0; TILE_OUTS], [0; TILE_OUTS]);
        match &self.layout {
            Int4Layout::AwqGemm { qweight, qzeros, scales } => {
                AwqTensors { qweight, qzeros, scales }.read_tile(self, first_out, group_idx, tile);
            }
            Int4Layout::PackQuantized { packed, scales, zeros } => {
                PackedTensors { packed, scales, zeros: zeros.as_ref() }
                    .read_tile(self, first_out, group_idx, tile);
            }
        }
    }

    /// Which of the checkpoint's scales a group has: those may be for more inputs than a group.
    pub(super) fn scale_group(&self, group_idx: usize, n_scale_groups: usize) -> usize {
        group_idx * n_scale_groups / self.n_groups()
    }
}

/// Inputs in a group as backends see it, of a matrix whose checkpoint has one scale for `n_sharing` inputs.
/// Larger groups are cut, at 128 where that goes: nobody needs to know more than these.
pub fn group_size_of(n_sharing: usize) -> usize {
    let fits = |size: &usize| n_sharing > *size && n_sharing.is_multiple_of(*size);
    if n_sharing <= 128 { n_sharing } else { [128, 64, 32].into_iter().find(fits).unwrap_or(n_sharing) }
}

#[cfg(test)]
mod tests;
