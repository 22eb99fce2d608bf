//! How fast this machine reads memory: with the engine's own threads, instructions and pages.
//!
//! A shared machine's bandwidth changes by the second, so whoever compares with it measures it again beside.

use std::time::Instant;

use local_engine::backend::cpu::probe::Bandwidth;

/// Larger than any cache.
const BYTES: usize = 1 << 30;
pub(crate) const RUNS: usize = 9;

pub(crate) struct Memory {
    probe: Bandwidth,
}

impl Memory {
    pub(crate) fn new(n_threads: usize) -> Self {
        Self { probe: Bandwidth::new(n_threads, BYTES).unwrap() }
    }

    /// Bytes a second, over all threads, of the best run: what a kernel could reach.
    pub(crate) fn best_of(&mut self, n_runs: usize) -> f64 {
        let one = |_| {
            let began = Instant::now();
            self.probe.run().unwrap();
            self.probe.n_bytes() as f64 / began.elapsed().as_secs_f64()
        };
        (0..n_runs).map(one).fold(0.0, f64::max)
    }
}
