//! What is written is read back by the engine's own reader, and nothing is written where something is.

use std::path::PathBuf;

use super::*;
use crate::model::{Family, Hparams};
use crate::quantise::Method;
use crate::quantise::fixtures::{options, skewed_weights, texts, write_checkpoint};
use crate::weights::Dtype;

/// A float model's directory, and where its quantised form is to go.
fn dirs(weights: &Weights) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("float"), dir.path().join("four"));
    std::fs::create_dir(&from).unwrap();
    write_checkpoint(&from, weights);
    (dir, from, to)
}

fn quantise(from: &Path, to: &Path, method: Method) -> Result<Written, QuantiseError> {
    let source = Source::open(from)?;
    let texts = texts(&source.weights.hparams, 12);
    let mut quantiser = Quantiser::new(&source.weights, options(method, 64), Some(&texts))?;
    write(&source, to, &mut quantiser, &mut |_| {})
}

fn int4(linear: &Linear) -> &Int4Matrix {
    match &linear.matrix {
        Matrix::Int4(matrix) => matrix,
        Matrix::Float(_) => panic!("{} is a float", linear.name),
    }
}

#[test]
fn what_is_written_is_read_as_it_was_quantised() {
    for (family, method) in [
        (Family::Llama, Method::Nearest),
        (Family::Qwen2, Method::ActivationAware),
        (Family::Qwen3, Method::Nearest),
    ] {
        let weights = skewed_weights(family);
        let (_dir, from, to) = dirs(&weights);
        let texts = texts(&weights.hparams, 12);
        let mut quantiser = Quantiser::new(&weights, options(method, 64), Some(&texts)).unwrap();
        let (expected, _) = quantiser.next_layer().unwrap().unwrap();

        quantise(&from, &to, method).unwrap();

        let read = checkpoint::open(&to).unwrap();
        let found = &read.layers[0];
        for (found, expected) in
            super::super::linears(found).into_iter().zip(super::super::linears(&expected))
        {
            assert_eq!(int4(found).group_size, 64);
            assert_eq!(int4(found).to_f32(), int4(expected).to_f32(), "{}", found.name);
            assert_eq!(found.bias.as_ref().map(Tensor::to_f32), expected.bias.as_ref().map(Tensor::to_f32));
        }
        assert_eq!(found.attention_norm.to_f32(), expected.attention_norm.to_f32());
        assert_eq!(found.q_norm.is_some(), family == Family::Qwen3);
        assert_eq!((read.embedding.dtype, read.head.is_some()), (Dtype::F16, family != Family::Qwen2));
        let (float, half) = (weights.embedding.to_f32(), read.embedding.to_f32());
        assert!(
            float.iter().zip(half).all(|(float, half)| (float - half).abs() <= float.abs() / 2_048.0 + 1e-7)
        );
    }
}

#[test]
fn the_config_says_what_is_in_the_files_and_the_rest_is_copied() {
    let (_dir, from, to) = dirs(&skewed_weights(Family::Llama));

    quantise(&from, &to, Method::Nearest).unwrap();

    let config: Value = serde_json::from_slice(&std::fs::read(to.join("config.json")).unwrap()).unwrap();
    let expected =
        json!({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": true});
    assert_eq!(config["quantization_config"], expected);
    assert_eq!((&config["torch_dtype"], &config["dtype"]), (&json!("float16"), &Value::Null));
    assert_eq!(config["hidden_size"], 128);
    assert_eq!(std::fs::read(to.join("tokenizer.json")).unwrap(), b"a tokenizer");
    assert!(!to.join("README.md").exists());
}

#[test]
fn bits_are_those_of_the_files() {
    let weights = skewed_weights(Family::Qwen2);
    let (_dir, from, to) = dirs(&weights);

    let written = quantise(&from, &to, Method::Nearest).unwrap();

    // A nibble; a scale and a zero for 64 of them.
    assert_eq!((written.n_files, written.bits_per_quantised_weight), (1, 4.0 + 20.0 / 64.0));
    assert_eq!(written.bits_per_weight, 8.0 * written.n_bytes as f64 / written.n_weights as f64);
    let file_bytes = std::fs::metadata(to.join("model.safetensors")).unwrap().len() as usize;
    assert!((written.n_bytes..written.n_bytes + 16_384).contains(&file_bytes));
}

#[test]
fn only_a_new_or_empty_directory_is_written_to() {
    let (_dir, from, to) = dirs(&skewed_weights(Family::Llama));
    std::fs::create_dir(&to).unwrap();

    assert!(check_output(&to).is_ok());
    quantise(&from, &to, Method::Nearest).unwrap();
    let error = quantise(&from, &to, Method::Nearest).unwrap_err();

    let expected = format!("{}: is not empty; name a new directory, or remove what it holds", to.display());
    assert_eq!(error.to_string(), expected);
    assert!(check_output(&from.join("config.json")).is_err());
}

#[test]
fn a_quantised_checkpoint_is_no_source() {
    let (dir, from, to) = dirs(&skewed_weights(Family::Llama));
    quantise(&from, &to, Method::Nearest).unwrap();

    let error = quantise(&to, &dir.path().join("again"), Method::Nearest).unwrap_err().to_string();

    assert!(
        error.contains("config.json: quantization_config` says the checkpoint is quantised already"),
        "{error}"
    );
    assert!(!dir.path().join("again").exists());
}

#[test]
fn numbers_that_f16_cannot_hold_are_refused_before_any_layer_is_done() {
    for (value, is_held) in [(65_504.0, true), (65_536.0, false)] {
        let mut weights = skewed_weights(Family::Llama);
        let mut values = weights.embedding.to_f32();
        values[2_000] = value;
        weights.embedding = Tensor::of_f32(&weights.embedding.shape, &values);
        let (_dir, from, to) = dirs(&weights);
        let source = Source::open(&from).unwrap();
        let mut quantiser = Quantiser::new(&source.weights, options(Method::Nearest, 64), None).unwrap();
        let mut n_layers = 0;

        let found = write(&source, &to, &mut quantiser, &mut |_| n_layers += 1);

        assert_eq!(
            (found.is_ok(), n_layers),
            (is_held, if is_held { Hparams::tiny(Family::Llama).n_layers } else { 0 })
        );
        if let Err(error) = found {
            let expected = "tensor `model.embed_tokens.weight`: has 65536, which f16 cannot hold; serve the float checkpoint";
            assert_eq!(error.to_string(), expected);
            assert!(!to.join("config.json").exists());
        }
    }
}
