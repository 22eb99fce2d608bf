//! What is known of a stored answer that might be served: from the question's neighbours and its words.
//!
//! The answer proposed is the one that most of the neighbourhood gave, by nearness, and of its entries
//! the nearest. Knows no scope and no history. Which entries gave the same answer (their group) is found
//! out by comparing answers when they come in, and is handed in.
//!
//! Invariants: the same neighbours give the same candidate; features are finite.

use crate::cache::guard::{self, Verdict};

/// Neighbours that are asked for: with fewer, the neighbourhood's agreement says less.
pub const N_NEIGHBOURS: usize = 16;
pub(super) const N_FEATURES: usize = 10;

/// Where every scope begins; the order is that of the features. Cosine, words and the lexical guard come
/// from a fit on 7,890 labelled pairs of Quora questions. The neighbourhood, the trained guard and the
/// constant are set by hand: pairs say nothing of groups.
pub(super) const FIRST_WEIGHTS: [f64; N_FEATURES] = [1.8, 0.8, 1.0, 0.2, -0.1, 0.4, 0.4, -1.26, 0.5, -1.5];

/// How fast a neighbour's say falls with its distance: by e for each 0.05 of cosine.
const NEARNESS: f64 = 20.0;
/// The gap to a different answer that lies beyond all neighbours.
const GAP_BEYOND: f64 = 0.05;
/// More differing words than these tell nothing new.
const MAX_DIFFERING: usize = 4;
/// A guard that is surer than this, in log-odds, is believed no more.
const MAX_GUARD_LOG_ODDS: f64 = 6.0;

/// An entry, named by its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntryKey(pub u64);

/// Entries whose answers were found to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupKey(pub u64);

/// An entry near the question.
#[derive(Debug, Clone, Copy)]
pub struct Neighbour<'a> {
    pub entry: EntryKey,
    pub group: GroupKey,
    /// Cosine.
    pub similarity: f64,
    pub text: &'a str,
}

/// The answer that might be served.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub entry: EntryKey,
    pub group: GroupKey,
    /// Its place among the neighbours it was made from.
    pub neighbour_idx: usize,
    pub similarity: f64,
    pub(super) features: [f64; N_FEATURES],
}

impl Candidate {
    /// `neighbours` come nearest first. None without neighbours.
    pub fn among(asked: &str, neighbours: &[Neighbour<'_>]) -> Option<Self> {
        let nearest = neighbours.first()?;
        let near = |neighbour: &Neighbour<'_>| (NEARNESS * (neighbour.similarity - nearest.similarity)).exp();
        let say = |group: GroupKey| -> f64 {
            neighbours.iter().filter(|neighbour| neighbour.group == group).map(near).sum()
        };
        let mut best = (0, say(nearest.group));
        for (idx, neighbour) in neighbours.iter().enumerate().skip(1) {
            let said = if neighbour.group == neighbours[best.0].group { 0.0 } else { say(neighbour.group) };
            // The first of its group comes first, so the nearest is kept.
            if said > best.1 {
                best = (idx, said);
            }
        }
        let all: f64 = neighbours.iter().map(near).sum();
        let chosen = neighbours[best.0];
        Some(Self {
            entry: chosen.entry,
            group: chosen.group,
            neighbour_idx: best.0,
            similarity: chosen.similarity,
            features: features(asked, neighbours, &chosen, best.1 / all),
        })
    }

    /// With what a trained guard says of both texts: its probability that one answer serves both.
    #[must_use]
    pub fn with_guard(mut self, p_same: f64) -> Self {
        let log_odds = (p_same / (1.0 - p_same)).ln().clamp(-MAX_GUARD_LOG_ODDS, MAX_GUARD_LOG_ODDS);
        self.features[GUARD_IDX] = if log_odds.is_nan() { 0.0 } else { log_odds * 0.5 };
        self
    }
}

const GUARD_IDX: usize = 8;

/// Scaled so that most lie between −2 and 2 and one prior variance fits all.
fn features(
    asked: &str,
    neighbours: &[Neighbour<'_>],
    chosen: &Neighbour<'_>,
    say: f64,
) -> [f64; N_FEATURES] {
    let farthest = neighbours.last().map_or(chosen.similarity, |neighbour| neighbour.similarity);
    let other = neighbours.iter().find(|neighbour| neighbour.group != chosen.group);
    let other = other.map_or(farthest - GAP_BEYOND, |neighbour| neighbour.similarity);
    let n_members = neighbours.iter().filter(|neighbour| neighbour.group == chosen.group).count();
    let (a, b) = (guard::content(asked), guard::content(chosen.text));
    let n_shared = a.intersection(&b).count();
    let n_union = a.len() + b.len() - n_shared;
    let overlap = if n_union == 0 { 1.0 } else { n_shared as f64 / n_union as f64 };
    let refuses = guard::compare(asked, chosen.text) != Verdict::Same;
    [
        (chosen.similarity - 0.85) * 8.0,
        (chosen.similarity - other) * 10.0,
        ((say + 0.01) / (1.01 - say)).ln() * 0.5,
        (n_members as f64).ln(),
        (overlap - 0.5) * 3.0,
        (a.len() - n_shared).min(MAX_DIFFERING) as f64 * 0.5,
        (b.len() - n_shared).min(MAX_DIFFERING) as f64 * 0.5,
        f64::from(u8::from(refuses)),
        0.0,
        1.0,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(entry: u64, group: u64, similarity: f64) -> Neighbour<'static> {
        Neighbour { entry: EntryKey(entry), group: GroupKey(group), similarity, text: "cancel my order" }
    }

    fn among(neighbours: &[Neighbour<'_>]) -> Candidate {
        Candidate::among("cancel the order", neighbours).unwrap()
    }

    #[test]
    fn nobody_near_is_no_candidate() {
        assert_eq!(Candidate::among("cancel my order", &[]), None);
    }

    #[test]
    fn many_that_agree_outweigh_one_that_is_a_little_nearer() {
        let candidate = among(&[near(1, 1, 0.90), near(2, 2, 0.89), near(3, 2, 0.88), near(4, 2, 0.88)]);

        assert_eq!(
            (candidate.entry, candidate.group, candidate.neighbour_idx),
            (EntryKey(2), GroupKey(2), 1)
        );
    }

    #[test]
    fn one_that_is_much_nearer_outweighs_many() {
        assert_eq!(among(&[near(1, 1, 0.99), near(2, 2, 0.85), near(3, 2, 0.85)]).group, GroupKey(1));
    }

    #[test]
    fn agreement_and_distance_to_another_answer_speak_for_a_candidate() {
        let alone = among(&[near(1, 1, 0.9), near(2, 1, 0.88)]);
        let disputed = among(&[near(1, 1, 0.9), near(2, 2, 0.88)]);

        assert!(alone.features[1] > disputed.features[1] && alone.features[2] > disputed.features[2]);
        assert!(alone.features[3] > disputed.features[3]);
    }

    #[test]
    fn words_that_set_the_texts_apart_are_told() {
        let candidate = Candidate::among("don't cancel my order", &[near(1, 1, 0.95)]).unwrap();

        assert_eq!(candidate.features[7], 1.0);
        assert_eq!(among(&[near(1, 1, 0.95)]).features[7], 0.0);
    }

    #[test]
    fn a_guard_speaks_for_or_against_and_is_heard_within_bounds() {
        let with = |p_same| among(&[near(1, 1, 0.95)]).with_guard(p_same).features[GUARD_IDX];

        assert!(with(0.9) > 0.0 && with(0.1) < 0.0 && with(0.5) == 0.0);
        assert_eq!((with(1.0), with(0.0), with(f64::NAN)), (3.0, -3.0, 0.0));
    }
}
