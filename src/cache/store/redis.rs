//! The exact store of many replicas: one Redis, under its own key prefix.
//!
//! Does not bound Redis's memory; its `maxmemory` and eviction policy do. Connects on first use, so
//! that a gateway starts without it.
//!
//! Invariants: at most `max_in_flight` requests are under way, because waiting in a queue counts
//! into the timeout; no request takes longer than that; every key carries the prefix and a time to live.

use std::time::Duration;

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{HEAD_BYTES, Meant, Store, StoreError, StoreSize};
use crate::chat::Fingerprint;

const PREFIX: &str = "stiver:exact:";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Within one request only; the next request tries anew.
const N_RETRIES: usize = 1;
const MAX_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Keys asked for in one step of a purge.
const PURGE_STEP: usize = 500;
/// The same where values are looked at: half a megabyte an answer.
const LOOK_STEP: usize = 128;

/// How to reach Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    pub url: String,
    /// For a request and its answer; while there is no connection, for getting one too.
    pub timeout: Duration,
    pub max_in_flight: usize,
}

pub struct RedisStore {
    connection: ConnectionManager,
    timeout: Duration,
    in_flight: Semaphore,
    max_in_flight: usize,
}

impl RedisStore {
    /// Checks the address; the connection follows with the first request.
    pub fn open(config: &RedisConfig) -> Result<Self, StoreError> {
        let manager = ConnectionManagerConfig::new()
            .set_response_timeout(Some(config.timeout))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(N_RETRIES)
            .set_max_delay(MAX_RETRY_DELAY)
            .set_concurrency_limit(config.max_in_flight);
        let client = ::redis::Client::open(config.url.as_str())?;
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, manager)?,
            timeout: config.timeout,
            in_flight: Semaphore::new(config.max_in_flight),
            max_in_flight: config.max_in_flight,
        })
    }

    fn permit(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.in_flight.try_acquire().map_err(|_| StoreError::Busy { max_in_flight: self.max_in_flight })
    }

    async fn ask<T: ::redis::FromRedisValue>(&self, cmd: &::redis::Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        self.in_time(cmd.query_async(&mut connection)).await
    }

    async fn in_time<T>(
        &self,
        asking: impl Future<Output = Result<T, ::redis::RedisError>>,
    ) -> Result<T, StoreError> {
        let _permit = self.permit()?;
        // The client's own timeout begins when it is connected; connecting may take seconds.
        match tokio::time::timeout(self.timeout, asking).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(StoreError::Timeout { timeout_ms: self.timeout.as_millis() }),
        }
    }

    /// Those of `keys` whose values are meant.
    async fn meant(&self, keys: Vec<String>, is_meant: &Meant<'_>) -> Result<Vec<String>, StoreError> {
        if keys.is_empty() {
            return Ok(keys);
        }
        let mut pipe = ::redis::pipe();
        for key in &keys {
            pipe.cmd("GETRANGE").arg(key).arg(0).arg(HEAD_BYTES - 1);
        }
        let mut connection = self.connection.clone();
        let heads: Vec<Vec<u8>> = self.in_time(pipe.query_async(&mut connection)).await?;
        let pairs = keys.into_iter().zip(heads);
        Ok(pairs.filter(|(_, head)| is_meant(&Bytes::copy_from_slice(head))).map(|(key, _)| key).collect())
    }

    /// All of ours, or those that are meant.
    async fn remove_all(&self, is_meant: Option<&Meant<'_>>) -> Result<u64, StoreError> {
        let mut n_removed = 0;
        let mut cursor: u64 = 0;
        let step = if is_meant.is_some() { LOOK_STEP } else { PURGE_STEP };
        loop {
            let mut scan = ::redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{PREFIX}*")).arg("COUNT").arg(step);
            let (next, keys): (u64, Vec<String>) = self.ask(&scan).await?;
            let keys = match is_meant {
                Some(is_meant) => self.meant(keys, is_meant).await?,
                None => keys,
            };
            if !keys.is_empty() {
                n_removed += self.ask::<u64>(::redis::cmd("UNLINK").arg(keys)).await?;
            }
            if next == 0 {
                return Ok(n_removed);
            }
            cursor = next;
        }
    }
}

fn key_name(key: &Fingerprint) -> String {
    format!("{PREFIX}{}", key.to_hex())
}

impl Store for RedisStore {
    fn get<'a>(&'a self, key: &'a Fingerprint) -> BoxFuture<'a, Result<Option<Bytes>, StoreError>> {
        async move {
            let found: Option<Vec<u8>> = self.ask(::redis::cmd("GET").arg(key_name(key))).await?;
            Ok(found.map(Bytes::from))
        }
        .boxed()
    }

    fn put<'a>(
        &'a self,
        key: &'a Fingerprint,
        value: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        async move {
            // Redis refuses a time to live of 0.
            let ttl_ms =
                u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, i64::MAX.unsigned_abs() / 4);
            let mut set = ::redis::cmd("SET");
            set.arg(key_name(key)).arg(&value[..]).arg("PX").arg(ttl_ms);
            self.ask(&set).await
        }
        .boxed()
    }

    fn remove<'a>(&'a self, key: &'a Fingerprint) -> BoxFuture<'a, Result<bool, StoreError>> {
        async move { Ok(self.ask::<u64>(::redis::cmd("UNLINK").arg(key_name(key))).await? > 0) }.boxed()
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.remove_all(None).boxed()
    }

    fn purge_where<'a>(&'a self, is_meant: &'a Meant<'a>) -> BoxFuture<'a, Result<u64, StoreError>> {
        self.remove_all(Some(is_meant)).boxed()
    }

    fn size(&self) -> Option<StoreSize> {
        None
    }

    fn readiness(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.ask(&::redis::cmd("PING")).await.map(|_: String| ()) }.boxed()
    }

    fn name(&self) -> &'static str {
        "redis"
    }
}
