//! Measures the engine on this machine: bandwidth first, then what the engine makes of it.
//!
//! Random weights of the Qwen2 shapes, made on the spot: speed needs no meaning. Speculation alone is
//! measured with a model that has been trained, because noise cannot be guessed.
//!
//! ```sh
//! cargo run --release -p local-engine --example bench -- [--shapes 0.5b,1.5b,7b] [--threads N] [--json FILE]
//! ```

#![expect(clippy::print_stdout, reason = "a benchmark tells its numbers on the terminal")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

mod arguments;
mod bandwidth;
mod serving;
mod speculation;
mod throughput;

use arguments::Arguments;
use serde_json::{Value, json};

fn main() {
    let arguments = Arguments::read();
    let n_threads = arguments.threads;
    let mut memory = bandwidth::Memory::new(n_threads);
    let bandwidth = memory.best_of(bandwidth::RUNS);
    println!("threads                {n_threads}");
    println!("memory bandwidth       {:.1} GB/s read, best of {}", bandwidth / 1e9, bandwidth::RUNS);
    let mut report = json!({ "threads": n_threads, "bandwidth_gb_s": bandwidth / 1e9 });
    for shape in &arguments.shapes {
        println!("\n── {} ──", shape.name());
        let measured: Value = throughput::measure(*shape, &arguments, &mut memory);
        report[shape.name()] = measured;
    }
    if let Some(shape) = arguments.shapes.first().filter(|_| arguments.serving) {
        println!("\n── {} under a Poisson load ──", shape.name());
        report["serving"] = serving::measure(*shape, &arguments);
    }
    if let Some(model_dir) = &arguments.model_dir {
        println!("\n── speculation, {} ──", model_dir.display());
        report["speculation"] = speculation::measure(model_dir, &arguments);
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report).unwrap()).unwrap();
    }
}
