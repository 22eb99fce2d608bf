//! Sixteen lanes of f32, on whatever instructions the processor has.
//!
//! Knows no layer and no layout: attention, norms and activations are written once over [`Simd`] and
//! compiled for each tier. Products of quantised weights have kernels of their own.
//!
//! Invariants: every operation rounds as IEEE 754 says, and sums over lanes are taken in one fixed order,
//! so all tiers agree to the bit.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use self::scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) use self::x86::{Avx2, Avx512};

/// Numbers in a vector.
pub(crate) const LANES: usize = 16;

/// The bits of a float's mantissa: added and then cleared, they leave the next power of two.
const MANTISSA: i32 = 0x7f_ffff;

/// The bits of 2^-100.
const LEAST_STEP: i32 = 27 << 23;

/// The bits of 2^100.
const MOST_STEP: i32 = 227 << 23;

/// What the bits of a power of two and of its inverse add up to.
const WITH_INVERSE: i32 = 254 << 23;

/// One f32 each.
pub(crate) type Lanes = [f32; LANES];

/// A tier of instructions. A value of the type is the proof that the processor has them.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    type F32: Copy;

    /// Compiles `op`, and what is inlined into it, for the tier.
    fn run<R>(self, op: impl FnOnce() -> R) -> R;

    /// Asks for the cache line where a value begins, where the processor can be asked.
    fn prefetch<T>(self, value: &T);

    fn splat(self, value: f32) -> Self::F32;
    fn load(self, from: &Lanes) -> Self::F32;
    /// Widens numbers of 16 bits, given as their bits.
    fn load_f16(self, from: &[u16; LANES]) -> Self::F32;
    fn load_i8(self, from: &[i8; LANES]) -> Self::F32;
    fn store(self, v: Self::F32, to: &mut Lanes);
    /// Rounds to numbers of 16 bits, as their bits; every lane lies in their range.
    fn store_f16(self, v: Self::F32, to: &mut [u16; LANES]);
    /// Rounds to the nearest, halves to even, and says what the lanes' sum is; all lie in -128..=127.
    fn store_i8(self, v: Self::F32, to: &mut [i8; LANES]) -> i32;

    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The greater; `b` where they do not compare.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The lesser; `b` where they do not compare.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn abs(self, v: Self::F32) -> Self::F32;
    /// To the nearest whole number, halves to even.
    fn round(self, v: Self::F32) -> Self::F32;
    /// Two to the power of whole numbers from -126 to 127.
    fn exp2_of_whole(self, v: Self::F32) -> Self::F32;
    /// The lanes whose bits are set, and `otherwise` in the others.
    fn keep(self, v: Self::F32, bits: u16, otherwise: f32) -> Self::F32;

    fn any_above(self, v: Self::F32, limit: f32) -> bool;
    fn max_of_lanes(self, v: Self::F32) -> f32;
    /// In all lanes, the least power of two of which 127 times are no less than the size of any lane, and its
    /// inverse; both far from the ends of f32, so that no product of scales overflows.
    fn step_of_bytes(self, v: Self::F32) -> (Self::F32, Self::F32);
    fn first_lane(self, v: Self::F32) -> f32;
    /// Lane `i` and lane `i + 8` first, then four apart, two, one.
    fn sum_of_lanes(self, v: Self::F32) -> f32;

    /// Two to the power of each lane, which is at most 127, to within two units in the last place; lanes below
    /// the range of f32 give its least.
    #[inline(always)]
    fn exp2(self, v: Self::F32) -> Self::F32 {
        let v = self.max(v, self.splat(-126.0));
        let n = self.round(v);
        let r = self.sub(v, n);
        let mut p = self.splat(1.540_353e-4);
        for c in [1.333_356e-3, 9.618_13e-3, 5.550_411e-2, 0.240_226_5, std::f32::consts::LN_2, 1.0] {
            p = self.fma(p, r, self.splat(c));
        }
        self.mul(p, self.exp2_of_whole(n))
    }

    /// e to the power of each lane, to within a few units in the last place; lanes beyond the range of f32
    /// give its ends.
    #[inline(always)]
    fn exp(self, v: Self::F32) -> Self::F32 {
        let v = self.max(self.min(v, self.splat(88.0)), self.splat(-87.0));
        let n = self.round(self.mul(v, self.splat(std::f32::consts::LOG2_E)));
        // The logarithm of two in two parts: the first has few bits, so that its multiples are exact.
        let r = self.fma(n, self.splat(-0.693_359_4), v);
        let r = self.fma(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = self.fma(p, r, self.splat(c));
        }
        let p = self.add(self.fma(self.mul(r, r), p, r), self.splat(1.0));
        self.mul(p, self.exp2_of_whole(n))
    }
}

/// The best tier there is, or the one that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tier {
    Scalar(Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Runs an expression with `$simd` bound to the tier's proof.
macro_rules! with_tier {
    ($tier:expr, $simd:ident => $body:expr) => {
        match $tier {
            $crate::backend::cpu::simd::Tier::Scalar($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::backend::cpu::simd::Tier::Avx2($simd) => $body,
            #[cfg(target_arch = "x86_64")]
            $crate::backend::cpu::simd::Tier::Avx512($simd) => $body,
        }
    };
}
pub(crate) use with_tier;

#[cfg(test)]
mod tests;
