//! One step of the decoder over a flattened batch of chunks.
//!
//! Keeps no requests, and decides nothing: tokens, positions and pages come with the chunks. `step` is the
//! order of things; each line of it is one round of the pool, or less.
//!
//! Invariants: what is computed of a token depends on the tokens before it alone; nothing is allocated
//! by a step that is no larger than one before it.

use super::activations::{Activations, PanelMut};
use super::attention::{TILE_ROWS, Tile, attend};
use super::kv::{PageId, Pages};
use super::matmul::{Device, Into};
use super::model::{Layer, Model};
use super::ops;
use super::pool::{Chunks, Pool, Ranges, TaskPanicked};
use super::simd::{LANES, Tier, with_tier};
use crate::backend::{BLOCK_TOKENS, Chunk, Logits};
use crate::model::RopeTable;

/// What a step works on, kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The residual stream, `[token][n_hidden]`.
    hidden: Vec<f32>,
    /// Queries, keys and values side by side, `[token]`.
    qkv: Vec<f32>,
    /// What heads took from the values, `[kv head][token][head of the group][head_dim]`.
    attended: Vec<f32>,
    /// The rows that want logits.
    last_hidden: Vec<f32>,
    input: Activations,
    gated: Activations,
    tokens: Vec<Token>,
    tiles: Vec<Task>,
    tile_ends: Vec<usize>,
}

/// A token of the flattened batch.
#[derive(Debug, Clone, Copy)]
struct Token {
    chunk_idx: usize,
    position: usize,
}

/// Query rows of a chunk, for one head of keys and values.
#[derive(Debug, Clone, Copy)]
struct Task {
    chunk_idx: usize,
    /// Of the flattened batch, the first of the chunk.
    first_token: usize,
    kv_head: usize,
    first_row: usize,
    n_rows: usize,
}

/// All that a step needs.
pub(crate) struct Step<'a> {
    pub(crate) pool: &'a mut Pool,
    pub(crate) tier: Tier,
    pub(crate) model: &'a Model,
    pub(crate) rope: &'a RopeTable,
    pub(crate) pages: &'a mut Pages,
    pub(crate) scratch: &'a mut Scratch,
    pub(crate) chunks: &'a [Chunk<'a>],
}

impl Step<'_> {
    pub(crate) fn run(&mut self, logits: &mut Logits) -> Result<(), TaskPanicked> {
        let model = self.model;
        self.lay_out();
        self.embed()?;
        for (layer_idx, layer) in model.layers.iter().enumerate() {
            self.normed_input(&layer.attention_norm, layer.qkv.chunk())?;
            self.project_qkv(layer)?;
            self.rotate(layer)?;
            self.keep(layer_idx, layer);
            self.attend(layer_idx, layer)?;
            self.attended_input(layer.o.chunk())?;
            self.add_to_hidden(layer, false)?;
            self.normed_input(&layer.mlp_norm, layer.gate_up.chunk())?;
            self.gate(layer)?;
            self.add_to_hidden(layer, true)?;
        }
        self.head(logits)
    }

    fn device(&mut self) -> (Device<'_>, &mut Scratch) {
        let device = Device { pool: self.pool, tier: self.tier, memory: &self.model.memory };
        (device, self.scratch)
    }

    /// Flattens the batch, and cuts its attention into tasks.
    fn lay_out(&mut self) {
        let hparams = &self.model.hparams;
        let scratch = &mut *self.scratch;
        scratch.tokens.clear();
        for (chunk_idx, chunk) in self.chunks.iter().enumerate() {
            let positions = chunk.start..chunk.start + chunk.tokens.len();
            scratch.tokens.extend(positions.map(|position| Token { chunk_idx, position }));
        }
        let n_tokens = scratch.tokens.len();
        scratch.hidden.resize(n_tokens * hparams.n_hidden, 0.0);
        scratch.attended.resize(n_tokens * hparams.n_heads * hparams.head_dim, 0.0);
        scratch.tiles.clear();
        scratch.tile_ends.clear();
        let n_sharing = hparams.n_heads / hparams.n_kv_heads;
        let mut end = 0;
        for kv_head in 0..hparams.n_kv_heads {
            let mut first_token = 0;
            for (chunk_idx, chunk) in self.chunks.iter().enumerate() {
                let n_of_chunk = chunk.tokens.len() * n_sharing;
                for first_row in (0..n_of_chunk).step_by(TILE_ROWS) {
                    let n_rows = TILE_ROWS.min(n_of_chunk - first_row);
                    end += n_rows * hparams.head_dim;
                    scratch.tiles.push(Task { chunk_idx, first_token, kv_head, first_row, n_rows });
                    scratch.tile_ends.push(end);
                }
                first_token += chunk.tokens.len();
            }
        }
    }

    fn embed(&mut self) -> Result<(), TaskPanicked> {
        let (n_hidden, embedding) = (self.model.hparams.n_hidden, &self.model.embedding);
        let (chunks, tokens) = (self.chunks, &self.scratch.tokens);
        let rows = Chunks::new(&mut self.scratch.hidden, ROWS_PER_TASK * n_hidden);
        self.pool.for_each(rows, |task_idx, rows| {
            for (idx, row) in rows.chunks_exact_mut(n_hidden).enumerate() {
                let token = tokens[task_idx * ROWS_PER_TASK + idx];
                let chunk = &chunks[token.chunk_idx];
                let token_id = chunk.tokens[token.position - chunk.start];
                embedding.read_floats(token_id as usize * n_hidden, row);
            }
        })
    }

    /// The residual stream, normed, as the next product's input.
    fn normed_input(&mut self, weights: &[f32], chunk: usize) -> Result<(), TaskPanicked> {
        let hparams = &self.model.hparams;
        let (n_hidden, norm, tier) = (hparams.n_hidden, (weights, hparams.norm_eps), self.tier);
        let scratch = &mut *self.scratch;
        quantise_normed(self.pool, tier, (&scratch.hidden, n_hidden), (norm, chunk), &mut scratch.input)
    }

    fn project_qkv(&mut self, layer: &Layer) -> Result<(), TaskPanicked> {
        let (mut device, scratch) = self.device();
        scratch.qkv.resize(scratch.tokens.len() * layer.qkv.n_columns(), 0.0);
        device.project(&layer.qkv, &scratch.input, &mut scratch.qkv, Into::Replaced)
    }

    /// Norms the heads of queries and keys where the model does, and turns them to their positions.
    fn rotate(&mut self, layer: &Layer) -> Result<(), TaskPanicked> {
        let hparams = &self.model.hparams;
        let (head_dim, eps, tier, rope) = (hparams.head_dim, hparams.norm_eps, self.tier, self.rope);
        let width = layer.qkv.n_columns();
        let heads = [
            (0, hparams.n_heads, &layer.q_norm),
            (layer.qkv.column_of(1), hparams.n_kv_heads, &layer.k_norm),
        ];
        let tokens = &self.scratch.tokens;
        let rows = Chunks::new(&mut self.scratch.qkv, ROWS_PER_TASK * width);
        self.pool.for_each(rows, |task_idx, rows| {
            for (idx, row) in rows.chunks_exact_mut(width).enumerate() {
                let token = tokens[task_idx * ROWS_PER_TASK + idx];
                for (first_column, n_heads, norm) in heads {
                    for head in row[first_column..][..n_heads * head_dim].chunks_exact_mut(head_dim) {
                        if let Some(weights) = norm {
                            with_tier!(tier, simd => ops::rms_norm(simd, head, weights, eps));
                        }
                        rope.apply(token.position, head);
                    }
                }
            }
        })
    }

    /// Keeps the tokens' keys and values in their pages.
    fn keep(&mut self, layer_idx: usize, layer: &Layer) {
        let hparams = &self.model.hparams;
        let (head_dim, scratch) = (hparams.head_dim, &*self.scratch);
        let (keys_at, values_at) = (layer.qkv.column_of(1), layer.qkv.column_of(2));
        for (token, row) in scratch.tokens.iter().zip(scratch.qkv.chunks_exact(layer.qkv.n_columns())) {
            let block = self.chunks[token.chunk_idx].blocks[token.position / BLOCK_TOKENS].index();
            for head in 0..hparams.n_kv_heads {
                let key = &row[keys_at + head * head_dim..][..head_dim];
                let value = &row[values_at + head * head_dim..][..head_dim];
                let id = PageId { layer: layer_idx, block, head };
                self.pages.write(id, token.position % BLOCK_TOKENS, key, value);
            }
        }
    }

    fn attend(&mut self, layer_idx: usize, layer: &Layer) -> Result<(), TaskPanicked> {
        let hparams = &self.model.hparams;
        let (head_dim, n_sharing) = (hparams.head_dim, hparams.n_heads / hparams.n_kv_heads);
        let (tier, pages, chunks, width) = (self.tier, &*self.pages, self.chunks, layer.qkv.n_columns());
        let softness = 1.0 / (head_dim as f32).sqrt();
        let Scratch { qkv, attended, tiles, tile_ends, .. } = &mut *self.scratch;
        let window = hparams.windows[layer_idx];
        self.pool.for_each(Ranges::new(attended, tile_ends), |task_idx, sums| {
            let task = tiles[task_idx];
            let chunk = &chunks[task.chunk_idx];
            let position_of = |row: usize| chunk.start + (task.first_row + row) / n_sharing;
            let positions: [usize; TILE_ROWS] = std::array::from_fn(position_of);
            let tile = Tile {
                pages,
                layer: layer_idx,
                kv_head: task.kv_head,
                blocks: chunk.blocks,
                window,
                head_dim,
                positions: &positions[..task.n_rows],
            };
            let query = |row: usize, to: &mut [f32]| {
                let row = task.first_row + row;
                let (token, head) =
                    (task.first_token + row / n_sharing, task.kv_head * n_sharing + row % n_sharing);
                let from = &qkv[token * width + head * head_dim..][..head_dim];
                to.iter_mut().zip(from).for_each(|(to, q)| *to = q * softness);
            };
            with_tier!(tier, simd => attend(simd, &tile, query, sums));
        })
    }

    /// What was attended to, as the next product's input.
    fn attended_input(&mut self, chunk: usize) -> Result<(), TaskPanicked> {
        let hparams = &self.model.hparams;
        let (tier, n_tokens) = (self.tier, self.scratch.tokens.len());
        let shared = hparams.n_heads / hparams.n_kv_heads * hparams.head_dim;
        let Scratch { input, attended, .. } = &mut *self.scratch;
        input.reset(n_tokens, hparams.n_heads * hparams.head_dim, chunk);
        let (layout, by_panel) = input.by_panel();
        self.pool.for_each(by_panel, |panel_idx, (blocks, (scales, sums))| {
            let mut part = PanelMut { layout, blocks, scales, sums };
            for (row_idx, token) in layout.rows_of(panel_idx, n_tokens).enumerate() {
                let fill = |first: usize, values: &mut [f32]| {
                    for (idx, values) in values.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                        let column = first + idx * LANES;
                        let from = (column / shared * n_tokens + token) * shared + column % shared;
                        values.copy_from_slice(&attended[from..][..LANES]);
                    }
                };
                with_tier!(tier, simd => ops::quantise(simd, &mut part, row_idx, fill));
            }
        })
    }

    fn gate(&mut self, layer: &Layer) -> Result<(), TaskPanicked> {
        let n_intermediate = self.model.hparams.n_intermediate;
        let (mut device, scratch) = self.device();
        scratch.gated.reset(scratch.tokens.len(), n_intermediate, layer.down.chunk());
        device.gate(&layer.gate_up, &scratch.input, &mut scratch.gated)
    }

    /// The last product of a half of a layer: `o` after attention, `down` after the gate.
    fn add_to_hidden(&mut self, layer: &Layer, after_gate: bool) -> Result<(), TaskPanicked> {
        let (mut device, scratch) = self.device();
        let (fused, activations) =
            if after_gate { (&layer.down, &scratch.gated) } else { (&layer.o, &scratch.input) };
        device.project(fused, activations, &mut scratch.hidden, Into::AddedTo)
    }

    /// Logits of the rows that want them.
    fn head(&mut self, logits: &mut Logits) -> Result<(), TaskPanicked> {
        let hparams = &self.model.hparams;
        let (n_hidden, n_vocab) = (hparams.n_hidden, hparams.n_vocab);
        let scratch = &mut *self.scratch;
        scratch.last_hidden.clear();
        let mut end = 0;
        for chunk in self.chunks {
            end += chunk.tokens.len();
            let rows = (end - chunk.n_logits) * n_hidden..end * n_hidden;
            scratch.last_hidden.extend_from_slice(&scratch.hidden[rows]);
        }
        let n_rows = scratch.last_hidden.len() / n_hidden;
        // Not `reset`: every value is written, and zeroing megabytes takes its time.
        logits.n_vocab = n_vocab;
        logits.values.resize(n_rows * n_vocab, 0.0);
        if n_rows == 0 {
            return Ok(());
        }
        let norm = (&self.model.norm[..], hparams.norm_eps);
        let rows = (&scratch.last_hidden[..], n_hidden);
        let chunk = self.model.head.chunk();
        quantise_normed(self.pool, self.tier, rows, (norm, chunk), &mut scratch.input)?;
        let model = self.model;
        let (mut device, scratch) = self.device();
        device.project(&model.head, &scratch.input, &mut logits.values, Into::Replaced)
    }
}

/// Rows of a task of the cheap things.
const ROWS_PER_TASK: usize = 16;

/// Norms rows into activations.
fn quantise_normed(
    pool: &mut Pool,
    tier: Tier,
    (rows, n_in): (&[f32], usize),
    (norm, chunk): ((&[f32], f32), usize),
    into: &mut Activations,
) -> Result<(), TaskPanicked> {
    let n_rows = rows.len() / n_in;
    into.reset(n_rows, n_in, chunk);
    let (layout, by_panel) = into.by_panel();
    pool.for_each(by_panel, |panel_idx, (blocks, (scales, sums))| {
        let mut part = PanelMut { layout, blocks, scales, sums };
        for (row_idx, row) in layout.rows_of(panel_idx, n_rows).enumerate() {
            let row = &rows[row * n_in..][..n_in];
            with_tier!(tier, simd => ops::quantise_normed(simd, row, norm, &mut part, row_idx));
        }
    })
}
