//! The shape of a model, of one decoder with flags: Llama, Mistral, Qwen2 and Qwen3.
//!
//! Reads no file (`weights::config` does).
//!
//! Invariants: an [`Hparams`] that came from a checkpoint is possible: no dimension is zero, the heads
//! divide, and the sizes stay far below what memory could be.

use crate::request::TokenId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Llama,
    Mistral,
    Qwen2,
    Qwen3,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Hparams {
    pub family: Family,
    pub n_layers: usize,
    pub n_hidden: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub n_intermediate: usize,
    pub n_vocab: usize,
    /// The greatest number of positions.
    pub context: usize,
    pub norm_eps: f32,
    pub rope: Rope,
    /// How many positions back a layer looks, itself included; none for all. One a layer.
    pub windows: Vec<Option<usize>>,
    /// RMSNorm on each head of q and k, before the rotation (Qwen3).
    pub qk_norm: bool,
    /// The head is the embedding's transpose.
    pub tied: bool,
    /// Tokens that end a text.
    pub stop_ids: Vec<TokenId>,
    pub bos_id: Option<TokenId>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    pub theta: f64,
    pub scaling: RopeScaling,
}

#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    None,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_context: usize,
    },
    Yarn {
        factor: f64,
        beta_fast: f64,
        beta_slow: f64,
        original_context: usize,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
        /// Whether the bounds of the ramp are rounded to whole dimensions.
        truncate: bool,
    },
}
