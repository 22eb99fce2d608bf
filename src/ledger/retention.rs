//! Lets go of rows and texts that are older than they have to be kept.
//!
//! Sums stay: a report on a day long gone says what it said. Only what needs single rows (users within an
//! hour, tags, calls) ends with them. A text goes by the time that was noted with it, whatever is configured now.
//!
//! Invariant: small batches with a pause between them, so that rows of calls never wait long behind it.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::journal::Journal;
use super::store::Store;
use super::{LedgerError, Queue};
use crate::clock::Clock;

const MS_PER_DAY: i64 = 86_400_000;
const EVERY: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(50);

/// What sweeps, and what it sweeps.
pub(super) struct Retention {
    pub(super) store: Store,
    pub(super) journal: Arc<Journal>,
    pub(super) queue: Arc<Queue>,
    /// Days that rows are kept; for ever where it is absent.
    pub(super) keep_days: Option<u32>,
    pub(super) clock: Clock,
    /// The log of changes still holds texts that were deleted.
    pub(super) has_deleted_texts: bool,
}

impl Retention {
    /// Goes on until the ledger closes.
    pub(super) async fn run(mut self, closing: CancellationToken) {
        loop {
            let wait = match self.sweep().await {
                Ok(true) => PAUSE,
                Ok(false) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "what is past its time was not deleted; it is tried again");
                    EVERY
                }
            };
            tokio::select! {
                () = closing.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Deletes a few rows and a few texts; returns whether there may be more.
    async fn sweep(&mut self) -> Result<bool, LedgerError> {
        let now_ms = self.clock.now_ms();
        let mut n_rows = 0;
        if let Some(keep_days) = self.keep_days {
            n_rows = self.store.delete_some(now_ms - i64::from(keep_days) * MS_PER_DAY).await?;
            metrics::counter!("stiver_ledger_expired_rows_total").increment(n_rows);
        }
        let n_texts = self.store.delete_due_texts(now_ms).await?;
        if n_texts > 0 {
            metrics::counter!("stiver_ledger_expired_texts_total").increment(n_texts);
            self.has_deleted_texts = true;
        }
        if n_rows + n_texts > 0 {
            return Ok(true);
        }
        if self.has_deleted_texts {
            self.store.forget_deleted().await?;
            self.has_deleted_texts = false;
        }
        // Texts must not lie in a journal that hardly grows until its file is full.
        self.journal.seal_texts()?;
        self.queue.wake.notify_one();
        Ok(false)
    }
}
