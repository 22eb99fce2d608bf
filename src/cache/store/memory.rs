//! The exact store of one replica: a map in memory, bounded by the bytes it holds.
//!
//! Keeps nothing across a restart and shares nothing with other replicas.
//!
//! Invariants: after a put the weight of all entries is at most `max_bytes`; an entry is gone once
//! its time is over.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use moka::Expiry;
use moka::sync::Cache;

use super::{Meant, Store, StoreError, StoreSize};
use crate::chat::Fingerprint;

/// What an entry costs beside its value: its key twice, counters and pointers of the map.
const ENTRY_OVERHEAD_BYTES: usize = 256;

pub struct MemoryStore {
    entries: Cache<Fingerprint, Entry>,
}

#[derive(Clone)]
struct Entry {
    value: Bytes,
    ttl: Duration,
}

impl MemoryStore {
    pub fn bounded(max_bytes: u64) -> Self {
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, entry: &Entry| weight(&entry.value))
            .expire_after(PerEntry)
            .build();
        Self { entries }
    }

    pub fn size_bytes(&self) -> u64 {
        self.entries.weighted_size()
    }

    pub fn n_entries(&self) -> u64 {
        self.entries.entry_count()
    }
}

fn weight(value: &Bytes) -> u32 {
    u32::try_from(value.len() + ENTRY_OVERHEAD_BYTES).unwrap_or(u32::MAX)
}

struct PerEntry;

impl Expiry<Fingerprint, Entry> for PerEntry {
    fn expire_after_create(&self, _: &Fingerprint, entry: &Entry, _: Instant) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Fingerprint,
        entry: &Entry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, key: &'a Fingerprint) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        let found = self.entries.get(key).map(|entry| entry.value);
        std::future::ready(Ok(found)).boxed()
    }

    fn put<'a>(
        &'a self,
        key: &'a Fingerprint,
        value: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.entries.insert(*key, Entry { value, ttl });
        // Eviction is put off otherwise, and a burst of large answers would overrun the bound.
        self.entries.run_pending_tasks();
        std::future::ready(Ok(())).boxed()
    }

    fn remove<'a>(&'a self, key: &'a Fingerprint) -> BoxFuture<'a, Result<bool, StoreError>> {
        let was_there = self.entries.remove(key).is_some();
        std::future::ready(Ok(was_there)).boxed()
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.entries.run_pending_tasks();
        let n_entries = self.entries.entry_count();
        self.entries.invalidate_all();
        self.entries.run_pending_tasks();
        std::future::ready(Ok(n_entries)).boxed()
    }

    fn purge_where<'a>(&'a self, is_meant: &'a Meant<'a>) -> BoxFuture<'a, Result<u64, StoreError>> {
        let meant = self.entries.iter().filter(|(_, entry)| is_meant(&entry.value));
        let keys: Vec<Fingerprint> = meant.map(|(key, _)| *key).collect();
        let n_removed = keys.iter().filter(|key| self.entries.remove(*key).is_some()).count();
        self.entries.run_pending_tasks();
        std::future::ready(Ok(n_removed as u64)).boxed()
    }

    fn size(&self) -> Option<StoreSize> {
        self.entries.run_pending_tasks();
        Some(StoreSize { n_entries: self.n_entries(), n_bytes: self.size_bytes() })
    }

    fn readiness(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn name(&self) -> &'static str {
        "memory"
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn key(n: u8) -> Fingerprint {
        Fingerprint::new([n; 32])
    }

    fn get(store: &MemoryStore, n: u8) -> Option<Bytes> {
        store.get(&key(n)).now_or_never().unwrap().unwrap()
    }

    fn put(store: &MemoryStore, n: u8, value: &[u8], ttl: Duration) {
        store.put(&key(n), Bytes::copy_from_slice(value), ttl).now_or_never().unwrap().unwrap();
    }

    #[test]
    fn a_value_is_found_until_it_is_removed() {
        let store = MemoryStore::bounded(10_000);

        put(&store, 1, b"one", LONG);

        assert_eq!(get(&store, 1).as_deref(), Some(&b"one"[..]));
        assert!(store.remove(&key(1)).now_or_never().unwrap().unwrap());
        assert!(!store.remove(&key(1)).now_or_never().unwrap().unwrap());
        assert_eq!(get(&store, 1), None);
    }

    #[test]
    fn a_purge_counts_and_removes_all() {
        let store = MemoryStore::bounded(10_000);
        put(&store, 1, b"one", LONG);
        put(&store, 2, b"two", LONG);

        assert_eq!(store.purge().now_or_never().unwrap().unwrap(), 2);

        assert_eq!((get(&store, 1), get(&store, 2)), (None, None));
        assert_eq!(store.size_bytes(), 0);
    }

    #[test]
    fn what_is_meant_goes_and_what_is_not_stays() {
        let store = MemoryStore::bounded(10_000);
        put(&store, 1, b"one", LONG);
        put(&store, 2, b"two", LONG);
        put(&store, 3, b"one too", LONG);

        let n_removed = store.purge_where(&|value| value.starts_with(b"one")).now_or_never().unwrap();

        assert_eq!(n_removed.unwrap(), 2);
        assert_eq!((get(&store, 1), get(&store, 3)), (None, None));
        assert_eq!(get(&store, 2).as_deref(), Some(&b"two"[..]));
        assert_eq!(store.size().unwrap().n_entries, 1);
    }

    #[test]
    fn a_value_whose_time_is_over_is_gone() {
        let store = MemoryStore::bounded(10_000);

        put(&store, 1, b"one", Duration::ZERO);
        put(&store, 2, b"two", LONG);

        assert_eq!(get(&store, 1), None);
        assert!(get(&store, 2).is_some());
    }

    #[test]
    fn a_value_that_just_fits_is_kept_and_a_larger_one_is_not() {
        let store = MemoryStore::bounded(1_000);

        put(&store, 1, &vec![0; 1_000 - ENTRY_OVERHEAD_BYTES + 1], LONG);
        assert_eq!(get(&store, 1), None);

        put(&store, 1, &vec![0; 1_000 - ENTRY_OVERHEAD_BYTES], LONG);
        assert!(get(&store, 1).is_some());
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_what_is_found_is_what_was_last_put(
            puts in prop::collection::vec((0u8..12, 0usize..1_500), 1..60)
        ) {
            let store = MemoryStore::bounded(4_000);
            let mut last = std::collections::HashMap::new();
            for (n, (key, n_bytes)) in puts.into_iter().enumerate() {
                let value = vec![n as u8; n_bytes];
                put(&store, key, &value, LONG);
                last.insert(key, value);
                prop_assert!(store.size_bytes() <= 4_000);
                for (key, value) in &last {
                    if let Some(found) = get(&store, *key) {
                        prop_assert_eq!(&found[..], &value[..]);
                    }
                }
            }
        }
    }
}
