//! Model weights as checkpoints keep them.
//!
//! Knows how tensors are named and packed; how fast they can be multiplied is for the backends, which
//! read them through [`Int4Matrix::read_tile`] and [`Tensor`] into a layout of their own.
//!
//! Invariants: a [`Weights`] is complete and of its [`Hparams`]' shape; every scale is finite.

use std::path::PathBuf;

use crate::model::Hparams;

pub mod awq;
pub mod checkpoint;
pub mod config;
pub mod int4;
pub mod pack_quantized;
pub mod random;
pub mod safetensors;
pub mod store;
pub mod tensor;
pub mod write;

pub use int4::{Int4Layout, Int4Matrix, Int4Tile};
pub use random::{RandomKind, random_weights};
pub use tensor::{Dtype, Tensor};

/// All of a decoder's weights.
#[derive(Debug, Clone)]
pub struct Weights {
    pub hparams: Hparams,
    /// `[n_vocab, n_hidden]`
    pub embedding: Tensor,
    pub layers: Vec<LayerWeights>,
    pub norm: Tensor,
    /// None when it is the embedding.
    pub head: Option<Linear>,
}

#[derive(Debug, Clone)]
pub struct LayerWeights {
    pub attention_norm: Tensor,
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    /// On each head before the rotation, of length `head_dim`.
    pub q_norm: Option<Tensor>,
    pub k_norm: Option<Tensor>,
    pub mlp_norm: Tensor,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// `y = W x + b`.
#[derive(Debug, Clone)]
pub struct Linear {
    /// As in the checkpoint, for errors.
    pub name: String,
    pub n_in: usize,
    pub n_out: usize,
    pub matrix: Matrix,
    pub bias: Option<Tensor>,
}

#[derive(Debug, Clone)]
pub enum Matrix {
    /// `[n_out, n_in]`, of a float type.
    Float(Tensor),
    Int4(Int4Matrix),
}

impl Linear {
    /// Of a matrix alone.
    pub fn new(name: &str, n_in: usize, n_out: usize, matrix: Matrix) -> Self {
        Self { name: name.to_owned(), n_in, n_out, matrix, bias: None }
    }
}

/// Why a checkpoint cannot be used. Paths are as they were given; tensors are named as in the file.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {what}")]
    File { path: PathBuf, what: String },
    #[error("{path}: `{key}`: {what}")]
    Config { path: PathBuf, key: String, what: String },
    #[error("{path}: tensor `{tensor}`: {what}")]
    Tensor { path: PathBuf, tensor: String, what: String },
}
