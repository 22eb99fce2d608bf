//! The product with AVX2: pairs of nibbles or bytes times pairs of activations, in sixteen bits first.
//!
//! Invariants: no sum saturates. Four pairs of nibbles are at most 4 · 2 · 15 · 127 = 15,240; a pair of
//! bytes, taken as signs and sizes, is at most 2 · 127 · 127 = 32,258.
#![expect(unsafe_code, reason = "intrinsics and unchecked reads: bounds are checked once for some tile rows")]

use std::arch::x86_64::*;

use super::Multiply;
use crate::backend::cpu::activations::{Block, Panel};
use crate::backend::cpu::layout::{BLOCK, TileRows, Width};
use crate::backend::cpu::simd::{Avx2, Lanes};

impl Multiply for Avx2 {
    #[inline]
    fn multiply(self, tiles: &TileRows<'_>, panel: &Panel<'_>, outputs: &mut [Lanes]) {
        super::check(tiles, panel, outputs);
        if panel.n_rows == 0 {
            return;
        }
        for (tile_idx, outputs) in outputs.chunks_exact_mut(panel.n_rows).enumerate() {
            let mut first = 0;
            while first < panel.n_rows {
                let outputs = &mut outputs[first..];
                let place = (tile_idx, first);
                // SAFETY: an `Avx2` proves the instructions; the lengths were checked above.
                first += unsafe {
                    match (tiles.width, panel.n_rows - first) {
                        (Width::Int4, 1) => rows::<1, true>(tiles, panel, place, outputs),
                        (Width::Int4, 2 | 3) => rows::<2, true>(tiles, panel, place, outputs),
                        (Width::Int4, _) => rows::<4, true>(tiles, panel, place, outputs),
                        (Width::Int8, 1) => rows::<1, false>(tiles, panel, place, outputs),
                        (Width::Int8, 2 | 3) => rows::<2, false>(tiles, panel, place, outputs),
                        (Width::Int8, _) => rows::<4, false>(tiles, panel, place, outputs),
                    }
                };
            }
        }
    }
}

/// Sixteen lanes in two registers.
type Pair<T> = [T; 2];

/// Computes rows `first..first + M` of a tile row and says how many that is.
///
/// # Safety
///
/// The processor has AVX2 and FMA, the arrays are whole, and the panel has the rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows<const M: usize, const NIBBLES: bool>(
    tiles: &TileRows<'_>,
    panel: &Panel<'_>,
    (tile_idx, first): (usize, usize),
    outputs: &mut [Lanes],
) -> usize {
    let mut totals = [[_mm256_setzero_ps(); 2]; M];
    // SAFETY: pointers advance by what they are read by, block by block and chunk by chunk, and the arrays
    // are as long as that.
    unsafe {
        let mut blocks = panel.blocks.as_ptr().add(first);
        let mut block_scales = panel.scales.as_ptr().add(first);
        let mut sums = panel.sums.as_ptr().add(first);
        for chunk_idx in 0..tiles.n_chunks {
            let (weights, scales) = tiles.chunk(tile_idx, chunk_idx);
            let mut weights = weights.as_ptr();
            let mut parts = [[_mm256_setzero_ps(); 2]; M];
            for _ in 0..tiles.chunk_blocks {
                let dots: [Pair<__m256i>; M] =
                    if NIBBLES { nibble_dots(weights, blocks) } else { byte_dots(weights, blocks) };
                for (row, part) in parts.iter_mut().enumerate() {
                    let scale = _mm256_set1_ps((*block_scales.add(row)).value());
                    part[0] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[row][0]), scale, part[0]);
                    part[1] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[row][1]), scale, part[1]);
                }
                weights = weights.add(tiles.width.block_bytes());
                (blocks, block_scales) = (blocks.add(panel.stride), block_scales.add(panel.stride));
            }
            let halves = scales.as_ptr().cast::<__m128i>();
            for half in 0..2 {
                let scale = _mm256_cvtph_ps(_mm_loadu_si128(halves.add(half)));
                let zero = if NIBBLES {
                    let zeros = _mm_loadl_epi64(scales.as_ptr().add(32 + 8 * half).cast());
                    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(zeros))
                } else {
                    _mm256_setzero_ps()
                };
                for (row, part) in parts.iter().enumerate() {
                    let centred = if NIBBLES {
                        _mm256_fnmadd_ps(zero, _mm256_set1_ps(*sums.add(row)), part[half])
                    } else {
                        part[half]
                    };
                    totals[row][half] = _mm256_fmadd_ps(scale, centred, totals[row][half]);
                }
            }
            sums = sums.add(panel.stride);
        }
        let unit = _mm256_set1_ps(tiles.unit(tile_idx));
        for (output, total) in outputs.iter_mut().zip(totals) {
            _mm256_storeu_ps(output.as_mut_ptr(), _mm256_mul_ps(total[0], unit));
            _mm256_storeu_ps(output.as_mut_ptr().add(8), _mm256_mul_ps(total[1], unit));
        }
    }
    M
}

/// # Safety
///
/// A block of nibbles, and a block of `M` rows side by side.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn nibble_dots<const M: usize>(weights: *const u8, blocks: *const Block) -> [Pair<__m256i>; M] {
    let low_nibbles = _mm256_set1_epi8(15);
    let mut words = [[_mm256_setzero_si256(); 2]; M];
    for step in 0..BLOCK / 4 {
        let mut steps = [_mm256_setzero_si256(); 2];
        for (half, bytes) in steps.iter_mut().enumerate() {
            // SAFETY: two vectors of 64 bytes, each read twice.
            let vector = unsafe { _mm256_loadu_si256(weights.add(64 * (step / 2) + 32 * half).cast()) };
            let vector = if step % 2 == 0 { vector } else { _mm256_srli_epi16::<4>(vector) };
            *bytes = _mm256_and_si256(vector, low_nibbles);
        }
        for (row, words) in words.iter_mut().enumerate() {
            // SAFETY: a block is four words of four activations.
            let four = _mm256_set1_epi32(unsafe { *blocks.add(row).cast::<i32>().add(step) });
            words[0] = _mm256_add_epi16(words[0], _mm256_maddubs_epi16(steps[0], four));
            words[1] = _mm256_add_epi16(words[1], _mm256_maddubs_epi16(steps[1], four));
        }
    }
    let ones = _mm256_set1_epi16(1);
    let mut dots = [[_mm256_setzero_si256(); 2]; M];
    for (dots, words) in dots.iter_mut().zip(words) {
        *dots = [_mm256_madd_epi16(words[0], ones), _mm256_madd_epi16(words[1], ones)];
    }
    dots
}

/// # Safety
///
/// A block of bytes, and a block of `M` rows side by side.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn byte_dots<const M: usize>(weights: *const u8, blocks: *const Block) -> [Pair<__m256i>; M] {
    let (middle, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
    let mut dots = [[_mm256_setzero_si256(); 2]; M];
    for step in 0..BLOCK / 4 {
        for half in 0..2 {
            // SAFETY: four vectors of 64 bytes.
            let bytes = unsafe { _mm256_loadu_si256(weights.add(64 * step + 32 * half).cast()) };
            let bytes = _mm256_xor_si256(bytes, middle);
            let sizes = _mm256_abs_epi8(bytes);
            for (row, dots) in dots.iter_mut().enumerate() {
                // SAFETY: a block is four words of four activations.
                let four = _mm256_set1_epi32(unsafe { *blocks.add(row).cast::<i32>().add(step) });
                let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(four, bytes));
                dots[half] = _mm256_add_epi32(dots[half], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    dots
}
