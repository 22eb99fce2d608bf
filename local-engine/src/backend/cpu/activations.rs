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

use super::aligned::Aligned;
use super::layout::{BLOCK, MAX_CHUNK};
use super::pool::{Columns, Pool, Strip, TaskPanicked};
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
    blocks: Aligned<Block>,
    scales: Aligned<BlockScale>,
    /// Of the scaled numbers of each chunk, for the weights' zeros.
    sums: Aligned<f32>,
}

/// What a kernel multiplies by: up to sixteen rows.
#[derive(Debug, Clone, Copy)]
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

    pub(crate) fn n_chunks(&self) -> usize {
        self.n_in / self.chunk
    }

    /// What a kernel reads of a panel.
    pub(crate) fn panel_bytes(&self) -> usize {
        self.panel_rows * self.n_in / BLOCK * (size_of::<Block>() + size_of::<BlockScale>())
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

    /// Runs `task` once for each row, on all threads; it writes the row.
    pub(crate) fn for_each_row(
        &mut self,
        pool: &mut Pool,
        task: impl Fn(usize, RowMut<'_, '_>) + Sync,
    ) -> Result<(), TaskPanicked> {
        let (n_rows, layout, stride) = (self.n_rows, self.layout(), self.panel_rows);
        let strips_of_panel = stride.div_ceil(ROWS_OF_LINE);
        let scales = (
            Columns::new(&mut self.scales, stride, ROWS_OF_LINE).in_bands(layout.n_blocks),
            Columns::new(&mut self.sums, stride, ROWS_OF_LINE).in_bands(layout.n_chunks()),
        );
        let blocks = Columns::new(&mut self.blocks, stride, ROWS_OF_LINE).in_bands(layout.n_blocks);
        pool.for_each((blocks, scales), |part_idx, (mut blocks, (mut scales, mut sums))| {
            let first_column = part_idx % strips_of_panel * ROWS_OF_LINE;
            let first_row = part_idx / strips_of_panel * stride + first_column;
            for column in 0..ROWS_OF_LINE.min(stride - first_column).min(n_rows.saturating_sub(first_row)) {
                let (blocks, scales, sums) = (&mut blocks, &mut scales, &mut sums);
                task(first_row + column, RowMut { layout, column, blocks, scales, sums });
            }
        })
    }

    /// One chunk of some panels' rows in each part: first all chunks of the first panels, then of the next.
    pub(crate) fn by_chunk(&mut self, n_panels: usize) -> (Layout, ByChunk<'_>) {
        let (layout, stride) = (self.layout(), self.panel_rows);
        let (of_blocks, of_chunks) = (layout.n_blocks * stride, layout.n_chunks() * stride);
        let sums = Columns::new(&mut self.sums, of_chunks, stride).in_bands(n_panels);
        let wide = layout.chunk_blocks * stride;
        let scales = Columns::new(&mut self.scales, of_blocks, wide).in_bands(n_panels);
        (layout, (Columns::new(&mut self.blocks, of_blocks, wide).in_bands(n_panels), (scales, sums)))
    }

    fn layout(&self) -> Layout {
        Layout { stride: self.panel_rows, n_blocks: self.n_in / BLOCK, chunk_blocks: self.chunk / BLOCK }
    }
}

pub(crate) type ByChunk<'a> = (Columns<'a, Block>, (Columns<'a, BlockScale>, Columns<'a, f32>));

/// Rows whose scales are in one cache line, and whose blocks are in two: as few as threads can share out
/// without writing a line in common.
const ROWS_OF_LINE: usize = 64 / size_of::<BlockScale>();

/// How the rows of a panel lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    stride: usize,
    n_blocks: usize,
    chunk_blocks: usize,
}

impl Layout {
    fn n_chunks(self) -> usize {
        self.n_blocks / self.chunk_blocks
    }
}

/// A row, to be written.
pub(crate) struct RowMut<'a, 'b> {
    layout: Layout,
    column: usize,
    blocks: &'b mut Strip<'a, Block>,
    scales: &'b mut Strip<'a, BlockScale>,
    sums: &'b mut Strip<'a, f32>,
}

impl RowMut<'_, '_> {
    /// Quantises the row, chunk by chunk: `fill` writes the numbers from an input on.
    #[inline(always)]
    pub(crate) fn write<S: Simd>(&mut self, simd: S, fill: impl Fn(usize, &mut [f32])) {
        let Layout { chunk_blocks, .. } = self.layout;
        let mut values = [0.0; MAX_CHUNK];
        let values = &mut values[..chunk_blocks * BLOCK];
        for chunk_idx in 0..self.layout.n_chunks() {
            fill(chunk_idx * values.len(), values);
            let mut sum = 0.0;
            for (idx, values) in values.as_chunks::<BLOCK>().0.iter().enumerate() {
                let at = chunk_idx * chunk_blocks + idx;
                let block = &mut self.blocks.row_mut(at)[self.column];
                let (scale, of_block) = quantise(simd, values, block);
                self.scales.row_mut(at)[self.column] = scale;
                sum += of_block;
            }
            self.sums.row_mut(chunk_idx)[self.column] = sum;
        }
    }
}

/// A chunk of a panel's rows, to be written.
pub(crate) struct ChunkMut<'a> {
    pub(crate) layout: Layout,
    pub(crate) blocks: &'a mut [Block],
    pub(crate) scales: &'a mut [BlockScale],
    pub(crate) sums: &'a mut [f32],
}

impl ChunkMut<'_> {
    /// Quantises a block of a row; those of a row are written in order.
    #[inline(always)]
    pub(crate) fn write_block<S: Simd>(
        &mut self,
        simd: S,
        row_idx: usize,
        block_idx: usize,
        values: &[f32; BLOCK],
    ) {
        let at = block_idx * self.layout.stride + row_idx;
        let (scale, sum) = quantise(simd, values, &mut self.blocks[at]);
        self.scales[at] = scale;
        let before = if block_idx == 0 { 0.0 } else { self.sums[row_idx] };
        self.sums[row_idx] = before + sum;
    }
}

/// The scale of a block, and the sum of its numbers as they were rounded.
#[inline(always)]
fn quantise<S: Simd>(simd: S, values: &[f32; BLOCK], block: &mut Block) -> (BlockScale, f32) {
    let values = simd.load(values);
    let (step, inverse) = simd.step_of_bytes(values);
    let sum = simd.store_i8(simd.mul(values, inverse), &mut block.0);
    let step = simd.first_lane(step);
    let magic = MAGIC * step;
    (BlockScale { magic, byte_start: magic.to_bits() as i32 - 128 * sum }, sum as f32 * step)
}

#[cfg(test)]
mod tests;
