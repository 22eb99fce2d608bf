//! The exact tier: the same question, asked again, gets the same answer.
//!
//! Does not decide what "the same" means; the fingerprint does. Where the bytes lie is the store's affair.
//!
//! Invariants: a store that fails is a miss; an answer as old as the time to live is not served,
//! whatever the store still holds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use secrecy::SecretString;
use serde::Deserialize;

use super::alarm::Alarm;
use super::answer::StoredAnswer;
use super::purge::Purge;
use super::store::{Store, StoreError, StoreSize};
use crate::chat::Fingerprint;

/// `[cache.exact]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExactConfig {
    /// Whether equal requests share an answer. Default true.
    pub enabled: bool,
    /// Bytes of answers kept in memory; of no effect with Redis. Default 268435456 (256 MiB).
    pub max_bytes: u64,
    /// Seconds an answer is served for. Default 86400 (a day).
    pub ttl_s: u64,
    /// `redis://` or `rediss://`: keep answers there, shared by all replicas. Default unset (in memory).
    #[serde(deserialize_with = "super::optional_secret")]
    pub redis_url: Option<SecretString>,
    /// Milliseconds Redis may take to answer before the lookup is a miss. Default 100.
    pub redis_timeout_ms: u64,
    /// Requests to Redis under way at once; one more is a miss. Default 256.
    pub redis_max_in_flight: usize,
}

impl Default for ExactConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_bytes: 256 << 20,
            ttl_s: 86_400,
            redis_url: None,
            redis_timeout_ms: 100,
            redis_max_in_flight: 256,
        }
    }
}

pub(super) struct Exact {
    store: Arc<dyn Store>,
    ttl_s: u64,
    alarm: Alarm,
}

impl Exact {
    pub(super) fn over(store: Arc<dyn Store>, ttl_s: u64) -> Self {
        let alarm = Alarm::of(store.name());
        Self { store, ttl_s, alarm }
    }

    pub(super) async fn find(&self, key: &Fingerprint, now_ms: i64) -> Option<StoredAnswer> {
        let bytes = self.or_raise(self.store.get(key).await)??;
        match StoredAnswer::decode(&bytes) {
            Ok(answer) => Some(answer).filter(|answer| !answer.is_expired(now_ms, self.ttl_s)),
            Err(error) => {
                self.alarm.raise(&error);
                None
            }
        }
    }

    pub(super) async fn put(&self, key: &Fingerprint, answer: Bytes) {
        let ttl = Duration::from_secs(self.ttl_s);
        self.or_raise(self.store.put(key, answer, ttl).await);
    }

    /// What is kept under a name, however old.
    pub(super) async fn kept(&self, key: &Fingerprint) -> Result<Option<StoredAnswer>, StoreError> {
        Ok(self.store.get(key).await?.and_then(|bytes| StoredAnswer::decode(&bytes).ok()))
    }

    /// Tells how many are gone.
    pub(super) async fn purge(&self, purge: &Purge) -> Result<u64, StoreError> {
        match purge {
            Purge::All => self.store.purge().await,
            Purge::Entry(id) => Ok(u64::from(self.store.remove(id.question()).await?)),
            Purge::Chosen(chosen) => self.store.purge_where(&|answer| chosen.takes(answer)).await,
        }
    }

    /// Nothing where a shared store keeps the answers of all replicas.
    pub(super) fn size(&self) -> Option<StoreSize> {
        self.store.size()
    }

    pub(super) fn name(&self) -> &'static str {
        self.store.name()
    }

    pub(super) async fn readiness(&self) -> Result<(), String> {
        self.store.readiness().await.map_err(|error| error.to_string())
    }

    pub(super) fn n_errors(&self) -> u64 {
        self.alarm.n_raised()
    }

    fn or_raise<T>(&self, outcome: Result<T, StoreError>) -> Option<T> {
        outcome.inspect_err(|error| self.alarm.raise(error)).ok()
    }
}
