//! The oracle agrees with itself however its tokens are cut; that it is right, the goldens say.

use super::*;
use crate::kv::block_pool::BlockPool;
use crate::model::Family;
use crate::weights::{RandomKind, random_weights};

fn tiny(family: Family) -> Reference {
    let mut reference = Reference::new(random_weights(&Hparams::tiny(family), RandomKind::F32, 5)).unwrap();
    reference.alloc_kv(12).unwrap();
    reference
}

fn blocks(n_blocks: u32) -> Vec<BlockId> {
    let mut pool = BlockPool::new(n_blocks);
    (0..n_blocks).map(|_| pool.take().unwrap()).collect()
}

fn tokens(n_tokens: usize) -> Vec<TokenId> {
    (0..n_tokens as u32).map(|n| (n * 37 + 11) % 320).collect()
}

/// All rows of logits of `tokens`, computed in chunks of `n_chunk`.
fn rows(reference: &mut Reference, tokens: &[TokenId], blocks: &[BlockId], n_chunk: usize) -> Vec<f32> {
    let mut rows = Vec::new();
    let mut logits = Logits::default();
    for (chunk_idx, tokens) in tokens.chunks(n_chunk).enumerate() {
        let chunk = Chunk { tokens, start: chunk_idx * n_chunk, blocks, n_logits: tokens.len() };
        reference.forward(&[chunk], &mut logits).unwrap();
        rows.extend_from_slice(&logits.values);
    }
    rows
}

#[test]
fn chunks_and_the_order_of_pages_change_no_bit() {
    for family in [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3] {
        let mut reference = tiny(family);
        let (tokens, blocks) = (tokens(70), blocks(12));
        let reversed: Vec<BlockId> = blocks.iter().rev().copied().collect();

        let whole = rows(&mut reference, &tokens, &blocks, 70);

        assert!(whole.iter().all(|logit| logit.is_finite()));
        assert_eq!(whole.len(), 70 * 320);
        for n_chunk in [1, 7, 16, 33] {
            assert_eq!(rows(&mut reference, &tokens, &reversed, n_chunk), whole, "{family:?} by {n_chunk}");
        }
    }
}

#[test]
fn sequences_of_one_step_do_not_touch_one_another() {
    let mut reference = tiny(Family::Qwen3);
    let (tokens, blocks) = (tokens(40), blocks(12));
    let (ones, others) = blocks.split_at(6);
    let alone = rows(&mut reference, &tokens[..20], ones, 20);
    let other_alone = rows(&mut reference, &tokens[15..], others, 25);

    let mut logits = Logits::default();
    let chunks = [
        Chunk { tokens: &tokens[..20], start: 0, blocks: ones, n_logits: 20 },
        Chunk { tokens: &tokens[15..], start: 0, blocks: others, n_logits: 3 },
    ];
    reference.forward(&chunks, &mut logits).unwrap();

    assert_eq!(logits.n_rows(), 23);
    assert_eq!(logits.values[..20 * 320], alone);
    assert_eq!(logits.values[20 * 320..], other_alone[22 * 320..]);
}

#[test]
fn a_window_shows_the_token_itself_and_those_before_it_up_to_its_width() {
    let blocks = blocks(12);
    let last_row = |reference: &mut Reference, changed: usize| {
        let mut tokens = tokens(30);
        tokens[changed] = 300;
        rows(reference, &tokens, &blocks, 30)[29 * 320..].to_vec()
    };
    // One layer, or its neighbours would carry the change on.
    let hparams = Hparams { n_layers: 1, windows: vec![Some(24)], ..Hparams::tiny(Family::Mistral) };
    let mut reference = Reference::new(random_weights(&hparams, RandomKind::F32, 5)).unwrap();
    reference.alloc_kv(12).unwrap();

    let unseen = last_row(&mut reference, 0);

    assert_eq!(last_row(&mut reference, 5), unseen, "position 29 sees 6 to 29");
    assert_ne!(last_row(&mut reference, 6), unseen);
    assert_ne!(last_row(&mut reference, 29), unseen);
}

#[test]
fn a_step_that_cannot_be_is_refused() {
    let mut reference = tiny(Family::Llama);
    let (tokens, few, many) = (tokens(17), blocks(1), blocks(13));
    let mut refuse = |chunk: Chunk<'_>, expected: &str| {
        let error = reference.forward(&[chunk], &mut Logits::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let chunk = Chunk { tokens: &tokens, start: 0, blocks: &many[..12], n_logits: 1 };

    refuse(Chunk { tokens: &[319, 320], ..chunk }, "token 320");
    refuse(Chunk { start: 496, ..chunk }, "position 512");
    refuse(Chunk { blocks: &few, ..chunk }, "1 blocks do not hold 17");
    refuse(Chunk { blocks: &many, ..chunk }, "not one of the 12");
    refuse(Chunk { n_logits: 18, ..chunk }, "18 rows");
    reference.forward(&[chunk], &mut Logits::default()).unwrap();
}

#[test]
fn a_block_takes_what_its_pages_take() {
    let reference = tiny(Family::Llama);

    // Two layers of keys and values, 16 tokens of 2 heads of 32 numbers.
    assert_eq!(reference.block_bytes(), 2 * 2 * 16 * 2 * 32 * 4);
}
