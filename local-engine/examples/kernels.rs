//! How fast the CPU backend is here: memory, products, attention, and whole models of made-up weights.
//!
//! Every figure is the best of several runs, because the machine is shared; read them as ratios to the
//! bandwidth that the same run measured. `kernels [bandwidth|products|attention|0.5b|1.5b|7b]...`

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Instant;

use local_engine::backend::cpu::probe::{Attention, Bandwidth, Product};
use local_engine::backend::cpu::{Cpu, CpuConfig, KvFormat};
use local_engine::backend::{Backend, BackendError, Chunk, Logits};
use local_engine::kv::BlockId;
use local_engine::kv::block_pool::BlockPool;
use local_engine::model::{Family, Hparams};
use local_engine::weights::{LayerWeights, Linear, RandomKind, Weights, random_weights};

type Outcome = Result<(), BackendError>;

fn main() -> Outcome {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let wants = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    println!("{n_threads} threads");
    if wants("bandwidth") {
        bandwidth(n_threads)?;
    }
    if wants("products") {
        products(n_threads)?;
    }
    if wants("attention") {
        attention(n_threads)?;
    }
    for (name, hparams) in
        [("0.5b", Hparams::qwen2_0_5b()), ("1.5b", Hparams::qwen2_1_5b()), ("7b", Hparams::qwen2_7b())]
    {
        if wants(name) {
            model(name, &hparams, n_threads)?;
        }
    }
    Ok(())
}

/// The least seconds of several runs, after one that warms up.
fn best(mut run: impl FnMut() -> Outcome) -> Result<f64, BackendError> {
    run()?;
    let mut best = f64::MAX;
    let started = Instant::now();
    let mut n_runs = 0;
    while n_runs < 5 || (n_runs < 200 && started.elapsed().as_secs_f64() < 0.5) {
        let run_started = Instant::now();
        run()?;
        best = best.min(run_started.elapsed().as_secs_f64());
        n_runs += 1;
    }
    Ok(best)
}

fn bandwidth(n_threads: usize) -> Outcome {
    for n_threads in [1, n_threads] {
        println!("read, {n_threads} threads: {:.1} GB/s", measured_bandwidth(n_threads)? / 1e9);
    }
    Ok(())
}

fn measured_bandwidth(n_threads: usize) -> Result<f64, BackendError> {
    let mut bandwidth = Bandwidth::new(n_threads, 1 << 29)?;
    let n_bytes = bandwidth.n_bytes() as f64;
    Ok(n_bytes / best(|| bandwidth.run())?)
}

/// Matrices of one layer, the larger as they are, and a head of bytes.
fn products(n_threads: usize) -> Outcome {
    for (name, hparams) in [("0.5b", Hparams::qwen2_0_5b()), ("7b", Hparams::qwen2_7b())] {
        let weights = of_one_layer(&hparams);
        let layer = &weights.layers[0];
        for (matrix, linear) in
            [("q", &layer.q), ("o", &layer.o), ("gate", &layer.gate), ("down", &layer.down)]
        {
            product(&format!("{name} {matrix}"), linear, n_threads)?;
        }
    }
    product("bytes", &Product::float_matrix(896, 32_768), n_threads)
}

fn product(name: &str, linear: &Linear, n_threads: usize) -> Outcome {
    print!("{name:10} {:5} x {:5}", linear.n_in, linear.n_out);
    for n_rows in [1, 2, 4, 8, 16, 64, 256] {
        let mut product = Product::new(linear, n_rows, n_threads, None)?;
        let seconds = best(|| product.run())?;
        let n_operations = (2 * linear.n_in * linear.n_out * n_rows) as f64;
        if n_rows == 1 {
            print!("  1: {:5.1} GB/s", product.n_bytes() as f64 / seconds / 1e9);
        } else {
            print!("  {n_rows}: {:4.0}", n_operations / seconds / 1e9);
        }
    }
    println!("  GOP/s");
    Ok(())
}

fn attention(n_threads: usize) -> Outcome {
    for (name, hparams) in [("0.5b", Hparams::qwen2_0_5b()), ("7b", Hparams::qwen2_7b())] {
        for kv in [KvFormat::F16, KvFormat::Int8] {
            for (context, n_tokens) in [(128, 1), (1_024, 1), (4_096, 1), (1_024, 256)] {
                let mut attention = Attention::new(&hparams, kv, (context, n_tokens), n_threads)?;
                let seconds = best(|| attention.run())?;
                let n_pairs = n_tokens * context - n_tokens * (n_tokens - 1) / 2;
                let n_operations = (4 * n_pairs * hparams.n_heads * hparams.head_dim) as f64;
                println!(
                    "{name} {kv:?} context {context}, {n_tokens} tokens: {:.1} us, {:.1} GB/s, {:.0} GFLOP/s",
                    seconds * 1e6,
                    attention.n_bytes(kv) as f64 / seconds / 1e9,
                    n_operations / seconds / 1e9,
                );
            }
        }
    }
    Ok(())
}

/// Weights of a shape, whose layers are all the same: what they are does not matter, and that they lie in
/// different places the backend's own copy sees to.
fn of_one_layer(hparams: &Hparams) -> Weights {
    let one = Hparams { n_layers: 1, windows: vec![None], ..hparams.clone() };
    let mut weights = random_weights(&one, RandomKind::AwqGemm { group_size: 128 }, 1);
    let layer: LayerWeights = weights.layers[0].clone();
    weights.layers = vec![layer; hparams.n_layers];
    weights.hparams = hparams.clone();
    weights
}

fn model(name: &str, hparams: &Hparams, n_threads: usize) -> Outcome {
    assert_eq!(hparams.family, Family::Qwen2, "the shapes are Qwen2's");
    let started = Instant::now();
    let weights = of_one_layer(hparams);
    let made = started.elapsed().as_secs_f64();
    let config = CpuConfig { threads: Some(n_threads), ..CpuConfig::default() };
    let mut cpu = Cpu::new(&weights, &config)?;
    let repacked = started.elapsed().as_secs_f64() - made;
    drop(weights);
    cpu.alloc_kv(32 * 40)?;
    let mut pool = BlockPool::new(32 * 40);
    let blocks: Vec<BlockId> = std::iter::from_fn(|| pool.take()).collect();
    println!(
        "{name}: {:.0} MB of weights, made in {made:.1} s, repacked in {repacked:.1} s, {:?}",
        cpu.weight_bytes() as f64 / 1e6,
        cpu.isa(),
    );
    for n_sequences in [1, 8, 32] {
        let bandwidth = measured_bandwidth(n_threads)?;
        let seconds = decode(&mut cpu, &blocks, n_sequences)?;
        println!(
            "{name} decode, batch {n_sequences:2}: {:6.1} tok/s, weights at {:.0} % of {:.1} GB/s",
            n_sequences as f64 / seconds,
            100.0 * cpu.weight_bytes() as f64 / seconds / bandwidth,
            bandwidth / 1e9,
        );
    }
    for n_tokens in [128, 512] {
        let tokens: Vec<u32> = (0..n_tokens).collect();
        let mut logits = Logits::default();
        let chunk = Chunk { tokens: &tokens, start: 0, blocks: &blocks, n_logits: 1 };
        let seconds = best(|| cpu.forward(&[chunk], &mut logits))?;
        println!("{name} prefill, {n_tokens} tokens: {:.0} tok/s", f64::from(n_tokens) / seconds);
    }
    Ok(())
}

/// Seconds of a step of so many sequences, at a context of 128.
fn decode(cpu: &mut Cpu, blocks: &[BlockId], n_sequences: usize) -> Result<f64, BackendError> {
    let tokens: Vec<u32> = (0..n_sequences as u32).map(|sequence| 100 + sequence).collect();
    let chunks: Vec<Chunk<'_>> = tokens
        .chunks(1)
        .zip(blocks.chunks(40))
        .map(|(tokens, blocks)| Chunk { tokens, start: 127, blocks, n_logits: 1 })
        .collect();
    let mut logits = Logits::default();
    best(|| cpu.forward(&chunks, &mut logits))
}
