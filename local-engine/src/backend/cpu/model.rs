//! A decoder's weights, repacked into the backend's memory.
//!
//! Computes nothing. The embedding stays in the checkpoint's own memory, because a token reads one row of it.
//!
//! Invariants: every matrix is of a shape that the kernels compute; memory was counted before it was taken.

use super::attention::MAX_HEAD;
use super::layout::{MIN_CHUNK, PACKED_AT_ONCE, Packed, chunk_of};
use super::matmul::Fused;
use super::memory::Memory;
use super::pool::{Pool, Ranges};
use super::room::Room;
use super::simd::LANES;
use crate::backend::BackendError;
use crate::model::Hparams;
use crate::weights::{LayerWeights, Linear, Matrix, Tensor, Weights};

/// All of it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) hparams: Hparams,
    pub(crate) embedding: Tensor,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    pub(crate) head: Fused,
    /// What the matrices lie in.
    pub(crate) memory: Memory<u8>,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) qkv: Fused,
    pub(crate) q_norm: Option<Vec<f32>>,
    pub(crate) k_norm: Option<Vec<f32>>,
    pub(crate) o: Fused,
    pub(crate) mlp_norm: Vec<f32>,
    pub(crate) gate_up: Fused,
    pub(crate) down: Fused,
}

/// The matrices so far, and where the next one goes.
#[derive(Default)]
struct Plan<'a> {
    matrices: Vec<(&'a Linear, usize, usize)>,
    n_bytes: usize,
}

impl Model {
    /// Takes its part of the room once it is known what the weights need.
    pub(crate) fn new(weights: &Weights, pool: &mut Pool, room: &Room) -> Result<Self, BackendError> {
        let hparams = &weights.hparams;
        check_shape(hparams)?;
        let head = weights.head.clone().unwrap_or_else(|| {
            let matrix = Matrix::Float(weights.embedding.clone());
            Linear::new("lm_head", hparams.n_hidden, hparams.n_vocab, matrix)
        });
        let mut plan = Plan::default();
        let layers = weights.layers.iter().map(|layer| plan.layer(layer)).collect::<Result<_, _>>()?;
        let of_head = plan.fuse(&[&head])?;
        room.take(plan.n_bytes as u64, "the model's repacked weights")?;
        Ok(Self {
            memory: plan.pack(pool)?,
            embedding: weights.embedding.clone(),
            layers,
            norm: weights.norm.to_f32(),
            head: of_head,
            hparams: hparams.clone(),
        })
    }
}

fn check_shape(hparams: &Hparams) -> Result<(), BackendError> {
    let q_width = hparams.n_heads * hparams.head_dim;
    for (what, n, divisor) in [
        ("hidden_size", hparams.n_hidden, MIN_CHUNK),
        ("intermediate_size", hparams.n_intermediate, MIN_CHUNK),
        ("the width of all query heads", q_width, MIN_CHUNK),
        ("head_dim", hparams.head_dim, LANES),
        ("num_attention_heads", hparams.n_heads, hparams.n_kv_heads),
    ] {
        if n == 0 || !n.is_multiple_of(divisor) {
            let message = format!("{what} is {n}; the CPU computes multiples of {divisor}");
            return Err(BackendError::Unsupported(message));
        }
    }
    if hparams.head_dim > MAX_HEAD {
        let message = format!("head_dim is {}; the CPU computes at most {MAX_HEAD}", hparams.head_dim);
        return Err(BackendError::Unsupported(message));
    }
    Ok(())
}

impl<'a> Plan<'a> {
    fn layer(&mut self, layer: &'a LayerWeights) -> Result<Layer, BackendError> {
        Ok(Layer {
            attention_norm: layer.attention_norm.to_f32(),
            qkv: self.fuse(&[&layer.q, &layer.k, &layer.v])?,
            q_norm: layer.q_norm.as_ref().map(Tensor::to_f32),
            k_norm: layer.k_norm.as_ref().map(Tensor::to_f32),
            o: self.fuse(&[&layer.o])?,
            mlp_norm: layer.mlp_norm.to_f32(),
            gate_up: self.fuse(&[&layer.gate, &layer.up])?,
            down: self.fuse(&[&layer.down])?,
        })
    }

    /// Matrices of the same inputs, one behind the other, in chunks that suit all of them.
    fn fuse(&mut self, linears: &[&'a Linear]) -> Result<Fused, BackendError> {
        let mut chunk = usize::MAX;
        for linear in linears {
            chunk = chunk.min(chunk_of(linear)?);
        }
        let mut parts = Vec::new();
        let mut bias = Vec::new();
        for linear in linears {
            let packed = Packed::plan(linear, chunk, self.n_bytes);
            for first_tile in (0..packed.n_tiles()).step_by(PACKED_AT_ONCE) {
                let n_tiles = PACKED_AT_ONCE.min(packed.n_tiles() - first_tile);
                self.n_bytes += n_tiles * packed.tile_bytes();
                self.matrices.push((linear, chunk, first_tile));
            }
            let first = bias.len();
            bias.resize(first + packed.n_tiles() * LANES, 0.0);
            if let Some(of_linear) = &linear.bias {
                of_linear.read_floats(0, &mut bias[first..][..linear.n_out]);
            }
            parts.push(packed);
        }
        let is_biased = linears.iter().any(|linear| linear.bias.is_some());
        Ok(Fused { parts, bias: is_biased.then_some(bias) })
    }

    fn pack(&self, pool: &mut Pool) -> Result<Memory<u8>, BackendError> {
        let mut memory = Memory::zeroed(self.n_bytes, "the model's repacked weights")?;
        let mut end = 0;
        let ends: Vec<usize> = self
            .matrices
            .iter()
            .map(|(linear, chunk, first_tile)| {
                let packed = Packed::plan(linear, *chunk, 0);
                end += PACKED_AT_ONCE.min(packed.n_tiles() - first_tile) * packed.tile_bytes();
                end
            })
            .collect();
        pool.for_each(Ranges::new(&mut memory, &ends), |idx, bytes| {
            let (linear, chunk, first_tile) = self.matrices[idx];
            Packed::plan(linear, chunk, 0).pack(linear, first_tile, bytes);
        })?;
        Ok(memory)
    }
}
