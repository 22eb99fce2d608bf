//! `config.json` and `generation_config.json`: what a checkpoint says it is.
//!
//! Reads no tensor. Knows the four families by their `model_type`, with the defaults that transformers has.
//!
//! Invariants: what comes out is possible. Every dimension is bounded by itself, so that no product of
//! them can overflow; heads divide; windows and scalings are ones that the engine computes.

mod keys;
mod quantisation;
mod rope;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use self::keys::Keys;
pub use self::quantisation::{Quantisation, Symmetry};
use super::WeightsError;
use crate::model::{Family, Hparams};
use crate::request::TokenId;

const CONFIG: &str = "config.json";
const GENERATION: &str = "generation_config.json";

// Several times what any model has, and small enough for products of three of them.
const MAX_LAYERS: usize = 1_024;
const MAX_WIDTH: usize = 1 << 20;
const MAX_HEADS: usize = 4_096;
const MAX_HEAD_DIM: usize = 1_024;
const MAX_VOCAB: usize = 1 << 22;
const MAX_CONTEXT: usize = 1 << 24;

/// A checkpoint's own description.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Of `config.json`, for errors.
    pub path: PathBuf,
    pub hparams: Hparams,
    pub biases: Biases,
    pub quantisation: Quantisation,
}

/// Which projections have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Biases {
    pub qkv: bool,
    pub o: bool,
    pub mlp: bool,
}

impl ModelConfig {
    pub fn open(dir: &Path) -> Result<Self, WeightsError> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|source| (path, source))
        };
        let config = read(CONFIG).map_err(|(path, source)| WeightsError::Read { path, source })?;
        let generation = match read(GENERATION) {
            Ok(generation) => Some(generation),
            Err((_, source)) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err((path, source)) => return Err(WeightsError::Read { path, source }),
        };
        Self::parse(dir, &config, generation.as_deref())
    }

    /// Of the files' texts; the directory is for errors.
    pub fn parse(dir: &Path, config: &[u8], generation: Option<&[u8]>) -> Result<Self, WeightsError> {
        let (path, generation_path) = (dir.join(CONFIG), dir.join(GENERATION));
        let map = object(&path, config)?;
        let keys = Keys::new(&path, &map);
        let generation_map = generation.map(|text| object(&generation_path, text)).transpose()?;
        let generation = generation_map.as_ref().map(|map| Keys::new(&generation_path, map));
        let family = family(&keys)?;
        let hparams = hparams(&keys, family, generation.as_ref())?;
        let (biases, quantisation) = (biases(&keys, family)?, quantisation::parse(&keys)?);
        Ok(Self { hparams, biases, quantisation, path })
    }
}

fn object(path: &Path, text: &[u8]) -> Result<Map<String, Value>, WeightsError> {
    serde_json::from_slice(text).map_err(|error| WeightsError::File {
        path: path.to_owned(),
        what: format!("is no JSON object: {error}"),
    })
}

fn family(keys: &Keys<'_>) -> Result<Family, WeightsError> {
    let known = [
        ("llama", "LlamaForCausalLM", Family::Llama),
        ("mistral", "MistralForCausalLM", Family::Mistral),
        ("qwen2", "Qwen2ForCausalLM", Family::Qwen2),
        ("qwen3", "Qwen3ForCausalLM", Family::Qwen3),
    ];
    let model_type = keys.text("model_type")?.ok_or_else(|| keys.wrong("model_type", "is missing"))?;
    let Some((_, class, family)) = known.into_iter().find(|(name, ..)| *name == model_type) else {
        let names = known.map(|(name, ..)| format!("`{name}`")).join(", ");
        return Err(keys.wrong("model_type", format!("`{model_type}` is not supported; {names} are")));
    };
    if let Some(classes) = keys.get("architectures")
        && !classes.as_array().is_some_and(|classes| classes.iter().any(|found| found == class))
    {
        let what = format!("is {classes}, and of this type only `{class}` is supported");
        return Err(keys.wrong("architectures", what));
    }
    Ok(family)
}

fn hparams(keys: &Keys<'_>, family: Family, generation: Option<&Keys<'_>>) -> Result<Hparams, WeightsError> {
    check_activation(keys)?;
    let n_layers = keys.needed_count("num_hidden_layers", MAX_LAYERS)?;
    let n_hidden = keys.needed_count("hidden_size", MAX_WIDTH)?;
    let n_vocab = keys.needed_count("vocab_size", MAX_VOCAB)?;
    let context = keys.needed_count("max_position_embeddings", MAX_CONTEXT)?;
    let Heads { n_heads, n_kv_heads, head_dim } = heads(keys, family, n_hidden)?;
    let mut stop_ids = token_ids(keys, "eos_token_id", n_vocab)?;
    if let Some(generation) = generation {
        stop_ids.extend(token_ids(generation, "eos_token_id", n_vocab)?);
    }
    stop_ids.sort_unstable();
    stop_ids.dedup();
    Ok(Hparams {
        family,
        n_layers,
        n_hidden,
        n_heads,
        n_kv_heads,
        head_dim,
        n_intermediate: keys.needed_count("intermediate_size", MAX_WIDTH)?,
        n_vocab,
        context,
        norm_eps: norm_eps(keys)?,
        rope: rope::parse(keys, context)?,
        windows: windows(keys, family, n_layers)?,
        qk_norm: family == Family::Qwen3,
        tied: keys.flag("tie_word_embeddings", false)?,
        stop_ids,
        bos_id: token_ids(keys, "bos_token_id", n_vocab)?.first().copied(),
    })
}

struct Heads {
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
}

fn heads(keys: &Keys<'_>, family: Family, n_hidden: usize) -> Result<Heads, WeightsError> {
    let n_heads = keys.needed_count("num_attention_heads", MAX_HEADS)?;
    let default_kv_heads = match family {
        Family::Llama => n_heads,
        Family::Mistral => 8,
        Family::Qwen2 | Family::Qwen3 => 32,
    };
    let n_kv_heads = keys.count("num_key_value_heads", MAX_HEADS)?.unwrap_or(default_kv_heads);
    if !n_heads.is_multiple_of(n_kv_heads) {
        let what = format!("{n_kv_heads} heads of keys do not divide {n_heads} heads");
        return Err(keys.wrong("num_key_value_heads", what));
    }
    let head_dim = match keys.count("head_dim", MAX_HEAD_DIM)? {
        Some(head_dim) => head_dim,
        None if family == Family::Qwen3 => 128,
        None if n_hidden.is_multiple_of(n_heads) => n_hidden / n_heads,
        None => {
            let what = format!("{n_heads} heads do not divide a `hidden_size` of {n_hidden}");
            return Err(keys.wrong("num_attention_heads", what));
        }
    };
    if !head_dim.is_multiple_of(2) || head_dim > MAX_HEAD_DIM {
        let what = format!("heads of {head_dim} numbers; they must be even, and at most {MAX_HEAD_DIM}");
        return Err(keys.wrong("head_dim", what));
    }
    Ok(Heads { n_heads, n_kv_heads, head_dim })
}

fn check_activation(keys: &Keys<'_>) -> Result<(), WeightsError> {
    match keys.text("hidden_act")? {
        None | Some("silu" | "swish") => Ok(()),
        Some(other) => Err(keys.wrong("hidden_act", format!("`{other}` is not supported; `silu` is"))),
    }
}

fn norm_eps(keys: &Keys<'_>) -> Result<f32, WeightsError> {
    match keys.number("rms_norm_eps")?.unwrap_or(1e-6) {
        eps if eps < 1.0 => Ok(eps as f32),
        eps => Err(keys.wrong("rms_norm_eps", format!("is {eps}, and must be below 1"))),
    }
}

/// One window a layer.
fn windows(keys: &Keys<'_>, family: Family, n_layers: usize) -> Result<Vec<Option<usize>>, WeightsError> {
    let width = keys.count("sliding_window", MAX_CONTEXT);
    match family {
        Family::Llama => Ok(vec![None; n_layers]),
        // Transformers has a default of 4,096 where the key is missing, and none where it is null.
        Family::Mistral if !keys.has("sliding_window") => Ok(vec![Some(4_096); n_layers]),
        Family::Mistral => Ok(vec![width?; n_layers]),
        Family::Qwen2 | Family::Qwen3 => {
            let width = match keys.flag("use_sliding_window", false)? {
                false => None,
                true if keys.has("sliding_window") => width?,
                true => Some(4_096),
            };
            qwen_windows(keys, width, n_layers)
        }
    }
}

fn qwen_windows(
    keys: &Keys<'_>,
    width: Option<usize>,
    n_layers: usize,
) -> Result<Vec<Option<usize>>, WeightsError> {
    let Some(layer_types) = keys.get("layer_types") else {
        // May be 0, when all layers have the window, so it is no count.
        let n_full = keys.get("max_window_layers").map_or(Some(28), Value::as_u64);
        let n_full = n_full.ok_or_else(|| keys.wrong("max_window_layers", "must be a whole number"))?;
        return Ok((0..n_layers as u64).map(|layer_idx| width.filter(|_| layer_idx >= n_full)).collect());
    };
    let layer_types = layer_types.as_array().filter(|types| types.len() == n_layers).ok_or_else(|| {
        keys.wrong("layer_types", format!("must list the {n_layers} layers of `num_hidden_layers`"))
    })?;
    let window_of = |layer_type: &Value| match (layer_type.as_str(), width) {
        (Some("full_attention"), _) => Ok(None),
        (Some("sliding_attention"), Some(width)) => Ok(Some(width)),
        (Some("sliding_attention"), None) => {
            Err(keys.wrong("layer_types", "has a window, and `use_sliding_window` is not true"))
        }
        (Some(_) | None, _) => {
            let what = format!("{layer_type} is not supported; `full_attention` and `sliding_attention` are");
            Err(keys.wrong("layer_types", what))
        }
    };
    layer_types.iter().map(window_of).collect()
}

fn biases(keys: &Keys<'_>, family: Family) -> Result<Biases, WeightsError> {
    let (attention, mlp) = (keys.flag("attention_bias", false)?, keys.flag("mlp_bias", false)?);
    Ok(match family {
        Family::Llama => Biases { qkv: attention, o: attention, mlp },
        Family::Mistral => Biases { qkv: false, o: false, mlp: false },
        Family::Qwen2 => Biases { qkv: true, o: false, mlp: false },
        Family::Qwen3 => Biases { qkv: attention, o: attention, mlp: false },
    })
}

/// None, one or a list.
fn token_ids(keys: &Keys<'_>, key: &str, n_vocab: usize) -> Result<Vec<TokenId>, WeightsError> {
    let Some(value) = keys.get(key) else { return Ok(Vec::new()) };
    let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let id_of = |value: &Value| {
        let id = value.as_u64().filter(|id| *id < n_vocab as u64).and_then(|id| TokenId::try_from(id).ok());
        id.ok_or_else(|| keys.wrong(key, format!("{value} is not a token of the {n_vocab} there are")))
    };
    values.iter().map(id_of).collect()
}

#[cfg(test)]
mod tests;
