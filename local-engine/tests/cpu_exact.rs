//! A token's logits are the same to the bit however it is computed: in any chunks and company, on any
//! number of threads and tier of instructions, and in whatever pages.

use local_engine::backend::cpu::{Cpu, CpuConfig, Isa, KvFormat};
use local_engine::backend::{Backend, Chunk, Logits};
use local_engine::kv::BlockId;
use local_engine::kv::block_pool::BlockPool;
use local_engine::model::{Family, Hparams};
use local_engine::weights::{RandomKind, Weights, random_weights};

const N_BLOCKS: u32 = 40;
const N_VOCAB: usize = 320;

fn blocks() -> Vec<BlockId> {
    let mut pool = BlockPool::new(N_BLOCKS);
    std::iter::from_fn(|| pool.take()).collect()
}

fn text(seed: usize, n_tokens: usize) -> Vec<u32> {
    (0..n_tokens).map(|idx| ((idx * 37 + seed * 101 + idx * idx * 7) % N_VOCAB) as u32).collect()
}

fn cpu(weights: &Weights, config: CpuConfig) -> Cpu {
    let mut cpu = Cpu::new(weights, &config).expect("the shape is right");
    cpu.alloc_kv(N_BLOCKS as usize).expect("the blocks fit");
    cpu
}

fn config(kv: KvFormat) -> CpuConfig {
    CpuConfig { threads: Some(2), kv, ..CpuConfig::default() }
}

/// All rows of logits of a text, in chunks whose lengths repeat.
fn rows(cpu: &mut Cpu, tokens: &[u32], blocks: &[BlockId], lengths: &[usize]) -> Vec<f32> {
    let (mut rows, mut logits, mut start) = (Vec::new(), Logits::default(), 0);
    for length in lengths.iter().cycle() {
        let end = (start + length).min(tokens.len());
        let chunk = Chunk { tokens: &tokens[start..end], start, blocks, n_logits: end - start };
        cpu.forward(&[chunk], &mut logits).expect("the chunk is right");
        rows.extend_from_slice(&logits.values);
        start = end;
        if start == tokens.len() {
            return rows;
        }
    }
    rows
}

/// Models that differ in all that attention and products depend on.
fn models() -> Vec<(Weights, KvFormat)> {
    let of = |family, kind| random_weights(&Hparams::tiny(family), kind, 21);
    vec![
        (of(Family::Mistral, RandomKind::AwqGemm { group_size: 128 }), KvFormat::F16),
        (of(Family::Qwen2, RandomKind::AwqGemm { group_size: 32 }), KvFormat::Int8),
        (of(Family::Qwen3, RandomKind::F16), KvFormat::Int8),
        (of(Family::Llama, RandomKind::AwqGemm { group_size: 64 }), KvFormat::F16),
    ]
}

#[test]
fn chunks_and_pages_change_no_bit() {
    for (weights, kv) in models() {
        let mut cpu = cpu(&weights, config(kv));
        let (tokens, blocks) = (text(1, 101), blocks());
        let scattered: Vec<BlockId> = (0..7).map(|idx| blocks[(idx * 11 + 5) % 40]).collect();

        let whole = rows(&mut cpu, &tokens, &blocks, &[101]);

        assert!(whole.iter().all(|x| x.is_finite()));
        for lengths in [&[1][..], &[2], &[3, 16, 1], &[7], &[15], &[16], &[17], &[33, 1, 40], &[100]] {
            let found = rows(&mut cpu, &tokens, &scattered, lengths);
            assert!(found == whole, "{:?} {kv:?} in chunks of {lengths:?}", weights.hparams.family);
        }
    }
}

#[test]
fn company_changes_no_bit() {
    for (weights, kv) in models() {
        let mut cpu = cpu(&weights, config(kv));
        let blocks = blocks();
        let lengths = [1, 5, 16, 40, 3, 64, 17, 1, 2, 30];
        let texts: Vec<Vec<u32>> = lengths.iter().enumerate().map(|(seed, n)| text(seed, *n + 2)).collect();
        let alone: Vec<Vec<f32>> = texts.iter().map(|tokens| rows(&mut cpu, tokens, &blocks, &[9])).collect();
        let mut logits = Logits::default();

        // Some prefill together, then decode together, twice.
        for of_step in [0..10, 0..3, 2..9, 9..10] {
            let tables: Vec<Vec<BlockId>> = disjoint(&blocks, &texts);
            let prefill: Vec<Chunk<'_>> = of_step
                .clone()
                .map(|idx| Chunk {
                    tokens: &texts[idx][..lengths[idx]],
                    start: 0,
                    blocks: &tables[idx],
                    n_logits: lengths[idx],
                })
                .collect();
            cpu.forward(&prefill, &mut logits).expect("the chunks are right");
            let mut first = 0;
            for idx in of_step.clone() {
                let n = lengths[idx] * N_VOCAB;
                assert!(logits.values[first..first + n] == alone[idx][..n], "prefill of text {idx}, {kv:?}");
                first += n;
            }
            for step in 0..2 {
                let decode: Vec<Chunk<'_>> = of_step
                    .clone()
                    .map(|idx| {
                        let start = lengths[idx] + step;
                        Chunk { tokens: &texts[idx][start..=start], start, blocks: &tables[idx], n_logits: 1 }
                    })
                    .collect();
                cpu.forward(&decode, &mut logits).expect("the chunks are right");
                for (row_idx, idx) in of_step.clone().enumerate() {
                    let expected = &alone[idx][(lengths[idx] + step) * N_VOCAB..][..N_VOCAB];
                    assert!(logits.row(row_idx) == expected, "step {step} of text {idx}, {kv:?}");
                }
            }
        }
    }
}

/// Blocks for every text, none of them shared.
fn disjoint(blocks: &[BlockId], texts: &[Vec<u32>]) -> Vec<Vec<BlockId>> {
    let mut left = blocks.iter().rev();
    texts.iter().map(|tokens| left.by_ref().take(tokens.len().div_ceil(16)).copied().collect()).collect()
}

#[test]
fn threads_and_tiers_change_no_bit() {
    for (weights, kv) in models() {
        let (tokens, blocks) = (text(3, 80), blocks());
        let expected = rows(&mut cpu(&weights, config(kv)), &tokens, &blocks, &[40, 1, 20]);
        for threads in [1, 3, 5] {
            let mut cpu = cpu(&weights, CpuConfig { threads: Some(threads), ..config(kv) });
            assert!(rows(&mut cpu, &tokens, &blocks, &[40, 1, 20]) == expected, "{threads} threads");
        }
        for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512] {
            let config = CpuConfig { isa: Some(isa), ..config(kv) };
            if Cpu::new(&weights, &config).is_ok() {
                let mut cpu = cpu(&weights, config);
                assert!(rows(&mut cpu, &tokens, &blocks, &[40, 1, 20]) == expected, "{isa:?}");
            }
        }
    }
}

#[test]
fn rows_that_are_not_asked_for_change_no_others() {
    let (weights, kv) = models().remove(0);
    let mut cpu = cpu(&weights, config(kv));
    let (tokens, blocks) = (text(4, 50), blocks());
    let all = rows(&mut cpu, &tokens, &blocks, &[50]);
    let mut logits = Logits::default();
    for n_logits in [0, 1, 2, 49, 50] {
        let chunk = Chunk { tokens: &tokens, start: 0, blocks: &blocks, n_logits };
        cpu.forward(&[chunk], &mut logits).expect("the chunk is right");
        assert!(logits.values[..] == all[(50 - n_logits) * N_VOCAB..], "{n_logits}");
    }
}
