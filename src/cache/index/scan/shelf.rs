//! All entries of the scan index, by name and by scope, within bounds.
//!
//! Touches no file. What is in a vector is the partitions' business, who goes first is `eviction`'s.
//!
//! Invariants: every entry has one item, one row in the partition of its scope, and one place in each
//! order of eviction; the bounds hold after every change; `size_bytes` is what the entries take in
//! memory, `file_bytes` what they take in the file.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::super::log::upsert_bytes;
use super::super::{EntryId, IndexEntry, IndexError, Neighbour, Wanted};
use super::dot;
use super::eviction::{Eviction, Standing};
use super::partition::{Near, Partition, Row};
use crate::cache::risk::GroupKey;
use crate::chat::Fingerprint;
use crate::money::NanoUsd;

/// What an entry takes in memory besides its vector, text and answer: 450 as measured among 100,000, and
/// more where the tables have just grown.
const ENTRY_BYTES: u64 = 512;
/// Expired entries that one change clears away without need, so that none takes long.
const EXPIRED_AT_ONCE: usize = 64;

/// Where an item lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Handle(u32);

impl Handle {
    pub(super) fn new(idx: usize) -> Self {
        Self(u32::try_from(idx).expect("memory holds fewer than 2^32 entries"))
    }

    pub(super) fn idx(self) -> usize {
        self.0 as usize
    }
}

pub(super) struct Shelf {
    max_entries: usize,
    max_bytes: u64,
    items: Vec<Option<Item>>,
    vacant: Vec<Handle>,
    by_id: HashMap<EntryId, Handle>,
    partitions: HashMap<Fingerprint, Partition>,
    eviction: Eviction,
    next_age: u64,
    size_bytes: u64,
    file_bytes: u64,
}

/// An entry without its vector.
struct Item {
    id: EntryId,
    scope: Fingerprint,
    row_idx: usize,
    age: u64,
    expires_at_ms: i64,
    text: Arc<str>,
    answer: Bytes,
    group: GroupKey,
    worth: NanoUsd,
    standing: Standing,
    size_bytes: u64,
    file_bytes: u64,
}

/// What an upsert did.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Upserted {
    /// Those that had to go.
    pub(super) gone: Vec<EntryId>,
    /// Whether the entry found room.
    pub(super) is_kept: bool,
}

/// What an entry takes in memory.
pub(super) fn held_bytes(entry: &IndexEntry) -> u64 {
    let n_dims = entry.vector.len();
    let of_vector = n_dims * 4 + n_dims.next_multiple_of(dot::STEP);
    ENTRY_BYTES + (of_vector + entry.text.len() + entry.answer.len()) as u64
}

impl Shelf {
    pub(super) fn bounded(max_entries: usize, max_bytes: u64) -> Self {
        Self {
            max_entries,
            max_bytes,
            items: Vec::new(),
            vacant: Vec::new(),
            by_id: HashMap::new(),
            partitions: HashMap::new(),
            eviction: Eviction::default(),
            next_age: 0,
            size_bytes: 0,
            file_bytes: 0,
        }
    }

    pub(super) fn n_entries(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(super) fn upsert(&mut self, entry: IndexEntry, now_ms: i64) -> Result<Upserted, IndexError> {
        let n_dims = entry.vector.len();
        let expected = self.partitions.get(&entry.scope).map_or(n_dims.max(1), Partition::n_dims);
        check_dims(expected, n_dims)?;
        let n_uses = self.by_id.get(&entry.id).map_or(1, |old| self.item(*old).standing.n_uses());
        let was_there = self.remove(entry.id);
        let size_bytes = held_bytes(&entry);
        // Whatever else goes, it would not fit.
        if self.max_entries == 0 || size_bytes > self.max_bytes || entry.expires_at_ms <= now_ms {
            let gone = was_there.then_some(entry.id).into_iter().collect();
            return Ok(Upserted { gone, is_kept: false });
        }
        let gone = self.make_room(size_bytes, now_ms);
        self.put(entry, size_bytes, n_uses);
        Ok(Upserted { gone, is_kept: true })
    }

    fn put(&mut self, entry: IndexEntry, size_bytes: u64, n_uses: u64) {
        let handle = self.vacant.pop().unwrap_or_else(|| {
            self.items.push(None);
            Handle::new(self.items.len() - 1)
        });
        let n_dims = entry.vector.len();
        let row = Row { entry: handle, age: self.next_age, expires_at_ms: entry.expires_at_ms };
        self.next_age += 1;
        let partition = self.partitions.entry(entry.scope).or_insert_with(|| Partition::of_dims(n_dims));
        let item = Item {
            id: entry.id,
            scope: entry.scope,
            row_idx: partition.push(row, &entry.vector),
            age: row.age,
            expires_at_ms: row.expires_at_ms,
            group: entry.group,
            worth: entry.worth,
            standing: Standing::of(entry.worth, size_bytes, n_uses),
            size_bytes,
            file_bytes: upsert_bytes(&entry),
            text: entry.text,
            answer: entry.answer,
        };
        self.eviction.insert(row, &item.standing);
        self.size_bytes += item.size_bytes;
        self.file_bytes += item.file_bytes;
        self.by_id.insert(item.id, handle);
        self.items[handle.idx()] = Some(item);
    }

    /// Lets go until one more of that size fits: the expired first, then whoever saves least.
    fn make_room(&mut self, size_bytes: u64, now_ms: i64) -> Vec<EntryId> {
        let mut gone = Vec::new();
        loop {
            let is_full =
                self.n_entries() >= self.max_entries || self.size_bytes + size_bytes > self.max_bytes;
            let expired = self.eviction.expired(now_ms).filter(|_| is_full || gone.len() < EXPIRED_AT_ONCE);
            let next = match expired {
                Some(expired) => Some(expired),
                None if is_full => self.lowest(),
                None => None,
            };
            let Some(next) = next else { return gone };
            let id = self.item(next).id;
            self.remove(id);
            gone.push(id);
        }
    }

    fn lowest(&mut self) -> Option<Handle> {
        let items = &self.items;
        self.eviction.lowest(|handle| &item_in(items, handle).standing)
    }

    /// Lets all that is expired go.
    pub(super) fn remove_expired(&mut self, now_ms: i64) {
        while let Some(expired) = self.eviction.expired(now_ms) {
            let id = self.item(expired).id;
            self.remove(id);
        }
    }

    /// Tells whether it was there.
    pub(super) fn remove(&mut self, id: EntryId) -> bool {
        let Some(handle) = self.by_id.remove(&id) else { return false };
        let item = self.items[handle.idx()].take().expect("what has a name has an item");
        self.vacant.push(handle);
        self.eviction.remove(item.row(handle), &item.standing);
        self.size_bytes -= item.size_bytes;
        self.file_bytes -= item.file_bytes;
        let partition = self.partitions.get_mut(&item.scope).expect("an entry's scope has a partition");
        if let Some(moved) = partition.swap_remove(item.row_idx) {
            let moved = self.items[moved.idx()].as_mut().expect("a row has an item");
            moved.row_idx = item.row_idx;
        }
        if partition.is_empty() {
            self.partitions.remove(&item.scope);
        }
        true
    }

    /// Tells how many there were.
    pub(super) fn purge(&mut self) -> usize {
        let n_entries = self.n_entries();
        *self = Self::bounded(self.max_entries, self.max_bytes);
        n_entries
    }

    pub(super) fn touch(&self, id: EntryId) {
        if let Some(handle) = self.by_id.get(&id) {
            self.eviction.touch(&self.item(*handle).standing);
        }
    }

    /// What comparing with all entries of a scope reads.
    pub(super) fn scan_bytes(&self, scope: &Fingerprint) -> usize {
        self.partitions.get(scope).map_or(0, Partition::scan_bytes)
    }

    pub(super) fn nearest(&self, wanted: &Wanted<'_>) -> Result<Vec<Neighbour>, IndexError> {
        let Some(partition) = self.partitions.get(wanted.scope) else { return Ok(Vec::new()) };
        check_dims(partition.n_dims(), wanted.vector.len())?;
        Ok(partition.nearest(wanted).into_iter().map(|near| self.neighbour(near)).collect())
    }

    fn neighbour(&self, near: Near) -> Neighbour {
        let item = self.item(near.entry);
        Neighbour {
            id: item.id,
            // Rounding can carry equal vectors past 1.
            similarity: near.similarity.min(1.0),
            text: Arc::clone(&item.text),
            group: item.group,
        }
    }

    pub(super) fn answer(&self, id: EntryId) -> Option<Bytes> {
        self.by_id.get(&id).map(|handle| self.item(*handle).answer.clone())
    }

    /// Every answer, by the name of its entry.
    pub(super) fn answers(&self) -> impl Iterator<Item = (EntryId, &Bytes)> {
        self.items.iter().flatten().map(|item| (item.id, &item.answer))
    }

    pub(super) fn oldest_first(&self) -> impl Iterator<Item = IndexEntry> {
        let mut by_age: Vec<&Item> = self.items.iter().flatten().collect();
        by_age.sort_unstable_by_key(|item| item.age);
        by_age.into_iter().map(|item| self.entry(item))
    }

    /// The item with its vector put back.
    fn entry(&self, item: &Item) -> IndexEntry {
        IndexEntry {
            id: item.id,
            scope: item.scope,
            vector: self.partitions[&item.scope].vector(item.row_idx).into(),
            text: Arc::clone(&item.text),
            group: item.group,
            worth: item.worth,
            answer: item.answer.clone(),
            expires_at_ms: item.expires_at_ms,
        }
    }

    fn item(&self, handle: Handle) -> &Item {
        item_in(&self.items, handle)
    }
}

impl Item {
    fn row(&self, entry: Handle) -> Row {
        Row { entry, age: self.age, expires_at_ms: self.expires_at_ms }
    }
}

fn item_in(items: &[Option<Item>], handle: Handle) -> &Item {
    items[handle.idx()].as_ref().expect("a handle in use has an item")
}

fn check_dims(expected: usize, given: usize) -> Result<(), IndexError> {
    if expected == given {
        return Ok(());
    }
    Err(IndexError::Dimension { index: "the index in memory".to_owned(), expected, given })
}
