//! A four-bit matrix, whatever layout its checkpoint keeps it in.
//!
//! Multiplies nothing: a backend reads it once, tile by tile, into a layout of its own.
//!
//! Invariants: the tensors have the lengths that the shape asks for.

use super::Tensor;
use super::awq::unpack;

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
    AwqGemm { qweight: Tensor, qzeros: Tensor, scales: Tensor },
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
        let n_outs = TILE_OUTS.min(self.n_out - first_out);
        match &self.layout {
            Int4Layout::AwqGemm { qweight, qzeros, scales } => {
                let words_per_row = self.n_out / 8;
                for first in (0..n_outs).step_by(8) {
                    let word_idx = (first_out + first) / 8;
                    for input in 0..self.group_size {
                        let row_idx = group_idx * self.group_size + input;
                        let columns = unpack(qweight.word(row_idx * words_per_row + word_idx));
                        for (column, q) in columns.into_iter().enumerate() {
                            tile.q[(first + column) * self.group_size + input] = q;
                        }
                    }
                    let zeros = unpack(qzeros.word(group_idx * words_per_row + word_idx));
                    tile.zeros[first..first + 8].copy_from_slice(&zeros);
                }
                for (out, scale) in tile.scales[..n_outs].iter_mut().enumerate() {
                    *scale = scales.float(group_idx * self.n_out + first_out + out);
                }
            }
        }
    }
}
