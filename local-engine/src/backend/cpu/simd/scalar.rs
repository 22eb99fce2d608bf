//! The lanes in plain Rust, for any processor.
//!
//! Not fast: a processor without a fused multiply-add computes it in software, so that bits agree.

use half::f16;

use super::{LANES, Lanes, Simd};

/// Needs nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

impl Simd for Scalar {
    type F32 = Lanes;

    #[inline(always)]
    fn run<R>(self, op: impl FnOnce() -> R) -> R {
        op()
    }

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

    fn store_i8(self, v: Lanes, to: &mut [i8; LANES]) {
        *to = v.map(|lane| lane.round_ties_even() as i8);
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

    fn max_of_lanes(self, v: Lanes) -> f32 {
        v.into_iter().fold(v[0], greater)
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
