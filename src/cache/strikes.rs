//! What audits said of single entries: one that is wrong for others again and again must go.
//!
//! Removes nothing itself and knows no probabilities; an entry that goes is only asked for again.
//!
//! Invariant: what is remembered is bounded; the entries heard of first are forgotten first.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use super::index::EntryId;

/// Audits that found an entry wrong before it goes, if they are more than those that found it right.
const N_STRIKES: u32 = 2;
const MAX_ENTRIES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Strikes(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    by_entry: HashMap<EntryId, Record>,
    heard: VecDeque<EntryId>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    n_right: u32,
    n_wrong: u32,
}

impl Strikes {
    /// Counts an audit; whether the entry must go now.
    pub(super) fn count(&self, entry: EntryId, right: bool) -> bool {
        let mut records = self.0.lock();
        let record = records.by_entry.get(&entry).copied();
        if record.is_none() {
            records.heard.push_back(entry);
        }
        let mut record = record.unwrap_or_default();
        record.n_right += u32::from(right);
        record.n_wrong += u32::from(!right);
        records.by_entry.insert(entry, record);
        if records.heard.len() > MAX_ENTRIES
            && let Some(first) = records.heard.pop_front()
        {
            records.by_entry.remove(&first);
        }
        let must_go = !right && record.n_wrong >= N_STRIKES && record.n_wrong > record.n_right;
        if must_go {
            // What is kept under its name next begins anew.
            records.by_entry.insert(entry, Record::default());
        }
        must_go
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Fingerprint;

    fn entry(n: u64) -> EntryId {
        EntryId::of(Fingerprint::new(*blake3::hash(&n.to_le_bytes()).as_bytes()))
    }

    #[test]
    fn an_entry_goes_with_its_second_wrong_answer_and_not_with_its_first() {
        let strikes = Strikes::default();

        assert!(!strikes.count(entry(1), false));
        assert!(!strikes.count(entry(2), false));
        assert!(strikes.count(entry(1), false));
        assert!(!strikes.count(entry(1), false), "what came in its place is another answer");
    }

    #[test]
    fn an_entry_that_was_right_as_often_stays() {
        let strikes = Strikes::default();
        for right in [true, true, false, false] {
            assert!(!strikes.count(entry(1), right));
        }

        assert!(strikes.count(entry(1), false));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_first_is_forgotten() {
        let strikes = Strikes::default();
        assert!(!strikes.count(entry(0), false));
        for n in 1..=MAX_ENTRIES as u64 {
            strikes.count(entry(n), true);
        }

        assert_eq!(strikes.0.lock().by_entry.len(), MAX_ENTRIES);
        assert!(!strikes.count(entry(0), false), "its first strike was forgotten");
    }
}
