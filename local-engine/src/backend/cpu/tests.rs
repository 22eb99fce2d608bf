//! Limits: memory, shapes, instructions, and chunks that are not right.

use super::*;
use crate::kv::BlockId;
use crate::kv::block_pool::BlockPool;
use crate::model::{Family, Hparams};
use crate::weights::{RandomKind, random_weights};

fn weights() -> Weights {
    random_weights(&Hparams::tiny(Family::Llama), RandomKind::AwqGemm { group_size: 64 }, 1)
}

fn cpu(memory_bytes: Option<u64>) -> Result<Cpu, BackendError> {
    Cpu::new(&weights(), &CpuConfig { memory_bytes, threads: Some(2), ..CpuConfig::default() })
}

fn blocks(n_blocks: u32) -> Vec<BlockId> {
    let mut pool = BlockPool::new(n_blocks);
    std::iter::from_fn(|| pool.take()).collect()
}

#[test]
fn weights_that_just_fit_are_taken_and_one_byte_less_is_refused() {
    let n_bytes = cpu(None).unwrap().weight_bytes() as u64;

    assert!(cpu(Some(n_bytes)).is_ok());
    let refused = cpu(Some(n_bytes - 1)).err().expect("it is a byte too little");

    assert!(matches!(refused, BackendError::OutOfMemory { needed_bytes, available_bytes, .. }
        if needed_bytes == n_bytes && available_bytes == n_bytes - 1));
}

#[test]
fn pages_have_what_the_weights_leave() {
    let n_bytes = cpu(None).unwrap().weight_bytes();
    let mut cpu = cpu(Some(n_bytes as u64 + 10_000)).unwrap();
    let n_blocks = 10_000 / cpu.block_bytes();

    assert!(n_blocks > 0 && cpu.alloc_kv(n_blocks).is_ok());
    let refused = cpu.alloc_kv(n_blocks + 1).unwrap_err();

    assert!(refused.to_string().contains("raise `memory_bytes`"), "{refused}");
    assert!(cpu.alloc_kv(usize::MAX).is_err());
}

#[test]
fn wrong_chunks_are_refused_and_right_ones_still_computed() {
    let mut cpu = cpu(None).unwrap();
    cpu.alloc_kv(3).unwrap();
    let (blocks, foreign) = (blocks(3), blocks(4));
    let n_vocab = cpu.n_vocab() as u32;
    let right = Chunk { tokens: &[1, 2], start: 0, blocks: &blocks, n_logits: 2 };
    let mut logits = Logits::default();
    for (wrong, message) in [
        (Chunk { tokens: &[], n_logits: 0, ..right }, "no tokens"),
        (Chunk { tokens: &[1, n_vocab], ..right }, "vocabulary"),
        (Chunk { start: 47, ..right }, "past the context of 48"),
        (Chunk { start: 31, blocks: &blocks[..2], ..right }, "2 blocks do not hold 33"),
        (Chunk { blocks: &foreign, ..right }, "not one of the 3"),
        (Chunk { n_logits: 3, ..right }, "3 rows of logits of 2"),
    ] {
        let refused = cpu.forward(&[right, wrong], &mut logits).unwrap_err().to_string();
        assert!(refused.contains(message), "{refused}");
    }

    let twice = cpu.forward(&[Chunk { start: 3, ..right }, Chunk { start: 15, ..right }], &mut logits);
    assert_eq!(twice.unwrap_err().to_string(), "two chunks write the same block");
    cpu.forward(&[Chunk { start: 14, ..right }, Chunk { start: 16, ..right }], &mut logits).unwrap();

    cpu.forward(&[Chunk { start: 46, ..right }], &mut logits).unwrap();

    assert_eq!((logits.n_rows(), logits.n_vocab), (2, n_vocab as usize));
    assert!(logits.values.iter().all(|x| x.is_finite()));
}

#[test]
fn no_logits_and_no_chunks_are_a_step_too() {
    let mut cpu = cpu(None).unwrap();
    cpu.alloc_kv(3).unwrap();
    let mut logits = Logits::default();
    logits.reset(4, 7);

    cpu.forward(&[Chunk { tokens: &[1; 20], start: 0, blocks: &blocks(2), n_logits: 0 }], &mut logits)
        .unwrap();
    assert_eq!(logits.n_rows(), 0);
    cpu.forward(&[], &mut logits).unwrap();
    assert_eq!(logits.n_rows(), 0);
}

#[test]
fn shapes_that_kernels_cannot_compute_are_named() {
    let refused = |change: fn(&mut Hparams)| {
        let mut weights = weights();
        change(&mut weights.hparams);
        Cpu::new(&weights, &CpuConfig::default()).err().expect("the shape is wrong").to_string()
    };

    assert!(
        refused(|hparams| hparams.n_hidden = 40)
            .contains("hidden_size is 40; the CPU computes multiples of 32")
    );
    assert!(refused(|hparams| hparams.head_dim = 24).contains("head_dim is 24"));
    assert!(refused(|hparams| hparams.head_dim = 512).contains("at most 256"));
    assert!(refused(|hparams| hparams.n_intermediate = 0).contains("intermediate_size is 0"));
}

#[test]
fn the_config_knows_its_fields_and_no_others() {
    let config: CpuConfig =
        serde_json::from_str(r#"{"threads": 3, "kv": "int8", "memory_bytes": 5, "isa": "avx2"}"#).unwrap();

    assert_eq!(
        config,
        CpuConfig { threads: Some(3), kv: KvFormat::Int8, memory_bytes: Some(5), isa: Some(Isa::Avx2) }
    );
    assert_eq!(serde_json::from_str::<CpuConfig>("{}").unwrap(), CpuConfig::default());
    assert!(serde_json::from_str::<CpuConfig>(r#"{"thread": 3}"#).is_err());
}

#[test]
fn asked_for_instructions_are_the_ones_used() {
    let config = |isa| CpuConfig { isa: Some(isa), threads: Some(1), ..CpuConfig::default() };

    let cpu = Cpu::new(&weights(), &config(Isa::Scalar)).unwrap();

    assert_eq!((cpu.isa(), cpu.n_threads()), (Isa::Scalar, 1));
    assert!(default_threads() >= 1);
}
