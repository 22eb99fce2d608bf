//! Which groups are better off when their greatest weights are cut: the rest then get a finer grid.
//!
//! Looks at each group alone: what two groups' errors do to each other is left out, so that a group's error
//! is a product with a small matrix and not with the whole sample.
//!
//! Invariants: no shrinking at all is among what is tried for each group; and the matrix as a whole is left
//! unclipped when that is better on the sample, where the groups do meet.

use super::dense::{Dense, Panels};
use super::grid::Grid;
use super::threads;

const N_SHRINKS: usize = 11;
const SHRINK_STEP: f32 = 0.05;

/// Rows that one task takes.
const TASK_ROWS: usize = 16;

/// How much each group's range is shrunk, `[n_out, n_groups]`; None where that would not help.
pub(super) fn search(
    dense: &Dense,
    sample: &Panels,
    group_size: usize,
    n_threads: usize,
) -> Option<Vec<f32>> {
    let n_groups = dense.n_in / group_size;
    let grams =
        threads::map(n_threads, n_groups, |group_idx| sample.gram(group_idx * group_size, group_size));
    let results = threads::map(n_threads, dense.n_out.div_ceil(TASK_ROWS), |task_idx| {
        let first = task_idx * TASK_ROWS;
        let (mut shrinks, mut clipped, mut whole) = (Vec::new(), Vec::new(), Vec::new());
        for out in first..(first + TASK_ROWS).min(dense.n_out) {
            let row = dense.row(out);
            let groups = row.chunks_exact(group_size).zip(&grams);
            let of_row: Vec<f32> = groups.map(|(group, gram)| best_shrink(group, gram)).collect();
            clipped.extend(lost(row, &of_row, group_size));
            whole.extend(lost(row, &vec![1.0; n_groups], group_size));
            shrinks.extend(of_row);
        }
        (shrinks, sample.energy(&clipped), sample.energy(&whole))
    });
    let clipped: f64 = results.iter().map(|(_, clipped, _)| clipped).sum();
    let whole: f64 = results.iter().map(|(_, _, whole)| whole).sum();
    (clipped < whole).then(|| results.into_iter().flat_map(|(shrinks, ..)| shrinks).collect())
}

fn best_shrink(group: &[f32], gram: &[f32]) -> f32 {
    let error = |shrink: f32| {
        let mut lost = group.to_vec();
        Grid::of(group, shrink).snap(&mut lost);
        for (lost, weight) in lost.iter_mut().zip(group) {
            *lost -= weight;
        }
        quadratic(&lost, gram)
    };
    let (mut best, mut least) = (1.0, error(1.0));
    for step in 1..N_SHRINKS {
        let shrink = 1.0 - step as f32 * SHRINK_STEP;
        let error = error(shrink);
        if error < least {
            (best, least) = (shrink, error);
        }
    }
    best
}

/// `v' A v`
fn quadratic(v: &[f32], a: &[f32]) -> f32 {
    const LANES: usize = 16;
    let of_row = |row: &[f32]| {
        let mut sums = [0.0_f32; LANES];
        // Groups are whole multiples of 16.
        for (row, v) in row.as_chunks::<LANES>().0.iter().zip(v.as_chunks::<LANES>().0) {
            for lane in 0..LANES {
                sums[lane] += row[lane] * v[lane];
            }
        }
        sums.iter().sum::<f32>()
    };
    a.chunks_exact(v.len()).zip(v).map(|(row, v)| of_row(row) * v).sum()
}

/// What rounding takes from a row whose groups are shrunk.
fn lost(row: &[f32], shrinks: &[f32], group_size: usize) -> Vec<f32> {
    let mut lost = row.to_vec();
    for (group, shrink) in lost.chunks_exact_mut(group_size).zip(shrinks) {
        Grid::of(group, *shrink).snap(group);
    }
    for (lost, weight) in lost.iter_mut().zip(row) {
        *lost -= weight;
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantise::fixtures::{dense, skewed};

    #[test]
    fn a_lone_great_weight_that_meets_little_is_cut_and_its_group_alone() {
        let mut dense = dense(128, 8, 1);
        // Not one of the inputs that are large.
        dense.rows[3 * 128 + 70] = 4.0;
        let mut x = skewed(60, 128, 2);
        x.values.chunks_exact_mut(128).for_each(|row| row[70] *= 0.01);

        let shrinks = search(&dense, &Panels::new(&x), 64, 2).expect("cutting helps");

        assert_eq!(shrinks.len(), 16);
        assert!(shrinks[2 * 3 + 1] < 0.6, "{}", shrinks[2 * 3 + 1]);
        assert!(shrinks.iter().all(|shrink| (0.5..=1.0).contains(shrink)));
    }

    #[test]
    fn weights_that_are_on_their_grid_are_left_there() {
        let mut dense = dense(64, 8, 1);
        for (at, weight) in dense.rows.iter_mut().enumerate() {
            *weight = ((at * 7 + 3) % 16) as f32 - 5.0;
        }

        assert_eq!(search(&dense, &Panels::new(&skewed(20, 64, 2)), 32, 1), None);
    }

    #[test]
    fn what_is_cut_is_better_on_the_sample_as_a_whole() {
        let (dense, sample) = (dense(128, 16, 5), Panels::new(&skewed(40, 128, 6)));

        if let Some(shrinks) = search(&dense, &sample, 32, 3) {
            let energy = |shrinks: &[f32]| {
                let row = |out: usize| lost(dense.row(out), &shrinks[4 * out..][..4], 32);
                sample.energy(&(0..16).flat_map(row).collect::<Vec<f32>>())
            };
            assert!(energy(&shrinks) < energy(&[1.0; 64]));
        }
    }
}
