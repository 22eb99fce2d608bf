//! Scales help where activations differ, and never harm on what they were searched on.

use super::*;
use crate::quantise::Method;
use crate::quantise::dense::Rows;
use crate::quantise::fixtures::{dense, noise, options, skewed};

fn mean_abs(rows: &Rows) -> Vec<f32> {
    let of_input =
        |input: usize| rows.iter().map(|row| row[input].abs()).sum::<f32>() / rows.n_tokens() as f32;
    (0..rows.width).map(of_input).collect()
}

/// The search's result, and its squared error as a share of that without scales.
fn search_on(rows: &Rows, group_size: usize) -> (Scales, f64) {
    let (q, k) = (dense(rows.width, 24, 3), dense(rows.width, 8, 4));
    let sample = Panels::new(rows);
    let options = options(Method::ActivationAware, group_size);

    let found = search(&[&q, &k], &mean_abs(rows), &sample, options);

    let error_of = |scales: &Scales| {
        let lost = |dense: &Dense| {
            (0..dense.n_out)
                .flat_map(|out| lost(dense.row(out), &scales.of_inputs, group_size))
                .collect::<Vec<f32>>()
        };
        sample.energy(&lost(&q)) + sample.energy(&lost(&k))
    };
    let share = error_of(&found) / error_of(&Scales::none(rows.width));
    (found, share)
}

#[test]
fn inputs_fifty_times_as_large_get_a_finer_grid() {
    for group_size in [32, 64, 128] {
        let (found, share) = search_on(&skewed(50, 128, 1), group_size);

        assert!(found.alpha > 0.0);
        assert!(found.of_inputs[5] > found.of_inputs[6]);
        assert!(share < 0.6, "{share} of the squared error of no scales, in groups of {group_size}");
    }
}

#[test]
fn what_is_found_is_never_worse_on_its_sample_than_no_scales() {
    for seed in 0..4 {
        let even = Rows { width: 64, values: noise(64 * 20, seed) };

        let (_, share) = search_on(&even, 32);

        assert!(share <= 1.0, "{share}");
    }
}

#[test]
fn the_middle_of_scales_is_one_and_alpha_zero_is_no_scales() {
    let mean_abs = [0.0, 0.3, 50.0, 2.0];

    for alpha in [0.0, 0.5, 0.95] {
        let Scales { of_inputs, .. } = Scales::new(alpha, &mean_abs);
        assert!((of_inputs[0] * of_inputs[2] - 1.0).abs() < 1e-4, "{of_inputs:?}");
    }

    assert_eq!(Scales::new(0.0, &mean_abs), Scales::none(4));
}

#[test]
fn inputs_that_are_never_used_have_scales_that_divide() {
    let mut rows = skewed(20, 64, 1);
    rows.values.chunks_exact_mut(64).for_each(|row| row[9] = 0.0);

    let (found, _) = search_on(&rows, 32);

    assert!(found.of_inputs.iter().all(|scale| scale.is_normal() && (1e-4..1e4).contains(scale)));
}
