//! Four-bit matrices as compressed-tensors' `pack-quantized` format stores them.
//!
//! Reads no file, and knows no other number of bits.
//!
//! A matrix of `n_out` rows and `n_in` columns: `weight_packed`, a word for eight columns of a row, the first
//! in the lowest bits; `weight_scale`, one for a row and group of columns; and, when it is asymmetric,
//! `weight_zero_point`, a word for eight *rows* of a group. Values and zeros are signed and stored with 8 added,
//! so that a symmetric matrix has a zero of 8 everywhere.
//!
//! Invariants: the tensors have the shapes that the matrix asks for; whoever made it has compared them.

use super::Tensor;
use super::int4::{Int4Matrix, Int4Tile, TILE_OUTS};

/// Values in one word.
pub const N_PACKED: usize = 8;

/// What is added to signed values.
const OFFSET: u8 = 8;

/// The tensors of a matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedTensors<'a> {
    pub(super) packed: &'a Tensor,
    pub(super) scales: &'a Tensor,
    pub(super) zeros: Option<&'a Tensor>,
}

impl PackedTensors<'_> {
    /// Fills a tile that has been emptied.
    pub(super) fn read_tile(
        &self,
        matrix: &Int4Matrix,
        first_out: usize,
        group_idx: usize,
        tile: &mut Int4Tile,
    ) {
        let n_outs = TILE_OUTS.min(matrix.n_out - first_out);
        let words_per_row = matrix.n_in.div_ceil(N_PACKED);
        let first_word = group_idx * matrix.group_size / N_PACKED;
        let n_scale_groups = self.scales.shape[1];
        let scale_group = matrix.scale_group(group_idx, n_scale_groups);
        let rows = tile.q.chunks_exact_mut(matrix.group_size).take(n_outs);
        for (row_idx, row) in (first_out..).zip(rows) {
            for (word_idx, values) in (first_word..).zip(row.chunks_mut(N_PACKED)) {
                let nibbles = unpack(self.packed.word(row_idx * words_per_row + word_idx));
                values.copy_from_slice(&nibbles[..values.len()]);
            }
            let out = row_idx - first_out;
            tile.scales[out] = self.scales.float(row_idx * n_scale_groups + scale_group);
            tile.zeros[out] = self.zeros.map_or(OFFSET, |zeros| {
                let word = zeros.word(row_idx / N_PACKED * n_scale_groups + scale_group);
                unpack(word)[row_idx % N_PACKED]
            });
        }
    }
}

fn unpack(word: u32) -> [u8; N_PACKED] {
    std::array::from_fn(|value_idx| (word >> (4 * value_idx)) as u8 & 15)
}

#[cfg(test)]
mod tests;
