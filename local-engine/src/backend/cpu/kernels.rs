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

use super::activations::{PANEL_ROWS, Panel};
use super::layout::TileRow;
use super::simd::{Lanes, Simd};

/// Sixteen outputs of each row of a panel.
pub(crate) type Outputs = [Lanes; PANEL_ROWS];

/// A tier that multiplies.
pub(crate) trait Multiply: Simd {
    /// Writes the outputs of the panel's rows; what is in the others afterwards means nothing.
    fn multiply(self, tile: &TileRow<'_>, panel: &Panel<'_>, outputs: &mut Outputs);
}

#[cfg(test)]
mod tests;
