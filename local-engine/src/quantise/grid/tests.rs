//! Grids hold what they are made for, and a packed matrix reads back as its rows were rounded.

use super::*;
use crate::quantise::fixtures::{dense, noise};

fn groups() -> Vec<Vec<f32>> {
    let even = noise(64, 1);
    let of = |of_weight: fn(f32) -> f32| even.iter().map(|weight| of_weight(*weight)).collect();
    vec![
        even.clone(),
        of(|weight| weight.abs() + 0.5),
        of(|weight| -weight.abs()),
        of(|weight| weight * 1e-7),
        of(|weight| weight * 1e-12),
        of(|weight| weight * 6e4),
        vec![0.0; 64],
    ]
}

#[test]
fn every_weight_goes_to_the_nearest_level() {
    for group in groups() {
        let grid = Grid::of(&group, 1.0);

        let mut snapped = group.clone();
        grid.snap(&mut snapped);

        // A scale that was rounded down as f16 leaves the range's ends a little off the grid.
        let slack = grid.scale * (0.5 + 15.0 / 2_048.0);
        for (weight, snapped) in group.iter().zip(snapped) {
            assert!(
                (weight - snapped).abs() <= slack,
                "{weight} became {snapped} by steps of {}",
                grid.scale
            );
        }
    }
}

#[test]
fn scales_are_halves_above_zero_and_zeros_are_levels() {
    for group in groups() {
        for shrink in [1.0, 0.5] {
            let Grid { scale, zero } = Grid::of(&group, shrink);

            assert!(scale > 0.0 && f16::from_f32(scale).to_f32() == scale, "{scale}");
            assert!((0.0..=15.0).contains(&zero) && zero.fract() == 0.0, "{zero}");
        }
    }
}

#[test]
fn zero_stays_zero_on_every_grid() {
    for group in groups() {
        let mut absent = [0.0];

        Grid::of(&group, 1.0).snap(&mut absent);

        assert_eq!(absent, [0.0]);
    }
}

#[test]
fn a_shrunk_grid_is_finer_and_ends_earlier() {
    let group = noise(64, 4);
    let (whole, half) = (Grid::of(&group, 1.0), Grid::of(&group, 0.5));

    let mut far = [10.0];
    half.snap(&mut far);

    assert!((half.scale / whole.scale - 0.5).abs() < 1e-2);
    assert_eq!(far, [(15.0 - half.zero) * half.scale]);
}

#[test]
fn rounding_is_to_the_nearest_whole_number() {
    for quarter in -60..=60 {
        let value = quarter as f32 / 4.0;
        assert_eq!(round(value), value.round_ties_even(), "{value}");
    }
}

#[test]
fn a_packed_matrix_is_its_rows_snapped() {
    for (group_size, n_threads) in [(32, 1), (64, 2), (128, 3)] {
        let dense = dense(256, 40, 7);

        let matrix = quantise(&dense, group_size, None, n_threads).unwrap();

        let mut snapped = dense.rows.clone();
        snapped.chunks_exact_mut(256).for_each(|row| snap_row(row, group_size));
        assert_eq!(matrix.to_f32(), snapped);
    }
}

#[test]
fn a_group_is_shrunk_by_what_is_said_for_it() {
    let dense = dense(64, 8, 9);
    let mut shrinks = vec![1.0; 16];
    shrinks[2 * 3 + 1] = 0.5;

    let whole = quantise(&dense, 32, None, 1).unwrap().to_f32();
    let shrunk = quantise(&dense, 32, Some(&shrinks), 1).unwrap().to_f32();

    let differing: Vec<usize> =
        (0..16).filter(|at| whole[at * 32..][..32] != shrunk[at * 32..][..32]).collect();
    assert_eq!(differing, [7]);
}

#[test]
fn a_scale_that_f16_cannot_hold_is_refused_and_the_greatest_it_can_is_not() {
    for (greatest, is_held) in [(15.0 * 65_504.0, true), (15.0 * 65_536.0, false)] {
        let mut dense = dense(32, 8, 2);
        dense.rows[32 * 6 + 3] = greatest;

        let found = quantise(&dense, 32, None, 1);

        assert_eq!(found.is_ok(), is_held);
        if let Err(error) = found {
            assert_eq!(
                error.to_string(),
                "tensor `w.weight`: output 6 has weights too large for a scale in f16"
            );
        }
    }
}
