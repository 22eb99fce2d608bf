//! How alike semantic hits are: likenesses in bins, for the dashboard and for `/admin/v1/cache`.
//!
//! Pure. Knows no call and no cache.
//!
//! Invariants: every likeness is in exactly one bin; bins have round edges and end at 1.

/// Semantic hits whose likeness is counted: enough for a shape, few enough to be read at once.
pub(super) const N_SAMPLED: u32 = 500;
const N_BINS: usize = 8;

/// Hits that are as alike as this, its upper edge left out but for 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bin {
    pub(super) from: f32,
    pub(super) to: f32,
    pub(super) n: u64,
}

impl Bin {
    pub(super) fn label(&self) -> String {
        format!("{:.2} – {:.2}", self.from, self.to)
    }
}

/// How many hits are how alike, the most alike first, in bins from the least one found up to 1.
pub(super) fn bins(similar: &[f32]) -> Vec<Bin> {
    let least = similar.iter().copied().fold(1.0_f32, f32::min).clamp(0.0, 1.0);
    // In hundredths, so that the ends of bins are round.
    let from = (least * 100.0).floor().min(100.0 - N_BINS as f32);
    let width = ((100.0 - from) / N_BINS as f32).ceil().max(1.0);
    let from = 100.0 - width * N_BINS as f32;
    let mut counts = [0; N_BINS];
    for likeness in similar {
        let bin = ((likeness * 100.0 - from) / width).floor().clamp(0.0, N_BINS as f32 - 1.0);
        counts[bin as usize] += 1;
    }
    let bin = |(idx, n): (usize, &u64)| Bin {
        from: (from + width * idx as f32).max(0.0) / 100.0,
        to: (from + width * (idx + 1) as f32) / 100.0,
        n: *n,
    };
    counts.iter().enumerate().map(bin).rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_similarity_is_in_one_bin() {
        for similar in [&[0.97_f32, 0.99, 1.0][..], &[0.5], &[0.0, 1.0], &[1.0], &[-0.2, 1.3]] {
            let bins = bins(similar);
            assert_eq!(bins.len(), N_BINS);
            assert_eq!(
                bins.iter().map(|bin| bin.n).sum::<u64>(),
                similar.len() as u64,
                "{similar:?}: {bins:?}"
            );
        }
    }

    #[test]
    fn bins_end_at_one_and_have_round_edges() {
        let bins = bins(&[0.93, 0.96, 0.999]);

        assert_eq!(bins[0].label(), "0.99 – 1.00");
        assert_eq!(bins.last().unwrap().label(), "0.92 – 0.93");
    }
}
