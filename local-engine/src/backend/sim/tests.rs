//! The model says the same through pages as without, and notices what is wrong with them.

use super::*;
use crate::kv::BlockId;
use crate::kv::block_pool::BlockPool;

fn blocks() -> Vec<BlockId> {
    let mut pool = BlockPool::new(4);
    std::iter::from_fn(|| pool.take()).collect()
}

fn backend() -> SimBackend {
    let mut backend = SimBackend::new(Sim::default());
    backend.alloc_kv(4).unwrap();
    backend
}

fn text(len: usize) -> Vec<TokenId> {
    (0..len).map(|idx| (idx * 7 % 64) as TokenId).collect()
}

/// The last row, after so many tokens at a time.
fn row(backend: &mut SimBackend, text: &[TokenId], blocks: &[BlockId], chunk_len: usize) -> Vec<f32> {
    let mut logits = Logits::default();
    for (idx, tokens) in text.chunks(chunk_len).enumerate() {
        let chunk = Chunk { tokens, start: idx * chunk_len, blocks, n_logits: 1 };
        backend.forward(&[chunk], &mut logits).unwrap();
    }
    logits.row(0).to_vec()
}

#[test]
fn pages_and_chunks_change_nothing() {
    let expected = Sim::default().row_after(&text(40));
    let blocks = blocks();

    for chunk_len in [1, 7, 16, 40] {
        assert_eq!(row(&mut backend(), &text(40), &blocks, chunk_len), expected, "chunks of {chunk_len}");
    }
    let reversed: Vec<BlockId> = blocks.into_iter().rev().collect();
    assert_eq!(row(&mut backend(), &text(40), &reversed, 40), expected);
}

#[test]
fn every_row_is_of_its_own_position() {
    let text = text(20);
    let mut logits = Logits::default();
    let blocks = blocks();

    let chunk = Chunk { tokens: &text, start: 0, blocks: &blocks, n_logits: 3 };
    backend().forward(&[chunk], &mut logits).unwrap();

    assert_eq!(logits.n_rows(), 3);
    for idx in 0..3 {
        assert_eq!(logits.row(idx), Sim::default().row_after(&text[..18 + idx]));
    }
}

#[test]
fn a_slot_that_was_not_written_changes_the_row() {
    let text = text(20);
    let blocks = blocks();
    let mut logits = Logits::default();
    let mut backend = backend();

    let chunk = Chunk { tokens: &text[10..], start: 10, blocks: &blocks, n_logits: 1 };
    backend.forward(&[chunk], &mut logits).unwrap();

    assert_ne!(logits.row(0), Sim::default().row_after(&text));
}

#[test]
fn a_wrong_block_in_the_middle_changes_the_row() {
    let text = text(40);
    let mut blocks = blocks();
    let mut backend = backend();
    row(&mut backend, &text, &blocks, 40);
    let mut logits = Logits::default();

    blocks.swap(0, 3);
    let chunk = Chunk { tokens: &text[39..], start: 39, blocks: &blocks, n_logits: 1 };
    backend.forward(&[chunk], &mut logits).unwrap();

    assert_ne!(logits.row(0), Sim::default().row_after(&text));
}

#[test]
fn a_step_that_breaks_its_promises_is_refused() {
    let text = text(20);
    let blocks = blocks();
    let chunk = Chunk { tokens: &text, start: 0, blocks: &blocks[..2], n_logits: 1 };
    let reading = [&blocks[..2], &blocks[1..3]].concat();
    let broken = [
        vec![chunk, chunk],
        vec![Chunk { tokens: &[], ..chunk }],
        vec![Chunk { n_logits: 21, ..chunk }],
        vec![Chunk { blocks: &blocks[..1], ..chunk }],
        vec![Chunk { tokens: &[64], ..chunk }],
        vec![chunk, Chunk { tokens: &text, start: 20, blocks: &reading, n_logits: 0 }],
    ];

    assert!(backend().forward(&[chunk], &mut Logits::default()).is_ok());
    for chunks in broken {
        assert!(backend().forward(&chunks, &mut Logits::default()).is_err(), "{chunks:?}");
    }
}

#[test]
fn habit_makes_the_next_token_a_matter_of_the_last() {
    let sim = Sim { habit: 1.0, ..Sim::default() };
    let best = |text: &[TokenId]| {
        let row = sim.row_after(text);
        (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap()
    };

    assert_eq!(best(&[1, 2, 9]), best(&[3, 9]));
    assert_ne!(best(&[9, 2]), best(&[9, 3]));
}
