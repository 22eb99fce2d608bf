//! The pages that keys and values are kept in, as f16 or in eight bits.
//!
//! Does not know whose a page is. A page is one head's of one block of one layer: first the keys,
//! `[head_dim][token]`, so that sixteen scores are one vector; then the values, `[token][head_dim]`.
//!
//! Invariants: every number that was ever written is finite, so what a page's last owner left is harmless
//! when it is multiplied by zero.

use half::f16;
use serde::Deserialize;

use super::memory::Memory;
use super::simd::{LANES, Simd};
use crate::backend::{BLOCK_TOKENS, BackendError};
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

/// Where a head of a block of a layer lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PageId {
    pub(crate) layer: usize,
    pub(crate) block: usize,
    pub(crate) head: usize,
}

/// All pages.
#[derive(Debug)]
pub(crate) struct Pages {
    n_layers: usize,
    n_heads: usize,
    head_dim: usize,
    n_blocks: usize,
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    F16(Memory<u16>),
    /// A page has sixteen scales of keys and sixteen of values.
    Int8 {
        numbers: Memory<i8>,
        scales: Memory<f32>,
    },
}

/// A page to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Page<'a> {
    F16(F16Page<'a>),
    Int8(Int8Page<'a>),
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

/// How attention reads a page, whatever its format.
pub(crate) trait ReadPage: Copy {
    /// A number of each token's key, without its scale.
    fn key<S: Simd>(&self, simd: S, dim: usize) -> S::F32;
    /// Sixteen numbers of a token's value, without its scale; `vector` counts through the page.
    fn value<S: Simd>(&self, simd: S, vector: usize) -> S::F32;
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
    fn scale_keys<S: Simd>(&self, simd: S, scores: S::F32) -> S::F32 {
        simd.mul(scores, simd.load(&self.scales[0]))
    }

    #[inline(always)]
    fn scale_values<S: Simd>(&self, simd: S, weights: S::F32) -> S::F32 {
        simd.mul(weights, simd.load(&self.scales[1]))
    }
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

impl Pages {
    pub(crate) fn new(hparams: &Hparams, format: KvFormat, n_blocks: usize) -> Result<Self, BackendError> {
        let n_pages = hparams.n_layers * n_blocks * hparams.n_kv_heads;
        let n_numbers = n_pages * 2 * BLOCK_TOKENS * hparams.head_dim;
        let numbers = match format {
            KvFormat::F16 => Numbers::F16(Memory::zeroed(n_numbers, "the KV cache")?),
            KvFormat::Int8 => Numbers::Int8 {
                numbers: Memory::zeroed(n_numbers, "the KV cache")?,
                scales: Memory::zeroed(n_pages * 2 * BLOCK_TOKENS, "the KV cache's scales")?,
            },
        };
        Ok(Self {
            n_layers: hparams.n_layers,
            n_heads: hparams.n_kv_heads,
            head_dim: hparams.head_dim,
            n_blocks,
            numbers,
        })
    }

    pub(crate) fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    fn place(&self, id: PageId) -> usize {
        debug_assert!(id.layer < self.n_layers && id.block < self.n_blocks && id.head < self.n_heads);
        (id.layer * self.n_blocks + id.block) * self.n_heads + id.head
    }

    pub(crate) fn page(&self, id: PageId) -> Page<'_> {
        let (place, n_vectors) = (self.place(id), 2 * self.head_dim);
        match &self.numbers {
            Numbers::F16(numbers) => {
                let (keys, values) =
                    numbers.as_chunks().0[place * n_vectors..][..n_vectors].split_at(self.head_dim);
                Page::F16(F16Page { keys, values })
            }
            Numbers::Int8 { numbers, scales } => {
                let (keys, values) =
                    numbers.as_chunks().0[place * n_vectors..][..n_vectors].split_at(self.head_dim);
                Page::Int8(Int8Page { keys, values, scales: &scales.as_chunks().0[2 * place..][..2] })
            }
        }
    }

    /// Keeps a token's key and value in its slot of a page.
    pub(crate) fn write(&mut self, id: PageId, slot: usize, key: &[f32], value: &[f32]) {
        let (place, n_numbers) = (self.place(id), 2 * BLOCK_TOKENS * self.head_dim);
        let of_values = BLOCK_TOKENS * self.head_dim;
        match &mut self.numbers {
            Numbers::F16(numbers) => {
                let (keys, values) = numbers[place * n_numbers..][..n_numbers].split_at_mut(of_values);
                let column = keys.iter_mut().skip(slot).step_by(BLOCK_TOKENS);
                column.zip(key).for_each(|(to, x)| *to = finite_f16(*x));
                let row = &mut values[slot * self.head_dim..][..self.head_dim];
                row.iter_mut().zip(value).for_each(|(to, x)| *to = finite_f16(*x));
            }
            Numbers::Int8 { numbers, scales } => {
                let scales = &mut scales[2 * BLOCK_TOKENS * place..][..2 * BLOCK_TOKENS];
                let (keys, values) = numbers[place * n_numbers..][..n_numbers].split_at_mut(of_values);
                let column = keys.iter_mut().skip(slot).step_by(BLOCK_TOKENS);
                scales[slot] = write_bytes(key, column);
                let row = &mut values[slot * self.head_dim..][..self.head_dim];
                scales[BLOCK_TOKENS + slot] = write_bytes(value, row.iter_mut());
            }
        }
    }
}

/// The nearest number that f16 has, and its greatest for what is beyond.
fn finite_f16(x: f32) -> u16 {
    let finite = if x.is_nan() { 0.0 } else { x.clamp(-65_504.0, 65_504.0) };
    f16::from_f32(finite).to_bits()
}

/// Rounds to bytes and says by what they are to be multiplied.
fn write_bytes<'a>(from: &[f32], to: impl Iterator<Item = &'a mut i8>) -> f32 {
    let greatest = from.iter().fold(0.0_f32, |most, x| most.max(x.abs())).min(f32::MAX / 2.0);
    // Far below one, a scale would have no inverse; such a row is zero.
    let inverse = if greatest > 1e-30 { 127.0 / greatest } else { 0.0 };
    to.zip(from).for_each(|(to, x)| *to = (x * inverse).round_ties_even() as i8);
    greatest / 127.0
}

#[cfg(test)]
mod tests;
