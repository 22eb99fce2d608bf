//! The product in plain Rust: what the other tiers are held to, and what runs where there is no other.

use half::f16;

use super::Multiply;
use crate::backend::cpu::activations::{Block, Panel};
use crate::backend::cpu::layout::{BLOCK, TileRows, Width};
use crate::backend::cpu::simd::{LANES, Lanes, Scalar};

impl Multiply for Scalar {
    fn multiply(self, tiles: &TileRows<'_>, panel: &Panel<'_>, outputs: &mut [Lanes]) {
        for (idx, output) in outputs.iter_mut().enumerate() {
            *output = row(tiles, idx / panel.n_rows, panel, idx % panel.n_rows);
        }
    }
}

fn row(tiles: &TileRows<'_>, tile_idx: usize, panel: &Panel<'_>, row_idx: usize) -> Lanes {
    let mut total = [0.0_f32; LANES];
    for chunk_idx in 0..tiles.n_chunks {
        let (weights, scales) = tiles.chunk(tile_idx, chunk_idx);
        let mut part = [0.0_f32; LANES];
        for (block_idx, weights) in weights.chunks_exact(tiles.width.block_bytes()).enumerate() {
            let at = (chunk_idx * tiles.chunk_blocks + block_idx) * panel.stride + row_idx;
            let dots = dots(tiles.width, weights, &panel.blocks[at]);
            let scale = panel.scales[at].value();
            for (part, dot) in part.iter_mut().zip(dots) {
                *part += dot as f32 * scale;
            }
        }
        let sum = panel.sums[chunk_idx * panel.stride + row_idx];
        let (pairs, zeros) = scales.split_at(2 * LANES);
        for (out, pair) in pairs.as_chunks::<2>().0.iter().enumerate() {
            // Bytes are centred by their dot product; they have no zeros.
            let zero = zeros.get(out).map_or(0.0, |zero| f32::from(*zero));
            let centred = (-zero).mul_add(sum, part[out]);
            total[out] = f16::from_le_bytes(*pair).to_f32().mul_add(centred, total[out]);
        }
    }
    let unit = tiles.unit(tile_idx);
    total.map(|total| total * unit)
}

/// The exact sums of a block for sixteen outputs.
fn dots(width: Width, weights: &[u8], block: &Block) -> [i32; LANES] {
    let mut dots = [0_i32; LANES];
    for (input, x) in block.0.iter().enumerate() {
        for (out, dot) in dots.iter_mut().enumerate() {
            let q = match width {
                Width::Int4 => {
                    let byte = weights[input / 8 * 64 + out * 4 + input % 4];
                    i32::from(byte >> (input % 8 / 4 * 4) & 15)
                }
                Width::Int8 => i32::from(weights[input / 4 * 64 + out * 4 + input % 4]) - 128,
            };
            *dot += q * i32::from(*x);
        }
    }
    debug_assert_eq!(block.0.len(), BLOCK);
    dots
}
