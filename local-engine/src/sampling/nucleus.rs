//! The nucleus: the fewest of the likeliest tokens that have together a share of the probability.
//!
//! Mostly that is a few tokens, which [`Ranking`] finds at once. Where it is many, a histogram of the row by
//! likelihood tells where it ends, and only the tokens there are ranked; the many are never listed, for
//! fresh memory for them would take longer than all else.
//!
//! Knows no randomness.
//!
//! Invariants: a nucleus has at least one token if the row has; of equal tokens the lower is taken first.

use super::ranking::{BLOCK, Candidate, Ranking};
use super::softmax;

/// Up to so many are looked for by rank.
const FEW: usize = 16 * BLOCK;

/// Eighths of a nat behind the likeliest; the last bucket has all that is further behind.
const N_BUCKETS: usize = 256;
const BUCKETS_A_NAT: f32 = 8.0;

/// A token's share of the probability, not normalised.
pub(super) fn weight(max: f32, factor: f32) -> impl Fn(&Candidate) -> f64 {
    move |found| f64::from(softmax::exp_negative((found.logit - max) * factor))
}

/// Tokens that are left to draw from.
#[derive(Debug)]
pub(super) enum Left {
    Few(Vec<Candidate>),
    /// All that do not rank behind this one.
    DownTo(Candidate),
}

/// The nucleus of a row whose logits are scaled by a factor.
pub(super) fn of_all(ranking: &Ranking<'_>, top_p: f32, factor: f32) -> Left {
    let mass = f64::from(top_p) * softmax::sum_exp(ranking.row(), ranking.max, factor);
    let weight = weight(ranking.max, factor);
    for k in [BLOCK, FEW] {
        let mut few = ranking.top(k);
        if few.iter().map(&weight).sum::<f64>() >= mass {
            cut_to_mass(&mut few, mass, weight);
            return Left::Few(few);
        }
    }
    end_of_many(ranking, mass, factor).map_or(Left::Few(Vec::new()), Left::DownTo)
}

/// The last token of the nucleus; none of a row of nothing.
fn end_of_many(ranking: &Ranking<'_>, mass: f64, factor: f32) -> Option<Candidate> {
    let weight = weight(ranking.max, factor);
    // What is too far behind for an integer saturates.
    let bucket = |logit: f32| (((ranking.max - logit) * factor * BUCKETS_A_NAT) as usize).min(N_BUCKETS - 1);
    let mut masses = [0.0; N_BUCKETS];
    for found in ranking.candidates() {
        masses[bucket(found.logit)] += weight(&found);
    }
    let (mut edge, mut before) = (0, 0.0);
    while edge < N_BUCKETS - 1 && before + masses[edge] < mass {
        before += masses[edge];
        edge += 1;
    }
    let mut at_edge: Vec<Candidate> =
        ranking.candidates().filter(|found| bucket(found.logit) == edge).collect();
    if at_edge.is_empty() {
        // Only rounding leads to an empty bucket; all before it are the nucleus, and so are all behind.
        return ranking.candidates().max_by(Candidate::rank);
    }
    cut_to_mass(&mut at_edge, mass - before, weight);
    at_edge.into_iter().max_by(Candidate::rank)
}

/// Keeps the fewest of the likeliest whose weights reach the mass, at least one; in no order.
pub(super) fn cut_to_mass(found: &mut Vec<Candidate>, mass: f64, weight: impl Fn(&Candidate) -> f64) {
    // The cut is behind one of `low..high`; those before weigh less than the mass and rank before the rest.
    let (mut low, mut high, mut before) = (0, found.len(), 0.0);
    while high - low > 1 {
        let half = (high - low) / 2;
        found[low..high].select_nth_unstable_by(half, Candidate::rank);
        let upper: f64 = found[low..low + half].iter().map(&weight).sum();
        if before + upper >= mass {
            high = low + half;
        } else {
            before += upper;
            low += half;
        }
    }
    found.truncate(high);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(row: &[f32]) -> Vec<Candidate> {
        let mut all = Ranking::of(row).at_least(f32::NEG_INFINITY);
        all.sort_by(Candidate::rank);
        all
    }

    proptest! {
        #[test]
        fn a_cut_keeps_the_fewest_that_reach_the_mass(
            row in prop::collection::vec(-3.0f32..3.0, 1..300),
            share in 0.0f64..1.0,
        ) {
            let weight = |found: &Candidate| f64::from(found.logit).exp();
            let want = sorted(&row);
            let mass = share * want.iter().map(weight).sum::<f64>();

            let mut found = want.clone();
            found.reverse();
            cut_to_mass(&mut found, mass, weight);
            found.sort_by(Candidate::rank);

            prop_assert_eq!(&found[..], &want[..found.len()]);
            let kept: f64 = found.iter().map(weight).sum();
            let without_last: f64 = found[..found.len() - 1].iter().map(weight).sum();
            prop_assert!(kept >= mass - 1e-9 && (found.len() == 1 || without_last < mass + 1e-9));
        }

        #[test]
        fn many_are_found_as_a_sort_finds_them(
            row in prop::collection::vec((-40i8..40).prop_map(|value| f32::from(value) * 0.11), 1..500),
            share in 0.0f64..1.0,
            factor in 0.01f32..3.0,
        ) {
            let ranking = Ranking::of(&row);
            let mass = share * softmax::sum_exp(&row, ranking.max, factor);
            let mut want = sorted(&row);
            cut_to_mass(&mut want, mass, weight(ranking.max, factor));
            want.sort_by(Candidate::rank);

            let last = end_of_many(&ranking, mass, factor).unwrap();
            let mut found = sorted(&row);
            found.retain(|found| found.rank(&last).is_le());

            // Sums in another order may differ in the last digit, and the last token with them.
            prop_assert!(found.len().abs_diff(want.len()) <= 1);
            let n_both = found.len().min(want.len());
            prop_assert_eq!(&found[..n_both], &want[..n_both]);
        }
    }
}
