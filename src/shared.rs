//! What the replicas of one gateway share: a Redis, and each replica's name in it.
//!
//! Knows no budget and no limit; the ledger and admission bring scripts of their own. Connects on first
//! use, so that a gateway starts without it. One server or one with replicas behind a single address: keys
//! of a team carry one hash tag, but nothing here follows a cluster's redirections.
//!
//! Invariants: no request takes longer than the timeout; once a request has failed, others are answered
//! "away" at once for a moment, so that an outage delays one call in many and not each.

use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use parking_lot::Mutex;
pub use redis::Script;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{FromRedisValue, RedisError};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Within one request only; the next one tries anew.
const N_RETRIES: usize = 1;
const MAX_RETRY_DELAY: Duration = Duration::from_millis(200);
/// How long nobody asks after a failure.
const LEFT_ALONE_FOR: Duration = Duration::from_millis(500);
const MIN_LEASE_MS: u64 = 1_000;

/// What replicas share: `[shared]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SharedConfig {
    /// The Redis that keeps budgets and limits of all replicas. Default: none; this replica is alone.
    pub redis_url: Option<SecretString>,
    /// Milliseconds for a request and its answer; default 250.
    pub redis_timeout_ms: u64,
    /// Milliseconds after its last sign of life until a replica's holds and slots are released, at least 1000;
    /// default 15000.
    pub lease_ms: u64,
}

impl Default for SharedConfig {
    fn default() -> Self {
        Self { redis_url: None, redis_timeout_ms: 250, lease_ms: 15_000 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    #[error("shared redis: {0}; check `shared.redis_url` and that the server is up")]
    Redis(#[from] RedisError),
    #[error(
        "shared redis: no answer within {timeout_ms} ms; raise `shared.redis_timeout_ms` or check the server"
    )]
    Timeout { timeout_ms: u128 },
    #[error("shared redis: failed a moment ago and is being left alone")]
    LeftAlone,
}

/// The store, and this replica's name in it.
pub struct SharedStore {
    connection: ConnectionManager,
    timeout: Duration,
    lease: Duration,
    replica: String,
    left_alone_until: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStore").field("replica", &self.replica).finish_non_exhaustive()
    }
}

impl SharedStore {
    /// Checks the address; `None` where none is given. `entropy` tells this replica from every other.
    pub fn open(config: &SharedConfig, entropy: u128) -> Result<Option<Self>, SharedError> {
        let Some(url) = config.redis_url.as_ref().filter(|url| !url.expose_secret().is_empty()) else {
            return Ok(None);
        };
        let timeout = Duration::from_millis(config.redis_timeout_ms.max(1));
        let manager = ConnectionManagerConfig::new()
            .set_response_timeout(Some(timeout))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(N_RETRIES)
            .set_max_delay(MAX_RETRY_DELAY);
        let client = redis::Client::open(url.expose_secret())?;
        Ok(Some(Self {
            connection: ConnectionManager::new_lazy_with_config(client, manager)?,
            timeout,
            lease: Duration::from_millis(config.lease_ms.max(MIN_LEASE_MS)),
            replica: format!("{entropy:032x}"),
            left_alone_until: Mutex::new(None),
        }))
    }

    /// This replica's name, new at every start.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Runs a script, unless the store failed a moment ago.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, SharedError> {
        if self.left_alone_until.lock().is_some_and(|until| Instant::now() < until) {
            return Err(SharedError::LeftAlone);
        }
        self.insist(script, keys, args).await
    }

    /// Runs a script whatever happened before; for work that waits anyway.
    pub async fn insist<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<T, SharedError> {
        let mut invocation = script.prepare_invoke();
        for key in keys {
            invocation.key(key);
        }
        for arg in args {
            invocation.arg(arg);
        }
        let mut connection = self.connection.clone();
        // The client's own timeout begins when it is connected; connecting may take seconds.
        let answer = tokio::time::timeout(self.timeout, invocation.invoke_async(&mut connection)).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(SharedError::from),
            Err(_) => Err(SharedError::Timeout { timeout_ms: self.timeout.as_millis() }),
        };
        self.note(answer.is_ok());
        answer
    }

    /// Whether it answers now.
    pub async fn readiness(&self) -> Result<(), String> {
        let ping = Script::new("return redis.call('PING')");
        self.insist::<redis::Value>(&ping, &[], &[]).await.map(drop).map_err(|error| error.to_string())
    }

    fn note(&self, is_there: bool) {
        let until = (!is_there).then(|| Instant::now() + LEFT_ALONE_FOR);
        let before = std::mem::replace(&mut *self.left_alone_until.lock(), until);
        if before.is_some() == is_there {
            gauge!("stiver_shared_store_away").set(if is_there { 0.0 } else { 1.0 });
            if is_there {
                tracing::info!("the shared store answers again");
            } else {
                tracing::warn!(
                    "the shared store is away; budgets follow `when_shared_store_is_away`, limits are local"
                );
            }
        }
        if !is_there {
            counter!("stiver_shared_store_failures_total").increment(1);
        }
    }
}

/// A name as it stands in a key, so that no name can look like another key.
pub fn digest(name: &str) -> String {
    let mut hex = blake3::hash(name.as_bytes()).to_hex().to_string();
    hex.truncate(32);
    hex
}
