//! What is packed is what the checkpoint said, whatever its group, edge and float type.

use half::{bf16, f16};

use super::*;
use crate::weights::awq::pack_all;
use crate::weights::{Dtype, Int4Layout};

/// The weight of an output and input, as the kernels would use it.
fn unpacked(packed: &Packed, bytes: &[u8], out: usize, input: usize) -> f32 {
    let tiles = packed.tile_rows(bytes, out / LANES..out / LANES + 1);
    let out = out % LANES;
    let (weights, scales) = tiles.chunk(0, input / packed.chunk);
    let input = input % packed.chunk;
    let scale = f16::from_le_bytes([scales[2 * out], scales[2 * out + 1]]).to_f32() * tiles.unit(0);
    let q = match packed.width {
        Width::Int4 => {
            let byte = weights[input / 8 * VECTOR + out * 4 + input % 4];
            i16::from(byte >> (input % 8 / 4 * 4) & 15) - i16::from(scales[2 * LANES + out])
        }
        Width::Int8 => i16::from(weights[input / 4 * VECTOR + out * 4 + input % 4]) - 128,
    };
    f32::from(q) * scale
}

fn packed(linear: &Linear, chunk: usize) -> (Packed, Vec<u8>) {
    let packed = Packed::plan(linear, chunk, 0);
    // What was in the memory before does not matter.
    let mut bytes = vec![0xa5; packed.n_bytes()];
    packed.pack(linear, 0, &mut bytes);
    (packed, bytes)
}

fn words(values: impl Iterator<Item = u8>) -> Tensor {
    let words = pack_all(&values.collect::<Vec<_>>()).expect("nibbles");
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Tensor { dtype: Dtype::I32, shape: vec![words.len()], bytes: bytes.into() }
}

/// An AWQ matrix whose nibbles and zeros come from functions of their places.
pub(crate) fn int4(
    (n_in, n_out, group_size): (usize, usize, usize),
    q: impl Fn(usize) -> u8,
    zero: impl Fn(usize) -> u8,
) -> Linear {
    let n_groups = n_in / group_size;
    let scales: Vec<f32> = (0..n_groups * n_out).map(|idx| 0.01 + (idx * 13 % 29) as f32 / 1_024.0).collect();
    let scales: Vec<f32> = scales.into_iter().map(|scale| f16::from_f32(scale).to_f32()).collect();
    let layout = Int4Layout::AwqGemm {
        qweight: words((0..n_in * n_out).map(q)),
        qzeros: words((0..n_groups * n_out).map(zero)),
        scales: Tensor::of_f32(&[n_groups, n_out], &scales),
    };
    Linear::new("gate_proj", n_in, n_out, Matrix::Int4(Int4Matrix { n_in, n_out, group_size, layout }))
}

#[test]
fn four_bit_matrices_keep_every_weight_exactly() {
    for (n_in, n_out, group_size) in
        [(128, 48, 128), (64, 40, 32), (192, 16, 64), (512, 24, 256), (96, 8, 96)]
    {
        let shape = (n_in, n_out, group_size.min(n_in));
        let linear = int4(shape, |idx| (idx * 7 % 16) as u8, |idx| (idx * 5 % 16) as u8);
        let Matrix::Int4(matrix) = &linear.matrix else { panic!("asked for AWQ") };
        let expected = matrix.to_f32();
        for chunk in [32, chunk_of(&linear).unwrap()] {
            let (packed, bytes) = packed(&linear, chunk);

            for out in 0..n_out {
                for input in 0..n_in {
                    assert_eq!(unpacked(&packed, &bytes, out, input), expected[out * n_in + input]);
                }
            }
            for out in n_out..packed.n_tiles() * LANES {
                assert_eq!(unpacked(&packed, &bytes, out, n_in - 1), 0.0, "past the edge");
            }
        }
    }
}

#[test]
fn float_matrices_are_within_half_a_step_of_their_chunks_greatest() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let (n_in, n_out) = (160, 21);
        let value = |idx: usize| ((idx * 7_919) % 1_000) as f32 / 500.0 - 1.0;
        // Sizes that differ by output as far as a tile row can follow.
        let sized = |idx: usize| value(idx) * 10_f32.powi((idx / n_in / 2) as i32 - 5);
        let bytes: Vec<u8> = (0..n_in * n_out)
            .flat_map(|idx| match dtype {
                Dtype::F16 => f16::from_f32(value(idx)).to_le_bytes().to_vec(),
                Dtype::Bf16 => bf16::from_f32(value(idx)).to_le_bytes().to_vec(),
                Dtype::F32 | Dtype::I32 | Dtype::I64 => sized(idx).to_le_bytes().to_vec(),
            })
            .collect();
        let tensor = Tensor { dtype, shape: vec![n_out, n_in], bytes: bytes.into() };
        let linear = Linear::new("x", n_in, n_out, Matrix::Float(tensor.clone()));

        let (packed, bytes) = packed(&linear, chunk_of(&linear).unwrap());

        assert_eq!(packed.chunk, 32);
        for out in 0..n_out {
            for first in (0..n_in).step_by(32) {
                let expected: Vec<f32> =
                    (first..first + 32).map(|input| tensor.float(out * n_in + input)).collect();
                let step = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs())) / 127.0;
                for (idx, expected) in expected.into_iter().enumerate() {
                    let found = unpacked(&packed, &bytes, out, first + idx);
                    assert!((found - expected).abs() <= step * 0.57, "{out}, {first}: {found} {expected}");
                }
            }
        }
    }
}

#[test]
fn a_matrix_of_zeros_stays_one() {
    let tensor = Tensor::of_f32(&[16, 32], &[0.0; 512]);
    let linear = Linear::new("zeros", 32, 16, Matrix::Float(tensor));

    let (packed, bytes) = packed(&linear, 32);

    assert!((0..512).all(|idx| unpacked(&packed, &bytes, idx / 32, idx % 32) == 0.0));
}

#[test]
fn the_greatest_scale_comes_to_the_upper_end_of_f16() {
    for scale in [1e-30_f32, 6e-8, 0.003, 1.0, 1.99, 70_000.0, 1e30] {
        let normalised = scale / unit_of(scale);
        assert!((16_384.0..32_768.0).contains(&normalised), "{scale}: {normalised}");
        assert_eq!(unit_of(scale).to_bits() & 0x7f_ffff, 0, "a unit is a power of two");
    }
    assert_eq!(unit_of(0.0), 1.0);
}

#[test]
fn groups_that_are_no_multiple_of_32_are_refused_by_name() {
    let of_group = |n_in, group_size| {
        let mut linear = int4((96, 8, 96), |_| 1, |_| 8);
        let Matrix::Int4(matrix) = &mut linear.matrix else { panic!("asked for AWQ") };
        (linear.n_in, matrix.n_in, matrix.group_size) = (n_in, n_in, group_size);
        chunk_of(&linear).map_err(|error| error.to_string())
    };

    assert_eq!(of_group(384, 384), Ok(128));
    assert_eq!(of_group(96, 96), Ok(32));
    assert!(of_group(96, 48).unwrap_err().contains("`gate_proj` has 96 inputs in groups of 48"));
    assert!(of_group(96, 0).is_err());
}
