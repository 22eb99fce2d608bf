//! What all upstreams share: the connections of this process, and the models in it.
//!
//! Does not know dialects, keys or retries. Follows no redirect and undoes no compression.
//!
//! Invariants: every socket has `TCP_NODELAY`; upstreams that need the same transport share one pool.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::local::Models;
use crate::clock::Clock;

/// Enough for every call in flight to find its connection again; each costs a few KiB when idle.
const MAX_IDLE_PER_HOST: usize = 1_024;
/// Below the 75 s after which common servers and load balancers close idle connections.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// What has to be settled before a connection is made; upstreams that agree on it share a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transport {
    pub(super) connect_timeout: Duration,
    pub(super) http2_prior_knowledge: bool,
    pub(super) is_tls: bool,
}

/// Why no connection can be prepared.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    #[error("no TLS provider is installed; install rustls' ring provider before the first upstream")]
    NoTlsProvider,
    #[error("the TLS client cannot be built: {0}; check that the system's CA certificates are installed")]
    Tls(String),
}

/// The pooled client; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) clock: Clock,
    pools: Arc<RwLock<Vec<(Transport, reqwest::Client)>>>,
    /// Where calls need no connection.
    pub(super) models: Models,
}

impl Client {
    /// The clock tells how far away a date in `retry-after` is.
    pub fn new(clock: Clock) -> Self {
        Self { clock, pools: Arc::default(), models: Models::default() }
    }

    pub(super) fn pool(&self, transport: Transport) -> Result<reqwest::Client, ClientError> {
        let known = |pools: &[(Transport, reqwest::Client)]| {
            pools.iter().find(|(known, _)| *known == transport).map(|(_, pool)| pool.clone())
        };
        if let Some(pool) = known(&self.pools.read()) {
            return Ok(pool);
        }
        let mut pools = self.pools.write();
        if let Some(pool) = known(&pools) {
            return Ok(pool);
        }
        let pool = build(transport)?;
        pools.push((transport, pool.clone()));
        Ok(pool)
    }
}

fn build(transport: Transport) -> Result<reqwest::Client, ClientError> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(ClientError::NoTlsProvider);
    }
    let mut builder = reqwest::Client::builder()
        .connect_timeout(transport.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEPALIVE)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none());
    if transport.http2_prior_knowledge {
        builder = builder.http2_prior_knowledge();
    }
    if !transport.is_tls {
        // Saves loading the system's certificates, which need not exist where nothing is encrypted.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| ClientError::Tls(error.to_string()))
}
