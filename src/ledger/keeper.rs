//! The book as the command line opens it: the database alone, beside a gateway or without one.
//!
//! Holds no balances and has no journal: it posts no calls. Rows from elsewhere can be brought in.

use super::LedgerConfig;
use super::entry::Entry;
use super::store::{Store, StoreError};
use crate::team::CallId;

#[derive(Debug, Clone)]
pub struct Keeper {
    store: Store,
}

impl Keeper {
    pub async fn open(config: &LedgerConfig) -> Result<Self, StoreError> {
        Ok(Self { store: Store::open(config).await? })
    }

    /// Rows of calls that began in `from_ms..to_ms`, the oldest first, after the one given.
    pub async fn rows_after(
        &self,
        after: Option<CallId>,
        from_ms: i64,
        to_ms: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        self.store.rows_after(after, from_ms, to_ms, limit).await
    }

    /// Inserts rows that are not there yet, all or none.
    pub async fn insert(&self, entries: &[Entry]) -> Result<(), StoreError> {
        self.store.insert(entries).await
    }
}
