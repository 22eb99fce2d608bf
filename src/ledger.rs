//! The book of every call: money is held before a call is sent, and posted or voided once when it ends.
//!
//! Prices nothing and decides no routes. A row goes to the write-ahead journal on this machine first and
//! from there to the database, so that neither a crash nor a database that is away loses or doubles one.
//!
//! Invariants: a call that was sent has exactly one row, in the journal or in the database; a team's
//! balances are what its rows cost plus what its open holds set aside; no hold exceeds a budget.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub mod budget;
pub mod entry;
mod hold;
mod journal;
mod keeper;
pub mod keys;
mod latency;
mod recover;
pub mod report;
mod retention;
pub mod savings;
pub mod store;
mod writer;

pub use self::hold::{Hold, HoldAsk, HoldError};
pub use self::journal::JournalError;
pub use self::keeper::Keeper;

use self::budget::{Balance, Books, Budget, Reserved, Window};
use self::entry::Entry;
use self::journal::{Framed, Journal, JournalLimits, Syncer, Tail};
use self::keys::Keys;
use self::report::Reports;
use self::store::{Store, StoreError};
use self::writer::Writer;
use crate::clock::Clock;
use crate::money::NanoUsd;
use crate::team::TeamName;

/// Rows kept in memory when the journal's disk fails and the database is away at the same time.
const N_UNJOURNALLED_MAX: usize = 4_096;
/// A full journal still needs a few segments, or nothing would ever be deleted.
const MIN_JOURNAL_BYTES: u64 = 64 << 10;

/// Where the book is kept: `[ledger]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerConfig {
    /// The SQLite file; default `data/ledger.sqlite`. Not looked at where `url` is given.
    pub path: PathBuf,
    /// A Postgres database that keeps the book instead, `postgres://user:password@host:5432/name`.
    pub url: Option<SecretString>,
    /// The directory of the write-ahead journal, for this process alone; default `data/journal`.
    pub journal_dir: PathBuf,
    /// Bytes of journal above which new calls are refused, at least 65536; default 256 MiB.
    pub max_journal_bytes: u64,
    /// Bytes after which a new journal file is begun; default 8 MiB, at most a quarter of the above.
    pub segment_bytes: u64,
    /// Milliseconds between forced writes to disk: what a power cut may take; default 100.
    pub fsync_interval_ms: u64,
    /// Milliseconds that rows are gathered before they go to the database; default 50.
    pub flush_interval_ms: u64,
    /// Rows in one transaction; default 500.
    pub batch_rows: usize,
    /// Milliseconds that closing waits for the database; what is left stays in the journal; default 5000.
    pub close_timeout_ms: u64,
    /// Days after which rows are deleted; their sums stay. Default: never.
    pub retention_days: Option<u32>,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from("data/ledger.sqlite"),
            url: None,
            journal_dir: PathBuf::from("data/journal"),
            max_journal_bytes: 256 << 20,
            segment_bytes: 8 << 20,
            fsync_interval_ms: 100,
            flush_interval_ms: 50,
            batch_rows: 500,
            close_timeout_ms: 5_000,
            retention_days: None,
        }
    }
}

impl LedgerConfig {
    fn limits(&self) -> JournalLimits {
        let max_bytes = self.max_journal_bytes.max(MIN_JOURNAL_BYTES);
        JournalLimits { max_bytes, segment_bytes: self.segment_bytes.min(max_bytes / 4) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the thread that forces the journal to disk cannot be started: {0}")]
    Thread(std::io::Error),
    #[error("a task of the ledger was stopped before its end")]
    Stopped,
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
    books: Mutex<Books>,
    store: Store,
    queue: Arc<Queue>,
    syncer: Mutex<Option<Syncer>>,
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
        let (journal, replay) = Journal::open(&config.journal_dir, config.limits())?;
        let journal = Arc::new(journal);
        let store = Store::open(config).await?;
        recover::post_what_was_left(&journal, replay, &store).await?;
        let books = recover::read_balances(&store, clock.now_ms()).await?;

        let syncer =
            Syncer::start(Arc::clone(&journal), Duration::from_millis(config.fsync_interval_ms.max(1)))
                .map_err(LedgerError::Thread)?;
        let queue = Arc::new(Queue::default());
        let writer = Writer::new(config, Tail::new(Arc::clone(&journal)), store.clone(), Arc::clone(&queue));
        tracker.spawn(writer.run());
        if let Some(keep_days) = config.retention_days {
            let closing = queue.closing.clone();
            tracker.spawn(retention::run(store.clone(), keep_days, clock.clone(), closing));
        }
        let closing = queue.closing.clone().drop_guard();
        let shared = Shared {
            clock,
            journal,
            books: Mutex::new(books),
            store,
            queue,
            syncer: Mutex::new(Some(syncer)),
            close_timeout: Duration::from_millis(config.close_timeout_ms),
            tracker,
            _closing: closing,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sets the ceiling of a call aside in all budgets of its team, or in none.
    pub fn hold(&self, ask: HoldAsk) -> Result<Hold, HoldError> {
        self.shared.check_room()?;
        let Entry { team, ts_ms, .. } = &ask.entry_draft;
        let reserved = self.shared.books.lock().hold(team, *ts_ms, ask.ceiling, &ask.budgets);
        let reserved = reserved.map_err(|exceeded| HoldError::exceeded(team, exceeded))?;
        Ok(Hold::new(self.clone(), ask, reserved))
    }

    /// Posts a call that needed no hold, such as a cache hit.
    pub fn record(&self, entry: Entry) -> Result<Posted, HoldError> {
        self.shared.check_room()?;
        Ok(self.shared.post(entry, None))
    }

    /// Whether calls can be booked now, and why not.
    pub fn readiness(&self) -> Result<(), String> {
        self.shared.check_room().map_err(|error| error.to_string())
    }

    /// What the tightest of `budgets` still has; `None` where there is no budget.
    pub fn remaining(&self, team: &TeamName, budgets: &[Budget]) -> Option<NanoUsd> {
        self.shared.books.lock().remaining(team, self.shared.clock.now_ms(), budgets)
    }

    /// How a window of a team stands now.
    pub fn balance(&self, team: &TeamName, window: Window) -> Balance {
        self.shared.books.lock().balance(team, window, self.shared.clock.now_ms())
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
        if !self.journal.is_full() {
            return Ok(());
        }
        let max_bytes = self.journal.limits().max_bytes;
        Err(HoldError::JournalFull { size_bytes: self.journal.size_bytes(), max_bytes })
    }

    /// The one way into the book: the journal first, then the balances.
    fn post(&self, row: Entry, reserved: Option<Reserved>) -> Posted {
        // Counted before it can be read, so that the count never runs behind the writer.
        self.queue.pending.send_modify(|pending| *pending += 1);
        let posted = Framed::posted(&row).and_then(|record| self.journal.append(record));
        let receipt = Posted { cost: row.cost, durable: posted.is_ok() };
        if row.cost.is_none() {
            metrics::counter!("stiver_ledger_unpriced_total").increment(1);
        }
        match reserved {
            Some(reserved) => self.books.lock().settle(reserved, row.charge()),
            None => self.books.lock().spend(&row.team, row.ts_ms, row.charge()),
        }
        if let Err(error) = posted {
            self.queue.keep(row, &error);
        }
        self.queue.wake.notify_one();
        receipt
    }

    fn release(&self, reserved: Reserved) {
        self.books.lock().settle(reserved, NanoUsd::ZERO);
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
        metrics::gauge!("stiver_ledger_pending").set(*self.pending.borrow() as f64);
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
