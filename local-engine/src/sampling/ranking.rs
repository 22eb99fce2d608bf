//! The likeliest tokens of a row, without sorting it.
//!
//! A row is cut into blocks of 64, and the greatest logit of each is found first. The k-th greatest of those
//! is at most the k-th greatest of the row, so what is below it need not be looked at, and neither need
//! blocks that hold nothing as great.
//!
//! Knows neither temperatures nor randomness.
//!
//! Invariants: equal logits rank by the lower token; NaN and negative infinity are never found.

use std::cmp::Ordering;

use crate::request::TokenId;

pub(super) const BLOCK: usize = 64;
const LANES: usize = 16;

/// A token and its logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: TokenId,
    pub(super) logit: f32,
}

impl Candidate {
    /// The likeliest first.
    pub(super) fn rank(&self, other: &Self) -> Ordering {
        other.logit.total_cmp(&self.logit).then(self.token.cmp(&other.token))
    }
}

/// The likeliest token, in one pass; none if every logit is NaN or negative infinity.
pub(super) fn best(row: &[f32]) -> Option<TokenId> {
    let ranking = Ranking::of(row);
    let (start, block) = ranking.blocks_from(ranking.max).next()?;
    let within = block.iter().position(|logit| clamp(*logit) == ranking.max);
    within.map(|within| start + within as TokenId)
}

/// A row with the greatest logit of each of its blocks.
#[derive(Debug)]
pub(super) struct Ranking<'a> {
    row: &'a [f32],
    maxima: Vec<f32>,
    pub(super) max: f32,
}

impl<'a> Ranking<'a> {
    pub(super) fn of(row: &'a [f32]) -> Self {
        let maxima: Vec<f32> = row.chunks(BLOCK).map(max_of).collect();
        let max = max_of(&maxima);
        Self { row, maxima, max }
    }

    pub(super) fn row(&self) -> &'a [f32] {
        self.row
    }

    /// The blocks that hold a logit of at least this, each with the token it begins with.
    pub(super) fn blocks_from(&self, least: f32) -> impl Iterator<Item = (TokenId, &'a [f32])> {
        let row = self.row;
        let reaches = move |(_, max): &(usize, &f32)| **max >= least && **max > f32::NEG_INFINITY;
        self.maxima.iter().enumerate().filter(reaches).map(move |(block_idx, _)| {
            let start = block_idx * BLOCK;
            (start as TokenId, &row[start..row.len().min(start + BLOCK)])
        })
    }

    /// All tokens that may be chosen, in order of their numbers.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        let numbered = (0..).zip(self.row).filter(|(_, logit)| **logit > f32::NEG_INFINITY);
        numbered.map(|(token, logit)| Candidate { token, logit: clamp(*logit) })
    }

    /// All tokens with a logit of at least this, in order of their numbers.
    pub(super) fn at_least(&self, least: f32) -> Vec<Candidate> {
        let mut found = Vec::new();
        for (start, block) in self.blocks_from(least) {
            for (token, logit) in (start..).zip(block) {
                if *logit >= least && *logit > f32::NEG_INFINITY {
                    found.push(Candidate { token, logit: clamp(*logit) });
                }
            }
        }
        found
    }

    /// The k likeliest, or all there are, in no order.
    pub(super) fn top(&self, k: usize) -> Vec<Candidate> {
        if k == 0 {
            return Vec::new();
        }
        let mut found = self.at_least(self.floor(k));
        if found.len() > k {
            found.select_nth_unstable_by(k - 1, Candidate::rank);
            found.truncate(k);
        }
        found
    }

    /// A logit that at least k of the row reach, as great as the blocks tell.
    fn floor(&self, k: usize) -> f32 {
        if k > self.maxima.len() {
            return f32::NEG_INFINITY;
        }
        let mut maxima = self.maxima.clone();
        *maxima.select_nth_unstable_by(k - 1, |left, right| right.total_cmp(left)).1
    }
}

/// Infinity takes part in no differences; the greatest number does.
#[inline(always)]
fn clamp(logit: f32) -> f32 {
    if logit > f32::MAX { f32::MAX } else { logit }
}

/// The greatest, NaN left out; negative infinity of nothing. Lanes, so that compilers use vectors.
#[inline(always)]
fn max_of(logits: &[f32]) -> f32 {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (full, rest) = logits.as_chunks::<LANES>();
    for chunk in full {
        for (max, logit) in maxima.iter_mut().zip(chunk) {
            *max = if *logit > *max { *logit } else { *max };
        }
    }
    for (max, logit) in maxima.iter_mut().zip(rest) {
        *max = if *logit > *max { *logit } else { *max };
    }
    clamp(maxima.iter().fold(f32::NEG_INFINITY, |max, lane| if *lane > max { *lane } else { max }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(row: &[f32]) -> Vec<Candidate> {
        let all = (0..).zip(row).map(|(token, logit)| Candidate { token, logit: clamp(*logit) });
        let mut all: Vec<Candidate> = all.filter(|found| found.logit > f32::NEG_INFINITY).collect();
        all.sort_by(Candidate::rank);
        all
    }

    fn logit() -> impl Strategy<Value = f32> {
        // Few different values, so that ties are common; and all that is not a number.
        prop_oneof![
            8 => (-20i8..20).prop_map(|value| f32::from(value) * 0.5),
            1 => Just(f32::NAN),
            1 => Just(f32::NEG_INFINITY),
            1 => Just(f32::INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn the_likeliest_are_those_of_a_full_sort(row in prop::collection::vec(logit(), 0..400), k in 0usize..300) {
            let want = sorted(&row);

            let mut found = Ranking::of(&row).top(k);
            found.sort_by(Candidate::rank);

            prop_assert_eq!(best(&row), want.first().map(|first| first.token));
            prop_assert_eq!(found, &want[..want.len().min(k)]);
        }
    }

    #[test]
    fn a_row_of_nothing_has_no_best_and_no_top() {
        for row in [vec![], vec![f32::NAN; 70], vec![f32::NEG_INFINITY; 70]] {
            assert_eq!(best(&row), None);
            assert!(Ranking::of(&row).top(5).is_empty());
        }
    }
}
