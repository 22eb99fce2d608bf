//! Some replicas over one Redis and one database, in a folder of their own.
//!
//! Invariants: none of its own; a test says what has to hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use stiver::clock::Clock;
use stiver::ledger::budget::{Budget, Payer, Window};
use stiver::ledger::entry::{Entry, Outcome};
use stiver::ledger::verify::{VerifyAsk, verify};
use stiver::ledger::{Hold, HoldAsk, HoldError, Ledger, LedgerConfig};
use stiver::money::NanoUsd;
use stiver::shared::{SharedConfig, SharedStore};
use stiver::team::{CallId, RouteName, TeamName, UpstreamName};
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

use crate::redis_server::RedisServer;

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
const PATIENCE: Duration = Duration::from_secs(60);
/// As short as it may be, so that a test need not wait for long.
pub(crate) const LEASE_MS: u64 = 1_000;

pub(crate) struct Fleet {
    pub(crate) redis: RedisServer,
    pub(crate) ledgers: Vec<Ledger>,
    pub(crate) clock: Clock,
    pub(crate) budgets: Arc<[Budget]>,
    change: fn(&mut LedgerConfig),
    tasks: TaskTracker,
    dir: TempDir,
}

pub(crate) fn team() -> TeamName {
    TeamName::from("search")
}

pub(crate) fn budget(nanos: i64) -> Budget {
    Budget::new(NanoUsd::new(nanos), Window::Day)
}

pub(crate) fn shared_config(redis: &RedisServer, redis_timeout_ms: u64) -> SharedConfig {
    SharedConfig { redis_url: Some(redis.url().into()), redis_timeout_ms, lease_ms: LEASE_MS }
}

pub(crate) fn shared(redis: &RedisServer, timeout_ms: u64) -> Arc<SharedStore> {
    let config = shared_config(redis, timeout_ms);
    Arc::new(SharedStore::open(&config, rand::random()).unwrap().unwrap())
}

impl Fleet {
    pub(crate) async fn start(n_replicas: usize, budgets: &[Budget]) -> Option<Self> {
        Self::start_with(n_replicas, budgets, |_| {}).await
    }

    pub(crate) async fn start_with(
        n_replicas: usize,
        budgets: &[Budget],
        change: fn(&mut LedgerConfig),
    ) -> Option<Self> {
        let redis = RedisServer::start()?;
        let mut fleet = Self {
            redis,
            ledgers: Vec::new(),
            clock: Clock::standing_at(NOW_MS),
            budgets: budgets.into(),
            change,
            tasks: TaskTracker::new(),
            dir: tempfile::tempdir().unwrap(),
        };
        for nth in 0..n_replicas {
            let ledger = fleet.open(nth).await;
            fleet.ledgers.push(ledger);
        }
        Some(fleet)
    }

    pub(crate) fn config(&self, nth: usize) -> LedgerConfig {
        let mut config = LedgerConfig {
            path: self.dir.path().join("ledger.sqlite"),
            journal_dir: self.dir.path().join(format!("journal-{nth}")),
            flush_interval_ms: 1,
            ..LedgerConfig::default()
        };
        (self.change)(&mut config);
        config
    }

    /// A replica with the journal of number `nth`, under a new name.
    pub(crate) async fn open(&self, nth: usize) -> Ledger {
        // A second is for a machine that does other things, too.
        let shared = shared(&self.redis, 5_000);
        let opened =
            Ledger::open_with(&self.config(nth), self.clock.clone(), self.tasks.clone(), Some(shared)).await;
        let ledger = opened.unwrap();
        ledger.follow(&[(team(), self.budgets.to_vec())]).await.unwrap();
        ledger
    }

    pub(crate) fn ask(&self, ceiling: i64) -> HoldAsk {
        let (id, now_ms) = (CallId::new(NOW_MS, entropy()), self.clock.now_ms());
        let draft = Entry::draft(id, now_ms, team(), "/v1/chat/completions", RouteName::from("auto"));
        let ceiling = NanoUsd::new(ceiling);
        let entry_draft = Entry { cost: Some(ceiling), ..draft };
        HoldAsk { entry_draft, ceiling, budgets: Arc::clone(&self.budgets) }
    }

    pub(crate) async fn hold(&self, nth: usize, ceiling: i64) -> Result<Hold, HoldError> {
        self.ledgers[nth].hold(self.ask(ceiling)).await
    }

    /// A whole call.
    pub(crate) async fn spend(&self, nth: usize, cost: i64) {
        let mut hold = self.hold(nth, cost).await.unwrap();
        send(&mut hold);
        let entry = ended(&hold, cost);
        hold.post(entry);
    }

    /// What is spent and held of the first budget, once Redis has heard of everything.
    pub(crate) async fn settled(&self) -> (i64, i64) {
        eventually("all calls are settled", async || {
            self.ledgers.iter().all(|ledger| ledger.n_unsettled() == 0)
        })
        .await;
        let payer = Payer::of_team(&team());
        let balance = self.ledgers[0].balance_of_all(&payer, &self.budgets[0]).await.unwrap();
        (balance.spent.get(), balance.held.get())
    }

    pub(crate) async fn rows(&self) -> Vec<Entry> {
        for ledger in &self.ledgers {
            ledger.flushed().await;
        }
        self.ledgers[0].reports().recent(1_000_000, None).await.unwrap()
    }

    /// Rows, sums and shared balances agree.
    pub(crate) async fn check_that_all_adds_up(&self) {
        self.rows().await;
        let ask = VerifyAsk {
            now_ms: self.clock.now_ms(),
            budgets: vec![(team(), self.budgets.to_vec())],
            shared: shared_config(&self.redis, 5_000),
            since_ms: None,
        };
        let verified = verify(&self.config(0), &ask).await.unwrap();
        assert!(verified.adds_up(), "{:#?}", verified.differences);
        assert!(verified.n_hours > 0 && verified.n_accounts > 0, "{verified:?}");
    }

    /// Redis forgets everything and goes on.
    pub(crate) async fn flush_redis(&self) {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
    }

    pub(crate) async fn close(self) {
        for ledger in &self.ledgers {
            ledger.close().await.unwrap();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn entropy() -> [u8; 10] {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut entropy = [0; 10];
    // The first bytes make room for the version of the id.
    entropy[6..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    entropy
}

pub(crate) fn send(hold: &mut Hold) {
    hold.sent(&UpstreamName::from("large"), "gpt", 1).unwrap();
}

pub(crate) fn ended(hold: &Hold, cost: i64) -> Entry {
    let cost = Some(NanoUsd::new(cost));
    Entry { cost, outcome: Outcome::Ok, estimated: false, status: 200, ..hold.draft().clone() }
}

/// Waits for what has no signal of its own.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
