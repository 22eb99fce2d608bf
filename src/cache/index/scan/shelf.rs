//! All entries of the scan index, by scope and by age, within bounds.
//!
//! Touches no file.
//!
//! Invariants: every entry is in exactly one partition, once in `places` and once in `ages`;
//! `size_bytes` is what its entries take in the file.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::super::log::{Record, upsert_bytes};
use super::super::{EntryId, IndexEntry, IndexError, Neighbour, Wanted};
use super::partition::Partition;
use crate::chat::Fingerprint;

pub(super) struct Shelf {
    max_entries: usize,
    max_bytes: u64,
    partitions: HashMap<Fingerprint, Partition>,
    places: HashMap<EntryId, Place>,
    ages: BTreeMap<u64, EntryId>,
    next_age: u64,
    size_bytes: u64,
}

struct Place {
    scope: Fingerprint,
    age: u64,
    expires_at_ms: i64,
}

impl Shelf {
    pub(super) fn bounded(max_entries: usize, max_bytes: u64) -> Self {
        Self {
            max_entries,
            max_bytes,
            partitions: HashMap::new(),
            places: HashMap::new(),
            ages: BTreeMap::new(),
            next_age: 0,
            size_bytes: 0,
        }
    }

    pub(super) fn n_entries(&self) -> usize {
        self.places.len()
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn apply(&mut self, record: Record, now_ms: i64) -> Result<(), IndexError> {
        match record {
            Record::Upsert(entry) => self.upsert(entry, now_ms),
            Record::Remove(id) => {
                self.remove(id);
                Ok(())
            }
            Record::Purge => {
                *self = Self::bounded(self.max_entries, self.max_bytes);
                Ok(())
            }
        }
    }

    fn upsert(&mut self, entry: IndexEntry, now_ms: i64) -> Result<(), IndexError> {
        let n_dims = entry.vector.len();
        let expected = self.partitions.get(&entry.scope).map_or(n_dims.max(1), Partition::n_dims);
        check_dims(expected, n_dims)?;
        self.remove(entry.id);
        let partition = self.partitions.entry(entry.scope).or_insert_with(|| Partition::of_dims(n_dims));
        self.size_bytes += upsert_bytes(&entry);
        let age = self.next_age;
        self.next_age += 1;
        self.ages.insert(age, entry.id);
        let place = Place { scope: entry.scope, age, expires_at_ms: entry.expires_at_ms };
        self.places.insert(entry.id, place);
        partition.push(age, entry);
        self.evict(now_ms);
        Ok(())
    }

    /// Lets the oldest go while they are expired or the bounds are passed.
    fn evict(&mut self, now_ms: i64) {
        while let Some((_, oldest)) = self.ages.first_key_value() {
            let oldest = *oldest;
            let is_full = self.places.len() > self.max_entries || self.size_bytes > self.max_bytes;
            let is_expired = self.places.get(&oldest).is_some_and(|place| place.expires_at_ms <= now_ms);
            if !is_full && !is_expired {
                return;
            }
            self.remove(oldest);
        }
    }

    fn remove(&mut self, id: EntryId) {
        let Some(place) = self.places.remove(&id) else { return };
        self.ages.remove(&place.age);
        let Some(partition) = self.partitions.get_mut(&place.scope) else { return };
        if let Some(entry) = partition.remove(id) {
            self.size_bytes -= upsert_bytes(&entry);
        }
        if partition.is_empty() {
            self.partitions.remove(&place.scope);
        }
    }

    pub(super) fn nearest(&self, wanted: &Wanted<'_>) -> Result<Vec<Neighbour>, IndexError> {
        let Some(partition) = self.partitions.get(wanted.scope) else { return Ok(Vec::new()) };
        check_dims(partition.n_dims(), wanted.vector.len())?;
        Ok(partition.nearest(wanted))
    }

    pub(super) fn answer(&self, id: EntryId) -> Option<Bytes> {
        let place = self.places.get(&id)?;
        self.partitions.get(&place.scope)?.answer(id).cloned()
    }

    /// Every answer, by the name of its entry.
    pub(super) fn answers(&self) -> impl Iterator<Item = (EntryId, &Bytes)> {
        self.partitions.values().flat_map(Partition::answers)
    }

    pub(super) fn oldest_first(&self) -> impl Iterator<Item = IndexEntry> {
        let mut by_age: Vec<(u64, &Partition, usize)> = Vec::with_capacity(self.places.len());
        for partition in self.partitions.values() {
            by_age.extend(partition.ages().map(|(age, idx)| (age, partition, idx)));
        }
        by_age.sort_unstable_by_key(|(age, _, _)| *age);
        by_age.into_iter().map(|(_, partition, idx)| partition.entry(idx))
    }
}

fn check_dims(expected: usize, given: usize) -> Result<(), IndexError> {
    if expected == given {
        return Ok(());
    }
    Err(IndexError::Dimension { index: "the index in memory".to_owned(), expected, given })
}
