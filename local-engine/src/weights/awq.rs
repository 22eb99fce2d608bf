//! AWQ's four-bit matrices as AutoAWQ's `gemm` version stores them.
//!
//! Reads no file, and knows no other layout: `gemv`, `gemv_fast`, `llm-awq` and Marlin order their bits
//! otherwise, so their lengths may fit and their numbers would not.
//!
//! A matrix of `n_in` rows and `n_out` columns is three tensors: `qweight`, a word for eight columns
//! of a row; `qzeros`, the same for a group of rows; `scales`, one for a group and column.
//! A weight is `(q - z) * s`.
//!
//! Invariants: the tensors have the shapes that the matrix asks for; whoever made it has compared them.

use super::Tensor;
use super::int4::{Int4Matrix, Int4Tile, TILE_OUTS};

/// Columns in one word.
pub const N_PACKED: usize = 8;

/// The nibble `i` of a word, counted from the lowest bits, is of column `ORDER[i]`: even columns
/// first, because a GPU widens two nibbles, sixteen bits apart, in one instruction.
const ORDER: [usize; N_PACKED] = [0, 2, 4, 6, 1, 3, 5, 7];

const MAX_NIBBLE: u8 = 15;

/// Why values cannot be packed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AwqError {
    #[error(
        "the matrix has {n_out} columns, which is not a multiple of {N_PACKED}; such a layer is left unquantised"
    )]
    OddColumns { n_out: usize },
    #[error("{value} at position {at} does not fit into four bits")]
    NotFourBits { at: usize, value: u8 },
}

/// The eight columns of a word.
pub fn unpack(word: u32) -> [u8; N_PACKED] {
    let mut columns = [0; N_PACKED];
    for (nibble_idx, column) in ORDER.into_iter().enumerate() {
        columns[column] = (word >> (4 * nibble_idx)) as u8 & MAX_NIBBLE;
    }
    columns
}

/// The word of eight columns, each at most 15.
pub fn pack(columns: [u8; N_PACKED]) -> Result<u32, AwqError> {
    check_nibbles(&columns)?;
    Ok(word_of(columns))
}

/// The words of values given row by row, each at most 15; a row is a multiple of eight wide.
pub fn pack_all(values: &[u8]) -> Result<Vec<u32>, AwqError> {
    let (words, rest) = values.as_chunks::<N_PACKED>();
    if !rest.is_empty() {
        return Err(AwqError::OddColumns { n_out: values.len() });
    }
    check_nibbles(values)?;
    Ok(words.iter().copied().map(word_of).collect())
}

fn check_nibbles(values: &[u8]) -> Result<(), AwqError> {
    match values.iter().position(|value| *value > MAX_NIBBLE) {
        Some(at) => Err(AwqError::NotFourBits { at, value: values[at] }),
        None => Ok(()),
    }
}

fn word_of(columns: [u8; N_PACKED]) -> u32 {
    let nibble = |(nibble_idx, column): (usize, usize)| u32::from(columns[column]) << (4 * nibble_idx);
    ORDER.into_iter().enumerate().map(nibble).fold(0, |word, nibble| word | nibble)
}

/// The three tensors of a matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct AwqTensors<'a> {
    pub(super) qweight: &'a Tensor,
    pub(super) qzeros: &'a Tensor,
    pub(super) scales: &'a Tensor,
}

impl AwqTensors<'_> {
    /// Fills a tile that has been emptied.
    pub(super) fn read_tile(
        &self,
        matrix: &Int4Matrix,
        first_out: usize,
        group_idx: usize,
        tile: &mut Int4Tile,
    ) {
        let n_outs = TILE_OUTS.min(matrix.n_out - first_out);
        let words_per_row = matrix.n_out / N_PACKED;
        let first_row = group_idx * matrix.group_size;
        let scale_group = matrix.scale_group(group_idx, self.scales.shape[0]);
        for first in (0..n_outs).step_by(N_PACKED) {
            let word_idx = (first_out + first) / N_PACKED;
            let columns = &mut tile.q[first * matrix.group_size..][..N_PACKED * matrix.group_size];
            let words = |row: usize| self.qweight.word((first_row + row) * words_per_row + word_idx);
            spread(words, matrix.group_size, columns);
            let zeros = unpack(self.qzeros.word(scale_group * words_per_row + word_idx));
            tile.zeros[first..first + N_PACKED].copy_from_slice(&zeros);
        }
        for (out, scale) in tile.scales[..n_outs].iter_mut().enumerate() {
            *scale = self.scales.float(scale_group * matrix.n_out + first_out + out);
        }
    }
}

/// Turns a word of eight columns for each row into eight columns, one after another.
fn spread(word: impl Fn(usize) -> u32, n_rows: usize, columns: &mut [u8]) {
    let n_whole = n_rows - n_rows % 8;
    for first_row in (0..n_whole).step_by(8) {
        let rows = std::array::from_fn(|row| bytes_of(word(first_row + row)));
        for (of_column, column) in transpose(rows).into_iter().zip(BYTE_COLUMNS) {
            columns[column * n_rows + first_row..][..8].copy_from_slice(&of_column.to_le_bytes());
        }
    }
    for row in n_whole..n_rows {
        for (column, q) in unpack(word(row)).into_iter().enumerate() {
            columns[column * n_rows + row] = q;
        }
    }
}

/// The nibbles of a word as bytes: first those in the lower halves of its bytes, then the others.
fn bytes_of(word: u32) -> u64 {
    let (lower, upper) = (word & 0x0f0f_0f0f, (word >> 4) & 0x0f0f_0f0f);
    u64::from(lower) | u64::from(upper) << 32
}

/// The columns of what `bytes_of` gives.
const BYTE_COLUMNS: [usize; N_PACKED] =
    [ORDER[0], ORDER[2], ORDER[4], ORDER[6], ORDER[1], ORDER[3], ORDER[5], ORDER[7]];

/// Eight rows of eight bytes become eight columns: halves are exchanged, then quarters, then bytes.
fn transpose(mut rows: [u64; 8]) -> [u64; 8] {
    for upper in [0, 1, 2, 3] {
        exchange(&mut rows, upper, 4, 0x0000_0000_ffff_ffff);
    }
    for upper in [0, 1, 4, 5] {
        exchange(&mut rows, upper, 2, 0x0000_ffff_0000_ffff);
    }
    for upper in [0, 2, 4, 6] {
        exchange(&mut rows, upper, 1, 0x00ff_00ff_00ff_00ff);
    }
    rows
}

/// Exchanges the masked bytes of the lower of two rows with those `distance` higher in the upper.
fn exchange(rows: &mut [u64; 8], upper: usize, distance: usize, mask: u64) {
    let lower = upper + distance;
    let differing = ((rows[upper] >> (8 * distance)) ^ rows[lower]) & mask;
    rows[lower] ^= differing;
    rows[upper] ^= differing << (8 * distance);
}

#[cfg(test)]
mod tests;
