//! How attention reads the pages of keys and values, whatever their numbers are.
//!
//! Does not write them, and does not know whose they are.
//!
//! Invariants: reading allocates nothing, and every vector that is handed out lies within its page.

use crate::backend::cpu::simd::{LANES, Simd};
use crate::kv::BlockId;

/// One head's pages of one layer, to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeadPages<'a> {
    F16(HeadPagesOf<'a, u16>),
    Int8(HeadPagesOf<'a, i8>),
}

/// The same, of numbers of a type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadPagesOf<'a, T> {
    pub(super) strides: Strides,
    pub(super) numbers: &'a [[T; LANES]],
    /// Two vectors a page, or none where the numbers need no scale.
    pub(super) scales: &'a [[f32; LANES]],
}

/// Where a head's pages are among those of its layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strides {
    pub(super) head: usize,
    pub(super) n_heads: usize,
    pub(super) head_dim: usize,
}

/// A block's keys and values of the head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a, T> {
    keys: &'a [[T; LANES]],
    values: &'a [[T; LANES]],
    scales: &'a [[f32; LANES]],
}

/// A type that keys and values are kept in.
pub(crate) trait Number: Copy {
    /// Whether a token's numbers are multiplied by a scale of its own.
    const IS_SCALED: bool;

    fn load<S: Simd>(simd: S, from: &[Self; LANES]) -> S::F32;
}

impl Number for u16 {
    const IS_SCALED: bool = false;

    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self; LANES]) -> S::F32 {
        simd.load_f16(from)
    }
}

impl Number for i8 {
    const IS_SCALED: bool = true;

    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Self; LANES]) -> S::F32 {
        simd.load_i8(from)
    }
}

impl<'a, T: Number> HeadPagesOf<'a, T> {
    #[inline(always)]
    pub(crate) fn page(&self, block: BlockId) -> Page<'a, T> {
        let Strides { head, n_heads, head_dim } = self.strides;
        let place = block.index() * n_heads + head;
        let (keys, values) = self.numbers[2 * head_dim * place..][..2 * head_dim].split_at(head_dim);
        let scales = if T::IS_SCALED { &self.scales[2 * place..][..2] } else { self.scales };
        Page { keys, values, scales }
    }
}

impl<T: Number> Page<'_, T> {
    /// A number of each token's key, without its scale.
    #[inline(always)]
    pub(crate) fn key<S: Simd>(&self, simd: S, dim: usize) -> S::F32 {
        T::load(simd, &self.keys[dim])
    }

    /// Sixteen numbers of a token's value, without its scale; `vector` counts through the page.
    #[inline(always)]
    pub(crate) fn value<S: Simd>(&self, simd: S, vector: usize) -> S::F32 {
        T::load(simd, &self.values[vector])
    }

    /// Asks for what `key` will read.
    #[inline(always)]
    pub(crate) fn prefetch_key<S: Simd>(&self, simd: S, dim: usize) {
        simd.prefetch(&self.keys[dim]);
    }

    /// Asks for what `value` will read.
    #[inline(always)]
    pub(crate) fn prefetch_value<S: Simd>(&self, simd: S, vector: usize) {
        simd.prefetch(&self.values[vector]);
    }

    #[inline(always)]
    pub(crate) fn scale_keys<S: Simd>(&self, simd: S, scores: S::F32) -> S::F32 {
        if T::IS_SCALED { simd.mul(scores, simd.load(&self.scales[0])) } else { scores }
    }

    #[inline(always)]
    pub(crate) fn scale_values<S: Simd>(&self, simd: S, weights: S::F32) -> S::F32 {
        if T::IS_SCALED { simd.mul(weights, simd.load(&self.scales[1])) } else { weights }
    }
}
