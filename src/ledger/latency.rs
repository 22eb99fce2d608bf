//! Durations counted in buckets, so that quantiles of any span of time can be added up.
//!
//! Pure. A quantile read from buckets is an estimate: four buckets to an octave put it within a tenth.
//!
//! Invariants: a longer duration never has a lower bucket; a quantile lies within the bucket it falls in.

/// Buckets to a doubling.
const PER_OCTAVE: f64 = 4.0;
/// Above eleven days; anything longer is counted there.
const MAX_BUCKET: i64 = 120;

/// The bucket of a duration in milliseconds.
pub(super) fn bucket(ms: u64) -> i64 {
    if ms == 0 {
        return 0;
    }
    let bucket = 1 + (PER_OCTAVE * (ms as f64).log2()).floor() as i64;
    bucket.clamp(1, MAX_BUCKET)
}

/// Where a bucket begins, in milliseconds.
fn begin_ms(bucket: i64) -> f64 {
    if bucket <= 0 { 0.0 } else { 2f64.powf((bucket - 1) as f64 / PER_OCTAVE) }
}

/// The quantile `q` in [0, 1] of buckets and their counts, in milliseconds; `None` where there are none.
pub(super) fn quantile_ms(counts: &[(i64, u64)], q: f64) -> Option<f64> {
    let mut sorted: Vec<_> = counts.iter().copied().filter(|(_, n)| *n > 0).collect();
    sorted.sort_unstable();
    let n_all: u64 = sorted.iter().map(|(_, n)| n).sum();
    let rank = q.clamp(0.0, 1.0) * n_all as f64;
    let mut n_before = 0.0;
    for (bucket, n) in &sorted {
        let n = *n as f64;
        if n_before + n >= rank {
            let (from, to) = (begin_ms(*bucket), begin_ms(bucket + 1));
            return Some(from + (to - from) * ((rank - n_before) / n).clamp(0.0, 1.0));
        }
        n_before += n;
    }
    sorted.last().map(|(bucket, _)| begin_ms(bucket + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_quantile_and_one_has_itself() {
        assert_eq!(quantile_ms(&[], 0.5), None);
        let only = quantile_ms(&[(bucket(100), 1)], 0.5).unwrap();
        assert!((84.0..120.0).contains(&only), "{only}");
    }

    #[test]
    fn the_ends_are_counted_too() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(1), 1);
        assert_eq!(bucket(u64::MAX), MAX_BUCKET);
    }

    proptest! {
        #[test]
        fn a_longer_duration_never_has_a_lower_bucket(a in 0..10_000_000u64, b in 0..10_000_000u64) {
            let (short, long) = (a.min(b), a.max(b));
            prop_assert!(bucket(short) <= bucket(long));
        }

        #[test]
        fn a_quantile_is_within_a_bucket_of_the_true_one(mut all in prop::collection::vec(1..1_000_000u64, 1..300), q in 0.01..0.99f64) {
            let mut counts = std::collections::BTreeMap::new();
            all.iter().for_each(|ms| *counts.entry(bucket(*ms)).or_insert(0) += 1);
            let counts: Vec<_> = counts.into_iter().collect();
            all.sort_unstable();
            let rank = (q * all.len() as f64).ceil() as usize;
            let exact = all[rank.clamp(1, all.len()) - 1] as f64;

            let found = quantile_ms(&counts, q).unwrap();

            prop_assert!(found >= exact / 1.2 && found <= exact * 1.2, "{found} for {exact}");
        }
    }
}
