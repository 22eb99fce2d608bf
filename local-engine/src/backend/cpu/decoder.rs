//! One step of the decoder over a flattened batch of chunks.
//!
//! Keeps no requests, and decides nothing: tokens, positions and pages come with the chunks. `step` is the
//! order of things; each line of it is one round of the pool, or less.
//!
//! Invariants: what is computed of a token depends on the tokens before it alone; nothing is allocated
//! by a step that is no larger than one before it.

use super::activations::Activations;
use super::aligned::Aligned;
use super::attention::{TILE_ROWS, Tile, attend};
use super::kv::Pages;
use super::matmul::{Device, Into};
use super::model::{Layer, Model};
use super::ops;
use super::pool::{Chunks, Distinct, Pool, Ranges, TaskPanicked};
use super::simd::{LANES, Simd, Tier, with_tier};
use crate::backend::{BLOCK_TOKENS, BackendError, Chunk, Logits};
use crate::model::RopeTable;

/// What a step works on, kept from step to step.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The residual stream, `[token][n_hidden]`.
    hidden: Aligned<f32>,
    /// Queries, keys and values side by side, `[token]`.
    qkv: Aligned<f32>,
    /// What heads took from the values, `[tile][kv head][token][head of the group][head_dim]`.
    attended: Aligned<f32>,
    /// Room for the queries of each task, in an order of its own.
    queries: Aligned<f32>,
    /// The rows that want logits.
    last_hidden: Vec<f32>,
    input: Activations,
    gated: Activations,
    tokens: Vec<Token>,
    written: Written,
    tiles: Vec<TokenTile>,
    tasks: Vec<Task>,
    /// Where each task's outputs end.
    task_ends: Vec<usize>,
}

/// The blocks that a step writes.
#[derive(Debug, Default)]
struct Written {
    blocks: Distinct,
    /// Where the tokens of each end in the flattened batch.
    token_ends: Vec<usize>,
    /// The same, in numbers of their rows.
    row_ends: Vec<usize>,
}

/// A token of the flattened batch.
#[derive(Debug, Clone, Copy)]
struct Token {
    tile_idx: usize,
    position: usize,
}

/// Consecutive tokens of a chunk that attend together.
#[derive(Debug, Clone, Copy)]
struct TokenTile {
    chunk_idx: usize,
    /// Of the first token.
    position: usize,
    /// Its place in the flattened batch.
    first_token: usize,
    n_tokens: usize,
}

/// Query rows of a tile's tokens, for one head of keys and values.
#[derive(Debug, Clone, Copy)]
struct Task {
    tile_idx: usize,
    kv_head: usize,
    first_row: usize,
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
    pub(crate) fn run(&mut self, logits: &mut Logits) -> Result<(), BackendError> {
        let model = self.model;
        if !self.lay_out_blocks() {
            return Err(BackendError::Unsupported("two chunks write the same block".to_owned()));
        }
        self.lay_out();
        self.embed()?;
        for (layer_idx, layer) in model.layers.iter().enumerate() {
            self.normed_input(&layer.attention_norm, layer.qkv.chunk())?;
            self.project_qkv(layer)?;
            self.rotate_and_keep(layer_idx, layer)?;
            self.attend(layer_idx, layer)?;
            self.attended_input(layer.o.chunk())?;
            self.add_to_hidden(layer, false)?;
            self.normed_input(&layer.mlp_norm, layer.gate_up.chunk())?;
            self.gate(layer)?;
            self.add_to_hidden(layer, true)?;
        }
        Ok(self.head(logits)?)
    }

    fn device(&mut self) -> (Device<'_>, &mut Scratch) {
        let device = Device { pool: self.pool, tier: self.tier, memory: &self.model.memory };
        (device, self.scratch)
    }

    /// The blocks that the chunks write, and where the tokens of each end; no two may write the same.
    fn lay_out_blocks(&mut self) -> bool {
        let Written { blocks, token_ends, .. } = &mut self.scratch.written;
        token_ends.clear();
        let mut first_token = 0;
        for chunk in self.chunks {
            let end = chunk.start + chunk.tokens.len();
            for page_idx in chunk.start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS) {
                token_ends.push(first_token + end.min((page_idx + 1) * BLOCK_TOKENS) - chunk.start);
            }
            first_token += chunk.tokens.len();
        }
        blocks.replace(self.chunks.iter().flat_map(|chunk| {
            let end = chunk.start + chunk.tokens.len();
            let written = chunk.start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS);
            chunk.blocks[written].iter().map(|block| block.index())
        }))
    }

    /// Flattens the batch, and cuts its attention into tasks.
    fn lay_out(&mut self) {
        let hparams = &self.model.hparams;
        let scratch = &mut *self.scratch;
        let n_tokens: usize = self.chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        scratch.tokens.clear();
        scratch.hidden.resize(n_tokens * hparams.n_hidden, 0.0);
        scratch.attended.resize(n_tokens * hparams.n_heads * hparams.head_dim, 0.0);
        scratch.queries.resize(scratch.attended.len(), 0.0);
        scratch.tiles.clear();
        scratch.tasks.clear();
        scratch.task_ends.clear();
        let n_sharing = hparams.n_heads / hparams.n_kv_heads;
        // Few rows are spread over the threads; many share what they read.
        let tile_rows = (n_tokens * hparams.n_heads / self.pool.n_threads()).clamp(1, TILE_ROWS);
        let tile_tokens = (tile_rows / n_sharing).max(1);
        let (mut first_token, mut end) = (0, 0);
        for (chunk_idx, chunk) in self.chunks.iter().enumerate() {
            for tile in (0..chunk.tokens.len()).step_by(tile_tokens) {
                let n_of_tile = tile_tokens.min(chunk.tokens.len() - tile);
                let (tile_idx, position) = (scratch.tiles.len(), chunk.start + tile);
                scratch.tiles.push(TokenTile { chunk_idx, position, first_token, n_tokens: n_of_tile });
                scratch.tokens.extend((0..n_of_tile).map(|idx| Token { tile_idx, position: position + idx }));
                first_token += n_of_tile;
                for kv_head in 0..hparams.n_kv_heads {
                    for first_row in (0..n_of_tile * n_sharing).step_by(tile_rows) {
                        end += tile_rows.min(n_of_tile * n_sharing - first_row) * hparams.head_dim;
                        scratch.tasks.push(Task { tile_idx, kv_head, first_row });
                        scratch.task_ends.push(end);
                    }
                }
            }
        }
    }

    fn embed(&mut self) -> Result<(), TaskPanicked> {
        let (n_hidden, embedding) = (self.model.hparams.n_hidden, &self.model.embedding);
        let chunks = self.chunks;
        let Scratch { tokens, tiles, hidden, .. } = &mut *self.scratch;
        let rows = Chunks::new(hidden, ROWS_PER_TASK * n_hidden);
        self.pool.for_each(rows, |task_idx, rows| {
            for (idx, row) in rows.chunks_exact_mut(n_hidden).enumerate() {
                let token = tokens[task_idx * ROWS_PER_TASK + idx];
                let chunk = &chunks[tiles[token.tile_idx].chunk_idx];
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

    /// Norms the heads of queries and keys where the model does, turns them to their positions, and keeps
    /// keys and values: a task for each block that is written.
    fn rotate_and_keep(&mut self, layer_idx: usize, layer: &Layer) -> Result<(), TaskPanicked> {
        let hparams = &self.model.hparams;
        let (head_dim, n_kv_heads, eps) = (hparams.head_dim, hparams.n_kv_heads, hparams.norm_eps);
        let (tier, rope, width) = (self.tier, self.rope, layer.qkv.n_columns());
        let (keys_at, values_at) = (layer.qkv.column_of(1), layer.qkv.column_of(2));
        let Scratch { tokens, qkv, written, .. } = &mut *self.scratch;
        let turn = |heads: &mut [f32], norm: &Option<Vec<f32>>, position: usize| {
            for head in heads.chunks_exact_mut(head_dim) {
                if let Some(weights) = norm {
                    with_tier!(tier, simd => ops::rms_norm(simd, head, weights, eps));
                }
                rope.apply(position, head);
            }
        };
        written.row_ends.clear();
        written.row_ends.extend(written.token_ends.iter().map(|end| end * width));
        let rows = Ranges::new(qkv, &written.row_ends);
        let is_shared = tokens.len() >= FEW_TOKENS;
        let (here, layer_blocks) = ((&mut *self.pool, is_shared), (layer_idx, &written.blocks));
        self.pages.for_each_block(here, layer_blocks, rows, |task_idx, rows, mut block| {
            let end = written.token_ends[task_idx];
            let tokens = &tokens[end - rows.len() / width..end];
            for (token, row) in tokens.iter().zip(rows.chunks_exact_mut(width)) {
                let (queries, keys_and_values) = row.split_at_mut(keys_at);
                let (keys, values) = keys_and_values.split_at_mut(values_at - keys_at);
                turn(queries, &layer.q_norm, token.position);
                turn(keys, &layer.k_norm, token.position);
                let slot = token.position % BLOCK_TOKENS;
                let pairs = keys.chunks_exact(head_dim).zip(values.chunks_exact(head_dim)).take(n_kv_heads);
                with_tier!(tier, simd => simd.run(|| {
                    pairs.enumerate().for_each(|(head, pair)| block.write(simd, head, slot, pair));
                }));
            }
        })
    }

    fn attend(&mut self, layer_idx: usize, layer: &Layer) -> Result<(), TaskPanicked> {
        let hparams = &self.model.hparams;
        let (head_dim, n_sharing) = (hparams.head_dim, hparams.n_heads / hparams.n_kv_heads);
        let (tier, pages, chunks, width) = (self.tier, &*self.pages, self.chunks, layer.qkv.n_columns());
        // Scores are logarithms to the base of two.
        let softness = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        let Scratch { qkv, attended, queries, tiles, tasks, task_ends, .. } = &mut *self.scratch;
        let window = hparams.windows[layer_idx];
        let rooms = (Ranges::new(attended, task_ends), Ranges::new(queries, task_ends));
        self.pool.for_each(rooms, |task_idx, rooms| {
            let Task { tile_idx, kv_head, first_row } = tasks[task_idx];
            let tile = &tiles[tile_idx];
            let positions: [usize; TILE_ROWS] =
                std::array::from_fn(|row| tile.position + (first_row + row) / n_sharing);
            let seen = Tile {
                pages,
                layer: layer_idx,
                kv_head,
                blocks: chunks[tile.chunk_idx].blocks,
                window,
                head_dim,
                positions: &positions[..rooms.0.len() / head_dim],
            };
            let query = |row: usize, to: &mut [f32]| {
                let (token, head) =
                    (tile.first_token + (first_row + row) / n_sharing, (first_row + row) % n_sharing);
                let from = &qkv[token * width + (kv_head * n_sharing + head) * head_dim..][..head_dim];
                to.iter_mut().zip(from).for_each(|(to, q)| *to = q * softness);
            };
            with_tier!(tier, simd => attend(simd, &seen, query, rooms));
        })
    }

    /// What was attended to, as the next product's input.
    fn attended_input(&mut self, chunk: usize) -> Result<(), TaskPanicked> {
        let hparams = &self.model.hparams;
        let (tier, n_tokens) = (self.tier, self.scratch.tokens.len());
        let shared = hparams.n_heads / hparams.n_kv_heads * hparams.head_dim;
        let Scratch { input, attended, tokens, tiles, .. } = &mut *self.scratch;
        let n_in = hparams.n_heads * hparams.head_dim;
        input.reset(n_tokens, n_in, chunk);
        input.for_each_row(self.pool, |row_idx, row| {
            let tile = &tiles[tokens[row_idx].tile_idx];
            let of_tile = &attended[tile.first_token * n_in..][..tile.n_tokens * n_in];
            let fill = |first: usize, values: &mut [f32]| {
                for (idx, values) in values.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                    let column = first + idx * LANES;
                    let row_of_head = column / shared * tile.n_tokens + row_idx - tile.first_token;
                    let from = row_of_head * shared + column % shared;
                    values.copy_from_slice(&of_tile[from..][..LANES]);
                }
            };
            with_tier!(tier, simd => ops::quantise(simd, row, fill));
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

/// Fewer than so many tokens are turned by the caller, in the time that telling the others takes.
const FEW_TOKENS: usize = 4;

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
    into.reset(rows.len() / n_in, n_in, chunk);
    into.for_each_row(pool, |row_idx, to| {
        let row = &rows[row_idx * n_in..][..n_in];
        with_tier!(tier, simd => ops::quantise_normed(simd, row, norm, to));
    })
}
