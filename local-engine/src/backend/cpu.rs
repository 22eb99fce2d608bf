//! The CPU backend: int4 and int8 weights, int8 activations, paged KV, its own threads.
//!
//! Reads no checkpoint and keeps no requests. Weights are repacked once, at the start, into the order in
//! which the kernels read them; a step is `decoder`'s.
//!
//! ```text
//!   layout       weights as the kernels read them          simd         sixteen lanes on three tiers
//!   activations  rows in eight bits                         kernels      sixteen outputs by sixteen rows
//!   kv           pages of keys and values                   matmul       products, shared out over threads
//!   pool         the threads                                attention    rows through pages
//!   memory       large arrays                               ops          norms and gates
//!   aligned      arrays at cache lines                      room         how much memory there is
//!   model        all weights                                decoder      one step
//! ```
//!
//! Invariants: as [`Backend`]'s, to the bit: also between the tiers of instructions.

mod activations;
mod aligned;
mod attention;
mod decoder;
mod kernels;
mod kv;
mod layout;
mod matmul;
mod memory;
mod model;
mod ops;
mod pool;
pub mod probe;
mod room;
mod simd;

use std::thread;

use serde::Deserialize;

pub use self::kv::KvFormat;
pub use self::room::Room;

use self::decoder::{Scratch, Step};
use self::kv::Pages;
use self::model::Model;
use self::pool::{Pool, TaskPanicked};
use self::simd::{Scalar, Tier};
use super::{BLOCK_TOKENS, Backend, BackendError, Chunk, Logits};
use crate::model::RopeTable;
use crate::weights::Weights;

/// What the CPU may be used for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CpuConfig {
    /// Threads that compute, the engine's own included. All cores up to four, and one fewer beyond that,
    /// which is left to the server.
    pub threads: Option<usize>,
    /// How keys and values are kept: `f16` (the default) or `int8`.
    pub kv: KvFormat,
    /// What weights and KV cache may take together, in bytes, those of a draft model included. All that the
    /// system says is available, or the container's limit leaves.
    pub memory_bytes: Option<u64>,
    /// The instructions to use: `scalar`, `avx2` or `avx512`. The best that there are.
    pub isa: Option<Isa>,
}

/// Instructions that kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// Any processor's.
    Scalar,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
}

/// A model on the CPU.
pub struct Cpu {
    model: Model,
    rope: RopeTable,
    pages: Pages,
    kv: KvFormat,
    /// Where the KV cache is taken from, as the weights were.
    room: Room,
    kv_bytes: u64,
    tier: Tier,
    pool: Pool,
    scratch: Scratch,
}

impl Cpu {
    /// Repacks the weights. They may be dropped afterwards, but for the embedding, which is shared.
    pub fn new(weights: &Weights, config: &CpuConfig) -> Result<Self, BackendError> {
        Self::within(&Room::of(config.memory_bytes), weights, config)
    }

    /// Takes its memory from a room that it shares with others, whatever the configuration says of memory.
    pub fn within(room: &Room, weights: &Weights, config: &CpuConfig) -> Result<Self, BackendError> {
        let tier = tier_of(config.isa)?;
        let mut pool = Pool::new(config.threads.unwrap_or_else(default_threads));
        let model = Model::new(weights, &mut pool, room)?;
        Ok(Self {
            rope: RopeTable::new(&model.hparams, 0),
            pages: Pages::new(&model.hparams, config.kv, 0)?,
            kv: config.kv,
            room: room.clone(),
            kv_bytes: 0,
            tier,
            pool,
            scratch: Scratch::default(),
            model,
        })
    }

    /// The instructions that are used.
    pub fn isa(&self) -> Isa {
        match self.tier {
            Tier::Scalar(_) => Isa::Scalar,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2(_) => Isa::Avx2,
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(_) => Isa::Avx512,
        }
    }

    /// Threads that compute.
    pub fn n_threads(&self) -> usize {
        self.pool.n_threads()
    }

    /// What the repacked weights take.
    pub fn weight_bytes(&self) -> usize {
        self.model.memory.len()
    }

    fn check(&self, chunk: &Chunk<'_>) -> Result<(), BackendError> {
        let (n_tokens, n_vocab) = (chunk.tokens.len(), self.n_vocab());
        let end = chunk.start + n_tokens;
        let wrong = if n_tokens == 0 {
            "a chunk has no tokens".to_owned()
        } else if let Some(token) = chunk.tokens.iter().find(|token| **token as usize >= n_vocab) {
            format!("token {token} is not in the vocabulary of {n_vocab}")
        } else if end > self.rope.n_positions() {
            format!("position {} is past the context of {}", end - 1, self.rope.n_positions())
        } else if chunk.blocks.len() * BLOCK_TOKENS < end {
            format!("{} blocks do not hold {end} positions", chunk.blocks.len())
        } else if chunk.blocks.iter().any(|block| block.index() >= self.pages.n_blocks()) {
            format!("a block is not one of the {} there are", self.pages.n_blocks())
        } else if chunk.n_logits > n_tokens {
            format!("{} rows of logits of {n_tokens} tokens", chunk.n_logits)
        } else {
            return Ok(());
        };
        Err(BackendError::Unsupported(wrong))
    }
}

impl Backend for Cpu {
    fn n_vocab(&self) -> usize {
        self.model.hparams.n_vocab
    }

    fn context(&self) -> usize {
        self.model.hparams.context
    }

    fn block_bytes(&self) -> usize {
        self.kv.block_bytes(&self.model.hparams)
    }

    fn alloc_kv(&mut self, n_blocks: usize) -> Result<(), BackendError> {
        let needed_bytes = (n_blocks as u64).saturating_mul(self.block_bytes() as u64);
        self.room.give_back(std::mem::take(&mut self.kv_bytes));
        self.room.take(needed_bytes, "the KV cache, beside the weights,")?;
        self.kv_bytes = needed_bytes;
        self.pages = Pages::new(&self.model.hparams, self.kv, n_blocks)?;
        // No sequence is longer than all blocks, whatever the context is.
        let n_positions = self.context().min(n_blocks * BLOCK_TOKENS);
        self.rope = RopeTable::new(&self.model.hparams, n_positions);
        Ok(())
    }

    fn forward(&mut self, chunks: &[Chunk<'_>], logits: &mut Logits) -> Result<(), BackendError> {
        for chunk in chunks {
            self.check(chunk)?;
        }
        let mut step = Step {
            pool: &mut self.pool,
            tier: self.tier,
            model: &self.model,
            rope: &self.rope,
            pages: &mut self.pages,
            scratch: &mut self.scratch,
            chunks,
        };
        step.run(logits)
    }
}

impl From<TaskPanicked> for BackendError {
    fn from(_: TaskPanicked) -> Self {
        Self::Panicked
    }
}

fn default_threads() -> usize {
    let n_cores = thread::available_parallelism().map_or(1, usize::from);
    if n_cores <= 4 { n_cores } else { n_cores - 1 }
}

/// The tier that was asked for, or the best.
fn tier_of(isa: Option<Isa>) -> Result<Tier, BackendError> {
    #[cfg(target_arch = "x86_64")]
    let (avx2, avx512) = (simd::Avx2::detect().map(Tier::Avx2), simd::Avx512::detect().map(Tier::Avx512));
    #[cfg(not(target_arch = "x86_64"))]
    let (avx2, avx512) = (None, None);
    let scalar = Some(Tier::Scalar(Scalar));
    let found = match isa {
        None => avx512.or(avx2).or(scalar),
        Some(Isa::Scalar) => scalar,
        Some(Isa::Avx2) => avx2,
        Some(Isa::Avx512) => avx512,
    };
    found.ok_or_else(|| {
        let message = "the processor lacks the instructions of `isa`; leave it out for the best there are";
        BackendError::Unsupported(message.to_owned())
    })
}

#[cfg(test)]
mod tests;
