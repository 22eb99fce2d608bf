//! The product with AVX-512 VNNI: four nibbles or bytes times four activations in each of sixteen lanes.
//!
//! Invariants: reads no byte outside the tile rows and the panel, which `multiply` has measured.
#![expect(unsafe_code, reason = "intrinsics and unchecked reads: bounds are checked once for some tile rows")]

use std::arch::x86_64::*;

use super::Multiply;
use crate::backend::cpu::activations::{Block, BlockScale, PANEL_ROWS, Panel};
use crate::backend::cpu::layout::{BLOCK, TileRows, UNIT_BYTES, Width};
use crate::backend::cpu::simd::{Avx512, Lanes};

/// Vectors of weights in a block, once nibbles are bytes.
const STEPS: usize = BLOCK / 4;

impl Multiply for Avx512 {
    #[inline]
    fn multiply(self, tiles: &TileRows<'_>, panel: &Panel<'_>, outputs: &mut [Lanes]) {
        super::check(tiles, panel, outputs);
        assert!(panel.stride <= PANEL_ROWS, "a panel is no larger than the largest");
        assert!(panel.stride <= 8 || panel.stride.is_multiple_of(2), "many rows come in pairs");
        let product = Product { tiles, panel };
        // SAFETY: an `Avx512` proves the instructions; the lengths were checked above.
        unsafe {
            match tiles.width {
                Width::Int4 => product.all_rows::<true>(outputs),
                Width::Int8 => product.all_rows::<false>(outputs),
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Product<'a> {
    tiles: &'a TileRows<'a>,
    panel: &'a Panel<'a>,
}

impl Product<'_> {
    /// # Safety
    ///
    /// The processor has AVX-512 with VNNI, the arrays are as long as the counts say, and beyond eight rows
    /// the panel has room for an even number.
    unsafe fn all_rows<const NIBBLES: bool>(&self, outputs: &mut [Lanes]) {
        // SAFETY: the caller's. An odd row beyond eight is computed beside somebody's old numbers, whose
        // outputs are not read.
        unsafe {
            match self.panel.n_rows {
                0 => {}
                1 => self.rows::<1, 0, NIBBLES>(outputs),
                2 => self.rows::<2, 0, NIBBLES>(outputs),
                3 => self.rows::<3, 0, NIBBLES>(outputs),
                4 => self.rows::<4, 0, NIBBLES>(outputs),
                5 => self.rows::<5, 0, NIBBLES>(outputs),
                6 => self.rows::<6, 0, NIBBLES>(outputs),
                7 => self.rows::<7, 0, NIBBLES>(outputs),
                8 => self.rows::<8, 0, NIBBLES>(outputs),
                9 | 10 => self.rows::<5, 5, NIBBLES>(outputs),
                11 | 12 => self.rows::<6, 6, NIBBLES>(outputs),
                13 | 14 => self.rows::<7, 7, NIBBLES>(outputs),
                _ => self.rows::<8, 8, NIBBLES>(outputs),
            }
        }
    }

    /// `A + B` rows, in two parts because the compiler unrolls loops of eight, and not of sixteen.
    ///
    /// # Safety
    ///
    /// As of `all_rows`; the panel has room for so many rows.
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn rows<const A: usize, const B: usize, const NIBBLES: bool>(&self, outputs: &mut [Lanes]) {
        let (tiles, n_rows) = (self.tiles, self.panel.n_rows);
        let mut weights = tiles.bytes.as_ptr();
        let mut output = outputs.as_mut_ptr();
        // The tiles are computed in one loop, so that memory is read without a pause between them.
        for _ in 0..tiles.n_tiles() {
            // SAFETY: the caller's; a tile row is followed by its unit, and outputs are as many as rows.
            unsafe {
                let (totals_a, totals_b);
                (weights, totals_a, totals_b) = self.tile::<A, B, NIBBLES>(weights);
                let unit = _mm512_set1_ps(*weights.cast::<f32>());
                weights = weights.add(UNIT_BYTES);
                for (row, total) in totals_a.into_iter().enumerate() {
                    _mm512_storeu_ps(output.add(row).cast(), _mm512_mul_ps(total, unit));
                }
                for (row, total) in totals_b.into_iter().enumerate() {
                    if A + row < n_rows {
                        _mm512_storeu_ps(output.add(A + row).cast(), _mm512_mul_ps(total, unit));
                    }
                }
                output = output.add(n_rows);
            }
        }
    }

    /// The sums of one tile row, and where its chunks end.
    ///
    /// # Safety
    ///
    /// As of `rows`.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn tile<const A: usize, const B: usize, const NIBBLES: bool>(
        &self,
        mut weights: *const u8,
    ) -> (*const u8, [__m512; A], [__m512; B]) {
        let width = if NIBBLES { Width::Int4 } else { Width::Int8 };
        let stride = self.panel.stride;
        let (mut blocks, mut block_scales) = (self.panel.blocks.as_ptr(), self.panel.scales.as_ptr());
        let mut sums = self.panel.sums.as_ptr();
        let (mut totals_a, mut totals_b) = ([_mm512_setzero_ps(); A], [_mm512_setzero_ps(); B]);
        for _ in 0..self.tiles.n_chunks {
            let (mut parts_a, mut parts_b) = ([_mm512_setzero_ps(); A], [_mm512_setzero_ps(); B]);
            // SAFETY: pointers advance by what they are read by, block by block and chunk by chunk, and the
            // arrays are as long as that.
            unsafe {
                for _ in 0..self.tiles.chunk_blocks {
                    prefetch::<NIBBLES>(weights, prefetch_bytes(A + B));
                    let steps = unpack::<NIBBLES>(weights);
                    add_block::<A, NIBBLES>(&mut parts_a, &steps, blocks, block_scales);
                    add_block::<B, NIBBLES>(&mut parts_b, &steps, blocks.add(A), block_scales.add(A));
                    weights = weights.add(width.block_bytes());
                    (blocks, block_scales) = (blocks.add(stride), block_scales.add(stride));
                }
                let scale = _mm512_cvtph_ps(_mm256_loadu_si256(weights.cast()));
                let zero = if NIBBLES {
                    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(weights.add(32).cast())))
                } else {
                    _mm512_setzero_ps()
                };
                add_parts::<A, NIBBLES>(&mut totals_a, parts_a, (scale, zero), sums);
                add_parts::<B, NIBBLES>(&mut totals_b, parts_b, (scale, zero), sums.add(A));
                weights = weights.add(width.scale_bytes());
                sums = sums.add(stride);
            }
        }
        (weights, totals_a, totals_b)
    }
}

/// How far ahead weights are asked for. The processor sees a stream of its own accord, and one row is
/// fastest when it is left alone; but it stops at the end of a page, and the more there is to compute for
/// each weight, the less far the loads themselves run ahead of that.
const fn prefetch_bytes(n_rows: usize) -> usize {
    match n_rows {
        0 | 1 => 0,
        2 | 3 => 512,
        _ => 4_096,
    }
}

/// Asks for the weights of a block that comes so many bytes later, be it past the end of all of them:
/// nothing is read that is not there.
#[inline]
#[target_feature(enable = "avx512f")]
fn prefetch<const NIBBLES: bool>(weights: *const u8, ahead_bytes: usize) {
    if ahead_bytes > 0 {
        for line in 0..if NIBBLES { 2 } else { 4 } {
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(ahead_bytes + 64 * line).cast());
        }
    }
}

/// The vectors of a block, a byte a weight.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn unpack<const NIBBLES: bool>(weights: *const u8) -> [__m512i; STEPS] {
    let low_nibbles = _mm512_set1_epi8(15);
    let mut steps = [_mm512_setzero_si512(); STEPS];
    for (step, bytes) in steps.iter_mut().enumerate() {
        // SAFETY: a block of nibbles is half as many vectors long, one of bytes as many.
        unsafe {
            *bytes = if !NIBBLES {
                _mm512_loadu_si512(weights.add(64 * step).cast())
            } else {
                let vector = _mm512_loadu_si512(weights.add(64 * (step / 2)).cast());
                let vector = if step % 2 == 0 { vector } else { _mm512_srli_epi16::<4>(vector) };
                _mm512_and_si512(vector, low_nibbles)
            };
        }
    }
    steps
}

/// Adds a block's scaled dot products. The integer sum starts at the bits of the scaled `MAGIC`, so its
/// bits are a float, and the scaled sum lies above `MAGIC`; that runs beside the multipliers, not on them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn add_block<const M: usize, const NIBBLES: bool>(
    parts: &mut [__m512; M],
    steps: &[__m512i; STEPS],
    blocks: *const Block,
    scales: *const BlockScale,
) {
    for (row, part) in parts.iter_mut().enumerate() {
        // SAFETY: both point to those of `M` rows.
        let (block, scale) = unsafe { (blocks.add(row).cast::<i32>(), &*scales.add(row)) };
        let start = if NIBBLES { scale.magic.to_bits() as i32 } else { scale.byte_start };
        let mut dots = _mm512_set1_epi32(start);
        for (step, weights) in steps.iter().enumerate() {
            // SAFETY: a block is as many words of four activations.
            let four = _mm512_set1_epi32(unsafe { *block.add(step) });
            dots = _mm512_dpbusd_epi32(dots, *weights, four);
        }
        let scaled = _mm512_sub_ps(_mm512_castsi512_ps(dots), _mm512_set1_ps(scale.magic));
        *part = _mm512_add_ps(*part, scaled);
    }
}

/// Adds a chunk's parts, less their zeros, times the weights' scales.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn add_parts<const M: usize, const NIBBLES: bool>(
    totals: &mut [__m512; M],
    parts: [__m512; M],
    (scale, zero): (__m512, __m512),
    sums: *const f32,
) {
    for (row, (total, part)) in totals.iter_mut().zip(parts).enumerate() {
        // SAFETY: there are sums of `M` rows.
        let sum = _mm512_set1_ps(unsafe { *sums.add(row) });
        let centred = if NIBBLES { _mm512_fnmadd_ps(zero, sum, part) } else { part };
        *total = _mm512_fmadd_ps(scale, centred, *total);
    }
}
