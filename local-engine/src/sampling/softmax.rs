//! Sums of exponentials over a vocabulary.
//!
//! Knows no temperatures beyond a factor and no randomness.
//!
//! Invariants: NaN weighs nothing, and infinity as much as the greatest; so sums are finite, and positive
//! if any logit is above negative infinity.

const LANES: usize = 16;

/// `e^d` for `d <= 0` to about 1e-7, in arithmetic that compilers do several at once; greater `d` counts
/// as 0, and NaN and what is below -87 gives 0.
#[inline(always)]
pub(super) fn exp_negative(d: f32) -> f32 {
    // Adding this rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // The logarithm of 2 in two parts, of which the first has few bits, so that its multiples are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let d = if d > 0.0 { 0.0 } else { d };
    let rounded = d * std::f32::consts::LOG2_E + ROUND;
    let power = rounded - ROUND;
    let rest = (d - power * LN_2_HIGH) - power * LN_2_LOW;
    let series = 1.0 / 120.0 + rest * (1.0 / 720.0);
    let series = 1.0 / 6.0 + rest * (1.0 / 24.0 + rest * series);
    let series = 1.0 + rest * (1.0 + rest * (0.5 + rest * series));
    let scale = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    if d > -87.0 { series * scale } else { 0.0 }
}

/// The sum of `e^((x - max) * factor)`.
pub(super) fn sum_exp(row: &[f32], max: f32, factor: f32) -> f64 {
    // Short runs are summed as floats, and their sums as doubles: small terms are not lost.
    row.chunks(LANES * 64).map(|run| sum_run(run, max, factor)).sum()
}

fn sum_run(run: &[f32], max: f32, factor: f32) -> f64 {
    let mut sums = [0.0f32; LANES];
    let (full, rest) = run.as_chunks::<LANES>();
    for chunk in full {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += exp_negative((x - max) * factor);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += exp_negative((x - max) * factor);
    }
    sums.iter().map(|sum| f64::from(*sum)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_to_a_few_units_in_the_last_place() {
        for step in 0..=870_000 {
            let d = -(step as f32) * 1e-4;
            let (found, want) = (f64::from(exp_negative(d)), f64::from(d).exp());
            if d > -87.0 {
                assert!((found - want).abs() <= 4e-7 * want, "e^{d}: {found}, not {want}");
            }
        }
        assert_eq!(exp_negative(0.0), 1.0);
        assert_eq!(exp_negative(f32::INFINITY), 1.0);
        for nothing in [f32::NAN, f32::NEG_INFINITY, -88.0, -1e30] {
            assert_eq!(exp_negative(nothing), 0.0);
        }
    }

    #[test]
    fn a_sum_agrees_with_doubles_whatever_its_length() {
        for n in [1, 15, 16, 17, 1024, 1025, 20_000] {
            let row: Vec<f32> = (0..n).map(|i| ((i * 7919) % 1000) as f32 * 0.02 - 3.0).collect();
            let max = row.iter().copied().fold(f32::MIN, f32::max);

            let found = sum_exp(&row, max, 0.7);

            let want: f64 = row.iter().map(|x| ((f64::from(*x) - f64::from(max)) * 0.7).exp()).sum();
            assert!((found - want).abs() < 1e-6 * want, "{n}: {found}, not {want}");
        }
    }
}
