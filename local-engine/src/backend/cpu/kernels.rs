//! Products of quantised weights and activations, sixteen outputs by up to sixteen rows at a time.
//!
//! Starts no threads and knows no layers. What a tier computes is
//!
//! ```text
//!   for each chunk of inputs:   part = Σ over its blocks of  2^k · Σ q · x        (the inner sum is of integers)
//!                              total = total + scale · (part - zero · Σ 2^k · x)   (fused, in this order)
//!   output = total · unit
//! ```
//!
//! Invariants: an output depends on its weights and its row alone, and all tiers give the same bits,
//! because integer sums are exact, a scale of two's power is exact, and the rest has one order.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

use super::activations::Panel;
use super::layout::TileRows;
use super::simd::{Lanes, Simd};

/// A tier that multiplies.
pub(crate) trait Multiply: Simd {
    /// Writes the outputs of all rows of the panel for the first tile row, then for the next; there is
    /// room for exactly those.
    fn multiply(self, tiles: &TileRows<'_>, panel: &Panel<'_>, outputs: &mut [Lanes]);
}

/// What unchecked reads rely on, checked once for some tile rows.
#[cfg(target_arch = "x86_64")]
fn check(tiles: &TileRows<'_>, panel: &Panel<'_>, outputs: &[Lanes]) {
    let n_blocks = tiles.n_chunks * tiles.chunk_blocks;
    assert_eq!(outputs.len(), tiles.n_tiles() * panel.n_rows, "there is room for all outputs");
    assert!(panel.n_rows <= panel.stride, "a panel has its rows");
    assert!(panel.blocks.len() >= n_blocks * panel.stride, "a panel is as long as its weights");
    assert!(panel.scales.len() >= n_blocks * panel.stride, "a panel is as long as its weights");
    assert!(panel.sums.len() >= tiles.n_chunks * panel.stride, "a panel is as long as its weights");
}

#[cfg(test)]
mod tests;
