//! A Hugging Face model directory becomes a decoder's weights.
//!
//! Reads floats only to see that all of them are numbers; everything stays in the mapped file.
//!
//! Invariants: every tensor has the shape that the config asks for. Whether a module is quantised is
//! decided by its tensors alone: `qweight`, `weight_packed` or `weight`.

mod modules;

use std::path::Path;

use self::modules::Modules;
use super::config::{Biases, ModelConfig};
use super::store::TensorStore;
use super::{LayerWeights, Weights, WeightsError};
use crate::model::Hparams;

/// Opens a directory with `config.json` and safetensors. The files must not be changed while the weights
/// are in use.
pub fn open(dir: &Path) -> Result<Weights, WeightsError> {
    let config = ModelConfig::open(dir)?;
    assemble(&config, &TensorStore::open(dir)?)
}

/// Finds and checks the tensors that the config asks for; others are left alone.
pub fn assemble(config: &ModelConfig, store: &TensorStore) -> Result<Weights, WeightsError> {
    let modules = Modules { config, store };
    let hparams = &config.hparams;
    let embedding_shape = [hparams.n_vocab, hparams.n_hidden];
    let embedding = modules.finite("model.embed_tokens.weight", &embedding_shape)?;
    let layers: Result<Vec<LayerWeights>, WeightsError> =
        (0..hparams.n_layers).map(|layer_idx| layer(&modules, hparams, layer_idx)).collect();
    let layers = layers?;
    let norm = modules.finite("model.norm.weight", &[hparams.n_hidden])?;
    let head = match hparams.tied {
        true => None,
        false => Some(modules.linear("lm_head", hparams.n_hidden, hparams.n_vocab, false)?),
    };
    Ok(Weights { hparams: hparams.clone(), embedding, layers, norm, head })
}

fn layer(modules: &Modules<'_>, hparams: &Hparams, layer_idx: usize) -> Result<LayerWeights, WeightsError> {
    let name = |module: &str| format!("model.layers.{layer_idx}.{module}");
    let (hidden, intermediate) = (hparams.n_hidden, hparams.n_intermediate);
    let (q, kv) = (hparams.n_heads * hparams.head_dim, hparams.n_kv_heads * hparams.head_dim);
    let Biases { qkv: qkv_bias, o: o_bias, mlp: mlp_bias } = modules.config.biases;
    let linear = |module: &str, n_in, n_out, biased| modules.linear(&name(module), n_in, n_out, biased);
    let norm = |module: &str| modules.finite(&name(module), &[hidden]);
    let head_norm = |module: &str| {
        hparams.qk_norm.then(|| modules.finite(&name(module), &[hparams.head_dim])).transpose()
    };
    Ok(LayerWeights {
        attention_norm: norm("input_layernorm.weight")?,
        q: linear("self_attn.q_proj", hidden, q, qkv_bias)?,
        k: linear("self_attn.k_proj", hidden, kv, qkv_bias)?,
        v: linear("self_attn.v_proj", hidden, kv, qkv_bias)?,
        o: linear("self_attn.o_proj", q, hidden, o_bias)?,
        q_norm: head_norm("self_attn.q_norm.weight")?,
        k_norm: head_norm("self_attn.k_norm.weight")?,
        mlp_norm: norm("post_attention_layernorm.weight")?,
        gate: linear("mlp.gate_proj", hidden, intermediate, mlp_bias)?,
        up: linear("mlp.up_proj", hidden, intermediate, mlp_bias)?,
        down: linear("mlp.down_proj", intermediate, hidden, mlp_bias)?,
    })
}
