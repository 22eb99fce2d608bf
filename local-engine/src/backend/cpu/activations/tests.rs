//! A row's blocks are its own: right to half a step, and the same whatever stands beside them.

use super::super::pool::Pool;
use super::*;
use crate::backend::cpu::simd::Scalar;

/// The rows, quantised one panel after another.
fn quantised(rows: &[Vec<f32>], chunk: usize) -> Activations {
    let mut activations = Activations::default();
    // Room that was larger, and used otherwise, before.
    activations.reset(37, 128, 32);
    activations.reset(rows.len(), rows[0].len(), chunk);
    activations
        .for_each_row(&mut Pool::new(2), |row_idx, mut row| {
            row.write(Scalar, |first, values| {
                values.copy_from_slice(&rows[row_idx][first..][..values.len()])
            });
        })
        .unwrap();
    activations
}

fn row(seed: usize, n_in: usize) -> Vec<f32> {
    let value = |idx: usize| ((idx * 7_919 + seed * 104_729) % 2_001) as f32 / 1_000.0 - 1.0;
    (0..n_in).map(|idx| value(idx) * 3_f32.powi((idx / BLOCK % 9) as i32 - 4)).collect()
}

/// A row as it will be multiplied: its numbers, and the sums of its chunks.
fn kept(activations: &Activations, row_idx: usize) -> (Vec<f32>, Vec<f32>) {
    let panel = activations.panel(row_idx / activations.panel_rows);
    let of_row = row_idx % activations.panel_rows;
    let places = (of_row..panel.blocks.len()).step_by(panel.stride);
    let numbers = places.flat_map(|at| panel.blocks[at].0.map(|q| f32::from(q) * panel.scales[at].value()));
    (numbers.collect(), panel.sums.iter().copied().skip(of_row).step_by(panel.stride).collect())
}

#[test]
fn numbers_are_within_half_a_step_and_a_step_is_at_most_a_64th_of_the_greatest() {
    let rows: Vec<_> = (0..3).map(|seed| row(seed, 256)).collect();

    let activations = quantised(&rows, 128);

    for (row_idx, expected) in rows.iter().enumerate() {
        let (found, sums) = kept(&activations, row_idx);
        for (expected, found) in expected.chunks(BLOCK).zip(found.chunks(BLOCK)) {
            let greatest = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            for (expected, found) in expected.iter().zip(found) {
                assert!((expected - found).abs() <= greatest / 63.0 / 2.0);
            }
        }
        for (sum, numbers) in sums.iter().zip(found.chunks(128)) {
            let expected: f64 = numbers.iter().map(|x| f64::from(*x)).sum();
            assert!((f64::from(*sum) - expected).abs() < 1e-4, "{sum} {expected}");
        }
    }
}

#[test]
fn a_row_is_kept_alike_in_every_place_of_every_panel() {
    let n_in = 192;
    let expected = kept(&quantised(&[row(5, n_in)], 64), 0);
    for n_rows in [2, 8, 9, 11, 16, 17, 31, 33] {
        for place in [0, n_rows / 2, n_rows - 1] {
            let rows: Vec<_> =
                (0..n_rows).map(|idx| row(if idx == place { 5 } else { 100 + idx }, n_in)).collect();

            let activations = quantised(&rows, 64);

            assert_eq!(kept(&activations, place), expected, "{place} of {n_rows}");
            assert_eq!(
                (0..activations.n_panels()).map(|idx| activations.rows_of(idx).len()).sum::<usize>(),
                n_rows
            );
        }
    }
}

#[test]
fn a_chunk_written_alone_is_what_it_is_in_its_row() {
    let rows: Vec<_> = (0..19).map(|seed| row(seed, 128)).collect();
    let expected = quantised(&rows, 32);
    let mut activations = Activations::default();
    activations.reset(19, 128, 32);

    let (layout, parts) = activations.by_chunk(2);
    let rows = &rows;
    Pool::new(2)
        .for_each(parts, |chunk_idx, (mut blocks, (mut scales, mut sums))| {
            for panel_idx in 0..2 {
                let (blocks, scales) = (blocks.row_mut(panel_idx), scales.row_mut(panel_idx));
                let mut part = ChunkMut { layout, blocks, scales, sums: sums.row_mut(panel_idx) };
                for (row_idx, row) in rows.iter().skip(16 * panel_idx).take(16).enumerate() {
                    let blocks = row[chunk_idx * 32..][..32].as_chunks().0;
                    part.write_block(Scalar, row_idx, 0, &blocks[0]);
                    part.write_block(Scalar, row_idx, 1, &blocks[1]);
                }
            }
        })
        .unwrap();

    for row_idx in 0..19 {
        assert_eq!(kept(&activations, row_idx), kept(&expected, row_idx));
    }
}

#[test]
fn zeros_and_the_ends_of_f32_stay_numbers() {
    let mut values = vec![0.0; 64];
    values[16] = f32::MAX;
    values[32] = -1e-40;

    let (found, sums) = kept(&quantised(&[values], 32), 0);

    assert!(found.iter().chain(&sums).all(|x| x.is_finite()));
    assert_eq!(found[..16], [0.0; 16]);
    assert!(found[16] > 1e32);
}
