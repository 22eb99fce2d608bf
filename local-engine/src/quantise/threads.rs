//! Work that falls into pieces, on some threads.
//!
//! Keeps no threads between calls: a piece takes milliseconds, and a thread is started in microseconds.
//!
//! Invariants: results come in the order of the pieces, whoever computed them, so a sum over them does not
//! depend on the number of threads.

use std::sync::atomic::{AtomicUsize, Ordering};

/// `of_piece(0)`, `of_piece(1)` and so on.
pub(super) fn map<R: Send>(
    n_threads: usize,
    n_pieces: usize,
    of_piece: impl Fn(usize) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut taken = Vec::new();
        loop {
            let piece_idx = next.fetch_add(1, Ordering::Relaxed);
            if piece_idx >= n_pieces {
                return taken;
            }
            taken.push((piece_idx, of_piece(piece_idx)));
        }
    };
    let mut results = std::thread::scope(|scope| {
        let others: Vec<_> = (1..n_threads.min(n_pieces)).map(|_| scope.spawn(take)).collect();
        let mut results = take();
        for other in others {
            match other.join() {
                Ok(taken) => results.extend(taken),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    });
    results.sort_unstable_by_key(|(piece_idx, _)| *piece_idx);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_on_any_number_of_threads() {
        for n_threads in [1, 2, 7] {
            for n_pieces in [0, 1, 6, 100] {
                let squares: Vec<usize> = (0..n_pieces).map(|idx| idx * idx).collect();
                assert_eq!(map(n_threads, n_pieces, |idx| idx * idx), squares);
            }
        }
    }
}
