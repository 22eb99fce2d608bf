//! How fast this machine reads memory: with the engine's own threads, instructions and pages.

use std::time::Instant;

use local_engine::backend::cpu::probe::Bandwidth;

/// Larger than any cache.
const BYTES: usize = 1 << 30;
pub(crate) const RUNS: usize = 9;

/// Bytes a second, over all threads, of the best run: what a kernel could reach.
pub(crate) fn measure(n_threads: usize) -> f64 {
    let mut probe = Bandwidth::new(n_threads, BYTES).unwrap();
    let one = |_| {
        let began = Instant::now();
        probe.run().unwrap();
        probe.n_bytes() as f64 / began.elapsed().as_secs_f64()
    };
    (0..RUNS).map(one).fold(0.0, f64::max)
}
