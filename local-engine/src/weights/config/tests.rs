//! Configs as they are published, and what is refused of them by key.

use serde_json::json;

use super::*;
use crate::model::{Rope, RopeScaling};

fn parse_with(config: &Value, generation: Option<&Value>) -> Result<ModelConfig, String> {
    let generation = generation.map(|value| value.to_string().into_bytes());
    ModelConfig::parse(Path::new("m"), config.to_string().as_bytes(), generation.as_deref())
        .map_err(|error| error.to_string())
}

fn parse(config: &Value) -> ModelConfig {
    parse_with(config, None).unwrap()
}

/// The smallest config of a type.
fn small(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 256,
    })
}

fn with(mut config: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn refuse(config: &Value, key: &str, expected: &str) {
    let error = parse_with(config, None).unwrap_err();
    assert!(error.starts_with(&format!("m/config.json: `{key}`: ")), "{error}");
    assert!(error.contains(expected), "{error}");
}

#[test]
fn qwen_2_5_as_published_is_the_preset() {
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151_643,
        "eos_token_id": 151_645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
        "intermediate_size": 4_864, "max_position_embeddings": 32_768, "max_window_layers": 21,
        "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1_000_000.0, "sliding_window": 32_768,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "use_sliding_window": false,
        "vocab_size": 151_936,
    });
    let generation = json!({"eos_token_id": [151_645, 151_643], "top_p": 0.8});

    let found = parse_with(&config, Some(&generation)).unwrap();

    let expected =
        Hparams { bos_id: Some(151_643), stop_ids: vec![151_643, 151_645], ..Hparams::qwen2_0_5b() };
    assert_eq!(found.hparams, expected);
    assert_eq!(found.biases, Biases { qkv: true, o: false, mlp: false });
    assert_eq!(found.quantisation, Quantisation::None);
}

#[test]
fn what_is_not_said_is_as_the_family_has_it() {
    let mut llama = small("llama");
    llama["num_key_value_heads"] = Value::Null;
    let llama = parse(&llama).hparams;
    assert_eq!((llama.n_kv_heads, llama.head_dim, llama.tied, llama.qk_norm), (4, 16, false, false));
    assert_eq!((llama.rope.theta, llama.norm_eps, llama.bos_id), (10_000.0, 1e-6, None));
    assert!(llama.stop_ids.is_empty());

    let qwen3 = parse(&small("qwen3")).hparams;
    assert_eq!((qwen3.head_dim, qwen3.qk_norm), (128, true));

    assert_eq!(parse(&small("mistral")).hparams.windows, [Some(4_096); 3]);
}

#[test]
fn biases_are_the_familys_or_the_configs() {
    let both = json!({"attention_bias": true, "mlp_bias": true});
    let biases = |model_type, changes: &Value| parse(&with(small(model_type), changes)).biases;

    assert_eq!(biases("llama", &both), Biases { qkv: true, o: true, mlp: true });
    assert_eq!(biases("llama", &json!({})), Biases { qkv: false, o: false, mlp: false });
    assert_eq!(biases("qwen3", &both), Biases { qkv: true, o: true, mlp: false });
    assert_eq!(biases("qwen2", &json!({})), Biases { qkv: true, o: false, mlp: false });
}

#[test]
fn windows_are_where_the_family_puts_them() {
    let windows = |model_type, changes| parse(&with(small(model_type), &changes)).hparams.windows;
    let w = Some(32);

    assert_eq!(windows("llama", json!({"sliding_window": 32})), [None; 3]);
    assert_eq!(windows("mistral", json!({"sliding_window": 32})), [w; 3]);
    assert_eq!(windows("mistral", json!({"sliding_window": null})), [None; 3]);
    let on = |changes| with(json!({"sliding_window": 32, "use_sliding_window": true}), &changes);
    assert_eq!(windows("qwen2", json!({"sliding_window": 32, "max_window_layers": 0})), [None; 3]);
    assert_eq!(windows("qwen2", on(json!({}))), [None; 3]);
    assert_eq!(windows("qwen2", on(json!({"max_window_layers": 2}))), [None, None, w]);
    assert_eq!(windows("qwen3", on(json!({"max_window_layers": 0}))), [w; 3]);
    let types = json!(["sliding_attention", "full_attention", "sliding_attention"]);
    assert_eq!(windows("qwen3", on(json!({"layer_types": types}))), [w, None, w]);
}

#[test]
fn windows_that_cannot_be_are_refused() {
    let full = "full_attention";
    let on = json!({"sliding_window": 32, "use_sliding_window": true});
    let layer_types =
        |types: Value, base: &Value| with(with(small("qwen2"), base), &json!({"layer_types": types}));

    refuse(&with(small("mistral"), &json!({"sliding_window": 0})), "sliding_window", "from 1");
    refuse(&layer_types(json!([full, full]), &on), "layer_types", "3 layers");
    refuse(&layer_types(json!([full, full, "chunked_attention"]), &on), "layer_types", "chunked_attention");
    refuse(
        &layer_types(json!([full, full, "sliding_attention"]), &json!({})),
        "layer_types",
        "use_sliding_window",
    );
}

#[test]
fn both_spellings_of_rope_mean_the_same() {
    let rope = |changes| parse(&with(small("llama"), &changes)).hparams.rope;
    let llama3 = json!({
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128,
        "rope_type": "llama3",
    });

    let old = rope(json!({"rope_theta": 500_000.0, "rope_scaling": llama3}));
    let new = rope(json!({"rope_parameters": with(llama3, &json!({"rope_theta": 500_000.0}))}));

    let scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 128,
    };
    assert_eq!(old, Rope { theta: 5e5, scaling });
    assert_eq!(new, old);
    let plain = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7.5}, "rope_scaling": null});
    assert_eq!(rope(plain), Rope { theta: 7.5, scaling: RopeScaling::None });
    let linear = json!({"rope_scaling": {"type": "linear", "factor": 2}});
    assert_eq!(rope(linear), Rope { theta: 1e4, scaling: RopeScaling::Linear { factor: 2.0 } });
}

#[test]
fn yarn_takes_what_it_is_not_told_from_the_factor_and_the_context() {
    let yarn = |changes| {
        let section = with(json!({"type": "yarn", "factor": 4.0}), &changes);
        let scaling = parse(&with(small("qwen2"), &json!({"rope_scaling": section}))).hparams.rope.scaling;
        let RopeScaling::Yarn { factor, original_context, attention_factor, .. } = scaling else {
            panic!("{scaling:?}");
        };
        (factor, original_context, (attention_factor * 1e6).round() / 1e6)
    };

    assert_eq!(yarn(json!({})), (4.0, 256, 1.138_629));
    assert_eq!(yarn(json!({"original_max_position_embeddings": 64})), (4.0, 64, 1.138_629));
    assert_eq!(yarn(json!({"factor": null, "original_max_position_embeddings": 128})), (2.0, 128, 1.069_315));
    assert_eq!(yarn(json!({"factor": 0.5})), (0.5, 256, 1.0));
    assert_eq!(yarn(json!({"attention_factor": 1.5, "mscale": 1, "mscale_all_dim": 1})), (4.0, 256, 1.5));
    assert_eq!(yarn(json!({"mscale": 1.0, "mscale_all_dim": 1.0})), (4.0, 256, 1.0));
    assert_eq!(yarn(json!({"mscale": 1.0, "mscale_all_dim": 0.0})), (4.0, 256, 1.138_629));
}

#[test]
fn rope_that_cannot_be_computed_is_refused() {
    let scaling = |section| with(small("llama"), &json!({"rope_scaling": section}));

    refuse(
        &scaling(json!({"rope_type": "longrope"})),
        "rope_scaling.rope_type",
        "`longrope` is not supported",
    );
    refuse(&scaling(json!({"type": "dynamic", "factor": 2})), "rope_scaling.type", "`llama3` and `yarn` are");
    refuse(&scaling(json!({"type": "linear"})), "rope_scaling.factor", "is missing");
    refuse(&scaling(json!({"type": "linear", "factor": 0})), "rope_scaling.factor", "is 0");
    refuse(&scaling(json!("linear")), "rope_scaling", "must be an object");
    let llama3 = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4});
    refuse(&scaling(llama3), "rope_scaling.high_freq_factor", "above `low_freq_factor`");
    refuse(&with(small("llama"), &json!({"rope_theta": 1})), "rope_theta", "above 1");
    let partial = json!({"partial_rotary_factor": 0.5});
    refuse(&with(small("llama"), &partial), "partial_rotary_factor", "0.5");
}

#[test]
fn absurd_values_are_refused_by_key() {
    for (key, wrong) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-64)),
        ("hidden_size", json!("64")),
        ("hidden_size", json!(64.5)),
        ("hidden_size", json!(1_u64 << 40)),
        ("num_hidden_layers", json!(0)),
        ("num_hidden_layers", json!(1_025)),
        ("intermediate_size", Value::Null),
        ("vocab_size", json!(u64::MAX)),
        ("max_position_embeddings", json!(1e300)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!(6)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(8)),
        ("head_dim", json!(15)),
        ("head_dim", json!(2_048)),
        ("rms_norm_eps", json!(0.0)),
        ("rms_norm_eps", json!(1.0)),
        ("rope_theta", json!(1e31)),
        ("tie_word_embeddings", json!("yes")),
        ("hidden_act", json!("gelu")),
        ("eos_token_id", json!(300)),
        ("eos_token_id", json!([2, -1])),
        ("bos_token_id", json!("<s>")),
    ] {
        refuse(&with(small("llama"), &json!({key: wrong})), key, "");
    }
    parse(&with(small("llama"), &json!({"num_hidden_layers": 1_024, "eos_token_id": 299})));
}

#[test]
fn other_models_are_refused_with_those_that_are_supported() {
    refuse(
        &small("gemma3"),
        "model_type",
        "`gemma3` is not supported; `llama`, `mistral`, `qwen2`, `qwen3` are",
    );
    let mut nameless = small("llama");
    nameless["model_type"] = Value::Null;
    refuse(&nameless, "model_type", "is missing");
    let classifier = json!({"architectures": ["LlamaForSequenceClassification"]});
    refuse(&with(small("llama"), &classifier), "architectures", "only `LlamaForCausalLM`");
}

#[test]
fn a_file_that_is_no_object_is_refused_with_its_path() {
    for text in ["", "[]", "{\"a\": ", "\u{0}"] {
        let config = ModelConfig::parse(Path::new("m"), text.as_bytes(), None).unwrap_err().to_string();
        let generation =
            ModelConfig::parse(Path::new("m"), small("llama").to_string().as_bytes(), Some(text.as_bytes()));

        assert!(config.starts_with("m/config.json: is no JSON object"), "{config}");
        let generation = generation.unwrap_err().to_string();
        assert!(generation.starts_with("m/generation_config.json: is no JSON object"), "{generation}");
    }
}

#[test]
fn quantisations_that_would_be_read_wrongly_are_refused() {
    let quantised = |section| with(small("llama"), &json!({"quantization_config": section}));
    let awq = |changes| {
        let gemm = json!({"quant_method": "awq", "bits": 4, "group_size": 128, "version": "GEMM", "zero_point": true});
        quantised(with(gemm, &changes))
    };
    let supported = "AutoAWQ's `gemm` and compressed-tensors' `pack-quantized`";

    assert_eq!(parse(&awq(json!({}))).quantisation, Quantisation::AwqGemm { group_size: Some(128) });
    assert_eq!(
        parse(&awq(json!({"group_size": -1}))).quantisation,
        Quantisation::AwqGemm { group_size: None }
    );
    for method in ["gptq", "bitsandbytes", "fp8", "marlin"] {
        refuse(&quantised(json!({"quant_method": method})), "quantization_config.quant_method", supported);
    }
    for version in ["gemv", "gemv_fast", "marlin", "exllama"] {
        refuse(&awq(json!({"version": version})), "quantization_config.version", supported);
    }
    refuse(&awq(json!({"backend": "llm-awq"})), "quantization_config.backend", supported);
    refuse(&awq(json!({"bits": 8})), "quantization_config.bits", "is 8; supported");
    refuse(&awq(json!({"zero_point": false})), "quantization_config.zero_point", "zero points");
    refuse(&awq(json!({"group_size": 0})), "quantization_config.group_size", "from 1");
    refuse(&awq(json!({"group_size": null})), "quantization_config.group_size", "is missing");
}

#[test]
fn compressed_tensors_is_taken_when_it_is_of_four_bits() {
    let quantised = |weights: Value, changes: Value| {
        let group = json!({"targets": ["Linear"], "weights": weights, "input_activations": null});
        let section = json!({
            "quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"group_0": group},
        });
        with(small("llama"), &json!({"quantization_config": with(section, &changes)}))
    };
    let weights =
        json!({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": true});
    let at = |key: &str| format!("quantization_config.{key}");
    let in_weights = |key: &str| at(&format!("config_groups.group_0.weights.{key}"));

    let symmetry = |weights, changes| parse(&quantised(weights, changes)).quantisation;
    let of = |symmetry| Quantisation::PackQuantized { symmetry };
    let asymmetric = with(weights.clone(), &json!({"symmetric": false}));
    assert_eq!(symmetry(weights.clone(), json!({})), of(Symmetry::Symmetric));
    assert_eq!(symmetry(asymmetric.clone(), json!({})), of(Symmetry::Asymmetric));
    let both = json!({"config_groups": {"a": {"weights": weights}, "b": {"weights": asymmetric}}});
    assert_eq!(symmetry(weights.clone(), both), of(Symmetry::Mixed));
    for (key, wrong) in [
        ("num_bits", json!(8)),
        ("type", json!("float")),
        ("strategy", json!("tensor")),
        ("actorder", json!("group")),
    ] {
        refuse(
            &quantised(with(weights.clone(), &json!({key: wrong})), json!({})),
            &in_weights(key),
            "supported",
        );
    }
    for (key, wrong) in [
        ("format", json!("int-quantized")),
        ("format", json!("marlin-24")),
        ("kv_cache_scheme", json!({"num_bits": 8})),
        ("transform_config", json!({"config_groups": {}})),
    ] {
        refuse(&quantised(weights.clone(), json!({key: wrong})), &at(key), "supported");
    }
    let sparse = json!({"sparsity_config": {"format": "sparse-24-bitmask"}});
    refuse(&quantised(weights.clone(), sparse), &at("sparsity_config.format"), "sparse-24");
    let active = json!({"config_groups": {"g": {"weights": weights, "input_activations": {"num_bits": 8}}}});
    refuse(&quantised(weights, active), &at("config_groups.g.input_activations"), "not supported");
    let no_groups = json!({"config_groups": null});
    refuse(&quantised(json!({}), no_groups), &at("config_groups"), "is missing");
}
