//! A whole model quantised: searching beats rounding, and what cannot be quantised is refused by name.

use super::fixtures::{options, skewed_weights, texts};
use super::*;
use crate::model::{Family, Hparams};
use crate::weights::{Int4Layout, RandomKind, Tensor, random_weights};

fn quantise_all(weights: &Weights, options: Options) -> (Vec<LayerWeights>, Vec<LayerReport>, Divergence) {
    let mut quantiser = Quantiser::new(weights, options, Some(&texts(&weights.hparams, 12))).unwrap();
    let (mut layers, mut reports) = (Vec::new(), Vec::new());
    while let Some((layer, report)) = quantiser.next_layer().unwrap() {
        layers.push(layer);
        reports.push(report);
    }
    (layers, reports, quantiser.divergence().unwrap())
}

#[test]
fn where_activations_are_skewed_searching_beats_rounding() {
    for family in [Family::Llama, Family::Qwen3] {
        let weights = skewed_weights(family);

        let (_, reports, aware) = quantise_all(&weights, options(Method::ActivationAware, 64));
        let (_, _, nearest) = quantise_all(&weights, options(Method::Nearest, 64));

        assert!(aware.mean_kl < nearest.mean_kl, "{family:?}: {} and {}", aware.mean_kl, nearest.mean_kl);
        for report in &reports {
            for module in report.modules.iter().filter(|module| !module.name.contains("down")) {
                let OutputErrors { nearest, kept } = module.errors.unwrap();
                // Heads are averages, which are even.
                let most = if module.name.contains("o_proj") { 1.02 } else { 0.8 };
                assert!(kept < most * nearest, "{family:?} {}: {nearest} and {kept}", module.name);
            }
        }
    }
}

#[test]
fn rounding_to_nearest_reports_one_error_and_changes_no_norm() {
    let weights = skewed_weights(Family::Llama);

    let (layers, reports, divergence) = quantise_all(&weights, options(Method::Nearest, 32));

    for module in reports.iter().flat_map(|report| &report.modules) {
        let errors = module.errors.unwrap();
        assert!(errors.kept > 0.01 && (errors.nearest / errors.kept - 1.0).abs() < 1e-3, "{errors:?}");
        assert_eq!((module.alpha, module.clipped_share), (None, None));
    }
    let (before, after) = (&weights.layers[1].mlp_norm, &layers[1].mlp_norm);
    assert!(before.to_f32().iter().zip(after.to_f32()).all(|(a, b)| (a / b - 1.0).abs() < 1e-3));
    assert!(divergence.mean_kl > 0.0 && divergence.n_positions == 22, "{divergence:?}");
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let weights = skewed_weights(Family::Qwen2);
    let words = |n_threads| {
        let options = Options { n_threads, ..options(Method::ActivationAware, 128) };
        let (layers, reports, divergence) = quantise_all(&weights, options);
        let Matrix::Int4(matrix) = &layers[1].down.matrix else { panic!("it is quantised") };
        let Int4Layout::AwqGemm { qweight, .. } = &matrix.layout else { panic!("it is of AWQ's layout") };
        (qweight.bytes.clone(), reports, divergence)
    };

    assert_eq!(words(1), words(3));
}

#[test]
fn without_calibration_text_only_rounding_to_nearest_goes() {
    let weights = skewed_weights(Family::Llama);

    let error = Quantiser::new(&weights, options(Method::ActivationAware, 64), None).unwrap_err();
    let mut quantiser = Quantiser::new(&weights, options(Method::Nearest, 64), None).unwrap();
    let (_, report) = quantiser.next_layer().unwrap().unwrap();

    assert_eq!(error.to_string(), "the calibration text is missing; give some, or round to nearest");
    assert!(report.modules.iter().all(|module| module.errors.is_none()));
    assert_eq!(quantiser.divergence(), None);
}

#[test]
fn groups_are_of_three_sizes() {
    for (size, is_one) in [
        (0, false),
        (31, false),
        (32, true),
        (33, false),
        (64, true),
        (127, false),
        (128, true),
        (256, false),
    ] {
        assert_eq!(GroupSize::try_new(size).is_ok(), is_one, "{size}");
    }
}

fn refusal(hparams: &Hparams, group_size: usize) -> String {
    let weights = random_weights(hparams, RandomKind::F32, 1);
    let made = Quantiser::new(&weights, options(Method::Nearest, group_size), None);
    made.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn shapes_that_cannot_be_packed_are_refused_with_a_remedy() {
    let with = |n_intermediate| Hparams { n_intermediate, ..Hparams::tiny(Family::Llama) };

    assert_eq!(refusal(&with(192), 64), "");
    let error = refusal(&with(192), 128);
    assert!(error.starts_with("tensor `model.layers.0.mlp.down_proj.weight`: has 192 inputs"), "{error}");
    assert!(error.ends_with("groups of 32 and 64 do"), "{error}");
    assert!(refusal(&with(200), 32).ends_with("no supported group does; serve the float checkpoint"));
    let error = refusal(&with(196), 32);
    assert!(error.starts_with("tensor `model.layers.0.mlp.gate_proj.weight`: has 196 outputs"), "{error}");
}

#[test]
fn a_model_of_four_bits_is_refused() {
    let weights = random_weights(&Hparams::tiny(Family::Llama), RandomKind::AwqGemm { group_size: 64 }, 1);

    let error = Quantiser::new(&weights, options(Method::Nearest, 64), None).unwrap_err();

    assert!(error.to_string().starts_with("`model.layers.0.self_attn.q_proj.qweight` says"), "{error}");
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let mut weights = skewed_weights(Family::Llama);
    let up = &mut weights.layers[1].up;
    let mut values = vec![0.5; up.n_in * up.n_out];
    values[77] = f32::NAN;
    up.matrix = Matrix::Float(Tensor::of_f32(&[up.n_out, up.n_in], &values));
    let mut quantiser = Quantiser::new(&weights, options(Method::Nearest, 64), None).unwrap();

    let first = quantiser.next_layer();
    let second = quantiser.next_layer();

    assert!(first.is_ok());
    let error = second.unwrap_err().to_string();
    assert_eq!(
        error,
        "tensor `model.layers.1.mlp.up_proj.weight`: has NaN at place 77; the checkpoint is damaged"
    );
}
