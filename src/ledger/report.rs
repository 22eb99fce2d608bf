//! What was spent, by whom and on what, for the dashboard and the admin endpoints.
//!
//! Reads only, and only what is in the database: rows still in the journal are not in a report.
//!
//! Invariants: `saved` sums only rows whose cost and baseline are both known, so that an unknown price
//! never looks like a saving.

use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::store::{Store, StoreError};
use crate::money::NanoUsd;
use crate::team::TeamName;

/// What a sum is grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Team,
    Route,
    Model,
    Path,
    /// One row over everything; none where there were no calls.
    Total,
}

/// One line of a spend report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpendRow {
    /// Empty in a total, and for calls that no model answered.
    pub name: String,
    pub n_calls: u64,
    /// Calls whose price is unknown; they are not in `cost`.
    pub n_unpriced: u64,
    pub cost: NanoUsd,
    /// Baseline less cost; negative where the baseline would have been cheaper.
    pub saved: NanoUsd,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

/// Asks the book.
#[derive(Debug, Clone)]
pub struct Reports {
    store: Store,
}

impl Reports {
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Sums over calls that began in `from_ms..to_ms`, the dearest first.
    pub async fn spend(&self, by: By, from_ms: i64, to_ms: i64) -> Result<Vec<SpendRow>, StoreError> {
        self.store.spend(by, from_ms, to_ms).await
    }

    /// The newest `n_rows` rows, the newest first.
    pub async fn recent(&self, n_rows: u32, team: Option<&TeamName>) -> Result<Vec<Entry>, StoreError> {
        self.store.recent(n_rows, team).await
    }
}
