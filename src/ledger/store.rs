//! The database under the book: which one it is, the SQL they share, and how a row becomes columns.
//!
//! Retries nothing and keeps nothing in memory; who calls it does.
//!
//! Invariants: SQL text that more than one database can run stands here once; a batch is inserted in one
//! transaction with the hourly sums it adds to, and a row whose id is known changes neither.

use std::path::{Path, PathBuf};

use super::entry::Entry;
use super::report::{By, SpendRow};
use crate::team::{KeyId, KeyRecord, TeamName};

mod rows;
mod sqlite;

pub use self::sqlite::SqliteStore;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database file or folder `{}`: {source}; make it writable for this process", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("database `{}` cannot be brought to this version: {source}", path.display())]
    Migrate { path: PathBuf, source: sqlx::migrate::MigrateError },
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    #[error("database: column `{column}` holds `{value}`, which this version does not know")]
    UnknownWord { column: &'static str, value: String },
    #[error("database: a task was stopped before its end")]
    Stopped,
}

/// One of the databases that can keep the book.
#[derive(Debug, Clone)]
pub enum Store {
    Sqlite(SqliteStore),
}

/// What a team spent in one hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TeamHour {
    pub(super) team: TeamName,
    pub(super) hour_ms: i64,
    pub(super) cost_nano_usd: i64,
}

impl Store {
    /// Opens or creates the SQLite file at `path` and migrates it.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::Sqlite(SqliteStore::open(path).await?))
    }

    /// Inserts rows that are not there yet, all or none.
    pub(super) async fn insert(&self, rows: &[Entry]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.insert(rows).await,
        }
    }

    /// Hourly sums since `since_ms`, the oldest first.
    pub(super) async fn team_hours(&self, since_ms: i64) -> Result<Vec<TeamHour>, StoreError> {
        match self {
            Self::Sqlite(store) => store.team_hours(since_ms).await,
        }
    }

    pub(super) async fn spend(&self, by: By, from_ms: i64, to_ms: i64) -> Result<Vec<SpendRow>, StoreError> {
        match self {
            Self::Sqlite(store) => store.spend(by, from_ms, to_ms).await,
        }
    }

    /// The newest `n_rows` rows, the newest first.
    pub(super) async fn recent(
        &self,
        n_rows: u32,
        team: Option<&TeamName>,
    ) -> Result<Vec<Entry>, StoreError> {
        match self {
            Self::Sqlite(store) => store.recent(n_rows, team).await,
        }
    }

    pub(super) async fn insert_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.insert_key(key).await,
        }
    }

    /// All keys, the oldest first, revoked and expired ones too.
    pub(super) async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        match self {
            Self::Sqlite(store) => store.keys().await,
        }
    }

    /// Returns whether there was such a key, not revoked before.
    pub(super) async fn revoke_key(&self, id: &KeyId, now_ms: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.revoke_key(id, now_ms).await,
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
        }
    }
}
