//! The tables that Hugging Face transformers 5.23 computes for the same configs, at a few places.

use super::*;
use crate::model::Family;

/// A position, a pair, and its cosine and sine.
type Golden = (usize, usize, f64, f64);

const PLAIN: [Golden; 12] = [
    (1, 0, 0.54030234, 8.41470957e-1),
    (1, 1, 0.79645789, 6.04694009e-1),
    (1, 8, 0.99950004, 3.16175073e-2),
    (1, 16, 0.99999952, 9.99999931e-4),
    (1, 19, 0.99999994, 2.73841957e-4),
    (1, 31, 1.0, 1.53992653e-6),
    (100, 0, 0.86231887, -5.06365657e-1),
    (100, 1, -0.51028347, 8.60006273e-1),
    (100, 8, -0.99978608, -2.06838083e-2),
    (100, 16, 0.99500418, 9.98334214e-2),
    (100, 19, 0.99962509, 2.73807738e-2),
    (100, 31, 1.0, 1.53992660e-4),
];

const LINEAR: [Golden; 12] = [
    (1, 0, 0.96891242, 2.47403964e-1),
    (1, 1, 0.98247826, 1.86377317e-1),
    (1, 8, 0.99968749, 2.49973964e-2),
    (1, 16, 0.9999969, 2.49999738e-3),
    (1, 19, 0.99999946, 1.05424097e-3),
    (1, 31, 1.0, 3.33380376e-5),
    (100, 0, 0.99120283, -1.32351756e-1),
    (100, 1, 0.99478197, -1.02023587e-1),
    (100, 8, -0.80114359, 5.98472118e-1),
    (100, 16, 0.96891242, 2.47403964e-1),
    (100, 19, 0.99444801, 1.05228946e-1),
    (100, 31, 0.99999446, 3.33379745e-3),
];

const LLAMA3: [Golden; 12] = [
    (1, 0, 0.54030234, 8.41470957e-1),
    (1, 1, 0.68614691, 7.27463007e-1),
    (1, 16, 0.99929297, 3.75971682e-2),
    (1, 32, 0.99999988, 5.24846022e-4),
    (1, 35, 1.0, 9.55621217e-5),
    (1, 63, 1.0, 3.06892588e-7),
    (100, 0, 0.86231887, -5.06365657e-1),
    (100, 1, 0.97596598, -2.17922851e-1),
    (100, 16, -0.81445312, -5.80229402e-1),
    (100, 32, 0.99862301, 5.24605103e-2),
    (100, 35, 0.99995434, 9.55606718e-3),
    (100, 63, 1.0, 3.06892580e-5),
];

const YARN: [Golden; 12] = [
    (1, 0, 0.61520416, 9.58123624e-1),
    (1, 1, 0.78850532, 8.21423411e-1),
    (1, 16, 1.1380602, 3.60006243e-2),
    (1, 32, 1.1386292, 6.86526473e-4),
    (1, 35, 1.1386294, 2.80397071e-4),
    (1, 63, 1.1386294, 3.53242058e-7),
    (100, 0, 0.98186165, -5.76562822e-1),
    (100, 1, 0.51932925, -1.01329863),
    (100, 16, -1.1383859, -2.35511921e-2),
    (100, 32, 1.1365603, 6.86110631e-2),
    (100, 35, 1.1382842, 2.80368719e-2),
    (100, 63, 1.1386294, 3.53242067e-5),
];

const YARN_UNTRUNCATED: [Golden; 12] = [
    (1, 0, 0.81045353, 1.26220644),
    (1, 1, 1.3883071, 5.67981899e-1),
    (1, 4, 1.4998828, 1.87495109e-2),
    (1, 8, 1.4999988, 1.87499938e-3),
    (1, 11, 1.5, 3.33427393e-4),
    (1, 15, 1.5, 3.33427379e-5),
    (100, 0, 1.2934783, -7.59548485e-1),
    (100, 1, 0.6330452, 1.35987270),
    (100, 4, 0.47298354, 1.42347693),
    (100, 8, 1.4882965, 1.87012091e-1),
    (100, 11, 1.4996294, 3.33399922e-2),
    (100, 15, 1.4999963, 3.33427126e-3),
];

/// Transformers takes its angles in f32, so the goldens are off by millionths of the angle themselves.
fn check(head_dim: usize, rope: Rope, goldens: &[Golden]) {
    let hparams = Hparams { head_dim, rope, ..Hparams::tiny(Family::Llama) };

    let table = RopeTable::new(&hparams, 101);

    assert_eq!(table.n_positions(), 101);
    for &(position, pair, cos, sin) in goldens {
        let (row_cos, row_sin) = table.row(position);
        let (found_cos, found_sin) = (f64::from(row_cos[pair]), f64::from(row_sin[pair]));
        assert!((found_cos - cos).abs() < 1e-5, "cos at {position}, {pair}: {found_cos} for {cos}");
        assert!(
            (found_sin - sin).abs() < 1e-4 * sin.abs(),
            "sin at {position}, {pair}: {found_sin} for {sin}"
        );
    }
}

#[test]
fn plain_and_linear_positions_are_as_transformers_has_them() {
    check(64, Rope { theta: 1e6, scaling: RopeScaling::None }, &PLAIN);
    check(64, Rope { theta: 1e4, scaling: RopeScaling::Linear { factor: 4.0 } }, &LINEAR);
}

#[test]
fn llama_3_positions_are_as_transformers_has_them() {
    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8_192,
    };

    check(128, Rope { theta: 5e5, scaling }, &LLAMA3);
}

#[test]
fn yarn_positions_are_as_transformers_has_them() {
    let qwen = RopeScaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original_context: 32_768,
        attention_factor: 0.1 * 4.0_f64.ln() + 1.0,
        truncate: true,
    };
    check(128, Rope { theta: 1e6, scaling: qwen }, &YARN);

    let untruncated = RopeScaling::Yarn {
        factor: 8.0,
        beta_fast: 16.0,
        beta_slow: 2.0,
        original_context: 64,
        attention_factor: 1.5,
        truncate: false,
    };
    check(32, Rope { theta: 1e4, scaling: untruncated }, &YARN_UNTRUNCATED);
}

#[test]
fn a_head_at_position_zero_stays_as_it_is() {
    let table = RopeTable::new(&Hparams::tiny(Family::Llama), 1);
    let mut head: Vec<f32> = (0..32).map(|n| n as f32 - 7.5).collect();
    let before = head.clone();

    table.apply(0, &mut head);

    assert_eq!(head, before);
}

#[test]
fn a_number_turns_with_the_one_half_a_head_away() {
    let hparams = Hparams {
        head_dim: 4,
        rope: Rope { theta: 1e4, scaling: RopeScaling::None },
        ..Hparams::tiny(Family::Llama)
    };
    let table = RopeTable::new(&hparams, 4);
    let mut head = [1.0, 0.0, 0.0, 2.0];

    table.apply(3, &mut head);

    // The first pair turns by 3, the second by 3 / 100.
    let expected = [3.0_f64.cos(), -2.0 * 0.03_f64.sin(), 3.0_f64.sin(), 2.0 * 0.03_f64.cos()];
    for (found, expected) in head.into_iter().zip(expected) {
        assert!((f64::from(found) - expected).abs() < 1e-6, "{head:?}");
    }
}
