//! Activations in eight bits: blocks of 16 inputs that share a scale, a power of two.
//!
//! Knows no weights. A power of two costs half a bit of precision on average, and buys that a block's
//! integer sum becomes a float, and is scaled, without any multiplication, which is a sixth of the
//! time of a matrix product. The OCP's MXINT8 does the same with blocks of 32; halving them makes up for
//! most of the half bit, and costs next to nothing.
//!
//! Rows lie in panels of up to sixteen, `[panel][block][row]`, so that a kernel finds the same block of
//! all rows side by side.
//!
//! Invariants: what is kept of a row depends on that row alone; numbers lie in -127..=127.

use std::ops::Range;

use super::layout::{BLOCK, MAX_CHUNK};
use super::pool::{Chunks, Columns};
use super::simd::Simd;

/// The most rows of a panel.
pub(crate) const PANEL_ROWS: usize = 16;

/// Where f32 has a bit for each whole number, in the middle: an integer added to its bits is added to its
/// value. Scaled by a power of two, the integer is scaled with it.
const MAGIC: f32 = 12_582_912.0;

/// A block of a row.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
pub(crate) struct Block(pub(crate) [i8; BLOCK]);

/// Of a block of a row.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct BlockScale {
    /// `MAGIC`, scaled: where sums over nibbles begin, as bits, and what is taken off them, as a float.
    pub(crate) magic: f32,
    /// The same bits, less 128 times the sum of the block: where sums over bytes begin.
    pub(crate) byte_start: i32,
}

impl BlockScale {
    const ZERO: Self = Self { magic: MAGIC, byte_start: MAGIC.to_bits() as i32 };

    /// The scale itself.
    pub(crate) fn value(self) -> f32 {
        self.magic / MAGIC
    }
}

/// Rows of one length. Keeps its memory from step to step.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    n_in: usize,
    chunk: usize,
    n_rows: usize,
    /// Rows that a panel has room for.
    panel_rows: usize,
    blocks: Vec<Block>,
    scales: Vec<BlockScale>,
    /// Of the scaled numbers of each chunk, for the weights' zeros.
    sums: Vec<f32>,
}

/// What a kernel multiplies by: up to sixteen rows.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub(crate) n_rows: usize,
    /// From a block of a row to the next block of the row.
    pub(crate) stride: usize,
    pub(crate) blocks: &'a [Block],
    pub(crate) scales: &'a [BlockScale],
    pub(crate) sums: &'a [f32],
}

impl Activations {
    /// Makes room for so many rows, whose chunks are as long as those of the weights to come; what was
    /// there is lost.
    pub(crate) fn reset(&mut self, n_rows: usize, n_in: usize, chunk: usize) {
        (self.n_rows, self.n_in, self.chunk) = (n_rows, n_in, chunk);
        // Beyond eight, kernels compute pairs of rows.
        let n_paired = if n_rows > 8 { n_rows.next_multiple_of(2) } else { n_rows };
        self.panel_rows = n_paired.clamp(1, PANEL_ROWS);
        let n_padded = n_rows.div_ceil(self.panel_rows) * self.panel_rows;
        self.blocks.resize(n_padded * n_in / BLOCK, Block([0; BLOCK]));
        self.scales.resize(n_padded * n_in / BLOCK, BlockScale::ZERO);
        self.sums.resize(n_padded * n_in / chunk, 0.0);
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    pub(crate) fn chunk(&self) -> usize {
        self.chunk
    }

    pub(crate) fn n_panels(&self) -> usize {
        self.n_rows.div_ceil(self.panel_rows)
    }

    /// The rows of a panel.
    pub(crate) fn rows_of(&self, panel_idx: usize) -> Range<usize> {
        let first = panel_idx * self.panel_rows;
        first..(first + self.panel_rows).min(self.n_rows)
    }

    pub(crate) fn panel(&self, panel_idx: usize) -> Panel<'_> {
        let (n_blocks, n_chunks) = (self.n_in / BLOCK, self.n_in / self.chunk);
        let (of_blocks, of_chunks) = (n_blocks * self.panel_rows, n_chunks * self.panel_rows);
        Panel {
            n_rows: self.rows_of(panel_idx).len(),
            stride: self.panel_rows,
            blocks: &self.blocks[panel_idx * of_blocks..][..of_blocks],
            scales: &self.scales[panel_idx * of_blocks..][..of_blocks],
            sums: &self.sums[panel_idx * of_chunks..][..of_chunks],
        }
    }

    /// All chunks of a panel's rows in each part.
    pub(crate) fn by_panel(&mut self) -> (Layout, ByPanel<'_>) {
        let layout = self.layout();
        let (of_blocks, of_chunks) =
            (self.n_in / BLOCK * layout.stride, self.n_in / self.chunk * layout.stride);
        let scales = (Chunks::new(&mut self.scales, of_blocks), Chunks::new(&mut self.sums, of_chunks));
        (layout, (Chunks::new(&mut self.blocks, of_blocks), scales))
    }

    /// One chunk of all panels' rows in each part.
    pub(crate) fn by_chunk(&mut self) -> (Layout, ByChunk<'_>) {
        let layout = self.layout();
        let (of_blocks, of_chunks) =
            (self.n_in / BLOCK * layout.stride, self.n_in / self.chunk * layout.stride);
        let wide = layout.chunk_blocks * layout.stride;
        let sums = Columns::new(&mut self.sums, of_chunks, layout.stride);
        let scales = (Columns::new(&mut self.scales, of_blocks, wide), sums);
        (layout, (Columns::new(&mut self.blocks, of_blocks, wide), scales))
    }

    fn layout(&self) -> Layout {
        Layout { stride: self.panel_rows, chunk_blocks: self.chunk / BLOCK }
    }
}

pub(crate) type ByPanel<'a> = (Chunks<'a, Block>, (Chunks<'a, BlockScale>, Chunks<'a, f32>));
pub(crate) type ByChunk<'a> = (Columns<'a, Block>, (Columns<'a, BlockScale>, Columns<'a, f32>));

/// How the rows of a panel lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    stride: usize,
    chunk_blocks: usize,
}

impl Layout {
    /// The rows of a panel, of so many in all.
    pub(crate) fn rows_of(self, panel_idx: usize, n_rows: usize) -> Range<usize> {
        let first = panel_idx * self.stride;
        first..(first + self.stride).min(n_rows)
    }
}

/// Some chunks of a panel's rows, to be written.
pub(crate) struct PanelMut<'a> {
    pub(crate) layout: Layout,
    pub(crate) blocks: &'a mut [Block],
    pub(crate) scales: &'a mut [BlockScale],
    pub(crate) sums: &'a mut [f32],
}

impl PanelMut<'_> {
    /// Quantises a whole row, chunk by chunk: `fill` writes the numbers from an input on.
    #[inline(always)]
    pub(crate) fn write_row<S: Simd>(&mut self, simd: S, row_idx: usize, fill: impl Fn(usize, &mut [f32])) {
        let mut values = [0.0; MAX_CHUNK];
        let values = &mut values[..self.layout.chunk_blocks * BLOCK];
        for chunk_idx in 0..self.sums.len() / self.layout.stride {
            fill(chunk_idx * values.len(), values);
            self.write(simd, row_idx, chunk_idx, values);
        }
    }

    /// Quantises a chunk of a row.
    #[inline(always)]
    pub(crate) fn write<S: Simd>(&mut self, simd: S, row_idx: usize, chunk_idx: usize, values: &[f32]) {
        let Layout { stride, chunk_blocks } = self.layout;
        let (blocks, _) = values.as_chunks::<BLOCK>();
        let mut sum = 0.0;
        for (block_idx, values) in blocks.iter().enumerate() {
            let at = (chunk_idx * chunk_blocks + block_idx) * stride + row_idx;
            let (scale, of_block) = quantise(simd, values, &mut self.blocks[at]);
            self.scales[at] = scale;
            sum += of_block;
        }
        self.sums[chunk_idx * stride + row_idx] = sum;
    }
}

/// The scale of a block, and the sum of its numbers as they were rounded.
#[inline(always)]
fn quantise<S: Simd>(simd: S, values: &[f32; BLOCK], block: &mut Block) -> (BlockScale, f32) {
    let values = simd.load(values);
    let exponent = exponent_of(simd.max_of_lanes(simd.abs(values)));
    let inverse = simd.splat(f32::from_bits(((127 - exponent) as u32) << 23));
    simd.store_i8(simd.mul(values, inverse), &mut block.0);
    let sum: i32 = block.0.iter().map(|q| i32::from(*q)).sum();
    let scale = f32::from_bits(((127 + exponent) as u32) << 23);
    let magic = MAGIC * scale;
    (BlockScale { magic, byte_start: magic.to_bits() as i32 - 128 * sum }, sum as f32 * scale)
}

/// The least exponent with which numbers up to `greatest` fit into -127..=127; far from f32's ends, so that
/// no product of scales overflows.
fn exponent_of(greatest: f32) -> i32 {
    let step = greatest * (1.0 / 127.0);
    let above = i32::from(step.to_bits() & 0x7f_ffff != 0);
    ((step.to_bits() >> 23) as i32 - 127 + above).clamp(-100, 100)
}

#[cfg(test)]
mod tests;
