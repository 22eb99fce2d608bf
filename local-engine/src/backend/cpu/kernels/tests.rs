//! Every tier multiplies as exact arithmetic does, and all of them alike.

use super::*;
use crate::backend::cpu::activations::{Activations, PanelMut};
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
    let (layout, parts) = activations.by_panel();
    let task = |panel_idx, (blocks, (scales, sums)): (_, (_, _))| {
        let mut part = PanelMut { layout, blocks, scales, sums };
        for (row_idx, row) in layout.rows_of(panel_idx, rows.len()).enumerate() {
            part.write_row(Scalar, row_idx, |first, to| to.copy_from_slice(&rows[row][first..][..to.len()]));
        }
    };
    Pool::new(1).for_each(parts, task).unwrap();
}

/// The product of one tile row, from the packed numbers, in f64: and how large its summands were.
fn expected(tile: &TileRow<'_>, panel: &Panel<'_>, row_idx: usize) -> [(f64, f64); LANES] {
    std::array::from_fn(|out| {
        let (mut sum, mut sizes) = (0.0, 0.0);
        let n_in = tile.weights.len() / tile.width.block_bytes() * 16;
        for input in 0..n_in {
            let at = input / 16 * panel.stride + row_idx;
            let x = f64::from(panel.blocks[at].0[input % 16]) * f64::from(panel.scales[at].value());
            let scales = &tile.scales[input / 16 / tile.chunk_blocks * tile.width.scale_bytes()..];
            let scale = half::f16::from_le_bytes([scales[2 * out], scales[2 * out + 1]]);
            let q = match tile.width {
                Width::Int4 => {
                    let byte = tile.weights[input / 8 * 64 + out * 4 + input % 4];
                    f64::from(byte >> (input % 8 / 4 * 4) & 15) - f64::from(scales[32 + out])
                }
                Width::Int8 => f64::from(tile.weights[input / 4 * 64 + out * 4 + input % 4]) - 128.0,
            };
            let term = q * scale.to_f64() * f64::from(tile.unit) * x;
            sum += term;
            // What was subtracted may have been larger than what is left.
            sizes += term.abs() + (15.0 * scale.to_f64() * f64::from(tile.unit) * x).abs();
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
    for tile_idx in 0..packed.n_tiles() {
        let tile = packed.tile_row(&bytes, tile_idx);
        for panel_idx in 0..activations.n_panels() {
            let panel = activations.panel(panel_idx);
            let mut of_scalar = [[f32::NAN; LANES]; PANEL_ROWS];
            Scalar.multiply(&tile, &panel, &mut of_scalar);
            for tier in tiers() {
                let mut outputs = [[f32::NAN; LANES]; PANEL_ROWS];
                with_tier!(tier, simd => simd.multiply(&tile, &panel, &mut outputs));
                for row_idx in 0..panel.n_rows {
                    let bits = |outputs: &Lanes| outputs.map(f32::to_bits);
                    assert_eq!(bits(&outputs[row_idx]), bits(&of_scalar[row_idx]), "{tier:?}");
                    for (found, (sum, sizes)) in outputs[row_idx].iter().zip(expected(&tile, &panel, row_idx))
                    {
                        assert!((f64::from(*found) - sum).abs() <= 1e-6 * sizes, "{tier:?}: {found} {sum}");
                    }
                }
            }
        }
    }
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
    let tile = packed.tile_row(&bytes, 0);
    let all = rows(16, 256);
    for tier in tiers() {
        let outputs_of = |rows: &[Vec<f32>]| {
            let activations = quantised(rows, 64);
            let mut outputs = [[0.0; LANES]; PANEL_ROWS];
            with_tier!(tier, simd => simd.multiply(&tile, &activations.panel(0), &mut outputs));
            outputs
        };
        let together = outputs_of(&all);
        for (row_idx, row) in all.iter().enumerate() {
            assert_eq!(outputs_of(std::slice::from_ref(row))[0], together[row_idx]);
            assert_eq!(outputs_of(&all[row_idx..])[0], together[row_idx]);
        }
    }
}
