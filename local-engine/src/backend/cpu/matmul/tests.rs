//! Fused products are the products of their parts, with bias, sum and edge, on any number of threads.

use super::*;
use crate::backend::cpu::activations::RowMut;
use crate::backend::cpu::layout::tests::int4;
use crate::backend::cpu::layout::{MAX_CHUNK, chunk_of};
use crate::backend::cpu::simd::Scalar;
use crate::weights::{Linear, Matrix, Tensor};

fn bytes_matrix(n_in: usize, n_out: usize) -> Linear {
    let values: Vec<f32> = (0..n_in * n_out).map(|idx| (idx * 7_919 % 513) as f32 / 512.0 - 0.5).collect();
    Linear::new("x", n_in, n_out, Matrix::Float(Tensor::of_f32(&[n_out, n_in], &values)))
}

/// Packs matrices of the same inputs one after the other.
fn fused(linears: &[&Linear], bias: Option<Vec<f32>>) -> (Fused, Vec<u8>) {
    let chunk = linears.iter().map(|linear| chunk_of(linear).unwrap()).min().unwrap();
    let (mut parts, mut memory) = (Vec::new(), Vec::new());
    for linear in linears {
        let part = Packed::plan(linear, chunk, memory.len());
        memory.resize(memory.len() + part.n_bytes(), 0);
        part.pack(linear, 0, &mut memory[part.offset..]);
        parts.push(part);
    }
    (Fused { parts, bias }, memory)
}

fn activations(n_rows: usize, n_in: usize, chunk: usize) -> Activations {
    let mut activations = Activations::default();
    activations.reset(n_rows, n_in, chunk);
    activations
        .for_each_row(&mut Pool::new(1), |row_idx, mut row| {
            row.write(Scalar, |first, values| {
                for (idx, value) in values.iter_mut().enumerate() {
                    *value = ((first + idx + row_idx * 31) % 13) as f32 - 6.0;
                }
            });
        })
        .unwrap();
    activations
}

/// The sixteen outputs of a tile row for a row, computed on its own.
fn tile_of(fused: &Fused, memory: &[u8], activations: &Activations, tile_idx: usize, row: usize) -> Lanes {
    let panel = activations.panel(row / PANEL_ROWS);
    let mut outputs = vec![[0.0; LANES]; panel.n_rows];
    let (_, tile) = fused.pieces(memory, tile_idx..tile_idx + 1, panel.n_rows).next().expect("one piece");
    Scalar.multiply(&tile, &panel, &mut outputs);
    outputs[row % PANEL_ROWS]
}

#[test]
fn parts_lie_side_by_side_and_have_their_bias() {
    let (a, b) = (int4((64, 40, 32), |idx| (idx % 16) as u8, |_| 7), bytes_matrix(64, 19));
    let bias: Vec<f32> = (0..80).map(|idx| idx as f32).collect();
    let (fused, memory) = fused(&[&a, &b], Some(bias.clone()));
    assert_eq!((fused.n_tiles(), fused.n_columns(), fused.column_of(1)), (5, 80, 48));
    for n_threads in [1, 2, 3] {
        for n_rows in [1, 5, 21] {
            let activations = activations(n_rows, 64, fused.chunk());
            let mut rows = vec![f32::NAN; n_rows * 80];
            let mut device =
                Device { pool: &mut Pool::new(n_threads), tier: Tier::Scalar(Scalar), memory: &memory };

            device.project(&fused, &activations, &mut rows, Into::Replaced).unwrap();

            for (row_idx, row) in rows.chunks(80).enumerate() {
                for (tile_idx, found) in row.chunks(LANES).enumerate() {
                    let alone = tile_of(&fused, &memory, &activations, tile_idx, row_idx);
                    let expected: Vec<f32> =
                        alone.iter().zip(&bias[tile_idx * LANES..]).map(|(y, bias)| y + bias).collect();
                    assert_eq!(found, expected);
                }
            }
        }
    }
}

#[test]
fn rows_may_end_within_a_tile_and_be_added_to() {
    let linear = bytes_matrix(64, 35);
    let (fused, memory) = fused(&[&linear], None);
    let activations = activations(3, 64, fused.chunk());
    let mut rows: Vec<f32> = (0..3 * 35).map(|idx| idx as f32).collect();
    let mut device = Device { pool: &mut Pool::new(2), tier: Tier::Scalar(Scalar), memory: &memory };

    device.project(&fused, &activations, &mut rows, Into::AddedTo).unwrap();

    for (idx, found) in rows.iter().enumerate() {
        let (row, column) = (idx / 35, idx % 35);
        let y = tile_of(&fused, &memory, &activations, column / LANES, row)[column % LANES];
        assert_eq!(*found, idx as f32 + y);
    }
}

#[test]
fn gates_are_quantised_as_rows_of_their_own_would_be() {
    let (gate, up) = (bytes_matrix(128, 256), int4((128, 256, 128), |idx| (idx * 3 % 16) as u8, |_| 8));
    let bias: Vec<f32> = (0..512).map(|idx| (idx % 9) as f32 / 8.0).collect();
    let (fused, memory) = fused(&[&gate, &up], Some(bias));
    for n_rows in [1, 3, 18] {
        let input = activations(n_rows, 128, fused.chunk());
        let mut rows = vec![0.0; n_rows * 512];
        let mut pool = Pool::new(2);
        let mut device = Device { pool: &mut pool, tier: Tier::Scalar(Scalar), memory: &memory };
        device.project(&fused, &input, &mut rows, Into::Replaced).unwrap();
        for chunk in [32, 64, MAX_CHUNK] {
            let mut gated = Activations::default();
            gated.reset(n_rows, 256, chunk);

            device.gate(&fused, &input, &mut gated).unwrap();

            let mut expected = Activations::default();
            expected.reset(n_rows, 256, chunk);
            let task = |row_idx: usize, mut row: RowMut<'_, '_>| {
                row.write(Scalar, |first, values| {
                    for (idx, value) in values.iter_mut().enumerate() {
                        let column = row_idx * 512 + first + idx;
                        let [silu, ..] = ops::silu(Scalar, [rows[column]; LANES]);
                        *value = silu * rows[column + 256];
                    }
                });
            };
            expected.for_each_row(device.pool, task).unwrap();
            for panel_idx in 0..gated.n_panels() {
                let [found, expected] = [&gated, &expected].map(|of| format!("{:?}", of.panel(panel_idx)));
                assert_eq!(found, expected);
            }
        }
    }
}
