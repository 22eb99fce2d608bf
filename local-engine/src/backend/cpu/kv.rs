//! The pages that keys and values are kept in, as f16 or in eight bits.
//!
//! Does not know whose a page is. A page is one head's of one block of one layer: first the keys,
//! `[head_dim][token]`, so that sixteen scores are one vector; then the values, `[token][head_dim]`.
//!
//! Invariants: every number that was ever written is finite, so what a page's last owner left is harmless
//! when it is multiplied by zero.

mod page;

use serde::Deserialize;

use self::page::Strides;
pub(crate) use self::page::{HeadPages, HeadPagesOf, Number, Page};
use super::memory::Memory;
use super::pool::{Distinct, Picked, Pool, Split, TaskPanicked};
use super::simd::{LANES, Lanes, Simd};
use crate::backend::{BLOCK_TOKENS, BackendError};
use crate::kv::BlockId;
use crate::model::Hparams;

const _: () = assert!(BLOCK_TOKENS == LANES, "a block's scores are one vector");

/// How keys and values are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvFormat {
    #[default]
    F16,
    /// A byte a number and a scale for each token and head: about half the memory, and less exact.
    Int8,
}

/// All pages.
#[derive(Debug)]
pub(crate) struct Pages {
    n_heads: usize,
    head_dim: usize,
    n_blocks: usize,
    format: KvFormat,
    /// Keys and values in f16; empty when they are bytes.
    halves: Memory<u16>,
    /// Keys and values in bytes; empty when they are in f16.
    bytes: Memory<i8>,
    /// Of bytes: a page has sixteen scales of keys and sixteen of values.
    scales: Memory<f32>,
}

/// A block of a layer, to write: the pages of all heads.
pub(crate) struct BlockMut<'a> {
    head_dim: usize,
    format: KvFormat,
    halves: &'a mut [u16],
    bytes: &'a mut [i8],
    scales: &'a mut [f32],
}

impl KvFormat {
    /// What a block takes over all layers.
    pub(crate) fn block_bytes(self, hparams: &Hparams) -> usize {
        let n_numbers = 2 * BLOCK_TOKENS * hparams.head_dim;
        let page_bytes = match self {
            Self::F16 => n_numbers * size_of::<u16>(),
            Self::Int8 => n_numbers + 2 * BLOCK_TOKENS * size_of::<f32>(),
        };
        hparams.n_layers * hparams.n_kv_heads * page_bytes
    }
}

/// Scales of a page.
const PAGE_SCALES: usize = 2 * BLOCK_TOKENS;

impl Pages {
    pub(crate) fn new(hparams: &Hparams, format: KvFormat, n_blocks: usize) -> Result<Self, BackendError> {
        let n_pages = hparams.n_layers * n_blocks * hparams.n_kv_heads;
        let n_numbers = n_pages * 2 * BLOCK_TOKENS * hparams.head_dim;
        let [n_halves, n_bytes, n_scales] = match format {
            KvFormat::F16 => [n_numbers, 0, 0],
            KvFormat::Int8 => [0, n_numbers, n_pages * PAGE_SCALES],
        };
        Ok(Self {
            n_heads: hparams.n_kv_heads,
            head_dim: hparams.head_dim,
            n_blocks,
            format,
            halves: Memory::zeroed(n_halves, "the KV cache")?,
            bytes: Memory::zeroed(n_bytes, "the KV cache")?,
            scales: Memory::zeroed(n_scales, "the KV cache's scales")?,
        })
    }

    pub(crate) fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// Numbers in a page, keys and values.
    fn n_numbers(&self) -> usize {
        2 * BLOCK_TOKENS * self.head_dim
    }

    /// A head's pages of a layer.
    pub(crate) fn of_head(&self, layer: usize, head: usize) -> HeadPages<'_> {
        let strides = Strides { head, n_heads: self.n_heads, head_dim: self.head_dim };
        let n_pages = self.n_blocks * self.n_heads;
        let (first, n_numbers) = (layer * n_pages, self.n_numbers());
        match self.format {
            KvFormat::F16 => {
                let numbers = &self.halves[first * n_numbers..][..n_pages * n_numbers];
                HeadPages::F16(HeadPagesOf { strides, numbers: numbers.as_chunks().0, scales: &[] })
            }
            KvFormat::Int8 => {
                let numbers = &self.bytes[first * n_numbers..][..n_pages * n_numbers];
                let scales = &self.scales[first * PAGE_SCALES..][..n_pages * PAGE_SCALES];
                let (numbers, scales) = (numbers.as_chunks().0, scales.as_chunks().0);
                HeadPages::Int8(HeadPagesOf { strides, numbers, scales })
            }
        }
    }

    /// The blocks of a layer, to write.
    fn of_layer_mut(&mut self, layer: usize) -> LayerMut<'_> {
        let n_pages = self.n_blocks * self.n_heads;
        let (n_halves, n_bytes) = match self.format {
            KvFormat::F16 => (self.n_numbers(), 0),
            KvFormat::Int8 => (0, self.n_numbers()),
        };
        let n_scales = if n_bytes > 0 { PAGE_SCALES } else { 0 };
        let of_layer = |n_of_page: usize| layer * n_pages * n_of_page..(layer + 1) * n_pages * n_of_page;
        LayerMut {
            head_dim: self.head_dim,
            format: self.format,
            of_block: [n_halves, n_bytes, n_scales].map(|n_of_page| n_of_page * self.n_heads),
            halves: &mut self.halves[of_layer(n_halves)],
            bytes: &mut self.bytes[of_layer(n_bytes)],
            scales: &mut self.scales[of_layer(n_scales)],
        }
    }

    /// Runs `task` once for each of some blocks of a layer, and its part of `parts`, on all threads or here.
    pub(crate) fn for_each_block<S: Split>(
        &mut self,
        (pool, is_shared): (&mut Pool, bool),
        (layer, blocks): (usize, &Distinct),
        parts: S,
        task: impl Fn(usize, S::Part, BlockMut<'_>) + Sync,
    ) -> Result<(), TaskPanicked> {
        let LayerMut { head_dim, format, of_block, halves, bytes, scales } = self.of_layer_mut(layer);
        let [n_halves, n_bytes, n_scales] = of_block;
        let numbers = (Picked::new(halves, n_halves, blocks), Picked::new(bytes, n_bytes, blocks));
        let arrays = (numbers, Picked::new(scales, n_scales, blocks));
        let task = |idx: usize, (part, ((halves, bytes), scales)): (S::Part, PartOfBlock<'_>)| {
            task(idx, part, BlockMut { head_dim, format, halves, bytes, scales });
        };
        if is_shared {
            return pool.for_each((parts, arrays), task);
        }
        pool.for_each_here((parts, arrays), task);
        Ok(())
    }

    /// A block of a layer, to write.
    pub(crate) fn block_mut(&mut self, layer: usize, block: BlockId) -> BlockMut<'_> {
        let LayerMut { head_dim, format, of_block, halves, bytes, scales } = self.of_layer_mut(layer);
        let [n_halves, n_bytes, n_scales] = of_block;
        BlockMut {
            head_dim,
            format,
            halves: &mut halves[block.index() * n_halves..][..n_halves],
            bytes: &mut bytes[block.index() * n_bytes..][..n_bytes],
            scales: &mut scales[block.index() * n_scales..][..n_scales],
        }
    }
}

/// A layer's part of the arrays.
struct LayerMut<'a> {
    head_dim: usize,
    format: KvFormat,
    /// What a block has of each.
    of_block: [usize; 3],
    halves: &'a mut [u16],
    bytes: &'a mut [i8],
    scales: &'a mut [f32],
}

/// A block's part of them.
type PartOfBlock<'a> = ((&'a mut [u16], &'a mut [i8]), &'a mut [f32]);

impl BlockMut<'_> {
    /// Keeps a token's key and value of a head in its slot.
    #[inline(always)]
    pub(crate) fn write<S: Simd>(
        &mut self,
        simd: S,
        head: usize,
        slot: usize,
        (key, value): (&[f32], &[f32]),
    ) {
        let (head_dim, n_vectors) = (self.head_dim, self.head_dim / LANES);
        let (first, n) = (head * 2 * head_dim, 2 * head_dim);
        match self.format {
            KvFormat::F16 => {
                let (vectors, _) = self.halves.as_chunks_mut::<LANES>();
                let (keys, values) = vectors[first..][..n].split_at_mut(head_dim);
                let values = &mut values[slot * n_vectors..][..n_vectors];
                write_halves(simd, key, |dim, half| keys[dim][slot] = half);
                write_halves(simd, value, |dim, half| values[dim / LANES][dim % LANES] = half);
            }
            KvFormat::Int8 => {
                let (vectors, _) = self.bytes.as_chunks_mut::<LANES>();
                let (keys, values) = vectors[first..][..n].split_at_mut(head_dim);
                let values = &mut values[slot * n_vectors..][..n_vectors];
                let scales = &mut self.scales[head * PAGE_SCALES..][..PAGE_SCALES];
                scales[slot] = write_bytes(simd, key, |dim, byte| keys[dim][slot] = byte);
                scales[BLOCK_TOKENS + slot] =
                    write_bytes(simd, value, |dim, byte| values[dim / LANES][dim % LANES] = byte);
            }
        }
    }
}

/// The nearest numbers that f16 has, and its greatest for what is beyond.
#[inline(always)]
fn write_halves<S: Simd>(simd: S, from: &[f32], mut write: impl FnMut(usize, u16)) {
    for (idx, lanes) in from.as_chunks::<LANES>().0.iter().enumerate() {
        let mut halves = [0; LANES];
        simd.store_f16(clamp(simd, lanes, 65_504.0), &mut halves);
        halves.into_iter().enumerate().for_each(|(lane, half)| write(idx * LANES + lane, half));
    }
}

/// Rounds to bytes and says by what they are to be multiplied.
#[inline(always)]
fn write_bytes<S: Simd>(simd: S, from: &[f32], mut write: impl FnMut(usize, i8)) -> f32 {
    // Half of the greatest float, so that the greatest byte times the scale is one, too.
    const MOST: f32 = f32::MAX / 2.0;
    let vectors = from.as_chunks::<LANES>().0;
    let mut greatest = simd.splat(0.0);
    for lanes in vectors {
        greatest = simd.max(greatest, simd.abs(clamp(simd, lanes, MOST)));
    }
    let greatest = simd.max_of_lanes(greatest);
    // Far below one, a scale would have no inverse; such a row is zero.
    let inverse = simd.splat(if greatest > 1e-30 { 127.0 / greatest } else { 0.0 });
    for (idx, lanes) in vectors.iter().enumerate() {
        let mut bytes = [0; LANES];
        simd.store_i8(simd.mul(clamp(simd, lanes, MOST), inverse), &mut bytes);
        bytes.into_iter().enumerate().for_each(|(lane, byte)| write(idx * LANES + lane, byte));
    }
    greatest / 127.0
}

/// What lies within a limit, and is a number.
#[inline(always)]
fn clamp<S: Simd>(simd: S, lanes: &Lanes, limit: f32) -> S::F32 {
    simd.min(simd.max(simd.load(lanes), simd.splat(-limit)), simd.splat(limit))
}

#[cfg(test)]
mod tests;
