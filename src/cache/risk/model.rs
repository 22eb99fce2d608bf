//! How likely a candidate is wrong: a logistic model that goes on learning while it serves.
//!
//! The weights begin the same for everyone. Each verdict moves them, and
//! beside them what is known of the candidate's group and of its entry, which begin at nothing: a new
//! entry is judged as its group is, a new group as all are. Does not decide what is served.
//!
//! Invariants: certainty only comes from verdicts; what is kept of groups and entries is bounded.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, N_FEATURES};

/// Added to each weight's variance by a verdict, so that the model never stops following its traffic.
const DRIFT: f64 = 2e-5;
const WEIGHT_VARIANCE: f64 = 1.0;
const GROUP_VARIANCE: f64 = 0.3;
const ENTRY_VARIANCE: f64 = 0.5;
/// Groups, and entries, whose record is kept; the ones heard of longest ago go first.
const MAX_RECORDS: usize = 20_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Model {
    mean: [f64; N_FEATURES],
    covariance: [[f64; N_FEATURES]; N_FEATURES],
    groups: Records,
    entries: Records,
    n_labels: u64,
}

/// What the model thinks of a candidate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opinion {
    /// Of the candidate being right, in log-odds.
    log_odds: f64,
    variance: f64,
}

impl Opinion {
    /// Averaged over what the weights may be: doubt counts against a candidate that looks right.
    pub(super) fn p_wrong(&self) -> f64 {
        sigmoid(-self.log_odds / (1.0 + std::f64::consts::PI / 8.0 * self.variance).sqrt())
    }
}

impl Model {
    pub(super) fn first() -> Self {
        Self::around(super::candidate::FIRST_WEIGHTS)
    }

    fn around(mean: [f64; N_FEATURES]) -> Self {
        let mut covariance = [[0.0; N_FEATURES]; N_FEATURES];
        covariance.iter_mut().enumerate().for_each(|(idx, row)| row[idx] = WEIGHT_VARIANCE);
        Self {
            mean,
            covariance,
            groups: Records::of_variance(GROUP_VARIANCE),
            entries: Records::of_variance(ENTRY_VARIANCE),
            n_labels: 0,
        }
    }

    /// A model for a new scope: what all scopes have in common, and nothing of their groups.
    pub(super) fn heir(&self) -> Self {
        Self::around(self.mean)
    }

    pub(super) fn n_labels(&self) -> u64 {
        self.n_labels
    }

    pub(super) fn opinion(&self, candidate: &Candidate) -> Opinion {
        let group = self.groups.get(candidate.group.0);
        let entry = self.entries.get(candidate.entry.0);
        let spread = self.spread(&candidate.features);
        Opinion {
            log_odds: dot(&self.mean, &candidate.features) + group.mean + entry.mean,
            variance: dot(&spread, &candidate.features) + group.variance + entry.variance,
        }
    }

    fn spread(&self, features: &[f64; N_FEATURES]) -> [f64; N_FEATURES] {
        std::array::from_fn(|idx| dot(&self.covariance[idx], features))
    }

    /// One step of Newton's method on the verdict's likelihood, starting from what is believed.
    pub(super) fn learn(&mut self, candidate: &Candidate, right: bool) {
        let opinion = self.opinion(candidate);
        let p_right = sigmoid(opinion.log_odds);
        let information = p_right * (1.0 - p_right);
        let shrinkage = 1.0 + information * opinion.variance;
        let step = (f64::from(u8::from(right)) - p_right) / shrinkage;
        let spread = self.spread(&candidate.features);
        for (idx, row) in self.covariance.iter_mut().enumerate() {
            self.mean[idx] += spread[idx] * step;
            for (value, other) in row.iter_mut().zip(&spread) {
                *value -= information / shrinkage * spread[idx] * other;
            }
            row[idx] += DRIFT;
        }
        self.groups.learn(candidate.group.0, step, information / shrinkage);
        self.entries.learn(candidate.entry.0, step, information / shrinkage);
        self.n_labels += 1;
    }

    /// The mean of both by their verdicts. Certainty is not added up, which errs on the careful side.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.n_labels == 0 {
            self.clone_from(other);
            return;
        }
        let n_both = self.n_labels + other.n_labels;
        let share = other.n_labels as f64 / n_both as f64;
        let mix = |own: &mut f64, other: f64| *own += share * (other - *own);
        self.mean.iter_mut().zip(other.mean).for_each(|(own, other)| mix(own, other));
        for (row, other) in self.covariance.iter_mut().zip(&other.covariance) {
            row.iter_mut().zip(other).for_each(|(own, other)| mix(own, *other));
        }
        self.groups.merge(&other.groups);
        self.entries.merge(&other.entries);
        self.n_labels += other.n_labels;
    }
}

/// How far groups, or entries, lie from what is believed of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Records {
    prior_variance: f64,
    by_key: HashMap<u64, Record>,
    n_learned: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Record {
    mean: f64,
    variance: f64,
    heard_at: u64,
}

impl Records {
    fn of_variance(prior_variance: f64) -> Self {
        Self { prior_variance, by_key: HashMap::new(), n_learned: 0 }
    }

    fn get(&self, key: u64) -> Record {
        let unknown = Record { mean: 0.0, variance: self.prior_variance, heard_at: self.n_learned };
        self.by_key.get(&key).copied().unwrap_or(unknown)
    }

    fn learn(&mut self, key: u64, step: f64, information: f64) {
        self.n_learned += 1;
        let record = self.get(key);
        self.by_key.insert(
            key,
            Record {
                mean: record.mean + record.variance * step,
                variance: record.variance * (1.0 - information * record.variance).max(0.0),
                heard_at: self.n_learned,
            },
        );
        self.forget();
    }

    /// A tenth at once, so that the search for the oldest is seldom.
    fn forget(&mut self) {
        if self.by_key.len() <= MAX_RECORDS {
            return;
        }
        let mut heard: Vec<u64> = self.by_key.values().map(|record| record.heard_at).collect();
        let (_, oldest_kept, _) = heard.select_nth_unstable(MAX_RECORDS / 10);
        let oldest_kept = *oldest_kept;
        self.by_key.retain(|_, record| record.heard_at >= oldest_kept);
    }

    /// Independent evidence: what each replica learned is added, what both assumed counts once.
    fn merge(&mut self, other: &Self) {
        let newest = self.n_learned;
        for (key, theirs) in &other.by_key {
            let ours = self.get(*key);
            let precision = 1.0 / ours.variance + 1.0 / theirs.variance - 1.0 / self.prior_variance;
            let mean = (ours.mean / ours.variance + theirs.mean / theirs.variance) / precision;
            let heard_at = newest + theirs.heard_at;
            self.by_key.insert(*key, Record { mean, variance: 1.0 / precision, heard_at });
        }
        self.n_learned += other.n_learned;
        self.forget();
    }
}

fn dot(a: &[f64; N_FEATURES], b: &[f64; N_FEATURES]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

#[cfg(test)]
mod tests {
    use super::super::candidate::{Candidate, EntryKey, GroupKey};
    use super::*;

    fn candidate(group: u64, entry: u64, cosine: f64) -> Candidate {
        let mut features = [0.0; N_FEATURES];
        (features[0], features[N_FEATURES - 1]) = (cosine, 1.0);
        Candidate {
            entry: EntryKey(entry),
            group: GroupKey(group),
            neighbour_idx: 0,
            similarity: 0.9,
            features,
        }
    }

    fn p_wrong(model: &Model, candidate: &Candidate) -> f64 {
        model.opinion(candidate).p_wrong()
    }

    #[test]
    fn a_verdict_moves_the_opinion_its_way() {
        let asked = candidate(1, 1, 0.4);
        let (mut praised, mut blamed) = (Model::first(), Model::first());
        let before = p_wrong(&praised, &asked);

        praised.learn(&asked, true);
        blamed.learn(&asked, false);

        assert!(p_wrong(&praised, &asked) < before && before < p_wrong(&blamed, &asked));
    }

    #[test]
    fn a_new_entry_inherits_from_its_group_and_a_new_group_from_all() {
        let mut model = Model::first();
        (0..40).for_each(|entry| model.learn(&candidate(1, entry, 0.4), true));
        (0..40).for_each(|entry| model.learn(&candidate(2, 100 + entry, 0.4), false));

        let in_good_group = p_wrong(&model, &candidate(1, 999, 0.4));
        let in_new_group = p_wrong(&model, &candidate(3, 999, 0.4));
        let in_bad_group = p_wrong(&model, &candidate(2, 999, 0.4));

        assert!(in_good_group < in_new_group && in_new_group < in_bad_group);
    }

    #[test]
    fn an_entry_that_was_wrong_is_trusted_less_than_its_group() {
        let mut model = Model::first();
        (0..20).for_each(|entry| model.learn(&candidate(1, entry, 0.4), true));
        (0..3).for_each(|_| model.learn(&candidate(1, 7, 0.4), false));

        assert!(p_wrong(&model, &candidate(1, 7, 0.4)) > p_wrong(&model, &candidate(1, 999, 0.4)));
    }

    #[test]
    fn a_weight_that_tells_right_from_wrong_is_found() {
        let mut model = Model::first();
        for step in 0..400_u64 {
            let is_high = step % 2 == 0;
            model.learn(&candidate(step, step, if is_high { 2.0 } else { -2.0 }), is_high);
        }

        assert!(p_wrong(&model, &candidate(9_999, 9_999, 2.0)) < 0.1);
        assert!(p_wrong(&model, &candidate(9_999, 9_999, -2.0)) > 0.9);
    }

    #[test]
    fn records_are_bounded_and_the_newest_stay() {
        let mut records = Records::of_variance(0.5);
        let n_keys = MAX_RECORDS as u64 + 1;
        (0..n_keys).for_each(|key| records.learn(key, 0.1, 0.1));

        assert!(records.by_key.len() <= MAX_RECORDS);
        assert!(records.by_key.contains_key(&(n_keys - 1)) && !records.by_key.contains_key(&0));
    }

    #[test]
    fn merged_records_hold_what_both_learned() {
        let (mut a, mut b) = (Records::of_variance(0.5), Records::of_variance(0.5));
        a.learn(1, 0.5, 0.2);
        b.learn(1, 0.5, 0.2);
        b.learn(2, -0.5, 0.2);
        let alone = a.get(1);

        a.merge(&b);

        assert!(a.get(1).variance < alone.variance && a.get(1).mean > alone.mean);
        assert_eq!(a.get(2).mean, b.get(2).mean);
    }
}
