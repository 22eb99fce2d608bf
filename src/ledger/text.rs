//! What a call said, for teams whose operator has it kept: beside the book, never in it.
//!
//! Decides neither whose text is kept nor how much of it; that comes in. No report, export or sum reads it.
//!
//! Invariants: a text goes the way of its row, through the journal, in the same write and the same transaction, so
//! that a crash leaves both or none and neither twice; it is gone once its time is over, and from the journal some
//! minutes after its row was written; `Debug` tells nothing of it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::store::StoreError;
use super::{JournalError, Ledger};
use crate::team::{CallId, TeamName};

const MS_PER_DAY: i64 = 86_400_000;
/// How long a deletion waits for texts that are on their way to the database.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The text of one call.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallText {
    /// The messages, prompts or inputs: JSON as the client sent it, or its beginning.
    pub request: String,
    pub request_is_cut: bool,
    /// A JSON array of one message or text a choice, or its beginning; empty where nothing was said.
    pub answer: String,
    pub answer_is_cut: bool,
    pub delete_after_ms: i64,
}

impl CallText {
    /// A text goes with its row at the latest.
    pub(super) fn kept_no_longer(mut self, ts_ms: i64, keep_days: Option<u32>) -> Self {
        let of_row = |days: u32| ts_ms.saturating_add(i64::from(days) * MS_PER_DAY);
        self.delete_after_ms = self.delete_after_ms.min(keep_days.map_or(i64::MAX, of_row));
        self
    }
}

/// Tells of a text that could not be kept.
pub(super) fn lost(error: &JournalError) {
    metrics::counter!("stiver_ledger_lost_texts_total").increment(1);
    tracing::warn!(%error, "the text of a call was not kept; its row was");
}

impl fmt::Debug for CallText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallText({} and {} bytes)", self.request.len(), self.answer.len())
    }
}

/// Why a text cannot be read or deleted now.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(
        "texts are on their way from the journal to the database, where they could appear after a deletion"
    )]
    OnTheWay,
}

/// The texts that are kept.
#[derive(Debug, Clone)]
pub struct Texts {
    ledger: Ledger,
}

impl Texts {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger }
    }

    /// `None` where none was kept, or it was deleted.
    pub async fn of(&self, id: CallId) -> Result<Option<CallText>, TextError> {
        let shared = &self.ledger.shared;
        let found = shared.store.text(id).await?;
        // Its time may be over before the next sweep comes by.
        let now_ms = shared.clock.now_ms();
        Ok(found.filter(|text| text.delete_after_ms > now_ms))
    }

    /// Returns whether there was one. What this replica has said so far is deleted from its journal, too.
    pub async fn delete(&self, id: CallId) -> Result<bool, TextError> {
        self.written().await?;
        let is_deleted = self.ledger.shared.store.delete_text(id).await?;
        self.ledger.shared.store.forget_deleted().await?;
        Ok(is_deleted)
    }

    /// Returns how many there were. Calls that begin meanwhile keep theirs, or this would not end.
    pub async fn delete_of(&self, team: &TeamName) -> Result<u64, TextError> {
        let until_ms = self.ledger.shared.clock.now_ms();
        self.written().await?;
        let store = &self.ledger.shared.store;
        let mut n_deleted = 0;
        loop {
            let n_more = store.delete_texts_of(team, until_ms).await?;
            n_deleted += n_more;
            if n_more == 0 {
                break;
            }
        }
        store.forget_deleted().await?;
        Ok(n_deleted)
    }

    /// Waits until texts posted before are in the database and nowhere else.
    async fn written(&self) -> Result<(), TextError> {
        let shared = &self.ledger.shared;
        let last = shared.journal.seal_texts()?;
        shared.queue.wake.notify_one();
        let gone = tokio::time::timeout(PATIENCE, async {
            while !shared.journal.is_gone(last) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        gone.await.map_err(|_| TextError::OnTheWay)
    }
}
