//! Carries rows from the journal to the database, in batches, for as long as it takes.
//!
//! Holds no more than one batch in memory; the journal is the queue.
//!
//! Invariants: a row leaves the journal only after the database has committed it; an error is waited
//! out, never skipped.

use std::sync::Arc;
use std::time::Duration;

use super::journal::{Batch, JournalError, Tail, TextOf};
use super::store::Store;
use super::{LedgerConfig, LedgerError, Queue};
use crate::ledger::entry::Entry;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Writer {
    tail: Option<Tail>,
    store: Store,
    queue: Arc<Queue>,
    flush_interval: Duration,
    batch_rows: usize,
}

/// The database was given up on; the rows stay where they are.
struct GaveUp;

impl Writer {
    pub(super) fn new(config: &LedgerConfig, tail: Tail, store: Store, queue: Arc<Queue>) -> Self {
        Self {
            tail: Some(tail),
            store,
            queue,
            flush_interval: Duration::from_millis(config.flush_interval_ms),
            batch_rows: config.batch_rows.max(1),
        }
    }

    pub(super) async fn run(mut self) {
        let queue = Arc::clone(&self.queue);
        let _finished = queue.finished.clone().drop_guard();
        loop {
            let is_last = self.gather().await;
            if self.drain().await.is_err() || is_last {
                return;
            }
        }
    }

    /// Waits for rows, then a little longer for more. Returns whether the ledger is closing.
    async fn gather(&self) -> bool {
        let closing = &self.queue.closing;
        tokio::select! {
            () = closing.cancelled() => return true,
            () = self.queue.wake.notified() => {}
        }
        tokio::select! {
            () = closing.cancelled() => true,
            () = tokio::time::sleep(self.flush_interval) => false,
        }
    }

    async fn drain(&mut self) -> Result<(), GaveUp> {
        let unjournalled = std::mem::take(&mut *self.queue.unjournalled.lock());
        self.insert(&unjournalled, &[]).await?;
        self.queue.written(unjournalled.len());
        while let Some(batch) = self.read().await? {
            self.insert(&batch.rows, &batch.texts).await?;
            let n_rows = batch.rows.len();
            self.advance(batch).await;
            self.queue.written(n_rows);
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<Option<Batch>, GaveUp> {
        let mut backoff = FIRST_BACKOFF;
        let max_rows = self.batch_rows;
        loop {
            match self.on_tail(move |tail| tail.read(max_rows)).await {
                Ok(batch) => return Ok(batch),
                Err(error) => self.wait_out(&error, &mut backoff).await?,
            }
        }
    }

    async fn insert(&self, rows: &[Entry], texts: &[TextOf]) -> Result<(), GaveUp> {
        let mut backoff = FIRST_BACKOFF;
        while let Err(error) = self.store.insert_with(rows, texts).await {
            self.wait_out(&error.into(), &mut backoff).await?;
        }
        Ok(())
    }

    async fn advance(&mut self, batch: Batch) {
        if let Err(error) = self.on_tail(move |tail| tail.advance(&batch)).await {
            // The rows are safe; the segment is deleted with the next one.
            tracing::warn!(%error, "a journal segment could not be deleted");
        }
    }

    /// Files are read off the async threads.
    async fn on_tail<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut Tail) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let mut tail = self.tail.take().ok_or(LedgerError::Stopped)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = act(&mut tail);
            (tail, result)
        });
        let (tail, result) = done.await.map_err(|_| LedgerError::Stopped)?;
        self.tail = Some(tail);
        Ok(result?)
    }

    async fn wait_out(&self, error: &LedgerError, backoff: &mut Duration) -> Result<(), GaveUp> {
        metrics::counter!("stiver_ledger_write_errors_total").increment(1);
        tracing::warn!(%error, backoff_ms = backoff.as_millis() as u64, "rows wait in the journal");
        tokio::select! {
            () = self.queue.give_up.cancelled() => return Err(GaveUp),
            () = tokio::time::sleep(*backoff) => {}
        }
        *backoff = (*backoff * 2).min(MAX_BACKOFF);
        Ok(())
    }
}
