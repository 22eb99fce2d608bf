//! The book of every call: money is held before a call is sent, and posted or voided once when it ends.
//!
//! Prices nothing and decides no routes. A row goes to the write-ahead journal on this machine first and
//! from there to the database, so that neither a crash nor a database that is away loses or doubles one.
//!
//! Invariants: a call that was sent has exactly one row, in the journal or in the database; a team's
//! balances are what its rows cost plus what its open holds set aside; no hold exceeds a budget.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

mod balances;
pub mod budget;
mod config;
pub mod entry;
mod hold;
mod journal;
mod keeper;
pub mod keys;
mod latency;
mod recover;
mod replicas;
pub mod report;
mod retention;
pub mod risk_lines;
pub mod savings;
pub mod store;
pub mod teams;
pub mod text;
pub mod verify;
mod writer;

pub use self::config::LedgerConfig;
pub use self::hold::{Hold, HoldAsk, HoldError};
pub use self::journal::{JournalError, JournalFill};
pub use self::keeper::Keeper;
pub use self::replicas::WhenAway;

use self::balances::{SetAside, payer_of};
use self::budget::{Books, Budget, Warning};
use self::entry::Entry;
use self::journal::{Framed, Journal, Syncer, Tail};
use self::keys::Keys;
use self::recover::Left;
use self::replicas::{Parts, Replicas};
use self::report::Reports;
use self::retention::Retention;
use self::risk_lines::RiskLines;
use self::store::{Store, StoreError};
use self::text::{CallText, Texts};
use self::writer::Writer;
use crate::clock::Clock;
use crate::money::NanoUsd;
use crate::shared::{SharedError, SharedStore};

/// Warnings that nobody has taken yet; more are only counted.
const N_WARNINGS_MAX: usize = 1_024;
/// Rows kept in memory when the journal's disk fails and the database is away at the same time.
const N_UNJOURNALLED_MAX: usize = 4_096;
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Shared(#[from] SharedError),
    #[error("the thread that forces the journal to disk cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("a task of the ledger was stopped before its end")]
    Stopped,
    #[error(
        "a budget names a window whose past has to be read, but rows posted before are not in the database yet; \
         bring the database back and reload"
    )]
    PastUnread,
    #[error("{n_rows} rows are still in the journal because the database is away; the next start posts them")]
    Unflushed { n_rows: u64 },
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// What was charged; `None` where no price was known.
    pub cost: Option<NanoUsd>,
    /// Whether the row survives `kill -9` already; else it waits in memory for the database.
    pub durable: bool,
}

/// The book. A clone is the same book.
#[derive(Debug, Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    journal: Arc<Journal>,
    /// The balances, or with replicas what was last heard of them.
    books: Mutex<Books>,
    replicas: Option<Arc<Replicas>>,
    /// Calls that an earlier run left, for replicas to be told of once budgets are known.
    left: Mutex<Vec<Left>>,
    warnings: mpsc::Sender<Warning>,
    warned: Mutex<Option<mpsc::Receiver<Warning>>>,
    store: Store,
    queue: Arc<Queue>,
    syncer: Mutex<Option<Syncer>>,
    /// Days that rows are kept; no text is kept longer than its row.
    keep_days: Option<u32>,
    close_timeout: Duration,
    tracker: TaskTracker,
    /// A book that is dropped without [`Ledger::close`] still lets its writer finish and go.
    _closing: DropGuard,
}

/// What the writer waits on. The rows themselves are in the journal.
#[derive(Debug, Default)]
struct Queue {
    wake: Notify,
    /// Rows posted and not yet in the database.
    pending: watch::Sender<u64>,
    /// Rows that the journal could not take.
    unjournalled: Mutex<Vec<Entry>>,
    /// No more rows come.
    closing: CancellationToken,
    /// The database had its time.
    give_up: CancellationToken,
    finished: CancellationToken,
}

impl Ledger {
    /// Opens the database, posts what a crash left in the journal, and reads the running balances.
    pub async fn open(
        config: &LedgerConfig,
        clock: Clock,
        tracker: TaskTracker,
    ) -> Result<Self, LedgerError> {
        Self::open_with(config, clock, tracker, None).await
    }

    /// As [`Ledger::open`]; with a store that other replicas share, budgets are kept there.
    pub async fn open_with(
        config: &LedgerConfig,
        clock: Clock,
        tracker: TaskTracker,
        shared: Option<Arc<SharedStore>>,
    ) -> Result<Self, LedgerError> {
        let (journal, replay) = Journal::open(&config.journal_dir, config.limits())?;
        let journal = Arc::new(journal);
        let store = Store::open(config).await?;
        let left = recover::post_what_was_left(&journal, replay, &store).await?;
        let books = match &shared {
            None => recover::read_balances(&store, clock.now_ms()).await?,
            Some(_) => Books::mirror(),
        };

        let syncer =
            Syncer::start(Arc::clone(&journal), Duration::from_millis(config.fsync_interval_ms.max(1)))
                .map_err(LedgerError::Thread)?;
        let queue = Arc::new(Queue::default());
        let writer = Writer::new(config, Tail::new(Arc::clone(&journal)), store.clone(), Arc::clone(&queue));
        tracker.spawn(writer.run());
        let replicas = shared.map(|shared| {
            let parts = Parts {
                shared,
                when_away: config.when_shared_store_is_away,
                max_unsettled: config.max_unsettled_calls,
                clock: clock.clone(),
                store: store.clone(),
                pending: queue.pending.subscribe(),
            };
            let (replicas, work) = Replicas::new(parts);
            let replicas = Arc::new(replicas);
            replicas.start(work, &tracker, queue.closing.clone());
            replicas
        });
        let (warnings, warned) = mpsc::channel(N_WARNINGS_MAX);
        let retention = Retention {
            store: store.clone(),
            journal: Arc::clone(&journal),
            queue: Arc::clone(&queue),
            keep_days: config.retention_days,
            clock: clock.clone(),
            has_deleted_texts: false,
        };
        tracker.spawn(retention.run(queue.closing.clone()));
        let closing = queue.closing.clone().drop_guard();
        let shared = Shared {
            clock,
            journal,
            books: Mutex::new(books),
            left: Mutex::new(if replicas.is_some() { left } else { Vec::new() }),
            replicas,
            warnings,
            warned: Mutex::new(Some(warned)),
            store,
            queue,
            syncer: Mutex::new(Some(syncer)),
            keep_days: config.retention_days,
            close_timeout: Duration::from_millis(config.close_timeout_ms),
            tracker,
            _closing: closing,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sets the ceiling of a call aside in all budgets of its team, or in none.
    ///
    /// Waits only where replicas share their budgets.
    pub async fn hold(&self, ask: HoldAsk) -> Result<Hold, HoldError> {
        self.shared.check_room()?;
        let set_aside = self.shared.set_aside(&ask).await?;
        Ok(Hold::new(self.clone(), ask, set_aside))
    }

    /// Posts a call that needed no hold, such as a cache hit.
    pub fn record(&self, entry: Entry) -> Result<Posted, HoldError> {
        self.record_with(entry, None)
    }

    /// The same, and keeps the call's text.
    pub fn record_with(&self, entry: Entry, text: Option<CallText>) -> Result<Posted, HoldError> {
        self.shared.check_room()?;
        Ok(self.shared.post(entry, text, None))
    }

    /// Whether calls can be booked now, and why not.
    pub fn readiness(&self) -> Result<(), String> {
        self.shared.check_room().map_err(|error| error.to_string())
    }

    /// What the journal holds, and what it may.
    pub fn journal_fill(&self) -> JournalFill {
        self.shared.journal.fill()
    }

    /// Tells the metrics how much waits for the database, and for the store that replicas share.
    pub fn report_waiting(&self) {
        let JournalFill { size_bytes, max_bytes } = self.journal_fill();
        metrics::gauge!("stiver_ledger_journal_bytes").set(size_bytes as f64);
        metrics::gauge!("stiver_ledger_journal_limit_bytes").set(max_bytes as f64);
        metrics::gauge!("stiver_ledger_pending").set(self.n_pending() as f64);
        if let Some(replicas) = &self.shared.replicas {
            replicas.report_waiting();
        }
    }

    /// Rows posted and not yet in the database.
    pub fn n_pending(&self) -> u64 {
        *self.shared.queue.pending.borrow()
    }

    /// Waits until every row posted so far is in the database.
    pub async fn flushed(&self) {
        let mut pending = self.shared.queue.pending.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        drop(pending.wait_for(|n_rows| *n_rows == 0).await);
    }

    pub fn keys(&self) -> Keys {
        Keys::new(self.shared.store.clone())
    }

    pub fn texts(&self) -> Texts {
        Texts::new(self.clone())
    }

    pub fn risk_lines(&self) -> RiskLines {
        RiskLines::new(self.shared.store.clone())
    }

    pub fn reports(&self) -> Reports {
        Reports::new(self.shared.store.clone())
    }

    /// Writes what is left and ends the journal; call it after the last hold has ended.
    ///
    /// Where the database stays away, the rows stay in the journal and the next start posts them.
    pub async fn close(&self) -> Result<(), LedgerError> {
        let queue = &self.shared.queue;
        queue.closing.cancel();
        if tokio::time::timeout(self.shared.close_timeout, queue.finished.cancelled()).await.is_err() {
            queue.give_up.cancel();
            queue.finished.cancelled().await;
        }
        let shared = Arc::clone(&self.shared);
        let ended = self.shared.tracker.spawn_blocking(move || shared.end_journal());
        ended.await.map_err(|_| LedgerError::Stopped)??;
        self.shared.store.close().await;
        match self.n_pending() {
            0 => Ok(()),
            n_rows => Err(LedgerError::Unflushed { n_rows }),
        }
    }
}

impl Shared {
    fn check_room(&self) -> Result<(), HoldError> {
        let fill = self.journal.fill();
        if !fill.is_full() {
            return Ok(());
        }
        let JournalFill { size_bytes, max_bytes } = fill;
        Err(HoldError::JournalFull { size_bytes, max_bytes })
    }

    /// The one way into the book: the journal first, then the balances.
    fn post(&self, row: Entry, text: Option<CallText>, held: Option<(SetAside, &[Budget])>) -> Posted {
        // Counted before it can be read, so that the count never runs behind the writer.
        self.queue.pending.send_modify(|pending| *pending += 1);
        let has_text = text.is_some();
        let posted = self.framed(&row, text).and_then(|record| self.journal.append(record));
        let receipt = Posted { cost: row.cost, durable: posted.is_ok() };
        if row.cost.is_none() {
            metrics::counter!("stiver_ledger_unpriced_total").increment(1);
        }
        match held {
            Some((set_aside, budgets)) => self.settle(row.id, set_aside, row.charge(), budgets),
            None => self.spend(&row),
        }
        if let Err(error) = posted {
            if has_text {
                text::lost(&error);
            }
            self.queue.keep(row, &error);
        }
        self.queue.wake.notify_one();
        receipt
    }

    /// A row as the journal takes it. A text that cannot be written costs its row nothing.
    fn framed(&self, row: &Entry, text: Option<CallText>) -> Result<Framed, JournalError> {
        let record = Framed::posted(row)?;
        let Some(text) = text else { return Ok(record) };
        let with_text = record.with_text(&text.kept_no_longer(row.ts_ms, self.keep_days));
        Ok(with_text.unwrap_or_else(|error| {
            text::lost(&error);
            record
        }))
    }

    fn end_journal(&self) -> Result<(), JournalError> {
        if let Some(syncer) = self.syncer.lock().take() {
            syncer.stop();
        }
        if *self.queue.pending.borrow() > 0 {
            return self.journal.abandon();
        }
        let n_open = self.journal.close()?;
        if n_open > 0 {
            tracing::warn!(n_open, "calls were open when the ledger closed; the next start posts them");
        }
        Ok(())
    }
}

impl Queue {
    fn written(&self, n_rows: usize) {
        self.pending.send_modify(|pending| *pending = pending.saturating_sub(n_rows as u64));
    }

    /// Keeps a row that the journal could not take, for the database to take directly.
    fn keep(&self, row: Entry, error: &JournalError) {
        metrics::counter!("stiver_ledger_journal_errors_total").increment(1);
        let mut unjournalled = self.unjournalled.lock();
        if unjournalled.len() >= N_UNJOURNALLED_MAX {
            tracing::error!(%error, id = %row.id, "row lost: neither the journal nor the database takes it");
            drop(unjournalled);
            self.written(1);
            return;
        }
        tracing::error!(%error, id = %row.id, "row not journalled; it waits in memory for the database");
        unjournalled.push(row);
    }
}

#[cfg(test)]
mod tests;
