//! The lanes on AVX2 (two registers) and AVX-512 (one).
//!
//! Invariants: a value of [`Avx2`] or [`Avx512`] exists only on a processor with the instructions it names.
#![expect(unsafe_code, reason = "intrinsics are unsafe where the instructions may be missing")]

use std::arch::x86_64::*;

use super::{LANES, Lanes, Simd};

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

/// Calls intrinsics in a method of a tier.
macro_rules! on {
    ($($body:tt)*) => {
        // SAFETY: `self` was made by `detect`, so the processor has the instructions; pointers come from
        // references to arrays of the length that is read or written.
        unsafe { $($body)* }
    };
}

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
    fn store_i8(self, v: __m512, to: &mut [i8; LANES]) {
        on! { _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v))) }
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
        on! { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
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
    fn max_of_lanes(self, v: __m512) -> f32 {
        on! { Avx2(()).max_of_lanes(halves(v)) }
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
    fn store_i8(self, v: [__m256; 2], to: &mut [i8; LANES]) {
        on! {
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
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
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
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
    fn max_of_lanes(self, v: [__m256; 2]) -> f32 {
        on! {
            let eight = _mm256_max_ps(v[0], v[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
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
