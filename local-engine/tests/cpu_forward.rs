//! The CPU backend computes what the reference does, for every family, format and tier.
//!
//! How exact its parts are is their own tests' matter; that bits never change is `cpu_exact`'s.

#[path = "goldens/closeness.rs"]
mod closeness;

use closeness::assert_near;
use local_engine::backend::cpu::{Cpu, CpuConfig, Isa, KvFormat};
use local_engine::backend::reference::Reference;
use local_engine::backend::{Backend, Chunk, Logits};
use local_engine::kv::BlockId;
use local_engine::kv::block_pool::BlockPool;
use local_engine::model::{Family, Hparams};
use local_engine::weights::{RandomKind, Weights, random_weights};

const N_TOKENS: usize = 70;

fn blocks(n_blocks: u32) -> Vec<BlockId> {
    let mut pool = BlockPool::new(n_blocks);
    std::iter::from_fn(|| pool.take()).collect()
}

/// All rows of logits of a text, computed at once.
fn rows(backend: &mut dyn Backend) -> Logits {
    let tokens: Vec<u32> = (0..N_TOKENS as u32).map(|n| (n * 37 + 11) % backend.n_vocab() as u32).collect();
    let blocks = blocks(5);
    backend.alloc_kv(5).expect("five blocks fit");
    let mut logits = Logits::default();
    let chunk = Chunk { tokens: &tokens, start: 0, blocks: &blocks, n_logits: N_TOKENS };
    backend.forward(&[chunk], &mut logits).expect("the chunk is right");
    logits
}

/// Compares every row with the reference's: its direction, and its greatest logit where that is clear.
fn check(weights: &Weights, config: &CpuConfig, least_cosine: f64) {
    let expected = rows(&mut Reference::new(weights.clone()).expect("the shape is right"));
    let found = rows(&mut Cpu::new(weights, config).expect("the shape is right"));

    assert_eq!(found.n_rows(), N_TOKENS);
    let n_clear = (0..N_TOKENS)
        .filter(|row_idx| {
            let name = format!("row {row_idx}");
            assert_near(&name, found.row(*row_idx), expected.row(*row_idx), least_cosine)
        })
        .count();
    assert!(n_clear > N_TOKENS / 4, "{n_clear} rows were clear");
}

#[test]
fn each_family_gives_the_references_logits() {
    for family in [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3] {
        for kind in
            [RandomKind::AwqGemm { group_size: 32 }, RandomKind::AwqGemm { group_size: 64 }, RandomKind::F16]
        {
            let weights = random_weights(&Hparams::tiny(family), kind, 17);

            check(&weights, &CpuConfig::default(), 0.999);
        }
    }
}

#[test]
fn every_tier_gives_the_references_logits() {
    let weights = random_weights(&Hparams::tiny(Family::Mistral), RandomKind::AwqGemm { group_size: 64 }, 3);
    for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512] {
        let config = CpuConfig { isa: Some(isa), ..CpuConfig::default() };
        if Cpu::new(&weights, &config).is_ok() {
            check(&weights, &config, 0.999);
        }
    }
}

#[test]
fn pages_of_bytes_give_nearly_the_references_logits() {
    for family in [Family::Mistral, Family::Qwen3] {
        let weights = random_weights(&Hparams::tiny(family), RandomKind::AwqGemm { group_size: 32 }, 4);

        check(&weights, &CpuConfig { kv: KvFormat::Int8, ..CpuConfig::default() }, 0.999);
    }
}
