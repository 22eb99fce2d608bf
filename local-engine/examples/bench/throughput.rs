//! Tokens a second of the bare backend: decoding at several batch sizes, and reading a prompt.

use std::time::Instant;

use local_engine::backend::cpu::{Cpu, CpuConfig, KvFormat};
use local_engine::backend::{BLOCK_TOKENS, Backend, Chunk, Logits};
use local_engine::kv::BlockId;
use local_engine::kv::block_pool::BlockPool;
use local_engine::request::TokenId;
use local_engine::weights::random::{RandomKind, random_weights};
use serde_json::{Value, json};

use crate::arguments::{Arguments, Shape};
use crate::bandwidth::Memory;

const BATCHES: [usize; 3] = [1, 8, 32];
/// Positions before the measured ones.
const CONTEXT: usize = 128;
const PROMPT: usize = 512;
const RUNS: usize = 5;

pub(crate) fn backend(shape: Shape, arguments: &Arguments, kv: KvFormat) -> Cpu {
    let weights = random_weights(&shape.hparams(), RandomKind::AwqGemm { group_size: 128 }, 7);
    let config = CpuConfig { threads: Some(arguments.threads), kv, ..CpuConfig::default() };
    Cpu::new(&weights, &config).unwrap_or_else(|error| {
        println!("{error}");
        std::process::exit(1)
    })
}

pub(crate) fn measure(shape: Shape, arguments: &Arguments, memory: &mut Memory) -> Value {
    let mut cpu = backend(shape, arguments, KvFormat::Int8);
    let weight_bytes = cpu.weight_bytes() as f64;
    let blocks_each = (CONTEXT + 2 * BLOCK_TOKENS).max(PROMPT).div_ceil(BLOCK_TOKENS) + 4;
    let int8_bytes = cpu.block_bytes();
    let hparams = shape.hparams();
    let n_numbers = 2 * hparams.n_layers * hparams.n_kv_heads * hparams.head_dim * BLOCK_TOKENS;
    let f16_bytes = 2 * n_numbers;
    println!("weights                {:.0} MB read for each step", weight_bytes / 1e6);
    println!(
        "KV cache               {:.1} KB a token at int8, {:.1} at f16",
        int8_bytes as f64 / BLOCK_TOKENS as f64 / 1e3,
        f16_bytes as f64 / BLOCK_TOKENS as f64 / 1e3
    );
    cpu.alloc_kv(blocks_each * 32).unwrap();
    let mut runner = Runner::new(cpu, blocks_each);
    let mut report = json!({
        "weight_bytes": weight_bytes, "kv_bytes_per_token_int8": int8_bytes / BLOCK_TOKENS,
        "kv_bytes_per_token_f16": f16_bytes / BLOCK_TOKENS,
    });
    for batch in BATCHES {
        let n_steps = if shape == Shape::Seven { 8 } else { 24 };
        let run = |_| {
            let bandwidth = memory.best_of(2);
            let per_second = runner.decode(batch, n_steps);
            (per_second, per_second / batch as f64 * weight_bytes / bandwidth)
        };
        let (per_second, fractions): (Vec<f64>, Vec<f64>) = (0..RUNS).map(run).unzip();
        let (per_second, fraction) = (median(per_second), median(fractions));
        println!(
            "decode, batch {batch:<9}{per_second:.1} tok/s ({:.0} % of the bandwidth)",
            fraction * 100.0
        );
        report[format!("decode_{batch}")] = json!(per_second);
        report[format!("bandwidth_fraction_{batch}")] = json!(fraction);
    }
    let n_prompt = if shape == Shape::Seven { PROMPT / 4 } else { PROMPT };
    let per_second = median((0..RUNS).map(|_| runner.prefill(n_prompt)).collect());
    println!("prefill, {n_prompt} tokens    {per_second:.1} tok/s");
    report["prefill"] = json!(per_second);
    report
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A backend with pages for 32 sequences.
struct Runner {
    cpu: Cpu,
    tables: Vec<Vec<BlockId>>,
    logits: Logits,
}

impl Runner {
    fn new(cpu: Cpu, blocks_each: usize) -> Self {
        let mut pool = BlockPool::new(u32::try_from(blocks_each * 32).unwrap());
        let tables = (0..32).map(|_| (0..blocks_each).map(|_| pool.take().unwrap()).collect()).collect();
        let mut runner = Self { cpu, tables, logits: Logits::default() };
        let prompt: Vec<TokenId> = (0..CONTEXT as TokenId).collect();
        for sequence in 0..32 {
            runner.step(&[(sequence, &prompt, 0)]);
        }
        runner
    }

    /// The tokens behind the prompts, which were read once: each run writes over the last one's.
    fn decode(&mut self, batch: usize, n_steps: usize) -> f64 {
        let began = Instant::now();
        for step in 0..n_steps {
            let token = [step as TokenId + 7];
            let chunks: Vec<_> = (0..batch).map(|sequence| (sequence, &token[..], CONTEXT + step)).collect();
            self.step(&chunks);
        }
        (batch * n_steps) as f64 / began.elapsed().as_secs_f64()
    }

    fn prefill(&mut self, n_tokens: usize) -> f64 {
        let prompt: Vec<TokenId> = (0..n_tokens as TokenId).collect();
        let began = Instant::now();
        self.step(&[(0, &prompt, 0)]);
        n_tokens as f64 / began.elapsed().as_secs_f64()
    }

    fn step(&mut self, chunks: &[(usize, &[TokenId], usize)]) {
        let chunks: Vec<Chunk<'_>> = chunks
            .iter()
            .map(|(sequence, tokens, start)| Chunk {
                tokens,
                start: *start,
                blocks: &self.tables[*sequence],
                n_logits: 1,
            })
            .collect();
        self.cpu.forward(&chunks, &mut self.logits).unwrap();
    }
}
