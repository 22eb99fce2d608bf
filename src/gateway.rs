//! Every long-lived part, built once: the composition root.
//!
//! Answers no call; the pipeline does, with what stands here.
//!
//! Invariants: a call sees one configuration from its beginning to its end, whatever is reloaded
//! meanwhile; a part that cannot be built degrades as the design says, and `/readyz` tells.

mod audits;
mod live;
mod models;
mod ready;
mod reload;
mod risk;
mod risk_rows;
mod roster;
mod split_watch;
mod upkeep;
mod warn;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use audits::{Audits, judge_budget};
pub use live::{Live, Members};
pub use models::{open_embedder, open_guard};
pub use ready::Part;
pub use reload::watch;
pub use split_watch::SplitWatch;
pub use upkeep::upkeep;

use models::{Models, Problems};

use crate::admission::Limiter;
use crate::cache::embedder::Embed;
use crate::cache::risk_keeper::RiskKeeper;
use crate::cache::{Cache, CacheError, Parts};
use crate::clock::Clock;
use crate::complexity::Complexity;
use crate::config::{Config, Environment};
use crate::ledger::keys::KeyError;
use crate::ledger::{Ledger, LedgerError};
use crate::notice::Notices;
use crate::shared::{SharedError, SharedStore};
use crate::team::UpstreamName;
use crate::telemetry;
use crate::upstream::Client;
use crate::upstream::breaker::Breakers;

/// The gateway: everything a call needs that outlives it.
pub struct Gateway {
    live: ArcSwap<Live>,
    /// Held while teams and keys are read and put in force, so that an older reading never follows a newer one.
    changing: tokio::sync::Mutex<()>,
    pub clock: Clock,
    pub client: Client,
    pub breakers: Breakers,
    pub limiter: Arc<Limiter>,
    pub cache: Cache,
    /// None where no promise about cached answers is kept.
    pub risk_keeper: Option<RiskKeeper>,
    pub audits: Audits,
    pub max_answer_bytes: usize,
    /// The address that was opened; a reload cannot move it.
    listen: SocketAddr,
    pub embedder: Option<Arc<dyn Embed>>,
    pub complexity: Complexity,
    pub split_watch: SplitWatch,
    pub ledger: Ledger,
    pub metrics: PrometheusHandle,
    /// Background work that shutting down waits for.
    pub tasks: TaskTracker,
    /// Tells background work and the server to end.
    pub stop: CancellationToken,
    problems: Problems,
}

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the teams and keys cannot be read: {0}")]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Shared(#[from] SharedError),
    #[error("{0}")]
    Upstream(String),
    #[error(
        "server.listen: {0} can be reached from other machines, but there is no key and no team, so anybody could spend; \
         make a key with `stiver keys create`, or listen on 127.0.0.1"
    )]
    OpenToAll(SocketAddr),
}

impl Gateway {
    pub async fn open(config: Config, env: &Environment, clock: Clock) -> Result<Arc<Self>, StartError> {
        let metrics = telemetry::start_metrics();
        // Whoever comes first in this process installs it; a second one finds it done.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tasks = TaskTracker::new();
        let shared = SharedStore::open(&config.shared, rand::random())?.map(Arc::new);
        let ledger = Ledger::open_with(&config.ledger, clock.clone(), tasks.clone(), shared.clone()).await?;
        let Models { embedder, guard, complexity, problems } = Models::open(&config, env);
        let parts = Parts {
            embedder: embedder.clone(),
            guard,
            data_dir: config.cache.semantic.data_dir.clone(),
            tasks: tasks.clone(),
            now_ms: clock.now_ms(),
        };
        let cache = Cache::open(&config.cache, parts)?;
        let risk_keeper = risk::open(&cache, &ledger, &config, &clock).await;
        let client = Client::new(clock.clone());
        let audits = Audits::new(config.cache.semantic.max_audits_in_flight);
        let (listen, max_answer_bytes) = (config.server.listen, config.cache.max_answer_bytes);
        let live = Live::build(config, &client).await.map_err(StartError::Upstream)?;
        let members = Members::new(&live.config, ledger.keys().load_roster().await?);
        let mut budgets = members.ring.budgets();
        budgets.push(audits::account(live.config.cache.semantic.audit_usd_per_day));
        ledger.follow(&budgets).await?;
        live.set_members(members);
        if live.key_ring().is_open() && !listen.ip().is_loopback() {
            return Err(StartError::OpenToAll(listen));
        }
        let limiter = Limiter::open(clock.clone(), shared);
        limiter.start(&tasks);
        let gateway = Arc::new(Self {
            live: ArcSwap::from_pointee(live),
            changing: tokio::sync::Mutex::default(),
            limiter,
            clock,
            client,
            breakers: Breakers::default(),
            cache,
            risk_keeper,
            audits,
            max_answer_bytes,
            listen,
            embedder,
            complexity,
            split_watch: SplitWatch::default(),
            ledger,
            metrics,
            tasks,
            stop: CancellationToken::new(),
            problems,
        });
        gateway.start_warning();
        gateway.start_keeping_risk();
        Ok(gateway)
    }

    fn start_warning(self: &Arc<Self>) {
        let Some(news) = self.ledger.take_warnings() else { return };
        let notices = Notices::open().map_err(|error| tracing::warn!("{error}")).ok();
        self.tasks.spawn(warn::warn(Arc::clone(self), notices, news));
    }

    /// The configuration in force now.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Upstreams whose breaker is open.
    pub fn tripped(&self, live: &Live) -> BTreeSet<UpstreamName> {
        let now = Instant::now();
        live.upstreams().filter(|name| self.breakers.is_tripped(name, now)).cloned().collect()
    }

    /// Ends what runs in the background and closes the book. Call it after the last call has ended.
    pub async fn close(&self) -> Result<(), LedgerError> {
        self.stop.cancel();
        // They are calls: the book is open until they have ended.
        self.audits.end().await;
        self.limiter.close();
        if let Some(keeper) = &self.risk_keeper {
            keeper.close(self.clock.now_ms()).await;
        }
        let closed = self.ledger.close().await;
        self.tasks.close();
        self.tasks.wait().await;
        closed
    }
}
