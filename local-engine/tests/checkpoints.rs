//! A checkpoint that is damaged, incomplete or absurd is an error with its file and tensor or key, never a panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use local_engine::backend::reference::Reference;
use local_engine::backend::{Backend, Chunk, Logits};
use local_engine::kv::block_pool::BlockPool;
use local_engine::weights::config::ModelConfig;
use local_engine::weights::safetensors::SafetensorsFile;
use local_engine::weights::store::TensorStore;
use local_engine::weights::write::write_safetensors;
use local_engine::weights::{Dtype, Tensor, checkpoint};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// One of each way in which matrices are kept.
const KINDS: [&str; 4] =
    ["llama-linear-biased", "qwen2-awq-32", "qwen3-packed-asymmetric", "llama-packed-channel"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

/// A copy to be damaged.
struct Checkpoint {
    dir: TempDir,
}

impl Checkpoint {
    fn of(name: &str) -> Self {
        let dir = tempfile::tempdir().expect("there is room for a small directory");
        for entry in fs::read_dir(golden(name)).expect("the golden is there") {
            let path = entry.expect("a directory can be listed").path();
            fs::copy(&path, dir.path().join(path.file_name().expect("a file has a name")))
                .expect("files are small");
        }
        Self { dir }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn tensors(&self) -> BTreeMap<String, Tensor> {
        let file = SafetensorsFile::open(&self.path("model.safetensors")).expect("the golden is sound");
        file.names().map(|name| (name.to_owned(), file.tensor(name).expect("it has this name"))).collect()
    }

    fn write(&self, tensors: BTreeMap<String, Tensor>) {
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
        write_safetensors(&self.path("model.safetensors"), &tensors).expect("the file is small");
    }

    fn edit_config(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.path("config.json");
        let text = fs::read(&path).expect("the golden has a config");
        let mut config = serde_json::from_slice(&text).expect("it is JSON");
        edit(&mut config);
        fs::write(&path, config.to_string()).expect("the file is small");
    }

    /// What opening says, without the directory.
    fn error(&self) -> String {
        let error = match checkpoint::open(self.dir.path()) {
            Ok(_) => panic!("a damaged checkpoint was opened"),
            Err(error) => error.to_string(),
        };
        let dir = self.dir.path().display().to_string();
        assert!(error.starts_with(&dir), "{error}");
        error.replace(&dir, "DIR")
    }

    fn refuses(&self, expected: &[&str]) {
        let error = self.error();
        for expected in expected {
            assert!(error.contains(expected), "no `{expected}` in `{error}`");
        }
    }
}

/// Damages one tensor after the other, and expects each to be named.
fn every_tensor(kind: &str, damage: impl Fn(&str, &Tensor) -> Option<Tensor>) -> usize {
    let checkpoint = Checkpoint::of(kind);
    let tensors = checkpoint.tensors();
    let mut n_damaged = 0;
    for (name, tensor) in &tensors {
        let Some(damaged) = damage(name, tensor) else { continue };
        let mut others = tensors.clone();
        others.insert(name.clone(), damaged);
        checkpoint.write(others);
        checkpoint.refuses(&["DIR/model.safetensors", &format!("tensor `{name}`: ")]);
        n_damaged += 1;
    }
    n_damaged
}

#[test]
fn sound_checkpoints_are_opened() {
    for kind in KINDS {
        checkpoint::open(&golden(kind)).unwrap();
    }
}

#[test]
fn every_tensor_that_is_missing_is_named() {
    for kind in KINDS {
        let checkpoint = Checkpoint::of(kind);
        let tensors = checkpoint.tensors();
        for name in tensors.keys() {
            let mut others = tensors.clone();
            others.remove(name);
            checkpoint.write(others);

            // Without the tensor that marks it, a module counts as one of floats.
            let name = name.replace(".qweight", ".weight").replace(".weight_packed", ".weight");
            checkpoint.refuses(&["DIR: ", &format!("tensor `{name}`: is missing")]);
        }
    }
}

#[test]
fn every_tensor_of_another_shape_is_named() {
    for kind in KINDS {
        let n_damaged = every_tensor(kind, |_, tensor| {
            let mut shape = tensor.shape.clone();
            shape.insert(0, 1);
            Some(Tensor { shape, ..tensor.clone() })
        });

        assert!(n_damaged > 20, "{kind}: {n_damaged}");
    }
}

#[test]
fn every_tensor_of_another_type_is_named() {
    for kind in KINDS {
        every_tensor(kind, |_, tensor| {
            let dtype = if tensor.dtype.is_float() { Dtype::I32 } else { Dtype::F32 };
            let bytes = vec![0; tensor.n_elements() * 4].into();
            Some(Tensor { dtype, bytes, shape: tensor.shape.clone() })
        });
    }
}

#[test]
fn a_float_that_is_no_number_is_named() {
    for (kind, suffixes) in [
        ("llama-linear-biased", &["weight", "bias"][..]),
        ("qwen2-awq-32", &["scales", "bias", "embed_tokens.weight"]),
        ("qwen3-packed-asymmetric", &["weight_scale", "q_norm.weight"]),
    ] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let n_damaged = every_tensor(kind, |name, tensor| {
                suffixes.iter().any(|suffix| name.ends_with(suffix)).then(|| {
                    let mut values = tensor.to_f32();
                    *values.last_mut().expect("no tensor is empty") = bad;
                    Tensor::of_f32(&tensor.shape, &values)
                })
            });
            assert!(n_damaged >= 4, "{kind}: {n_damaged}");
        }
    }
}

#[test]
fn a_truncated_file_is_named_wherever_it_ends() {
    let checkpoint = Checkpoint::of("qwen2-awq-32");
    let path = checkpoint.path("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for (n_bytes, expected) in [
        (whole.len() - 1, "truncated"),
        (whole.len() / 2, "truncated"),
        (100, "truncated"),
        (8, "truncated"),
        (7, "has 7 bytes"),
        (0, ""),
    ] {
        fs::write(&path, &whole[..n_bytes]).unwrap();

        checkpoint.refuses(&["DIR/model.safetensors", expected]);
    }
}

#[test]
fn a_header_longer_than_its_file_is_refused() {
    let checkpoint = Checkpoint::of("llama-linear-biased");
    let path = checkpoint.path("model.safetensors");
    let mut file = fs::read(&path).unwrap();
    for length in [u64::MAX, 1 << 40, file.len() as u64 - 7] {
        file[..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&path, &file).unwrap();

        checkpoint.refuses(&["DIR/model.safetensors: the header says", &length.to_string()]);
    }
}

#[test]
fn an_index_that_leads_nowhere_is_refused() {
    let checkpoint = Checkpoint::of("llama-plain");
    let path = checkpoint.path("model.safetensors.index.json");
    let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let point_norm_at = |shard: &str| {
        let mut index = index.clone();
        index["weight_map"]["model.norm.weight"] = json!(shard);
        fs::write(&path, index.to_string()).unwrap();
    };
    let name = "DIR/model.safetensors.index.json: ";

    point_norm_at("../model.safetensors");
    checkpoint.refuses(&[name, "`../model.safetensors` is not a file beside the index"]);
    point_norm_at("/etc/passwd");
    checkpoint.refuses(&[name, "`/etc/passwd`"]);
    point_norm_at("model-00003-of-00002.safetensors");
    checkpoint.refuses(&["DIR/model-00003-of-00002.safetensors: "]);
    let right = index["weight_map"]["model.norm.weight"].as_str().unwrap();
    let other = if right.contains("00001-") {
        right.replace("00001-", "00002-")
    } else {
        right.replace("00002-", "00001-")
    };
    point_norm_at(&other);
    checkpoint.refuses(&[&other, "tensor `model.norm.weight`: is missing"]);
    for text in ["", "{}", r#"{"weight_map": {"a": 1}}"#] {
        fs::write(&path, text).unwrap();
        checkpoint.refuses(&[name, "not what an index of shards is"]);
    }
    fs::remove_file(&path).unwrap();
    checkpoint.refuses(&["DIR: holds neither `model.safetensors` nor"]);
}

#[test]
fn a_config_that_does_not_fit_its_tensors_is_refused_by_tensor() {
    for (key, value, tensor) in [
        ("vocab_size", json!(95), "model.embed_tokens.weight"),
        ("hidden_size", json!(96), "model.embed_tokens.weight"),
        ("intermediate_size", json!(32), "model.layers.0.mlp.gate_proj.weight"),
        ("num_key_value_heads", json!(2), "model.layers.0.self_attn.k_proj.weight"),
        ("num_hidden_layers", json!(3), "model.layers.2.input_layernorm.weight"),
        ("attention_bias", json!(false), "model.layers.0.self_attn.q_proj.bias"),
        ("mlp_bias", json!(false), "model.layers.0.mlp.gate_proj.bias"),
    ] {
        let checkpoint = Checkpoint::of("llama-linear-biased");
        checkpoint.edit_config(|config| config[key] = value);

        checkpoint.refuses(&[&format!("tensor `{tensor}`: ")]);
    }
}

#[test]
fn a_quantisation_that_does_not_fit_its_tensors_is_refused_by_tensor() {
    let refuses = |kind, key: &[&str], value: Value, expected: &[&str]| {
        let checkpoint = Checkpoint::of(kind);
        checkpoint.edit_config(|config| *key.iter().fold(config, |section, key| &mut section[key]) = value);
        checkpoint.refuses(expected);
    };
    let (awq, packed) = ("qwen2-awq-32", "qwen3-packed-asymmetric");
    let section = "quantization_config";
    let symmetric = [section, "config_groups", "group_0", "weights", "symmetric"];

    refuses(awq, &[section], Value::Null, &["q_proj.qweight`", "does not say `awq`"]);
    refuses(packed, &[section], Value::Null, &["q_proj.weight_packed`", "does not say `compressed-tensors`"]);
    refuses(awq, &[section, "group_size"], json!(64), &["q_proj.qzeros`", "[2, 8]", "[1, 8]"]);
    refuses(awq, &[section, "group_size"], json!(48), &["q_proj.scales`", "48 does not divide its 64 rows"]);
    refuses(awq, &[section, "version"], json!("gemv"), &["`quantization_config.version`: `gemv`"]);
    refuses(packed, &symmetric, json!(true), &["q_proj.weight_zero_point`", "symmetric"]);
    refuses("llama-packed-channel", &symmetric, json!(false), &["q_proj.weight_zero_point`: is missing"]);
}

#[test]
fn reordered_inputs_and_shapes_that_disagree_are_refused() {
    for (kind, part) in [("qwen2-awq-32", "g_idx"), ("qwen3-packed-asymmetric", "weight_g_idx")] {
        let checkpoint = Checkpoint::of(kind);
        let mut tensors = checkpoint.tensors();
        let name = format!("model.layers.1.mlp.up_proj.{part}");
        tensors.insert(name.clone(), Tensor::of_f32(&[1], &[0.0]));
        checkpoint.write(tensors);

        checkpoint.refuses(&[&format!("tensor `{name}`: "), "reordered"]);
    }
    let n_damaged = every_tensor("qwen3-packed-asymmetric", |name, tensor| {
        let swapped = [&tensor.bytes[8..], &[1; 8]].concat();
        name.ends_with("weight_shape").then(|| Tensor { bytes: swapped.into(), ..tensor.clone() })
    });
    assert_eq!(n_damaged, 14);
}

#[test]
fn a_directory_without_a_config_is_refused() {
    let checkpoint = Checkpoint::of("llama-plain");
    fs::remove_file(checkpoint.path("config.json")).unwrap();

    checkpoint.refuses(&["DIR/config.json: "]);
}

/// Where a byte is changed, and what it becomes.
type Edits = Vec<(prop::sample::Index, u8)>;

fn edits() -> impl Strategy<Value = Edits> {
    // Digits keep the JSON sound, so that these reach further in than other bytes do.
    let byte = prop_oneof![3 => b'0'..=b'9', 1 => any::<u8>()];
    prop::collection::vec((any::<prop::sample::Index>(), byte), 0..4)
}

fn edited(text: &[u8], edits: &Edits) -> Vec<u8> {
    let mut text = text.to_vec();
    for (at, byte) in edits {
        let at = at.index(text.len());
        // Other bytes than digits are only changed into what is no digit.
        if text[at].is_ascii_digit() || !byte.is_ascii_digit() {
            text[at] = *byte;
        }
    }
    text
}

/// Opens what is in memory, and computes a token with it when it could be opened.
fn open_and_compute(config: &[u8], file: Vec<u8>) {
    let dir = Path::new("m");
    let Ok(config) = ModelConfig::parse(dir, config, Some(config)) else { return };
    let Ok(file) = SafetensorsFile::parse(&dir.join("model.safetensors"), Bytes::from(file)) else { return };
    let Ok(store) = TensorStore::of_files(dir, vec![file]) else { return };
    let Ok(weights) = checkpoint::assemble(&config, &store) else { return };
    let mut reference = Reference::new(weights).expect("the reference takes all weights");
    reference.alloc_kv(1).expect("one block is small");
    let block = BlockPool::new(1).take().expect("there is one");
    let chunk = Chunk { tokens: &[0], start: 0, blocks: &[block], n_logits: 1 };
    reference.forward(&[chunk], &mut Logits::default()).expect("the step is possible");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn no_change_to_config_and_header_makes_opening_panic(
        kind in prop::sample::select(KINDS.to_vec()),
        of_config in edits(),
        of_header in edits(),
        kept in prop_oneof![3 => Just(1.0), 1 => 0.0..1.0_f64],
    ) {
        let config = fs::read(golden(kind).join("config.json")).expect("the golden is there");
        let file = fs::read(golden(kind).join("model.safetensors")).expect("the golden is there");
        let (length, _) = file.split_first_chunk().expect("a file begins with a length");
        let (header, numbers) = file.split_at(8 + u64::from_le_bytes(*length) as usize);

        let mut file = edited(header, &of_header);
        file.extend_from_slice(numbers);
        file.truncate((file.len() as f64 * kept) as usize);

        open_and_compute(&edited(&config, &of_config), file);
    }
}
