//! Noise, small models and their files, for this module's tests.

use std::path::Path;

use serde_json::{Value, json};

use super::dense::{Dense, Rows};
use super::{GroupSize, Method, Options};
use crate::model::{Family, Hparams};
use crate::request::TokenId;
use crate::weights::write::write_safetensors;
use crate::weights::{Linear, Matrix, RandomKind, Tensor, Weights, random_weights};

/// Evenly spread over -1 to 1; the same for the same seed.
pub(super) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        // Marsaglia's xorshift.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| draw()).collect()
}

pub(super) fn dense(n_in: usize, n_out: usize, seed: u64) -> Dense {
    Dense { name: "w".to_owned(), n_in, n_out, rows: noise(n_in * n_out, seed), bias: None }
}

/// Noise of which some inputs are fifty times as large.
pub(super) fn skewed(n_tokens: usize, width: usize, seed: u64) -> Rows {
    let mut rows = Rows { width, values: noise(n_tokens * width, seed) };
    for row in rows.values.chunks_exact_mut(width) {
        for value in row.iter_mut().skip(5).step_by(37) {
            *value *= 50.0;
        }
    }
    rows
}

pub(super) fn options(method: Method, group_size: usize) -> Options {
    Options { group_size: GroupSize::try_new(group_size).unwrap(), method, n_threads: 2 }
}

/// Ten sequences.
pub(super) fn texts(hparams: &Hparams, n_tokens: usize) -> Vec<Vec<TokenId>> {
    let token = |value: f32| ((value + 1.0) / 2.0 * hparams.n_vocab as f32) as TokenId;
    (0..10).map(|seed| noise(n_tokens, 100 + seed).into_iter().map(token).collect()).collect()
}

/// A float model in which some norm weights are fifty times the others.
pub(super) fn skewed_weights(family: Family) -> Weights {
    let mut weights = random_weights(&Hparams::tiny(family), RandomKind::F32, 3);
    for layer in &mut weights.layers {
        for norm in [&mut layer.attention_norm, &mut layer.mlp_norm] {
            let mut values = norm.to_f32();
            values.iter_mut().skip(5).step_by(37).for_each(|value| *value *= 50.0);
            *norm = Tensor::of_f32(&norm.shape, &values);
        }
    }
    weights
}

/// Every float tensor of a model, by its name in a checkpoint.
pub(super) fn named(weights: &Weights) -> Vec<(String, Tensor)> {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), weights.embedding.clone()),
        ("model.norm.weight".to_owned(), weights.norm.clone()),
    ];
    let mut push = |linear: &Linear| {
        let Matrix::Float(matrix) = &linear.matrix else { panic!("the model is a float one") };
        tensors.push((format!("{}.weight", linear.name), matrix.clone()));
        tensors.extend(linear.bias.iter().map(|bias| (format!("{}.bias", linear.name), bias.clone())));
    };
    weights.head.iter().for_each(&mut push);
    weights.layers.iter().flat_map(super::linears).for_each(&mut push);
    for (layer_idx, layer) in weights.layers.iter().enumerate() {
        let name = |module: &str| format!("model.layers.{layer_idx}.{module}.weight");
        tensors.push((name("input_layernorm"), layer.attention_norm.clone()));
        tensors.push((name("post_attention_layernorm"), layer.mlp_norm.clone()));
        let head_norms = [("self_attn.q_norm", &layer.q_norm), ("self_attn.k_norm", &layer.k_norm)];
        for (module, norm) in head_norms {
            tensors.extend(norm.iter().map(|norm| (name(module), norm.clone())));
        }
    }
    tensors
}

pub(super) fn config(hparams: &Hparams) -> Value {
    let model_type = match hparams.family {
        Family::Llama => "llama",
        Family::Mistral => "mistral",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
    };
    json!({
        "model_type": model_type, "hidden_size": hparams.n_hidden, "intermediate_size": hparams.n_intermediate,
        "num_hidden_layers": hparams.n_layers, "num_attention_heads": hparams.n_heads,
        "num_key_value_heads": hparams.n_kv_heads, "head_dim": hparams.head_dim, "vocab_size": hparams.n_vocab,
        "max_position_embeddings": hparams.context, "rms_norm_eps": 1e-5, "rope_theta": 1e4,
        "tie_word_embeddings": hparams.tied, "sliding_window": hparams.windows[0], "eos_token_id": 2,
        "bos_token_id": 1, "torch_dtype": "float32",
    })
}

/// A float checkpoint with a tokenizer file that is no tokenizer.
pub(super) fn write_checkpoint(dir: &Path, weights: &Weights) {
    write_safetensors(&dir.join("model.safetensors"), &named(weights)).unwrap();
    std::fs::write(dir.join("config.json"), config(&weights.hparams).to_string()).unwrap();
    std::fs::write(dir.join("tokenizer.json"), "a tokenizer").unwrap();
    std::fs::write(dir.join("README.md"), "is of the float model").unwrap();
}
