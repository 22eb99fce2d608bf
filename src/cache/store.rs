//! Where exact answers lie: bytes under a fingerprint, for a time.
//!
//! Knows nothing of what the bytes mean. In memory for one replica, in Redis for many.

mod memory;
mod redis;

pub use memory::MemoryStore;
pub use redis::{RedisConfig, RedisStore};

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::chat::Fingerprint;

/// How much a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreSize {
    pub n_entries: u64,
    pub n_bytes: u64,
}

/// Whether an entry is meant, by its value or the first [`HEAD_BYTES`] of it.
pub type Meant<'a> = dyn Fn(&Bytes) -> bool + Send + Sync + 'a;

/// As much of a value as says what it is: names are shorter, and what follows them is the answer itself.
pub const HEAD_BYTES: usize = 4096;

/// What every store can do. Losing an entry early is allowed; keeping one late is not.
pub trait Store: Send + Sync {
    fn get<'a>(&'a self, key: &'a Fingerprint) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>>;
    fn put<'a>(
        &'a self,
        key: &'a Fingerprint,
        value: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
    /// Tells whether there was one.
    fn remove<'a>(&'a self, key: &'a Fingerprint) -> BoxFuture<'a, Result<bool, StoreError>>;
    /// Removes all; tells how many there were.
    fn purge(&self) -> BoxFuture<'_, Result<u64, StoreError>>;
    /// Removes what is meant; tells how many there were. Looks at every entry.
    fn purge_where<'a>(&'a self, is_meant: &'a Meant<'a>) -> BoxFuture<'a, Result<u64, StoreError>>;
    /// Nothing where it is not known without asking for every key.
    fn size(&self) -> Option<StoreSize>;
    fn readiness(&self) -> BoxFuture<'_, Result<(), StoreError>>;
    /// `memory` or `redis`: the name its failures are counted under.
    fn name(&self) -> &'static str;
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("redis: {0}; check `cache.exact.redis_url` and that the server is up")]
    Redis(#[from] ::redis::RedisError),
    #[error(
        "redis: no answer within {timeout_ms} ms; raise `cache.exact.redis_timeout_ms` or check the server"
    )]
    Timeout { timeout_ms: u128 },
    #[error("redis: {max_in_flight} requests are under way already; raise `cache.exact.redis_max_in_flight`")]
    Busy { max_in_flight: usize },
}
