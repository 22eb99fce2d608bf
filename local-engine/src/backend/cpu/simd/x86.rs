//! What AVX2 and AVX-512 share: how they are detected, and how their intrinsics are called.
//!
//! Does not compute lanes; each tier does.
//!
//! Invariants: a value of [`Avx2`] or [`Avx512`] exists only on a processor with the instructions it names.
#![expect(unsafe_code, reason = "intrinsics are unsafe where the instructions may be missing")]

use std::arch::x86_64::*;

use super::LANES;

mod avx2;
mod avx512;

/// AVX2, fused multiply-add and conversions of f16.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

/// AVX-512 with byte and word instructions and VNNI, as of Ice Lake and Zen 4.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx2 {
    pub(crate) fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        there.then_some(Self(()))
    }
}

impl Avx512 {
    pub(crate) fn detect() -> Option<Self> {
        let there = Avx2::detect().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        there.then_some(Self(()))
    }
}

/// Halves to even, and no exceptions.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// Calls intrinsics in a method of a tier.
macro_rules! on {
    ($($body:tt)*) => {
        // SAFETY: `self` was made by `detect`, so the processor has the instructions; pointers come from
        // references to arrays of the length that is read or written.
        unsafe { $($body)* }
    };
}

use on;

/// Differences to nothing are summed eight at a time, of bytes made unsigned.
#[inline(always)]
fn sum_of_bytes(bytes: __m128i) -> i32 {
    // SAFETY: all x86-64 processors have SSE2.
    unsafe {
        let unsigned = _mm_xor_si128(bytes, _mm_set1_epi8(-128));
        let sums = _mm_sad_epu8(unsigned, _mm_setzero_si128());
        _mm_cvtsi128_si32(_mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums))) - 128 * LANES as i32
    }
}
