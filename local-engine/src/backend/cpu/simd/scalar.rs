//! The lanes in plain Rust, for any processor.
//!
//! Not fast: a processor without a fused multiply-add computes it in software, so that bits agree.

use half::f16;

use super::{LANES, LEAST_STEP, Lanes, MANTISSA, MOST_STEP, Simd, WITH_INVERSE};

/// Needs nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    type F32 = Lanes;

    #[inline(always)]
    fn run<R>(self, op: impl FnOnce() -> R) -> R {
        op()
    }

    fn prefetch<T>(self, _: &T) {}

    fn splat(self, value: f32) -> Lanes {
        [value; LANES]
    }

    fn load(self, from: &Lanes) -> Lanes {
        *from
    }

    fn load_f16(self, from: &[u16; LANES]) -> Lanes {
        from.map(|bits| f16::from_bits(bits).to_f32())
    }

    fn load_i8(self, from: &[i8; LANES]) -> Lanes {
        from.map(f32::from)
    }

    fn store(self, v: Lanes, to: &mut Lanes) {
        *to = v;
    }

    fn store_f16(self, v: Lanes, to: &mut [u16; LANES]) {
        *to = v.map(|lane| f16::from_f32(lane).to_bits());
    }

    fn store_i8(self, v: Lanes, to: &mut [i8; LANES]) -> i32 {
        *to = v.map(|lane| lane.round_ties_even() as i8);
        to.iter().map(|lane| i32::from(*lane)).sum()
    }

    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        pairwise(a, b, |a, b| a + b)
    }

    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        pairwise(a, b, |a, b| a - b)
    }

    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        pairwise(a, b, |a, b| a * b)
    }

    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        pairwise(a, b, |a, b| a / b)
    }

    fn fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        pairwise(a, b, greater)
    }

    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        pairwise(a, b, |a, b| if a < b { a } else { b })
    }

    fn abs(self, v: Lanes) -> Lanes {
        v.map(f32::abs)
    }

    fn round(self, v: Lanes) -> Lanes {
        v.map(f32::round_ties_even)
    }

    fn exp2_of_whole(self, v: Lanes) -> Lanes {
        v.map(|lane| f32::from_bits(((lane as i32 + 127) << 23) as u32))
    }

    fn keep(self, v: Lanes, bits: u16, otherwise: f32) -> Lanes {
        std::array::from_fn(|lane| if bits >> lane & 1 == 1 { v[lane] } else { otherwise })
    }

    fn any_above(self, v: Lanes, limit: f32) -> bool {
        v.into_iter().any(|lane| lane > limit)
    }

    fn max_of_lanes(self, v: Lanes) -> f32 {
        v.into_iter().fold(v[0], greater)
    }

    fn step_of_bytes(self, v: Lanes) -> (Lanes, Lanes) {
        let least = self.max_of_lanes(self.abs(v)) * (1.0 / 127.0);
        let bits = (least.to_bits() as i32).wrapping_add(MANTISSA) & !MANTISSA;
        let bits = bits.clamp(LEAST_STEP, MOST_STEP);
        (self.splat(f32::from_bits(bits as u32)), self.splat(f32::from_bits((WITH_INVERSE - bits) as u32)))
    }

    fn first_lane(self, v: Lanes) -> f32 {
        v[0]
    }

    fn sum_of_lanes(self, v: Lanes) -> f32 {
        let eight: [f32; 8] = std::array::from_fn(|lane| v[lane] + v[lane + 8]);
        let four: [f32; 4] = std::array::from_fn(|lane| eight[lane] + eight[lane + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
}

fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

fn pairwise(a: Lanes, b: Lanes, of_lane: impl Fn(f32, f32) -> f32) -> Lanes {
    std::array::from_fn(|lane| of_lane(a[lane], b[lane]))
}
