//! Products of whole matrices: tile rows shared out over the threads, and what is done with the outputs.
//!
//! Knows no layers. Matrices that multiply the same activations are fused: their tile rows are one list of
//! tasks, their outputs one row, each matrix' part filled up to sixteen.
//!
//! Invariants: each output is computed by one task, from its row and its weights alone.

use super::activations::{Activations, PANEL_ROWS, PanelMut};
use super::kernels::{Multiply, Outputs};
use super::layout::{Packed, TileRow};
use super::ops;
use super::pool::{Columns, Pool, TaskPanicked};
use super::simd::{LANES, Lanes, Simd, Tier, with_tier};

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
    /// `row` may end within the tile.
    fn write(self, outputs: &Lanes, row: &mut [f32]) {
        match (self, row.first_chunk_mut::<LANES>()) {
            (Self::Replaced, Some(row)) => *row = *outputs,
            (Self::AddedTo, Some(row)) => row.iter_mut().zip(outputs).for_each(|(to, y)| *to += y),
            (Self::Replaced, None) => row.iter_mut().zip(outputs).for_each(|(to, y)| *to = *y),
            (Self::AddedTo, None) => row.iter_mut().zip(outputs).for_each(|(to, y)| *to += y),
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

    fn tile_row<'a>(&self, memory: &'a [u8], mut tile_idx: usize) -> TileRow<'a> {
        let mut parts = self.parts.iter();
        loop {
            let part = parts.next().expect("a tile row is of one of the parts");
            if tile_idx < part.n_tiles() {
                return part.tile_row(memory, tile_idx);
            }
            tile_idx -= part.n_tiles();
        }
    }

    fn bias_of(&self, tile_idx: usize) -> Option<&[f32]> {
        self.bias.as_ref().map(|bias| &bias[tile_idx * LANES..][..LANES])
    }
}

/// Tile rows of a task: enough tasks that threads end at about the same time, and each long enough that
/// taking it costs nothing.
fn tiles_per_task(n_tiles: usize, n_threads: usize) -> usize {
    (n_tiles / (n_threads * 16)).clamp(1, 16)
}

impl Device<'_> {
    /// Multiplies rows by a matrix; `rows` are as wide as all its outputs, or end within its last tile.
    pub(crate) fn project(
        &mut self,
        fused: &Fused,
        activations: &Activations,
        rows: &mut [f32],
        into: Into,
    ) -> Result<(), TaskPanicked> {
        let n_columns = rows.len() / activations.n_rows().max(1);
        let n_tiles = tiles_per_task(fused.n_tiles(), self.pool.n_threads());
        let (tier, memory) = (self.tier, self.memory);
        let strips = Columns::new(rows, n_columns, n_tiles * LANES);
        self.pool.for_each(strips, |task_idx, mut strip| {
            let first_tile = task_idx * n_tiles;
            let tiles = first_tile..(first_tile + n_tiles).min(fused.n_tiles());
            let mut outputs: Outputs = [[0.0; LANES]; PANEL_ROWS];
            for panel_idx in 0..activations.n_panels() {
                let panel = activations.panel(panel_idx);
                for tile_idx in tiles.clone() {
                    let tile_row = fused.tile_row(memory, tile_idx);
                    with_tier!(tier, simd => simd.multiply(&tile_row, &panel, &mut outputs));
                    add_bias(&mut outputs, fused.bias_of(tile_idx));
                    for (row_idx, outputs) in activations.rows_of(panel_idx).zip(&outputs) {
                        into.write(outputs, &mut strip.row_mut(row_idx)[(tile_idx - first_tile) * LANES..]);
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
        let (tier, memory, chunk) = (self.tier, self.memory, gated.chunk());
        let up_first = gate_up.parts[0].n_tiles();
        let (layout, by_chunk) = gated.by_chunk();
        self.pool.for_each(by_chunk, |chunk_idx, (mut blocks, (mut scales, mut sums))| {
            let mut ups = [[0.0; LANES]; PANEL_ROWS];
            let mut tiles = [[[0.0; LANES]; PANEL_ROWS]; MAX_TILES];
            let tiles = &mut tiles[..chunk / LANES];
            for panel_idx in 0..activations.n_panels() {
                let mut part = PanelMut {
                    layout,
                    blocks: blocks.row_mut(panel_idx),
                    scales: scales.row_mut(panel_idx),
                    sums: sums.row_mut(panel_idx),
                };
                let multiply = |tile_idx: usize, outputs: &mut Outputs| {
                    let tile_row = gate_up.tile_row(memory, tile_idx);
                    let panel = activations.panel(panel_idx);
                    with_tier!(tier, simd => simd.multiply(&tile_row, &panel, outputs));
                    add_bias(outputs, gate_up.bias_of(tile_idx));
                };
                let n_rows = activations.rows_of(panel_idx).len();
                for (idx, gates) in tiles.iter_mut().enumerate() {
                    let tile_idx = chunk_idx * chunk / LANES + idx;
                    multiply(tile_idx, gates);
                    multiply(up_first + tile_idx, &mut ups);
                    with_tier!(tier, simd => ops::gate(simd, &mut gates[..n_rows], &ups));
                }
                with_tier!(tier, simd => write_tiles(simd, &mut part, n_rows, tiles));
            }
        })
    }
}

/// Tiles in the longest chunk.
const MAX_TILES: usize = super::layout::MAX_CHUNK / LANES;

/// Quantises the only chunk of a part from tiles of its inputs.
fn write_tiles<S: Simd>(simd: S, part: &mut PanelMut<'_>, n_rows: usize, tiles: &[Outputs]) {
    simd.run(
        #[inline(always)]
        || {
            for row_idx in 0..n_rows {
                part.write_row(simd, row_idx, |_, values| {
                    let (to, _) = values.as_chunks_mut::<LANES>();
                    for (to, tile) in to.iter_mut().zip(tiles) {
                        *to = tile[row_idx];
                    }
                });
            }
        },
    );
}

fn add_bias(outputs: &mut [Lanes], bias: Option<&[f32]>) {
    let Some(bias) = bias else { return };
    for row in outputs {
        row.iter_mut().zip(bias).for_each(|(y, bias)| *y += *bias);
    }
}

#[cfg(test)]
mod tests;
