//! Products of whole matrices: tile rows shared out over the threads, and what is done with the outputs.
//!
//! Knows no layers. Matrices that multiply the same activations are fused: their tile rows are one list of
//! tasks, their outputs one row, each matrix' part filled up to sixteen.
//!
//! Invariants: each output is computed by one task, from its row and its weights alone.

use std::ops::Range;

use super::activations::{Activations, ChunkMut, PANEL_ROWS};
use super::kernels::Multiply;
use super::layout::{BLOCK, Packed, TileRows};
use super::ops;
use super::pool::{Columns, Pool, TaskPanicked};
use super::simd::{LANES, Lanes, Tier, with_tier};

/// Matrices of the same inputs, side by side.
#[derive(Debug)]
pub(crate) struct Fused {
    pub(crate) parts: Vec<Packed>,
    /// Of all outputs, or of none.
    pub(crate) bias: Option<Vec<f32>>,
}

/// Where products are computed.
pub(crate) struct Device<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) tier: Tier,
    /// What packed matrices lie in.
    pub(crate) memory: &'a [u8],
}

/// What becomes of what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Replaced,
    AddedTo,
}

impl Into {
    /// Of a row, the outputs of some tile rows, `step` apart; the row may end within the last of them.
    fn write(self, outputs: &[Lanes], step: usize, row: &mut [f32]) {
        let (whole, rest) = row.as_chunks_mut::<LANES>();
        let of_row = outputs.iter().step_by(step);
        match self {
            Self::Replaced => whole.iter_mut().zip(of_row.clone()).for_each(|(to, from)| *to = *from),
            Self::AddedTo => {
                for (to, from) in whole.iter_mut().zip(of_row.clone()) {
                    to.iter_mut().zip(from).for_each(|(to, y)| *to += *y);
                }
            }
        }
        for (to, y) in rest.iter_mut().zip(of_row.skip(whole.len()).flatten()) {
            *to = if self == Self::Replaced { *y } else { *to + *y };
        }
    }
}

impl Fused {
    pub(crate) fn chunk(&self) -> usize {
        self.parts[0].chunk
    }

    pub(crate) fn n_tiles(&self) -> usize {
        self.parts.iter().map(Packed::n_tiles).sum()
    }

    /// Outputs, those that fill up included.
    pub(crate) fn n_columns(&self) -> usize {
        self.n_tiles() * LANES
    }

    /// Where a part's outputs begin.
    pub(crate) fn column_of(&self, part_idx: usize) -> usize {
        self.parts[..part_idx].iter().map(|part| part.n_tiles() * LANES).sum()
    }

    /// Some tile rows, in pieces that are of one matrix and whose outputs fit into `Outputs`, and where each
    /// piece begins.
    fn pieces<'a>(
        &'a self,
        memory: &'a [u8],
        tiles: Range<usize>,
        n_rows: usize,
    ) -> impl Iterator<Item = (usize, TileRows<'a>)> {
        let most = (N_OUTPUTS / n_rows.max(1)).max(1);
        let mut first_of_part = 0;
        self.parts.iter().flat_map(move |part| {
            let first = first_of_part;
            first_of_part += part.n_tiles();
            let of_part = tiles.start.max(first)..tiles.end.min(first_of_part);
            of_part.clone().step_by(most).map(move |start| {
                let end = (start + most).min(of_part.end);
                (start, part.tile_rows(memory, start - first..end - first))
            })
        })
    }

    /// Adds to the outputs of all rows for a tile row, then for the next.
    fn add_bias(&self, first_tile: usize, n_rows: usize, outputs: &mut [Lanes]) {
        let Some(bias) = &self.bias else { return };
        let (tiles, _) = bias.as_chunks::<LANES>();
        for (outputs, bias) in outputs.chunks_exact_mut(n_rows).zip(&tiles[first_tile..]) {
            for output in outputs {
                output.iter_mut().zip(bias).for_each(|(y, bias)| *y += *bias);
            }
        }
    }
}

/// Vectors of outputs that a kernel writes at once: four tile rows by sixteen rows, or 64 by one.
const N_OUTPUTS: usize = 4 * PANEL_ROWS;

/// What a task's rows take at most, where each thread has its own: half of what a core's own cache has.
const CACHED_BYTES: usize = 1 << 19;

/// What a task reads at least, because to take one costs a tenth of a microsecond.
const TASK_BYTES: usize = 1 << 15;

impl Device<'_> {
    /// Tile rows of a task: few enough that threads end at about the same time.
    fn tiles_per_task(&self, fused: &Fused, n_panels: usize) -> usize {
        let (n_tiles, n_threads) = (fused.n_tiles(), self.pool.n_threads());
        let long_enough = TASK_BYTES.div_ceil(fused.parts[0].tile_bytes());
        // Many rows are fetched from afar once for the tile rows of a task.
        let worth_fetching = if n_panels > 2 { (n_tiles / (8 * n_threads)).min(4) } else { 1 };
        long_enough.max(worth_fetching).max(n_tiles / (64 * n_threads))
    }

    /// Panels of a task. Few rows are all in every task, and threads share out the weights. Of many rows
    /// each thread has its own, whichever matrix they are multiplied by, because what one thread wrote costs
    /// another dear to read; and as many of them at a time as its cache holds.
    fn panels_per_task(&self, activations: &Activations) -> usize {
        let n_panels = activations.n_panels();
        if n_panels < 2 * self.pool.n_threads() {
            return n_panels.max(1);
        }
        (CACHED_BYTES / activations.panel_bytes()).clamp(1, n_panels.div_ceil(2 * self.pool.n_threads()))
    }

    /// Multiplies rows by a matrix; `rows` are as wide as all its outputs, or end within its last tile.
    pub(crate) fn project(
        &mut self,
        fused: &Fused,
        activations: &Activations,
        rows: &mut [f32],
        into: Into,
    ) -> Result<(), TaskPanicked> {
        let n_columns = rows.len() / activations.n_rows().max(1);
        let n_panels = self.panels_per_task(activations);
        let n_tiles = self.tiles_per_task(fused, n_panels);
        let (tier, memory, n_strips) = (self.tier, self.memory, fused.n_tiles().div_ceil(n_tiles));
        let strips = Columns::new(rows, n_columns, n_tiles * LANES).in_bands(n_panels * PANEL_ROWS);
        self.pool.for_each(strips, |task_idx, mut strip| {
            let first_tile = task_idx % n_strips * n_tiles;
            let tiles = first_tile..(first_tile + n_tiles).min(fused.n_tiles());
            let first_panel = task_idx / n_strips * n_panels;
            let mut outputs = [[0.0; LANES]; N_OUTPUTS];
            for panel_idx in first_panel..(first_panel + n_panels).min(activations.n_panels()) {
                let (panel, rows) = (activations.panel(panel_idx), activations.rows_of(panel_idx));
                for (tile_idx, piece) in fused.pieces(memory, tiles.clone(), panel.n_rows) {
                    let outputs = &mut outputs[..piece.n_tiles() * panel.n_rows];
                    with_tier!(tier, simd => simd.multiply(&piece, &panel, outputs));
                    fused.add_bias(tile_idx, panel.n_rows, outputs);
                    for (idx, row_idx) in rows.clone().enumerate() {
                        let row_idx = row_idx - first_panel * PANEL_ROWS;
                        let row = &mut strip.row_mut(row_idx)[(tile_idx - first_tile) * LANES..];
                        let n_columns = row.len().min(piece.n_tiles() * LANES);
                        into.write(&outputs[idx..], panel.n_rows, &mut row[..n_columns]);
                    }
                }
            }
        })
    }

    /// `silu(gate x) · up x`, quantised for what comes next. Both matrices have the same outputs.
    pub(crate) fn gate(
        &mut self,
        gate_up: &Fused,
        activations: &Activations,
        gated: &mut Activations,
    ) -> Result<(), TaskPanicked> {
        let (tier, memory, n_tiles) = (self.tier, self.memory, gated.chunk() / LANES);
        let up_first = gate_up.parts[0].n_tiles();
        let (n_panels, n_chunks) = (self.panels_per_task(activations), gated.n_chunks());
        let (layout, by_chunk) = gated.by_chunk(n_panels);
        self.pool.for_each(by_chunk, |task_idx, (mut blocks, (mut scales, mut sums))| {
            let (mut gates, mut ups) = ([[0.0; LANES]; N_OUTPUTS], [[0.0; LANES]; N_OUTPUTS]);
            let (chunk_idx, first_panel) = (task_idx % n_chunks, task_idx / n_chunks * n_panels);
            for panel_idx in first_panel..(first_panel + n_panels).min(activations.n_panels()) {
                let idx = panel_idx - first_panel;
                let (blocks, scales, sums) = (blocks.row_mut(idx), scales.row_mut(idx), sums.row_mut(idx));
                let mut part = ChunkMut { layout, blocks, scales, sums };
                let panel = activations.panel(panel_idx);
                let multiply = |piece: &TileRows<'_>, first_tile: usize, outputs: &mut [Lanes]| {
                    with_tier!(tier, simd => simd.multiply(piece, &panel, outputs));
                    gate_up.add_bias(first_tile, panel.n_rows, outputs);
                };
                let first_tile = chunk_idx * n_tiles;
                let of_gate = gate_up.pieces(memory, first_tile..first_tile + n_tiles, panel.n_rows);
                let up_tiles = up_first + first_tile..up_first + first_tile + n_tiles;
                let of_up = gate_up.pieces(memory, up_tiles, panel.n_rows);
                for ((gate_tile, gate), (up_tile, up)) in of_gate.zip(of_up) {
                    let n_outputs = gate.n_tiles() * panel.n_rows;
                    let (gates, ups) = (&mut gates[..n_outputs], &mut ups[..n_outputs]);
                    multiply(&gate, gate_tile, gates);
                    multiply(&up, up_tile, ups);
                    let first_block = gate_tile - first_tile;
                    with_tier!(tier, simd => ops::gate(simd, (gates, ups), &mut part, (first_block, panel.n_rows)));
                }
            }
        })
    }
}

const _: () = assert!(BLOCK == LANES, "a tile row's outputs are one block of what comes next");

#[cfg(test)]
mod tests;
