//! Vectors rounded to bytes, and how far their products can be from the exact ones.
//!
//! Compares nothing itself.
//!
//! Invariants: for a stored `v ≈ s·c` and a question `q ≈ t·d`, with `c` and `d` whole numbers,
//! `v·q = st(c·d) + sc·(q − td) + (v − sc)·q`, so by Cauchy and Schwarz the exact product is within
//! `|sc||q − td| + |v − sc||q|` of the estimate. The lengths are measured on the codes as they are,
//! so that the bound holds however they were rounded.

/// The largest code; −128 is not used, so that signs are alike.
const MAX_CODE: f32 = 127.0;
/// What is added to a code for it to be unsigned, as the instruction wants one side to be.
const BIAS: u8 = 128;
/// Added to a small float, it rounds it to a whole number, which then stands in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;

/// What is known of a vector beside its codes; lengths are rounded up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounding {
    pub(super) scale: f32,
    /// The length of what the codes leave out.
    pub(super) error: f32,
    /// The length of what the codes stand for.
    pub(super) length: f32,
}

/// Writes the codes of a stored vector; what `row` has beyond them stays.
pub(super) fn store(vector: &[f32], row: &mut [u8]) -> Rounding {
    round(vector, |idx, code| row[idx] = code.cast_unsigned().wrapping_add(BIAS))
}

/// A question, ready to be multiplied with many rows.
pub(super) struct Question {
    pub(super) codes: Vec<i8>,
    rounding: Rounding,
    /// What the bias of the rows adds to each sum.
    bias_sum: i32,
    n_dims: usize,
}

impl Question {
    pub(super) fn of(vector: &[f32], stride: usize) -> Self {
        let mut codes = vec![0; stride];
        let rounding = round(vector, |idx, code| codes[idx] = code);
        let bias_sum = codes.iter().map(|code| i32::from(*code) * i32::from(BIAS)).sum();
        Self { codes, rounding, bias_sum, n_dims: vector.len() }
    }

    /// How to read the sums of rows of which none stands for more than `longest`.
    pub(super) fn reading(&self, longest: f32) -> Reading {
        let length = self.rounding.length + self.rounding.error;
        // The sums that are compared are 32-bit floats themselves, each addition of which may be half an
        // epsilon off; so may the few operations here.
        let float_error = (self.n_dims + 16) as f32 * f32::EPSILON * length * (longest + 1.0);
        Reading {
            bias_sum: self.bias_sum,
            scale: self.rounding.scale,
            length,
            reach: longest * self.rounding.error + float_error,
        }
    }
}

/// Turns sums of codes into bounds on similarities.
pub(super) struct Reading {
    bias_sum: i32,
    scale: f32,
    length: f32,
    reach: f32,
}

impl Reading {
    pub(super) fn estimate(&self, sum: i32, row_scale: f32) -> f32 {
        (sum - self.bias_sum) as f32 * (self.scale * row_scale)
    }

    /// How far the exact similarity can be from the estimate.
    pub(super) fn reach(&self, row_error: f32) -> f32 {
        row_error * self.length + self.reach
    }
}

fn round(vector: &[f32], mut put: impl FnMut(usize, i8)) -> Rounding {
    let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / MAX_CODE;
    let per_unit = if scale > 0.0 { MAX_CODE / largest } else { 0.0 };
    let (mut error, mut length) = (0.0_f64, 0.0_f64);
    for (idx, value) in vector.iter().enumerate() {
        let code = (value * per_unit + ROUNDER).to_bits() as i8;
        put(idx, code);
        let kept = f64::from(scale) * f64::from(code);
        let lost = f64::from(*value) - kept;
        error += lost * lost;
        length += kept * kept;
    }
    let above = |squares: f64| (squares.sqrt() as f32).next_up();
    let (error, length) = (above(error), above(length));
    if error.is_finite() && length.is_finite() {
        return Rounding { scale, error, length };
    }
    // Nothing is known of its products, and the others' must not suffer: it is near to nobody.
    Rounding { scale: 0.0, error: f32::NAN, length: 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    /// The estimate of a product, and the bound on its error.
    fn estimated(stored: &[f32], asked: &[f32]) -> (f32, f32) {
        let mut row = vec![0; 128];
        let rounding = store(stored, &mut row);
        let question = Question::of(asked, 128);
        let reading = question.reading(rounding.length);
        let mut sums = [0];
        super::super::dot::sums(&row, &question.codes, &mut sums);
        (reading.estimate(sums[0], rounding.scale), reading.reach(rounding.error))
    }

    fn values() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![4 => -1.0f32..1.0, 1 => Just(0.0f32), 1 => -1e-6f32..1e-6];
        prop::collection::vec(value, 100)
    }

    proptest! {
        #[test]
        fn the_exact_product_is_within_reach_of_the_estimate(stored in values(), asked in values()) {
            let (estimate, reach) = estimated(&stored, &asked);

            prop_assert!((f64::from(estimate) - dot(&stored, &asked)).abs() <= f64::from(reach));
        }
    }

    #[test]
    fn bounds_are_narrow_where_values_are_alike_in_size() {
        let vector: Vec<f32> = (0..100_u8).map(|n| if n % 3 == 0 { 0.1 } else { -0.09 }).collect();

        let (estimate, reach) = estimated(&vector, &vector);

        assert!(reach < 0.01, "{reach}");
        assert!((f64::from(estimate) - dot(&vector, &vector)).abs() < 0.01);
    }

    #[test]
    fn a_vector_of_nothing_is_at_nought_of_everything() {
        let (estimate, reach) = estimated(&[0.0; 100], &[0.1; 100]);

        assert!(estimate == 0.0 && reach < 1e-4, "{estimate} {reach}");
    }

    #[test]
    fn what_has_no_length_has_no_bound() {
        for odd in [f32::NAN, f32::INFINITY, f32::MAX] {
            let mut vector = [0.1; 100];
            vector[7] = odd;
            vector[8] = odd;

            assert!(estimated(&vector, &[0.1; 100]).1.is_nan());
            assert!(estimated(&[0.1; 100], &vector).1.is_nan());
        }
    }
}
