//! What AWQ's tensors mean, by golden words and by packing what is then read again.

use proptest::prelude::*;

use super::*;
use crate::weights::{Dtype, Int4Layout};

#[test]
fn words_are_in_autoawqs_order() {
    for (columns, word) in [
        ([0, 1, 2, 3, 4, 5, 6, 7], 0x7531_6420),
        ([7, 6, 5, 4, 3, 2, 1, 0], 0x0246_1357),
        ([15, 0, 0, 0, 0, 0, 0, 0], 0x0000_000f),
        ([0, 15, 0, 0, 0, 0, 0, 0], 0x000f_0000),
        ([0, 0, 0, 0, 0, 0, 0, 15], 0xf000_0000),
        ([15; 8], 0xffff_ffff),
    ] {
        assert_eq!(pack(columns), Ok(word), "{columns:?}");
        assert_eq!(unpack(word), columns, "{word:#010x}");
    }
}

#[test]
fn a_value_beyond_four_bits_is_refused_with_its_place() {
    assert_eq!(pack([15; 8]), Ok(u32::MAX));
    assert_eq!(pack([0, 0, 16, 0, 0, 0, 0, 0]), Err(AwqError::NotFourBits { at: 2, value: 16 }));

    let mut values = [3; 24];
    values[17] = 200;

    assert_eq!(pack_all(&values), Err(AwqError::NotFourBits { at: 17, value: 200 }));
    assert_eq!(pack_all(&values[..7]), Err(AwqError::OddColumns { n_out: 7 }));
}

fn of_words(shape: &[usize], words: &[u32]) -> Tensor {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Tensor { dtype: Dtype::I32, shape: shape.to_vec(), bytes: bytes.into() }
}

/// Of values and zeros given row by row.
fn matrix_of(n_in: usize, values: &[u8], zeros: &[u8], scales: &[f32]) -> Int4Matrix {
    let (n_out, n_groups) = (values.len() / n_in, zeros.len() * n_in / values.len());
    let layout = Int4Layout::AwqGemm {
        qweight: of_words(&[n_in, n_out / 8], &pack_all(values).unwrap()),
        qzeros: of_words(&[n_groups, n_out / 8], &pack_all(zeros).unwrap()),
        scales: Tensor::of_f32(&[n_groups, n_out], scales),
    };
    Int4Matrix { n_in, n_out, group_size: n_in / n_groups, layout }
}

#[test]
fn a_weight_is_the_distance_from_its_groups_zero_times_its_groups_scale() {
    // Four rows in two groups. Zeros are 8 and 1; scales 0.5 and 2, but -1 in the last column.
    let rows = [[8; 8], [0, 1, 2, 3, 4, 5, 6, 15], [1; 8], [15, 0, 1, 2, 3, 4, 5, 6]];
    let zeros = [[8; 8], [1; 8]];
    let mut scales = [[0.5; 8], [2.0; 8]];
    scales[0][7] = -1.0;

    let matrix = matrix_of(4, rows.as_flattened(), zeros.as_flattened(), scales.as_flattened());

    let expected = [
        [0.0; 8],
        [-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -7.0],
        [0.0; 8],
        [28.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0],
    ];
    let weights = matrix.to_f32();
    for (row_idx, row) in expected.iter().enumerate() {
        let found: Vec<f32> = (0..8).map(|column| weights[column * 4 + row_idx]).collect();
        assert_eq!(found, row, "row {row_idx}");
    }
}

proptest! {
    #[test]
    fn every_word_is_what_its_columns_pack_to(word: u32) {
        prop_assert_eq!(pack(unpack(word)), Ok(word));
    }

    #[test]
    fn a_packed_matrix_reads_as_it_was(
        (n_in, values, zeros, scales) in (1..4_usize, 1..6_usize, 1..20_usize).prop_flat_map(
            |(n_groups, n_words, group_size)| {
                let (n_in, n_out) = (n_groups * group_size, 8 * n_words);
                let nibbles = |n_nibbles| proptest::collection::vec(0..16_u8, n_nibbles);
                let scales = proptest::collection::vec(-60.0..60.0_f32, n_groups * n_out);
                (Just(n_in), nibbles(n_in * n_out), nibbles(n_groups * n_out), scales)
            },
        ),
    ) {
        let matrix = matrix_of(n_in, &values, &zeros, &scales);

        for (at, weight) in matrix.to_f32().into_iter().enumerate() {
            let (column, row_idx) = (at / n_in, at % n_in);
            let value_idx = row_idx * matrix.n_out + column;
            let of_group = row_idx / matrix.group_size * matrix.n_out + column;
            let expected = (f32::from(values[value_idx]) - f32::from(zeros[of_group])) * scales[of_group];
            prop_assert_eq!(weight, expected, "row {} column {}", row_idx, column);
        }
    }
}
