//! The lanes on AVX-512, as one register.
//!
//! Does not choose when it is used.
//!
//! Invariants: as its sibling computes, bit for bit.
#![expect(unsafe_code, reason = "intrinsics are unsafe where the instructions may be missing")]

use std::arch::x86_64::*;

use super::super::{LANES, LEAST_STEP, Lanes, MANTISSA, MOST_STEP, Simd, WITH_INVERSE};
use super::{Avx2, Avx512, NEAREST, on, sum_of_bytes};

impl Simd for Avx512 {
    type F32 = __m512;

    #[inline(always)]
    fn run<R>(self, op: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
        fn compiled<R>(op: impl FnOnce() -> R) -> R {
            op()
        }
        on! { compiled(op) }
    }

    #[inline(always)]
    fn prefetch<T>(self, value: &T) {
        on! { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        on! { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> __m512 {
        on! { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> __m512 {
        on! { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }

    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> __m512 {
        on! { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn store(self, v: __m512, to: &mut Lanes) {
        on! { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn store_f16(self, v: __m512, to: &mut [u16; LANES]) {
        on! { _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v)) }
    }

    #[inline(always)]
    fn store_i8(self, v: __m512, to: &mut [i8; LANES]) -> i32 {
        on! {
            let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
            sum_of_bytes(bytes)
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        on! { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        on! { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        on! { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        on! { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        on! { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        on! { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        on! { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn abs(self, v: __m512) -> __m512 {
        on! { _mm512_abs_ps(v) }
    }

    #[inline(always)]
    fn round(self, v: __m512) -> __m512 {
        on! { _mm512_roundscale_ps::<NEAREST>(v) }
    }

    #[inline(always)]
    fn exp2_of_whole(self, v: __m512) -> __m512 {
        on! {
            let exponents = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponents))
        }
    }

    #[inline(always)]
    fn keep(self, v: __m512, bits: u16, otherwise: f32) -> __m512 {
        on! { _mm512_mask_blend_ps(bits, _mm512_set1_ps(otherwise), v) }
    }

    #[inline(always)]
    fn any_above(self, v: __m512, limit: f32) -> bool {
        on! { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(v, _mm512_set1_ps(limit)) != 0 }
    }

    #[inline(always)]
    fn max_of_lanes(self, v: __m512) -> f32 {
        on! { Avx2(()).max_of_lanes(halves(v)) }
    }

    #[inline(always)]
    fn step_of_bytes(self, v: __m512) -> (__m512, __m512) {
        on! {
            // The greatest stays in all lanes, and out of the other registers: what comes next waits for it.
            let v = _mm512_abs_ps(v);
            let v = _mm512_max_ps(v, _mm512_shuffle_f32x4::<0b01_00_11_10>(v, v));
            let v = _mm512_max_ps(v, _mm512_shuffle_f32x4::<0b10_11_00_01>(v, v));
            let v = _mm512_max_ps(v, _mm512_permute_ps::<0b01_00_11_10>(v));
            let v = _mm512_max_ps(v, _mm512_permute_ps::<0b10_11_00_01>(v));
            let least = _mm512_castps_si512(_mm512_mul_ps(v, _mm512_set1_ps(1.0 / 127.0)));
            let mantissa = _mm512_set1_epi32(MANTISSA);
            let bits = _mm512_andnot_si512(mantissa, _mm512_add_epi32(least, mantissa));
            let bits = _mm512_max_epi32(bits, _mm512_set1_epi32(LEAST_STEP));
            let bits = _mm512_min_epi32(bits, _mm512_set1_epi32(MOST_STEP));
            let inverse = _mm512_sub_epi32(_mm512_set1_epi32(WITH_INVERSE), bits);
            (_mm512_castsi512_ps(bits), _mm512_castsi512_ps(inverse))
        }
    }

    #[inline(always)]
    fn first_lane(self, v: __m512) -> f32 {
        on! { _mm512_cvtss_f32(v) }
    }

    #[inline(always)]
    fn sum_of_lanes(self, v: __m512) -> f32 {
        on! { Avx2(()).sum_of_lanes(halves(v)) }
    }
}

#[inline(always)]
unsafe fn halves(v: __m512) -> [__m256; 2] {
    // SAFETY: the caller has AVX-512.
    unsafe { [_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v)] }
}
