//! The parts of a step one at a time, so that a benchmark can time them.
//!
//! Times nothing itself, and is no part of a step. What the numbers are does not matter here, so all of
//! them are made up.

use std::hint::black_box;

use super::activations::Activations;
use super::aligned::Aligned;
use super::attention::{TILE_ROWS, Tile, attend};
use super::kv::{KvFormat, Pages};
use super::layout::Packed;
use super::matmul::{Device, Fused, Into};
use super::memory::Memory;
use super::ops;
use super::pool::{Chunks, Pool, Ranges};
use super::simd::{Scalar, Tier, with_tier};
use super::{Isa, tier_of};
use crate::backend::{BLOCK_TOKENS, BackendError};
use crate::kv::block_pool::BlockPool;
use crate::model::Hparams;
use crate::weights::{Linear, Matrix, Tensor};

/// Reads memory and does nothing with it: what a product of one row could reach at best.
pub struct Bandwidth {
    pool: Pool,
    memory: Memory<f32>,
}

impl Bandwidth {
    /// Of so many bytes, a few times the last cache.
    pub fn new(n_threads: usize, n_bytes: usize) -> Result<Self, BackendError> {
        let mut memory = Memory::zeroed(n_bytes / size_of::<f32>(), "the memory to read")?;
        memory.fill(1.0);
        Ok(Self { pool: Pool::new(n_threads), memory })
    }

    pub fn n_bytes(&self) -> usize {
        size_of_val(&*self.memory)
    }

    pub fn run(&mut self) -> Result<(), BackendError> {
        let tier = tier_of(None)?;
        self.pool.for_each(Chunks::new(&mut self.memory, 1 << 18), |_, part| {
            with_tier!(tier, simd => black_box(ops::greatest(simd, part)));
        })?;
        Ok(())
    }
}

/// A matrix by some rows.
pub struct Product {
    pool: Pool,
    tier: Tier,
    memory: Memory<u8>,
    fused: Fused,
    activations: Activations,
    rows: Aligned<f32>,
}

impl Product {
    /// `linear`'s matrix by `n_rows` rows.
    pub fn new(
        linear: &Linear,
        n_rows: usize,
        n_threads: usize,
        isa: Option<Isa>,
    ) -> Result<Self, BackendError> {
        let chunk = super::layout::chunk_of(linear)?;
        let packed = Packed::plan(linear, chunk, 0);
        let mut memory = Memory::zeroed(packed.n_bytes(), "a matrix")?;
        packed.pack(linear, 0, &mut memory);
        let tier = tier_of(isa)?;
        let mut activations = Activations::default();
        activations.reset(n_rows, linear.n_in, chunk);
        let mut pool = Pool::new(n_threads);
        activations.for_each_row(&mut pool, |row_idx, row| {
            let fill = |first: usize, values: &mut [f32]| {
                for (idx, value) in values.iter_mut().enumerate() {
                    *value = (((first + idx) * 7 + row_idx * 3) % 17) as f32 - 8.0;
                }
            };
            with_tier!(tier, simd => ops::quantise(simd, row, fill));
        })?;
        let fused = Fused { parts: vec![packed], bias: None };
        let mut rows = Aligned::default();
        rows.resize(n_rows * fused.n_columns(), 0.0);
        Ok(Self { pool, tier, memory, fused, activations, rows })
    }

    /// A matrix of bytes, made of floats.
    pub fn float_matrix(n_in: usize, n_out: usize) -> Linear {
        let values: Vec<f32> = (0..n_in * n_out).map(|idx| (idx * 31 % 255) as f32 - 127.0).collect();
        Linear::new("bytes", n_in, n_out, Matrix::Float(Tensor::of_f32(&[n_out, n_in], &values)))
    }

    pub fn n_bytes(&self) -> usize {
        self.memory.len()
    }

    pub fn run(&mut self) -> Result<(), BackendError> {
        let mut device = Device { pool: &mut self.pool, tier: self.tier, memory: &self.memory };
        device.project(&self.fused, &self.activations, &mut self.rows, Into::Replaced)?;
        black_box(&mut self.rows);
        Ok(())
    }
}

/// One layer's attention of the last tokens of a context.
pub struct Attention {
    pool: Pool,
    tier: Tier,
    hparams: Hparams,
    pages: Pages,
    blocks: Vec<crate::kv::BlockId>,
    context: usize,
    n_tokens: usize,
    sums: Vec<f32>,
    queries: Vec<f32>,
}

impl Attention {
    /// `n_tokens` of a sequence of `context` tokens, in pages of the format.
    pub fn new(
        hparams: &Hparams,
        kv: KvFormat,
        (context, n_tokens): (usize, usize),
        n_threads: usize,
    ) -> Result<Self, BackendError> {
        let n_blocks = context.div_ceil(BLOCK_TOKENS);
        let hparams = Hparams { n_layers: 1, ..hparams.clone() };
        let mut pages = Pages::new(&hparams, kv, n_blocks)?;
        let mut block_pool = BlockPool::new(n_blocks as u32);
        let blocks: Vec<_> = std::iter::from_fn(|| block_pool.take()).collect();
        let head: Vec<f32> = (0..hparams.head_dim).map(|dim| (dim % 7) as f32 - 3.0).collect();
        for position in 0..context {
            for head_idx in 0..hparams.n_kv_heads {
                let block = blocks[position / BLOCK_TOKENS];
                let pair = (&head[..], &head[..]);
                pages.block_mut(0, block).write(Scalar, head_idx, position % BLOCK_TOKENS, pair);
            }
        }
        let sums = vec![0.0; n_tokens * hparams.n_heads * hparams.head_dim];
        let queries = sums.clone();
        Ok(Self {
            pool: Pool::new(n_threads),
            tier: tier_of(None)?,
            hparams,
            pages,
            blocks,
            context,
            n_tokens,
            sums,
            queries,
        })
    }

    /// Keys and values, once each.
    pub fn n_bytes(&self, kv: KvFormat) -> usize {
        kv.block_bytes(&self.hparams) * self.blocks.len()
    }

    pub fn run(&mut self) -> Result<(), BackendError> {
        let (head_dim, n_kv_heads) = (self.hparams.head_dim, self.hparams.n_kv_heads);
        let n_sharing = self.hparams.n_heads / n_kv_heads;
        let rows_of_head = self.n_tokens * n_sharing;
        let tiles_of_head = rows_of_head.div_ceil(TILE_ROWS);
        let mut ends = Vec::new();
        for head in 0..n_kv_heads {
            ends.extend(
                (1..=tiles_of_head)
                    .map(|tile| (head * rows_of_head + (tile * TILE_ROWS).min(rows_of_head)) * head_dim),
            );
        }
        let (tier, pages, blocks) = (self.tier, &self.pages, &self.blocks[..]);
        let first = self.context - self.n_tokens;
        let rooms = (Ranges::new(&mut self.sums, &ends), Ranges::new(&mut self.queries, &ends));
        self.pool.for_each(rooms, |task_idx, rooms| {
            let first_row = task_idx % tiles_of_head * TILE_ROWS;
            let positions: Vec<usize> =
                (0..rooms.0.len() / head_dim).map(|row| first + (first_row + row) / n_sharing).collect();
            let tile = Tile {
                pages,
                layer: 0,
                kv_head: task_idx / tiles_of_head,
                blocks,
                window: None,
                head_dim,
                positions: &positions,
            };
            let query = |row: usize, to: &mut [f32]| to.fill(row as f32 * 0.01);
            with_tier!(tier, simd => attend(simd, &tile, query, rooms));
        })?;
        Ok(())
    }
}
