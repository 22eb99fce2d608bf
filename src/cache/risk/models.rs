//! What this replica learned, and what it heard that others learned.
//!
//! The opinion comes from both. What is heard replaces what was heard before, and the whole is made from
//! its parts anew, so that no verdict counts twice; between two hearings both learn what is seen here.
//!
//! Invariants: what this replica tells others is its own alone.

use std::collections::BTreeMap;

use super::candidate::Candidate;
use super::model::Model;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Models {
    own: Model,
    heard: BTreeMap<String, Model>,
    /// Own and heard; none where nothing was heard.
    all: Option<Model>,
    is_changed: bool,
}

impl Models {
    pub(super) fn of(own: Model) -> Self {
        Self { own, heard: BTreeMap::new(), all: None, is_changed: false }
    }

    pub(super) fn own(&self) -> &Model {
        &self.own
    }

    pub(super) fn all(&self) -> &Model {
        self.all.as_ref().unwrap_or(&self.own)
    }

    pub(super) fn learn(&mut self, candidate: &Candidate, right: bool) {
        self.is_changed = true;
        self.own.learn(candidate, right);
        if let Some(all) = &mut self.all {
            all.learn(candidate, right);
        }
    }

    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    pub(super) fn set_changed(&mut self, is_changed: bool) {
        self.is_changed = is_changed;
    }

    /// What all others know by now: who is not named is forgotten, who comes without a model said nothing new.
    pub(super) fn hear(&mut self, told: Vec<(String, Option<Model>)>) {
        let is_gone = |name: &String| !told.iter().any(|(told, _)| told == name);
        if told.iter().all(|(_, model)| model.is_none()) && !self.heard.keys().any(is_gone) {
            return;
        }
        let mut before = std::mem::take(&mut self.heard);
        let now = told
            .into_iter()
            .filter_map(|(name, model)| model.or_else(|| before.remove(&name)).map(|model| (name, model)));
        self.heard = now.collect();
        self.add_up();
    }

    /// What a gone replica learned is learned here from now on.
    pub(super) fn take_over(&mut self, replica: &str, model: &Model) {
        self.is_changed = true;
        self.own.merge(model);
        self.heard.remove(replica);
        self.add_up();
    }

    /// Another replica tells from now on what was learned here.
    pub(super) fn give_up(&mut self, heir: Model) {
        self.own = heir;
        self.is_changed = false;
        self.add_up();
    }

    fn add_up(&mut self) {
        self.all = (!self.heard.is_empty()).then(|| {
            let mut all = self.own.clone();
            self.heard.values().for_each(|heard| all.merge(heard));
            all
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidate::{EntryKey, GroupKey, N_FEATURES};
    use super::*;

    fn candidate(group: u64) -> Candidate {
        let mut features = [0.0; N_FEATURES];
        features[N_FEATURES - 1] = 1.0;
        let (entry, group) = (EntryKey(group), GroupKey(group));
        Candidate { entry, group, neighbour_idx: 0, similarity: 0.9, features }
    }

    fn taught(n_verdicts: u64) -> Models {
        let mut models = Models::of(Model::first());
        (0..n_verdicts).for_each(|idx| models.learn(&candidate(idx % 7), idx % 3 != 0));
        models
    }

    fn told(name: &str, models: &Models) -> Vec<(String, Option<Model>)> {
        vec![(name.to_owned(), Some(models.own().clone()))]
    }

    #[test]
    fn every_verdict_counts_once_however_often_it_is_heard() {
        let (mut a, mut b) = (taught(30), taught(20));
        for _ in 0..5 {
            a.hear(told("b", &b));
            b.hear(told("a", &a));
        }
        a.learn(&candidate(1), true);

        assert_eq!((a.all().n_labels(), b.all().n_labels()), (51, 50));
        assert_eq!((a.own().n_labels(), b.own().n_labels()), (31, 20));
        b.hear(told("a", &a));
        assert_eq!(a.all().n_labels(), b.all().n_labels());
    }

    #[test]
    fn who_said_nothing_new_is_kept_and_who_is_gone_is_forgotten() {
        let mut a = taught(30);
        let mut both = told("b", &taught(20));
        both.extend(told("c", &taught(5)));
        a.hear(both);
        assert_eq!(a.all().n_labels(), 55);

        a.hear(vec![("b".to_owned(), None), ("c".to_owned(), None)]);
        assert_eq!(a.all().n_labels(), 55);
        a.hear(vec![("c".to_owned(), None)]);
        assert_eq!(a.all().n_labels(), 35);
        a.hear(Vec::new());
        assert_eq!(a.all(), a.own());
    }

    #[test]
    fn what_a_gone_replica_learned_is_told_on_by_who_took_over_and_by_nobody_else() {
        let (mut a, b) = (taught(30), taught(20));
        a.hear(told("b", &b));

        a.take_over("b", b.own());

        assert_eq!((a.own().n_labels(), a.all().n_labels()), (50, 50));
        a.give_up(Model::first());
        assert_eq!(a.all().n_labels(), 0);
    }

    #[test]
    fn who_learned_nothing_takes_over_exactly_what_was_learned() {
        let (mut fresh, learned) = (taught(0), taught(40));

        fresh.take_over("before", learned.own());

        assert_eq!(fresh.own(), learned.own());
    }
}
