//! How attention reads the pages of keys and values, whatever their format.
//!
//! Does not write them, and does not know whose they are.
//!
//! Invariants: reading allocates nothing, and every vector that is handed out lies within its page.

use crate::backend::cpu::simd::{LANES, Simd};
use crate::kv::BlockId;

/// One head's pages of one layer, to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeadPages<'a> {
    F16(F16Pages<'a>),
    Int8(Int8Pages<'a>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct F16Pages<'a> {
    pub(super) strides: Strides,
    pub(super) numbers: &'a [[u16; LANES]],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Int8Pages<'a> {
    pub(super) strides: Strides,
    pub(super) numbers: &'a [[i8; LANES]],
    pub(super) scales: &'a [[f32; LANES]],
}

/// Where a head's pages are among those of its layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Strides {
    pub(super) head: usize,
    pub(super) n_heads: usize,
    pub(super) head_dim: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct F16Page<'a> {
    keys: &'a [[u16; LANES]],
    values: &'a [[u16; LANES]],
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Int8Page<'a> {
    keys: &'a [[i8; LANES]],
    values: &'a [[i8; LANES]],
    scales: &'a [[f32; LANES]],
}

/// Pages of either format.
pub(crate) trait ReadPages: Copy {
    type Page: ReadPage;

    fn page(&self, block: BlockId) -> Self::Page;
}

impl<'a> ReadPages for F16Pages<'a> {
    type Page = F16Page<'a>;

    #[inline(always)]
    fn page(&self, block: BlockId) -> F16Page<'a> {
        let (keys, values) = self.strides.of_page(self.numbers, block);
        F16Page { keys, values }
    }
}

impl<'a> ReadPages for Int8Pages<'a> {
    type Page = Int8Page<'a>;

    #[inline(always)]
    fn page(&self, block: BlockId) -> Int8Page<'a> {
        let (keys, values) = self.strides.of_page(self.numbers, block);
        Int8Page { keys, values, scales: &self.scales[2 * self.strides.place(block)..][..2] }
    }
}

impl Strides {
    fn place(self, block: BlockId) -> usize {
        block.index() * self.n_heads + self.head
    }

    /// Keys and values of a page, of all vectors of the layer.
    fn of_page<T>(self, vectors: &[T], block: BlockId) -> (&[T], &[T]) {
        let first = 2 * self.head_dim * self.place(block);
        vectors[first..][..2 * self.head_dim].split_at(self.head_dim)
    }
}

/// How attention reads a page, whatever its format.
pub(crate) trait ReadPage: Copy {
    /// A number of each token's key, without its scale.
    fn key<S: Simd>(&self, simd: S, dim: usize) -> S::F32;
    /// Sixteen numbers of a token's value, without its scale; `vector` counts through the page.
    fn value<S: Simd>(&self, simd: S, vector: usize) -> S::F32;
    /// Asks for what `key` will read.
    fn prefetch_key<S: Simd>(&self, simd: S, dim: usize);
    /// Asks for what `value` will read.
    fn prefetch_value<S: Simd>(&self, simd: S, vector: usize);
    fn scale_keys<S: Simd>(&self, simd: S, scores: S::F32) -> S::F32;
    fn scale_values<S: Simd>(&self, simd: S, weights: S::F32) -> S::F32;
}

impl ReadPage for F16Page<'_> {
    #[inline(always)]
    fn key<S: Simd>(&self, simd: S, dim: usize) -> S::F32 {
        simd.load_f16(&self.keys[dim])
    }

    #[inline(always)]
    fn value<S: Simd>(&self, simd: S, vector: usize) -> S::F32 {
        simd.load_f16(&self.values[vector])
    }

    #[inline(always)]
    fn prefetch_key<S: Simd>(&self, simd: S, dim: usize) {
        simd.prefetch(&self.keys[dim]);
    }

    #[inline(always)]
    fn prefetch_value<S: Simd>(&self, simd: S, vector: usize) {
        simd.prefetch(&self.values[vector]);
    }

    #[inline(always)]
    fn scale_keys<S: Simd>(&self, _: S, scores: S::F32) -> S::F32 {
        scores
    }

    #[inline(always)]
    fn scale_values<S: Simd>(&self, _: S, weights: S::F32) -> S::F32 {
        weights
    }
}

impl ReadPage for Int8Page<'_> {
    #[inline(always)]
    fn key<S: Simd>(&self, simd: S, dim: usize) -> S::F32 {
        simd.load_i8(&self.keys[dim])
    }

    #[inline(always)]
    fn value<S: Simd>(&self, simd: S, vector: usize) -> S::F32 {
        simd.load_i8(&self.values[vector])
    }

    #[inline(always)]
    fn prefetch_key<S: Simd>(&self, simd: S, dim: usize) {
        simd.prefetch(&self.keys[dim]);
    }

    #[inline(always)]
    fn prefetch_value<S: Simd>(&self, simd: S, vector: usize) {
        simd.prefetch(&self.values[vector]);
    }

    #[inline(always)]
    fn scale_keys<S: Simd>(&self, simd: S, scores: S::F32) -> S::F32 {
        simd.mul(scores, simd.load(&self.scales[0]))
    }

    #[inline(always)]
    fn scale_values<S: Simd>(&self, simd: S, weights: S::F32) -> S::F32 {
        simd.mul(weights, simd.load(&self.scales[1]))
    }
}
