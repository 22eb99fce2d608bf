//! The lanes on AVX2, as two registers.
//!
//! Does not choose when it is used.
//!
//! Invariants: as its sibling computes, bit for bit.
#![expect(unsafe_code, reason = "intrinsics are unsafe where the instructions may be missing")]

use std::arch::x86_64::*;

use super::super::{LANES, LEAST_STEP, Lanes, MANTISSA, MOST_STEP, Simd, WITH_INVERSE};
use super::{Avx2, NEAREST, on, sum_of_bytes};

impl Simd for Avx2 {
    type F32 = [__m256; 2];

    #[inline(always)]
    fn run<R>(self, op: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "avx2,fma,f16c")]
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
    fn splat(self, value: f32) -> [__m256; 2] {
        on! { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> [__m256; 2] {
        on! { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
    }

    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> [__m256; 2] {
        on! {
            let from = from.as_ptr().cast::<__m128i>();
            [_mm256_cvtph_ps(_mm_loadu_si128(from)), _mm256_cvtph_ps(_mm_loadu_si128(from.add(1)))]
        }
    }

    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> [__m256; 2] {
        on! {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            let low = _mm256_cvtepi8_epi32(bytes);
            let high = _mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes));
            [_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high)]
        }
    }

    #[inline(always)]
    fn store(self, v: [__m256; 2], to: &mut Lanes) {
        on! {
            _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
        }
    }

    #[inline(always)]
    fn store_f16(self, v: [__m256; 2], to: &mut [u16; LANES]) {
        on! {
            let to = to.as_mut_ptr().cast::<__m128i>();
            _mm_storeu_si128(to, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(to.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        }
    }

    #[inline(always)]
    fn store_i8(self, v: [__m256; 2], to: &mut [i8; LANES]) -> i32 {
        on! {
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
            sum_of_bytes(bytes)
        }
    }

    #[inline(always)]
    fn add(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        on! { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        on! { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        on! { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn div(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        on! { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn fma(self, a: [__m256; 2], b: [__m256; 2], c: [__m256; 2]) -> [__m256; 2] {
        on! { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn max(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        on! { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn min(self, a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        on! { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn abs(self, v: [__m256; 2]) -> [__m256; 2] {
        on! {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, v[0]), _mm256_andnot_ps(sign, v[1])]
        }
    }

    #[inline(always)]
    fn round(self, v: [__m256; 2]) -> [__m256; 2] {
        on! { [_mm256_round_ps::<NEAREST>(v[0]), _mm256_round_ps::<NEAREST>(v[1])] }
    }

    #[inline(always)]
    fn exp2_of_whole(self, v: [__m256; 2]) -> [__m256; 2] {
        on! {
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_add_epi32(_mm256_cvtps_epi32(v[0]), bias);
            let high = _mm256_add_epi32(_mm256_cvtps_epi32(v[1]), bias);
            [_mm256_castsi256_ps(_mm256_slli_epi32::<23>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<23>(high))]
        }
    }

    #[inline(always)]
    fn keep(self, v: [__m256; 2], bits: u16, otherwise: f32) -> [__m256; 2] {
        on! {
            let bits_of_lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            let [low, high] = bits.to_le_bytes();
            let low = _mm256_and_si256(_mm256_set1_epi32(i32::from(low)), bits_of_lanes);
            let high = _mm256_and_si256(_mm256_set1_epi32(i32::from(high)), bits_of_lanes);
            let low = _mm256_castsi256_ps(_mm256_cmpeq_epi32(low, bits_of_lanes));
            let high = _mm256_castsi256_ps(_mm256_cmpeq_epi32(high, bits_of_lanes));
            let otherwise = _mm256_set1_ps(otherwise);
            [_mm256_blendv_ps(otherwise, v[0], low), _mm256_blendv_ps(otherwise, v[1], high)]
        }
    }

    #[inline(always)]
    fn any_above(self, v: [__m256; 2], limit: f32) -> bool {
        on! {
            let greatest = _mm256_max_ps(v[0], v[1]);
            _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(greatest, _mm256_set1_ps(limit))) != 0
        }
    }

    #[inline(always)]
    fn max_of_lanes(self, v: [__m256; 2]) -> f32 {
        on! {
            let eight = _mm256_max_ps(v[0], v[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn step_of_bytes(self, v: [__m256; 2]) -> ([__m256; 2], [__m256; 2]) {
        let [low, high] = self.abs(v);
        on! {
            let v = _mm256_max_ps(low, high);
            let v = _mm256_max_ps(v, _mm256_permute2f128_ps::<1>(v, v));
            let v = _mm256_max_ps(v, _mm256_permute_ps::<0b01_00_11_10>(v));
            let v = _mm256_max_ps(v, _mm256_permute_ps::<0b10_11_00_01>(v));
            let least = _mm256_castps_si256(_mm256_mul_ps(v, _mm256_set1_ps(1.0 / 127.0)));
            let mantissa = _mm256_set1_epi32(MANTISSA);
            let bits = _mm256_andnot_si256(mantissa, _mm256_add_epi32(least, mantissa));
            let bits = _mm256_max_epi32(bits, _mm256_set1_epi32(LEAST_STEP));
            let bits = _mm256_min_epi32(bits, _mm256_set1_epi32(MOST_STEP));
            let inverse = _mm256_sub_epi32(_mm256_set1_epi32(WITH_INVERSE), bits);
            ([_mm256_castsi256_ps(bits); 2], [_mm256_castsi256_ps(inverse); 2])
        }
    }

    #[inline(always)]
    fn first_lane(self, v: [__m256; 2]) -> f32 {
        on! { _mm256_cvtss_f32(v[0]) }
    }

    #[inline(always)]
    fn sum_of_lanes(self, v: [__m256; 2]) -> f32 {
        on! {
            let eight = _mm256_add_ps(v[0], v[1]);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
