//! AWQ's four-bit matrices as AutoAWQ's `gemm` version stores them.
//!
//! Reads no file, holds no bias, and knows no other layout: `gemv`, `gemv_fast`, `llm-awq` and
//! Marlin order their bits otherwise, so their lengths may fit and their numbers would not.
//!
//! A matrix of `n_in` rows and `n_out` columns is three tensors: `qweight`, a word for eight columns
//! of a row; `qzeros`, the same for a group of rows; `scales`, one for a group and column.
//! A weight is `(q - z) * s`.
//!
//! Invariants: a [`AwqMatrix`] has tensors of the lengths its shape asks for, and finite scales.

use half::f16;

/// Columns in one word.
pub const N_PACKED: usize = 8;

/// The nibble `i` of a word, counted from the lowest bits, is of column `ORDER[i]`: even columns
/// first, because a GPU widens two nibbles, sixteen bits apart, in one instruction.
const ORDER: [usize; N_PACKED] = [0, 2, 4, 6, 1, 3, 5, 7];

const MAX_NIBBLE: u8 = 15;

/// Why tensors are no AWQ matrix.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AwqError {
    #[error(
        "the matrix has {n_out} columns, which is not a multiple of {N_PACKED}; such a layer is left unquantised"
    )]
    OddColumns { n_out: usize },
    #[error(
        "a group of {group_size} rows does not divide the matrix's {n_in}; check `group_size` in its config"
    )]
    OddGroup { n_in: usize, group_size: usize },
    #[error("a matrix of {n_in} x {n_out} is larger than memory can be; check the checkpoint's config")]
    TooLarge { n_in: usize, n_out: usize },
    #[error(
        "{tensor} has {found} elements, and the shape asks for {expected}; is it of AutoAWQ's `gemm` version?"
    )]
    WrongLength { tensor: &'static str, expected: usize, found: usize },
    #[error("scales[{group_idx}][{column}] is {value}, which is no scale; the checkpoint is damaged")]
    BadScale { group_idx: usize, column: usize, value: f16 },
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

/// Rows and columns of a matrix, and how many rows share a scale and a zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwqShape {
    pub n_in: usize,
    pub n_out: usize,
    pub group_size: usize,
}

impl AwqShape {
    fn check(self) -> Result<(), AwqError> {
        let Self { n_in, n_out, group_size } = self;
        if !n_out.is_multiple_of(N_PACKED) {
            return Err(AwqError::OddColumns { n_out });
        }
        if group_size == 0 || !n_in.is_multiple_of(group_size) {
            return Err(AwqError::OddGroup { n_in, group_size });
        }
        let n_bytes = n_in.checked_mul(n_out).and_then(|n_weights| n_weights.checked_mul(size_of::<f32>()));
        match n_bytes {
            Some(n_bytes) if isize::try_from(n_bytes).is_ok() => Ok(()),
            Some(_) | None => Err(AwqError::TooLarge { n_in, n_out }),
        }
    }

    fn n_groups(self) -> usize {
        self.n_in / self.group_size
    }

    fn words_per_row(self) -> usize {
        self.n_out / N_PACKED
    }
}

/// A four-bit matrix, borrowed from the tensors of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AwqMatrix<'a> {
    shape: AwqShape,
    qweight: &'a [u32],
    qzeros: &'a [u32],
    scales: &'a [f16],
}

impl<'a> AwqMatrix<'a> {
    /// Checkpoints call the words `int32`; only their bits matter.
    pub fn try_new(
        shape: AwqShape,
        qweight: &'a [u32],
        qzeros: &'a [u32],
        scales: &'a [f16],
    ) -> Result<Self, AwqError> {
        shape.check()?;
        for (tensor, expected, found) in [
            ("qweight", shape.n_in * shape.words_per_row(), qweight.len()),
            ("qzeros", shape.n_groups() * shape.words_per_row(), qzeros.len()),
            ("scales", shape.n_groups() * shape.n_out, scales.len()),
        ] {
            if expected != found {
                return Err(AwqError::WrongLength { tensor, expected, found });
            }
        }
        if let Some(at) = scales.iter().position(|scale| !scale.is_finite()) {
            let (group_idx, column) = (at / shape.n_out, at % shape.n_out);
            return Err(AwqError::BadScale { group_idx, column, value: scales[at] });
        }
        Ok(Self { shape, qweight, qzeros, scales })
    }

    pub fn shape(&self) -> AwqShape {
        self.shape
    }

    /// Writes the weights of one row; `row` has room for `n_out`.
    ///
    /// # Panics
    ///
    /// When there is no such row, or `row` is of another length.
    pub fn dequantise_row(&self, row_idx: usize, row: &mut [f32]) {
        assert!(row_idx < self.shape.n_in, "row {row_idx} of {}", self.shape.n_in);
        assert_eq!(row.len(), self.shape.n_out, "a row is as long as the matrix is wide");
        let (group_idx, n_words) = (row_idx / self.shape.group_size, self.shape.words_per_row());
        let words = &self.qweight[row_idx * n_words..][..n_words];
        let zeros = &self.qzeros[group_idx * n_words..][..n_words];
        let scales = &self.scales[group_idx * self.shape.n_out..][..self.shape.n_out];
        let (columns, _) = row.as_chunks_mut::<N_PACKED>();
        let (scales, _) = scales.as_chunks::<N_PACKED>();
        for (((weights, word), zeros), scales) in columns.iter_mut().zip(words).zip(zeros).zip(scales) {
            let (values, zeros) = (unpack(*word), unpack(*zeros));
            for (column, weight) in weights.iter_mut().enumerate() {
                let steps = i16::from(values[column]) - i16::from(zeros[column]);
                *weight = f32::from(steps) * scales[column].to_f32();
            }
        }
    }

    /// All weights, row by row.
    pub fn dequantise(&self) -> Vec<f32> {
        let mut weights = vec![0.0; self.shape.n_in * self.shape.n_out];
        if self.shape.n_out > 0 {
            for (row_idx, row) in weights.chunks_exact_mut(self.shape.n_out).enumerate() {
                self.dequantise_row(row_idx, row);
            }
        }
        weights
    }
}

#[cfg(test)]
mod tests;
