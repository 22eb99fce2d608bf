//! How fast this machine reads memory, with as many threads as the engine will have.

use std::hint::black_box;
use std::time::Instant;

/// Larger than any cache.
const BYTES_PER_THREAD: usize = 512 << 20;
pub(crate) const RUNS: usize = 5;

/// Bytes a second, over all threads, of the best run: what a kernel could reach.
pub(crate) fn measure(n_threads: usize) -> f64 {
    let words = BYTES_PER_THREAD / size_of::<u64>();
    let buffers: Vec<Vec<u64>> = (0..n_threads).map(|idx| vec![idx as u64 + 1; words]).collect();
    (0..RUNS).map(|_| read_all(&buffers)).fold(0.0, f64::max)
}

fn read_all(buffers: &[Vec<u64>]) -> f64 {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for buffer in buffers {
            scope.spawn(|| black_box(sum(buffer)));
        }
    });
    let bytes: usize = buffers.iter().map(|buffer| size_of_val(buffer.as_slice())).sum();
    bytes as f64 / began.elapsed().as_secs_f64()
}

/// Sixteen sums at a time, so that adding is never what is waited for.
fn sum(buffer: &[u64]) -> u64 {
    let mut sums = [0_u64; 32];
    for chunk in buffer.as_chunks::<32>().0 {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
