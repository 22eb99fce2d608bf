//! A layer computes what the reference backend does, and folding does not change it.

use super::*;
use crate::backend::reference::Reference;
use crate::backend::{BLOCK_TOKENS, Backend, Chunk, Logits};
use crate::kv::BlockId;
use crate::kv::block_pool::BlockPool;
use crate::model::Family;
use crate::quantise::fixtures::{noise, texts};
use crate::weights::{RandomKind, Weights, random_weights};

const FAMILIES: [Family; 4] = [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3];

/// The logits of every position of a text.
fn logits(weights: &Weights, layers: &[Layer], tokens: &[u32]) -> Rows {
    let hparams = &weights.hparams;
    let mut x = Rows::zeros(tokens.len(), hparams.n_hidden);
    for (token, row) in tokens.iter().zip(x.values.chunks_exact_mut(hparams.n_hidden)) {
        weights.embedding.read_floats(*token as usize * hparams.n_hidden, row);
    }
    let rope = RopeTable::new(hparams, tokens.len());
    for layer in layers {
        layer.forward(&mut x, &rope, &mut |_, _| {});
    }
    let head = Dense {
        name: "lm_head".to_owned(),
        n_in: hparams.n_hidden,
        n_out: hparams.n_vocab,
        rows: weights.embedding.to_f32(),
        bias: None,
    };
    let head = weights.head.as_ref().map_or(head, Dense::new);
    head.apply(&Norm::new(&weights.norm, hparams.norm_eps).of(&x))
}

fn layers(weights: &Weights) -> Vec<Layer> {
    let of_layer = |(layer_idx, layer)| Layer::new(&weights.hparams, layer_idx, layer);
    weights.layers.iter().enumerate().map(of_layer).collect()
}

fn greatest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_whole_sequence_gives_what_the_reference_gives_token_by_token() {
    for family in FAMILIES {
        let weights = random_weights(&Hparams::tiny(family), RandomKind::F32, 5);
        let tokens = texts(&weights.hparams, 40).swap_remove(0);
        let mut reference = Reference::new(weights.clone()).unwrap();
        let mut pool = BlockPool::new(tokens.len().div_ceil(BLOCK_TOKENS) as u32);
        reference.alloc_kv(pool.n_blocks()).unwrap();
        let blocks: Vec<BlockId> = std::iter::from_fn(|| pool.take()).collect();
        let mut expected = Logits::default();
        let chunk = Chunk { tokens: &tokens, start: 0, blocks: &blocks, n_logits: tokens.len() };
        reference.forward(&[chunk], &mut expected).unwrap();

        let found = logits(&weights, &layers(&weights), &tokens);

        let difference = greatest_difference(&found.values, &expected.values);
        assert!(difference < 1e-4, "{family:?}: {difference}");
    }
}

#[test]
fn folding_leaves_the_logits_as_they_were() {
    for family in FAMILIES {
        let weights = random_weights(&Hparams::tiny(family), RandomKind::F32, 6);
        let tokens = texts(&weights.hparams, 40).swap_remove(0);
        let mut folded = layers(&weights);
        for (seed, layer) in folded.iter_mut().enumerate() {
            for place in Place::ALL {
                let n_in = layer.readers(place)[0].n_in;
                let uneven: Vec<f32> =
                    noise(n_in, 10 + seed as u64).iter().map(|level| (3.0 * level).exp()).collect();
                let scales = layer.foldable(place, &uneven);
                layer.fold(place, &scales);
            }
        }

        let (found, expected) =
            (logits(&weights, &folded, &tokens), logits(&weights, &layers(&weights), &tokens));

        let difference = greatest_difference(&found.values, &expected.values);
        assert!(difference < 1e-4, "{family:?}: {difference}");
        assert!(greatest_difference(&folded[0].o.rows, &layers(&weights)[0].o.rows) > 0.1);
    }
}

#[test]
fn heads_that_share_values_share_scales() {
    let weights = random_weights(&Hparams::tiny(Family::Llama), RandomKind::F32, 7);
    let layer = &layers(&weights)[0];
    let mut means = vec![1.0; layer.o.n_in];
    // Of the second head; the first two share.
    means[layer.head_dim + 3] = 5.0;

    let shared = layer.foldable(Place::Heads, &means);

    let mut expected = vec![1.0; layer.o.n_in];
    (expected[3], expected[layer.head_dim + 3]) = (3.0, 3.0);
    assert_eq!((layer.n_sharing, shared), (2, expected));
    assert_eq!(layer.foldable(Place::Gated, &means), means);
}
