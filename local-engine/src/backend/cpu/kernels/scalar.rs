//! The product in plain Rust: what the other tiers are held to, and what runs where there is no other.

use half::f16;

use super::{Multiply, Outputs};
use crate::backend::cpu::activations::{Block, Panel};
use crate::backend::cpu::layout::{BLOCK, TileRow, Width};
use crate::backend::cpu::simd::{LANES, Lanes, Scalar};

impl Multiply for Scalar {
    fn multiply(self, tile: &TileRow<'_>, panel: &Panel<'_>, outputs: &mut Outputs) {
        for (row_idx, outputs) in outputs.iter_mut().enumerate().take(panel.n_rows) {
            *outputs = row(tile, panel, row_idx);
        }
    }
}

fn row(tile: &TileRow<'_>, panel: &Panel<'_>, row_idx: usize) -> Lanes {
    let mut total = [0.0_f32; LANES];
    let scale_bytes = tile.width.scale_bytes();
    let block_bytes = tile.width.block_bytes();
    for (chunk_idx, scales) in tile.scales.chunks_exact(scale_bytes).enumerate() {
        let mut part = [0.0_f32; LANES];
        for block_idx in chunk_idx * tile.chunk_blocks..(chunk_idx + 1) * tile.chunk_blocks {
            let at = block_idx * panel.stride + row_idx;
            let dots = dots(tile.width, &tile.weights[block_idx * block_bytes..], &panel.blocks[at]);
            let scale = panel.scales[at].value();
            for (part, dot) in part.iter_mut().zip(dots) {
                *part += dot as f32 * scale;
            }
        }
        let sum = panel.sums[chunk_idx * panel.stride + row_idx];
        let (pairs, zeros) = scales[..].split_at(2 * LANES);
        for (out, pair) in pairs.as_chunks::<2>().0.iter().enumerate() {
            // Bytes are centred by their dot product; they have no zeros.
            let zero = zeros.get(out).map_or(0.0, |zero| f32::from(*zero));
            let centred = (-zero).mul_add(sum, part[out]);
            total[out] = f16::from_le_bytes(*pair).to_f32().mul_add(centred, total[out]);
        }
    }
    total.map(|total| total * tile.unit)
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
