//! What is done to single rows between the products: norms, gates, and the making of activations.
//!
//! Starts no threads. Each function is compiled for the tier it is called with.
//!
//! Invariants: sums over a row are taken in one order, whatever the tier.

use super::activations::{ChunkMut, RowMut};
use super::simd::{LANES, Lanes, Simd};

/// What RMSNorm multiplies a row by, beside its weights.
#[inline(always)]
fn rms_factor<S: Simd>(simd: S, row: &[f32], eps: f32) -> f32 {
    let (vectors, rest) = row.as_chunks::<LANES>();
    debug_assert!(rest.is_empty(), "rows are whole vectors");
    // Four sums, because one would wait for itself.
    let mut sums = [simd.splat(0.0); 4];
    for (idx, vector) in vectors.iter().enumerate() {
        let v = simd.load(vector);
        sums[idx % 4] = simd.fma(v, v, sums[idx % 4]);
    }
    let sum = simd.sum_of_lanes(simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3])));
    1.0 / (sum / row.len() as f32 + eps).sqrt()
}

/// RMSNorm in place.
pub(crate) fn rms_norm<S: Simd>(simd: S, row: &mut [f32], weights: &[f32], eps: f32) {
    simd.run(
        #[inline(always)]
        || {
            let factor = rms_factor(simd, row, eps);
            row.iter_mut().zip(weights).for_each(|(x, weight)| *x = *x * factor * weight);
        },
    );
}

/// RMSNorm of a row into a quantised one.
pub(crate) fn quantise_normed<S: Simd>(simd: S, row: &[f32], norm: (&[f32], f32), mut to: RowMut<'_, '_>) {
    simd.run(
        #[inline(always)]
        || {
            let (weights, eps) = norm;
            let factor = rms_factor(simd, row, eps);
            to.write(simd, |first, values| {
                let (row, weights) = (&row[first..], &weights[first..]);
                for ((value, x), weight) in values.iter_mut().zip(row).zip(weights) {
                    *value = *x * factor * weight;
                }
            });
        },
    );
}

/// A quantised row, filled from an input on by `fill`.
pub(crate) fn quantise<S: Simd>(simd: S, mut to: RowMut<'_, '_>, fill: impl Fn(usize, &mut [f32])) {
    simd.run(
        #[inline(always)]
        || to.write(simd, fill),
    );
}

/// `silu(gate) · up` of all rows for a tile row, then for the next, as blocks of the rows of a panel.
pub(crate) fn gate<S: Simd>(
    simd: S,
    (gates, ups): (&[Lanes], &[Lanes]),
    part: &mut ChunkMut<'_>,
    (first_block, n_rows): (usize, usize),
) {
    simd.run(
        #[inline(always)]
        || {
            let tiles = gates.chunks_exact(n_rows).zip(ups.chunks_exact(n_rows));
            for (tile_idx, (gates, ups)) in tiles.enumerate() {
                for (row_idx, (gate, up)) in gates.iter().zip(ups).enumerate() {
                    let mut gated = [0.0; LANES];
                    simd.store(simd.mul(silu(simd, simd.load(gate)), simd.load(up)), &mut gated);
                    part.write_block(simd, row_idx, first_block + tile_idx, &gated);
                }
            }
        },
    );
}

#[inline(always)]
pub(crate) fn silu<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let grown = simd.exp(simd.sub(simd.splat(0.0), x));
    simd.div(x, simd.add(simd.splat(1.0), grown))
}

/// The greatest of many numbers; reads them as fast as memory goes.
pub(crate) fn greatest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    simd.run(
        #[inline(always)]
        || {
            let (vectors, _) = values.as_chunks::<LANES>();
            let (eights, _) = vectors.as_chunks::<8>();
            let mut most = [simd.splat(f32::MIN); 8];
            for eight in eights {
                for (most, vector) in most.iter_mut().zip(eight) {
                    *most = simd.max(*most, simd.load(vector));
                }
            }
            most.into_iter().map(|most| simd.max_of_lanes(most)).fold(f32::MIN, f32::max)
        },
    )
}

#[cfg(test)]
mod tests;
