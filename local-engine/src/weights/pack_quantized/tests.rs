//! What compressed-tensors' words mean, by a matrix whose values are written out.

use super::*;
use crate::weights::{Dtype, Int4Layout};

fn of_words(shape: &[usize], words: &[u32]) -> Tensor {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Tensor { dtype: Dtype::I32, shape: shape.to_vec(), bytes: bytes.into() }
}

/// Two rows of sixteen columns, two groups a row.
fn matrix(zeros: Option<Tensor>) -> Int4Matrix {
    let packed = of_words(&[2, 2], &[0x7654_3210, 0xfedc_ba98, 0x8888_8888, 0x0000_000f]);
    let scales = Tensor::of_f32(&[2, 2], &[1.0, 2.0, 3.0, 0.5]);
    let layout = Int4Layout::PackQuantized { packed, scales, zeros };
    Int4Matrix { n_in: 16, n_out: 2, group_size: 8, layout }
}

#[test]
fn symmetric_values_are_counted_from_eight() {
    let weights = matrix(None).to_f32();

    assert_eq!(weights[..8], [-8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0]);
    assert_eq!(weights[8..16], [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);
    assert_eq!(weights[16..24], [0.0; 8]);
    assert_eq!(weights[24..], [3.5, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0, -4.0]);
}

#[test]
fn a_word_of_zeros_is_for_eight_rows_of_a_group() {
    // Row 0 has zeros 1 and 2, row 1 has 8 and 15.
    let zeros = of_words(&[1, 2], &[0x81, 0xf2]);

    let weights = matrix(Some(zeros)).to_f32();

    assert_eq!(weights[..3], [-1.0, 0.0, 1.0]);
    assert_eq!(weights[8..10], [12.0, 14.0]);
    assert_eq!(weights[16], 0.0);
    assert_eq!(weights[24..26], [0.0, -7.5]);
}

#[test]
fn a_row_that_is_no_multiple_of_eight_ends_within_its_last_word() {
    let packed = of_words(&[1, 2], &[0x8888_8888, 0x0000_00f9]);
    let scales = Tensor::of_f32(&[1, 1], &[1.0]);
    let layout = Int4Layout::PackQuantized { packed, scales, zeros: None };
    let matrix = Int4Matrix { n_in: 10, n_out: 1, group_size: 10, layout };

    assert_eq!(matrix.to_f32(), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 7.0]);
}
