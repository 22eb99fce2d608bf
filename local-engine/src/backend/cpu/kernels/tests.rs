//! Every tier multiplies as exact arithmetic does, and all of them alike.

use super::*;
use crate::backend::cpu::activations::Activations;
use crate::backend::cpu::layout::tests::int4;
use crate::backend::cpu::layout::{Packed, Width, chunk_of};
use crate::backend::cpu::pool::Pool;
use crate::backend::cpu::simd::{LANES, Scalar, Tier, with_tier};
use crate::weights::{Linear, Matrix, Tensor};

fn float(n_in: usize, n_out: usize, value: impl Fn(usize) -> f32) -> Linear {
    let values: Vec<f32> = (0..n_in * n_out).map(value).collect();
    Linear::new("x", n_in, n_out, Matrix::Float(Tensor::of_f32(&[n_out, n_in], &values)))
}

fn quantised(rows: &[Vec<f32>], chunk: usize) -> Activations {
    let mut activations = Activations::default();
    // Blocks and scales that another step left behind.
    activations.reset(16, 1_024, 32);
    fill(&mut activations, &vec![vec![1e20; 1_024]; 16]);
    activations.reset(rows.len(), rows[0].len(), chunk);
    fill(&mut activations, rows);
    activations
}

fn fill(activations: &mut Activations, rows: &[Vec<f32>]) {
    activations
        .for_each_row(&mut Pool::new(1), |row_idx, mut row| {
            row.write(Scalar, |first, to| to.copy_from_slice(&rows[row_idx][first..][..to.len()]));
        })
        .unwrap();
}

/// The product of one tile row, from the packed numbers, in f64: and how large its summands were.
fn expected(tile: &TileRows<'_>, panel: &Panel<'_>, row_idx: usize) -> [(f64, f64); LANES] {
    std::array::from_fn(|out| {
        let (mut sum, mut sizes) = (0.0, 0.0);
        for input in 0..tile.n_chunks * tile.chunk_blocks * 16 {
            let at = input / 16 * panel.stride + row_idx;
            let x = f64::from(panel.blocks[at].0[input % 16]) * f64::from(panel.scales[at].value());
            let (weights, scales) = tile.chunk(0, input / 16 / tile.chunk_blocks);
            let input = input % (16 * tile.chunk_blocks);
            let scale = half::f16::from_le_bytes([scales[2 * out], scales[2 * out + 1]]);
            let q = match tile.width {
                Width::Int4 => {
                    let byte = weights[input / 8 * 64 + out * 4 + input % 4];
                    f64::from(byte >> (input % 8 / 4 * 4) & 15) - f64::from(scales[32 + out])
                }
                Width::Int8 => f64::from(weights[input / 4 * 64 + out * 4 + input % 4]) - 128.0,
            };
            let term = q * scale.to_f64() * f64::from(tile.unit(0)) * x;
            sum += term;
            // What was subtracted may have been larger than what is left.
            sizes += term.abs() + (15.0 * scale.to_f64() * f64::from(tile.unit(0)) * x).abs();
        }
        (sum, sizes)
    })
}

fn tiers() -> Vec<Tier> {
    let mut tiers = vec![Tier::Scalar(Scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        use crate::backend::cpu::simd::{Avx2, Avx512};
        tiers.extend(Avx2::detect().map(Tier::Avx2));
        tiers.extend(Avx512::detect().map(Tier::Avx512));
    }
    tiers
}

/// Multiplies the rows by every tile row, on every tier, and compares with f64 and with the scalar tier.
fn check(linear: &Linear, rows: &[Vec<f32>]) {
    let packed = Packed::plan(linear, chunk_of(linear).unwrap(), 0);
    let mut bytes = vec![0x5a; packed.n_bytes()];
    packed.pack(linear, 0, &mut bytes);
    let activations = quantised(rows, packed.chunk);
    let tiles = packed.tile_rows(&bytes, 0..packed.n_tiles());
    for panel_idx in 0..activations.n_panels() {
        let panel = activations.panel(panel_idx);
        let of_scalar = outputs_of(Tier::Scalar(Scalar), &tiles, &panel);
        for (idx, outputs) in of_scalar.iter().enumerate() {
            let tile = packed.tile_rows(&bytes, idx / panel.n_rows..idx / panel.n_rows + 1);
            for (found, (sum, sizes)) in outputs.iter().zip(expected(&tile, &panel, idx % panel.n_rows)) {
                assert!((f64::from(*found) - sum).abs() <= 1e-6 * sizes, "{found} {sum}");
            }
        }
        for tier in tiers() {
            let bits =
                |outputs: &[Lanes]| outputs.as_flattened().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&outputs_of(tier, &tiles, &panel)), bits(&of_scalar), "{tier:?}");
        }
    }
}

fn outputs_of(tier: Tier, tiles: &TileRows<'_>, panel: &Panel<'_>) -> Vec<Lanes> {
    let mut outputs = vec![[f32::NAN; LANES]; tiles.n_tiles() * panel.n_rows];
    with_tier!(tier, simd => simd.multiply(tiles, panel, &mut outputs));
    outputs
}

fn rows(n_rows: usize, n_in: usize) -> Vec<Vec<f32>> {
    let value = |idx: usize| ((idx * 7_919) % 2_003) as f32 / 1_000.0 - 1.0;
    (0..n_rows)
        .map(|row| (0..n_in).map(|idx| value(idx + row * n_in) * 2_f32.powi((row % 7) as i32)).collect())
        .collect()
}

#[test]
fn shapes_of_all_kinds_and_any_number_of_rows() {
    for (n_in, n_out, group_size) in
        [(128, 16, 128), (32, 8, 32), (160, 24, 32), (192, 40, 64), (640, 16, 640)]
    {
        let linear = int4((n_in, n_out, group_size), |idx| (idx * 31 % 16) as u8, |idx| (idx * 7 % 16) as u8);
        for n_rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33] {
            check(&linear, &rows(n_rows, n_in));
        }
    }
    for (n_in, n_out) in [(32, 3), (128, 16), (224, 19)] {
        let linear = float(n_in, n_out, |idx| (idx * 7_919 % 513) as f32 / 256.0 - 1.0);
        for n_rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33] {
            check(&linear, &rows(n_rows, n_in));
        }
    }
}

#[test]
fn nibbles_zeros_and_activations_at_their_ends() {
    let ends = [0_u8, 15];
    for (q, zero) in [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(q, zero)| (ends[q], ends[zero])) {
        let linear = int4((256, 16, 128), |_| q, |_| zero);
        for x in [127.0, -127.0, 0.0, 1e30, -1e-30] {
            check(&linear, &vec![vec![x; 256]; 5]);
        }
    }
    for weight in [1.0, -1.0, 0.0] {
        for x in [127.0, -127.0, 0.0] {
            check(&float(256, 16, |_| weight), &vec![vec![x; 256]; 9]);
        }
    }
}

#[test]
fn a_rows_outputs_are_the_same_beside_any_others() {
    let linear = int4((256, 16, 64), |idx| (idx * 11 % 16) as u8, |idx| (idx % 16) as u8);
    let packed = Packed::plan(&linear, 64, 0);
    let mut bytes = vec![0; packed.n_bytes()];
    packed.pack(&linear, 0, &mut bytes);
    let tiles = packed.tile_rows(&bytes, 0..1);
    let all = rows(16, 256);
    for tier in tiers() {
        let of_rows = |rows: &[Vec<f32>]| outputs_of(tier, &tiles, &quantised(rows, 64).panel(0));
        let together = of_rows(&all);
        for (row_idx, row) in all.iter().enumerate() {
            assert_eq!(of_rows(std::slice::from_ref(row))[0], together[row_idx]);
            assert_eq!(of_rows(&all[row_idx..])[0], together[row_idx]);
        }
    }
}
