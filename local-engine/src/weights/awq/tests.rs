//! What AWQ's tensors mean, by golden words and by packing what is then read again.

use proptest::prelude::*;

use super::*;

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

#[test]
fn a_weight_is_the_distance_from_its_groups_zero_times_its_groups_scale() {
    // Four rows in two groups. Zeros are 8 and 1; scales 0.5 and 2, but -1 in the last column.
    let shape = AwqShape { n_in: 4, n_out: 8, group_size: 2 };
    let rows = [[8; 8], [0, 1, 2, 3, 4, 5, 6, 15], [1; 8], [15, 0, 1, 2, 3, 4, 5, 6]];
    let qweight = pack_all(rows.as_flattened()).unwrap();
    let qzeros = [pack([8; 8]).unwrap(), pack([1; 8]).unwrap()];
    let mut scales = [[f16::from_f32(0.5); 8], [f16::from_f32(2.0); 8]];
    scales[0][7] = f16::from_f32(-1.0);

    let matrix = AwqMatrix::try_new(shape, &qweight, &qzeros, scales.as_flattened()).unwrap();

    let expected = [
        [0.0; 8],
        [-4.0, -3.5, -3.0, -2.5, -2.0, -1.5, -1.0, -7.0],
        [0.0; 8],
        [28.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0],
    ];
    assert_eq!(matrix.dequantise(), expected.as_flattened());
    assert_eq!(matrix.shape(), shape);
}

#[test]
fn tensors_of_a_wrong_length_are_refused_by_name() {
    let shape = AwqShape { n_in: 4, n_out: 16, group_size: 2 };
    let (words, scales) = ([0_u32; 9], [f16::ONE; 33]);
    let open = |n_weight: usize, n_zero: usize, n_scale: usize| {
        AwqMatrix::try_new(shape, &words[..n_weight], &words[..n_zero], &scales[..n_scale]).map(|_| ())
    };
    let wrong = |tensor, expected, found| Err(AwqError::WrongLength { tensor, expected, found });

    assert_eq!(open(8, 4, 32), Ok(()));
    assert_eq!(open(7, 4, 32), wrong("qweight", 8, 7));
    assert_eq!(open(9, 4, 32), wrong("qweight", 8, 9));
    assert_eq!(open(8, 3, 32), wrong("qzeros", 4, 3));
    assert_eq!(open(8, 4, 31), wrong("scales", 32, 31));
    assert_eq!(open(8, 4, 33), wrong("scales", 32, 33));
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let open = |n_in, n_out, group_size| {
        AwqMatrix::try_new(AwqShape { n_in, n_out, group_size }, &[], &[], &[]).map(|_| ())
    };

    assert_eq!(open(4, 12, 2), Err(AwqError::OddColumns { n_out: 12 }));
    assert_eq!(open(4, 8, 0), Err(AwqError::OddGroup { n_in: 4, group_size: 0 }));
    assert_eq!(open(4, 8, 3), Err(AwqError::OddGroup { n_in: 4, group_size: 3 }));
    let (n_in, n_out) = (usize::MAX - 7, 1 << 40);
    assert_eq!(open(n_in, n_out, 8), Err(AwqError::TooLarge { n_in, n_out }));
    assert_eq!(open(0, 8, 128), Ok(()));
}

#[test]
fn a_scale_that_is_no_number_is_refused_with_its_place() {
    let shape = AwqShape { n_in: 4, n_out: 8, group_size: 2 };
    for bad in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY] {
        let mut scales = [f16::ONE; 16];
        scales[11] = bad;

        let error = AwqMatrix::try_new(shape, &[0; 4], &[0; 2], &scales).unwrap_err();

        assert!(matches!(error, AwqError::BadScale { group_idx: 1, column: 3, .. }), "{error}");
    }
}

proptest! {
    #[test]
    fn every_word_is_what_its_columns_pack_to(word: u32) {
        prop_assert_eq!(pack(unpack(word)), Ok(word));
    }

    #[test]
    fn a_packed_matrix_reads_as_it_was(
        (shape, values, zeros, scales) in (1..4_usize, 1..4_usize, 1..5_usize).prop_flat_map(
            |(n_groups, n_words, group_size)| {
                let shape = AwqShape { n_in: n_groups * group_size, n_out: 8 * n_words, group_size };
                let n_scales = n_groups * shape.n_out;
                let nibbles = |n_nibbles| proptest::collection::vec(0..16_u8, n_nibbles);
                let scales = proptest::collection::vec((-60_000..60_000_i32).prop_map(|n| f16::from_f32(n as f32 / 1_000.0)), n_scales);
                (Just(shape), nibbles(shape.n_in * shape.n_out), nibbles(n_scales), scales)
            },
        ),
    ) {
        let (qweight, qzeros) = (pack_all(&values).unwrap(), pack_all(&zeros).unwrap());

        let matrix = AwqMatrix::try_new(shape, &qweight, &qzeros, &scales).unwrap();

        for (at, weight) in matrix.dequantise().into_iter().enumerate() {
            let (row_idx, column) = (at / shape.n_out, at % shape.n_out);
            let of_group = row_idx / shape.group_size * shape.n_out + column;
            let expected = (f32::from(values[at]) - f32::from(zeros[of_group])) * scales[of_group].to_f32();
            prop_assert_eq!(weight, expected, "row {} column {}", row_idx, column);
        }
    }
}
