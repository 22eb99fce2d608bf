//! A float model directory is read, and a quantised one written beside it.
//!
//! Changes nothing in the directory it reads. Tensors that no layer of the decoder has, such as rotary
//! tables, are left behind.
//!
//! Invariants: `config.json` is written last, so a directory that has one is whole; a directory that holds
//! anything is not written to.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::shards::{SHARD_BYTES, ShardWriter};
use super::{GroupSize, LayerReport, QuantiseError, Quantiser, halves};
use crate::weights::config::{ModelConfig, Quantisation};
use crate::weights::store::TensorStore;
use crate::weights::{Int4Layout, Int4Matrix, LayerWeights, Linear, Matrix, Tensor, Weights, checkpoint};

const CONFIG: &str = "config.json";

/// What a tokenizer, a chat and an answer need, in the forms that there are.
const COPIED: [&str; 12] = [
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "LICENSE",
    "LICENSE.txt",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
];

/// A float checkpoint.
#[derive(Debug)]
pub struct Source {
    dir: PathBuf,
    pub weights: Weights,
}

impl Source {
    pub fn open(dir: &Path) -> Result<Self, QuantiseError> {
        let config = ModelConfig::open(dir)?;
        if config.quantisation != Quantisation::None {
            let what = format!("{}: quantization_config", config.path.display());
            return Err(QuantiseError::AlreadyQuantised { what });
        }
        let weights = checkpoint::assemble(&config, &TensorStore::open(dir)?)?;
        Ok(Self { dir: dir.to_owned(), weights })
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Written {
    pub n_files: usize,
    pub n_bytes: usize,
    pub n_weights: usize,
    /// Of all tensors.
    pub bits_per_weight: f64,
    /// Of the quantised matrices, with their scales and zeros.
    pub bits_per_quantised_weight: f64,
}

/// Makes sure that a directory can be written to: it is new, or empty.
pub fn check_output(dir: &Path) -> Result<(), QuantiseError> {
    let mut entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(QuantiseError::File { path: dir.to_owned(), source }),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            let what = "is not empty; name a new directory, or remove what it holds".to_owned();
            Err(QuantiseError::Output { path: dir.to_owned(), what })
        }
    }
}

/// Quantises the source's layers and writes them. `on_layer` hears of each when it is done.
pub fn write(
    source: &Source,
    out: &Path,
    quantiser: &mut Quantiser<'_>,
    on_layer: &mut dyn FnMut(&LayerReport),
) -> Result<Written, QuantiseError> {
    check_output(out)?;
    std::fs::create_dir_all(out).map_err(|source| QuantiseError::File { path: out.to_owned(), source })?;
    let mut tensors = Tensors::new(ShardWriter::new(out, SHARD_BYTES));
    let weights = &source.weights;
    // These first: were one of them refused at the end, all would have been in vain.
    tensors.push_float("model.norm.weight", &weights.norm)?;
    if let Some(head) = &weights.head {
        tensors.push_linear(head)?;
    }
    tensors.push_float("model.embed_tokens.weight", &weights.embedding)?;
    while let Some((layer, report)) = quantiser.next_layer()? {
        tensors.push_layer(report.layer_idx, &layer)?;
        on_layer(&report);
    }
    let written = tensors.finish()?;
    copy_files(&source.dir, out)?;
    write_config(&source.dir, out, quantiser.options.group_size)?;
    Ok(written)
}

/// Tensors under the names that transformers gives them, counted.
struct Tensors {
    shards: ShardWriter,
    all: Count,
    quantised: Count,
}

#[derive(Debug, Clone, Copy, Default)]
struct Count {
    n_weights: usize,
    n_bytes: usize,
}

impl Count {
    fn add(&mut self, n_weights: usize, n_bytes: usize) {
        self.n_weights += n_weights;
        self.n_bytes += n_bytes;
    }

    fn bits_per_weight(self) -> f64 {
        8.0 * self.n_bytes as f64 / self.n_weights as f64
    }
}

impl Tensors {
    fn new(shards: ShardWriter) -> Self {
        Self { shards, all: Count::default(), quantised: Count::default() }
    }

    fn push_float(&mut self, name: &str, tensor: &Tensor) -> Result<(), QuantiseError> {
        let halves = halves::tensor(name, tensor)?;
        self.all.add(halves.n_elements(), halves.bytes.len());
        self.shards.push(name.to_owned(), halves)
    }

    fn push_linear(&mut self, linear: &Linear) -> Result<(), QuantiseError> {
        let part = |part: &str| format!("{}.{part}", linear.name);
        match &linear.matrix {
            Matrix::Int4(Int4Matrix { layout: Int4Layout::AwqGemm { qweight, qzeros, scales }, .. }) => {
                let parts = [("qweight", qweight), ("qzeros", qzeros), ("scales", scales)];
                let n_bytes = parts.iter().map(|(_, tensor)| tensor.bytes.len()).sum();
                self.all.add(linear.n_in * linear.n_out, n_bytes);
                self.quantised.add(linear.n_in * linear.n_out, n_bytes);
                for (name, tensor) in parts {
                    self.shards.push(part(name), tensor.clone())?;
                }
            }
            Matrix::Int4(Int4Matrix { layout: Int4Layout::PackQuantized { .. }, .. }) => {
                return Err(QuantiseError::AlreadyQuantised { what: part("weight_packed") });
            }
            Matrix::Float(tensor) => self.push_float(&part("weight"), tensor)?,
        }
        linear.bias.iter().try_for_each(|bias| self.push_float(&part("bias"), bias))
    }

    fn push_layer(&mut self, layer_idx: usize, layer: &LayerWeights) -> Result<(), QuantiseError> {
        let norms = [
            ("input_layernorm", Some(&layer.attention_norm)),
            ("self_attn.q_norm", layer.q_norm.as_ref()),
            ("self_attn.k_norm", layer.k_norm.as_ref()),
            ("post_attention_layernorm", Some(&layer.mlp_norm)),
        ];
        for (module, norm) in norms {
            let name = format!("model.layers.{layer_idx}.{module}.weight");
            norm.into_iter().try_for_each(|norm| self.push_float(&name, norm))?;
        }
        super::linears(layer).into_iter().try_for_each(|linear| self.push_linear(linear))
    }

    fn finish(self) -> Result<Written, QuantiseError> {
        Ok(Written {
            n_files: self.shards.finish()?,
            n_bytes: self.all.n_bytes,
            n_weights: self.all.n_weights,
            bits_per_weight: self.all.bits_per_weight(),
            bits_per_quantised_weight: self.quantised.bits_per_weight(),
        })
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<(), QuantiseError> {
    for name in COPIED.into_iter().filter(|name| from.join(name).exists()) {
        let path = from.join(name);
        std::fs::copy(&path, to.join(name)).map_err(|source| QuantiseError::File { path, source })?;
    }
    Ok(())
}

fn write_config(from: &Path, to: &Path, group_size: GroupSize) -> Result<(), QuantiseError> {
    let (read_path, path) = (from.join(CONFIG), to.join(CONFIG));
    let text = std::fs::read(&read_path)
        .map_err(|source| QuantiseError::File { path: read_path.clone(), source })?;
    let mut config: Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| QuantiseError::Output { path: read_path, what: format!("has changed: {error}") })?;
    let quantisation = json!({
        "quant_method": "awq", "bits": 4, "group_size": group_size.get(), "version": "gemm", "zero_point": true,
    });
    config.insert("quantization_config".to_owned(), quantisation);
    config.insert("torch_dtype".to_owned(), Value::from("float16"));
    // What newer versions of transformers call it.
    if let Some(dtype) = config.get_mut("dtype") {
        *dtype = Value::from("float16");
    }
    let text = format!("{:#}\n", Value::Object(config));
    std::fs::write(&path, text).map_err(|source| QuantiseError::File { path, source })
}

#[cfg(test)]
mod tests;
