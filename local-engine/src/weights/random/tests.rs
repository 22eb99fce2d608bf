//! Random weights are of the shape asked for, keep activations sane, and depend on their seed.

use super::*;

#[test]
fn equal_seeds_give_equal_weights_and_others_do_not() {
    let hparams = Hparams::tiny(Family::Llama);
    let words = |seed| {
        let weights = random_weights(&hparams, RandomKind::AwqGemm { group_size: 32 }, seed);
        let Matrix::Int4(Int4Matrix { layout: Int4Layout::AwqGemm { qweight, .. }, .. }) =
            weights.layers[1].down.matrix.clone()
        else {
            panic!("asked for AWQ");
        };
        qweight.bytes
    };

    assert_eq!(words(7), words(7));
    assert_ne!(words(7), words(8));
}

#[test]
fn a_family_has_the_tensors_of_its_own() {
    for family in [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3] {
        let hparams = Hparams::tiny(family);

        let weights = random_weights(&hparams, RandomKind::F16, 1);

        let layer = &weights.layers[1];
        assert_eq!(weights.layers.len(), 2);
        assert_eq!(layer.k.bias.is_some(), family == Family::Qwen2);
        assert_eq!(layer.q_norm.is_some(), family == Family::Qwen3);
        assert_eq!(weights.head.is_none(), family == Family::Qwen2);
        assert_eq!(layer.o.n_in, hparams.n_heads * hparams.head_dim);
    }
}

#[test]
fn a_matrix_keeps_the_variance_of_its_inputs() {
    let hparams = Hparams::tiny(Family::Llama);
    for kind in [RandomKind::F32, RandomKind::F16, RandomKind::AwqGemm { group_size: 64 }] {
        let weights = random_weights(&hparams, kind, 3);

        let down = &weights.layers[0].down;
        let mean_square = match &down.matrix {
            Matrix::Float(tensor) => {
                tensor.to_f32().iter().map(|weight| weight * weight).sum::<f32>() / down.n_out as f32
            }
            Matrix::Int4(matrix) => {
                let weights = matrix.to_f32();
                weights.iter().map(|weight| weight * weight).sum::<f32>() / down.n_out as f32
            }
        };

        assert!((0.9..1.1).contains(&mean_square), "{kind:?}: {mean_square}");
    }
}
