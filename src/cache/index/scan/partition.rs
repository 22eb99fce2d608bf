//! The entries of one scope, side by side in memory so that comparing with all of them is fast.
//!
//! Knows no bounds and no other scope.
//!
//! Invariants: slot `i` owns the `i`-th run of `n_dims` floats; all runs have length 1.

use bytes::Bytes;

use super::super::{EntryId, IndexEntry, Neighbour, Wanted};

/// Wide enough for the compiler to keep the sums in vector registers.
const N_LANES: usize = 16;

pub(super) struct Partition {
    n_dims: usize,
    vectors: Vec<f32>,
    slots: Vec<Slot>,
}

struct Slot {
    age: u64,
    entry: IndexEntry,
}

impl Partition {
    pub(super) fn of_dims(n_dims: usize) -> Self {
        Self { n_dims, vectors: Vec::new(), slots: Vec::new() }
    }

    pub(super) fn n_dims(&self) -> usize {
        self.n_dims
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn push(&mut self, age: u64, mut entry: IndexEntry) {
        self.vectors.extend_from_slice(&entry.vector);
        entry.vector = std::sync::Arc::from([]);
        self.slots.push(Slot { age, entry });
    }

    pub(super) fn remove(&mut self, id: EntryId) -> Option<IndexEntry> {
        let idx = self.slots.iter().position(|slot| slot.entry.id == id)?;
        let entry = self.entry(idx);
        let last = self.slots.len() - 1;
        self.vectors.copy_within(last * self.n_dims.., idx * self.n_dims);
        self.vectors.truncate(last * self.n_dims);
        self.slots.swap_remove(idx);
        Some(entry)
    }

    /// The age of every entry and where it stands.
    pub(super) fn ages(&self) -> impl Iterator<Item = (u64, usize)> {
        self.slots.iter().enumerate().map(|(idx, slot)| (slot.age, idx))
    }

    pub(super) fn answers(&self) -> impl Iterator<Item = (EntryId, &Bytes)> {
        self.slots.iter().map(|slot| (slot.entry.id, &slot.entry.answer))
    }

    pub(super) fn answer(&self, id: EntryId) -> Option<&Bytes> {
        self.answers().find_map(|(other, answer)| (other == id).then_some(answer))
    }

    /// The entry with its vector put back.
    pub(super) fn entry(&self, idx: usize) -> IndexEntry {
        let vector = self.vectors[idx * self.n_dims..(idx + 1) * self.n_dims].into();
        IndexEntry { vector, ..self.slots[idx].entry.clone() }
    }

    pub(super) fn nearest(&self, wanted: &Wanted<'_>) -> Vec<Neighbour> {
        let mut near: Vec<(f32, usize)> = Vec::with_capacity(wanted.k + 1);
        for (idx, vector) in self.vectors.chunks_exact(self.n_dims).enumerate() {
            let similarity = dot(vector, wanted.vector);
            let is_near = similarity >= wanted.min_similarity
                && (near.len() < wanted.k || near.last().is_some_and(|(least, _)| similarity > *least));
            if is_near && self.slots[idx].entry.expires_at_ms > wanted.now_ms {
                let place = near.partition_point(|(other, _)| *other >= similarity);
                near.insert(place, (similarity, idx));
                near.truncate(wanted.k);
            }
        }
        near.into_iter().map(|(similarity, idx)| self.neighbour(similarity, idx)).collect()
    }

    fn neighbour(&self, similarity: f32, idx: usize) -> Neighbour {
        let entry = &self.slots[idx].entry;
        Neighbour {
            id: entry.id,
            // Rounding can carry equal vectors past 1.
            similarity: similarity.min(1.0),
            text: entry.text.clone(),
            group: entry.group,
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; N_LANES];
    let (a_lanes, a_rest) = a.as_chunks::<N_LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<N_LANES>();
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..N_LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
