//! Norms and gates are right, and alike on every tier.

use super::super::simd::{Scalar, Tier, with_tier};
use super::*;

fn tiers() -> Vec<Tier> {
    let mut tiers = vec![Tier::Scalar(Scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        use super::super::simd::{Avx2, Avx512};
        tiers.extend(Avx2::detect().map(Tier::Avx2));
        tiers.extend(Avx512::detect().map(Tier::Avx512));
    }
    tiers
}

fn row(n: usize) -> Vec<f32> {
    (0..n).map(|idx| ((idx * 7_919) % 2_003) as f32 / 300.0 - 3.0).collect()
}

#[test]
fn a_normed_row_has_a_mean_square_of_one_before_its_weights() {
    for n in [16, 48, 64, 896, 1_040] {
        let weights: Vec<f32> = (0..n).map(|idx| 0.5 + (idx % 5) as f32 * 0.25).collect();
        let mean_square = row(n).iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / n as f64;
        let mut of_scalar = row(n);
        rms_norm(Scalar, &mut of_scalar, &weights, 1e-5);
        for tier in tiers() {
            let mut found = row(n);

            with_tier!(tier, simd => rms_norm(simd, &mut found, &weights, 1e-5));

            assert_eq!(found, of_scalar, "{tier:?}");
            for ((found, x), weight) in found.iter().zip(row(n)).zip(&weights) {
                let expected = f64::from(x) / (mean_square + 1e-5).sqrt() * f64::from(*weight);
                assert!((f64::from(*found) - expected).abs() < 1e-5 * (1.0 + expected.abs()));
            }
        }
    }
}

#[test]
fn a_row_of_zeros_is_normed_to_zeros() {
    let mut zeros = [0.0; 32];

    rms_norm(Scalar, &mut zeros, &[1.0; 32], 1e-6);

    assert_eq!(zeros, [0.0; 32]);
}

#[test]
fn silu_is_a_number_times_its_sigmoid() {
    let samples: [Lanes; 3] = [std::array::from_fn(|lane| lane as f32 - 8.0), [-200.0; LANES], [90.0; LANES]];
    for tier in tiers() {
        for sample in &samples {
            let mut found = [0.0; LANES];
            let mut of_scalar = [0.0; LANES];
            Scalar.store(silu(Scalar, *sample), &mut of_scalar);

            with_tier!(tier, simd => simd.run(|| simd.store(silu(simd, simd.load(sample)), &mut found)));

            assert_eq!(found, of_scalar, "{tier:?}");
            for (found, x) in found.iter().zip(sample) {
                let expected = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{x}: {found}");
            }
        }
    }
}

#[test]
fn the_greatest_of_many_is_found_in_any_lane() {
    for tier in tiers() {
        for place in [0, 17, 127, 128, 255] {
            let mut values = vec![-3.0; 256];
            values[place] = -2.0;
            assert_eq!(with_tier!(tier, simd => greatest(simd, &values)), -2.0);
        }
    }
}
