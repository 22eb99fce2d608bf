//! The database under the book: SQLite or Postgres, the tables, and what is asked of them.
//!
//! Retries nothing and keeps nothing in memory; who calls it does.
//!
//! Invariants: a batch is inserted in one transaction with the sums it adds to, and a row whose id is
//! known changes neither; both databases run the same texts on the same tables.

use std::collections::HashSet;
use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::LedgerConfig;
use super::entry::Entry;
use super::journal::TextOf;
use crate::team::TeamName;

mod audit;
mod calls;
mod db;
mod derived;
mod keys;
mod open;
mod rebuild;
mod risk;
mod rows;
mod spend;
mod sums;
mod teams;
mod texts;

use self::db::{Bulk, Db, Row, Sql, Tx, Value};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("database file or folder `{}`: {source}; make it writable for this process", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("`ledger.url` is not a Postgres address ({0}); write postgres://user:password@host:5432/name")]
    Url(sqlx::Error),
    #[error("`ledger.url` is not a Postgres address; write postgres://user:password@host:5432/name")]
    Scheme,
    #[error("Postgres at {place} cannot be reached: {source}; start it, or check `ledger.url`")]
    Connect { place: String, source: sqlx::Error },
    #[error("database `{place}` cannot be brought to this version: {source}")]
    Migrate { place: String, source: sqlx::migrate::MigrateError },
    #[error("database: {0}")]
    Sql(#[from] sqlx::Error),
    #[error("database: column `{column}` holds `{value}`, which this version does not know")]
    UnknownWord { column: &'static str, value: String },
    #[error("database: a task was stopped before its end")]
    Stopped,
}

/// The database that keeps the book. A clone is the same database.
#[derive(Debug, Clone)]
pub struct Store {
    db: Db,
}

/// What a team spent in one hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TeamHour {
    pub(super) team: TeamName,
    pub(super) hour_ms: i64,
    pub(super) cost_nano_usd: i64,
}

impl Store {
    /// Opens the database that `config` names and brings it to this version.
    pub async fn open(config: &LedgerConfig) -> Result<Self, StoreError> {
        let db = match &config.url {
            Some(url) => open::postgres(url.expose_secret()).await?,
            None => open::sqlite(&config.path).await?,
        };
        let store = Self { db };
        store.rebuild_if_older().await?;
        Ok(store)
    }

    /// Inserts rows that are not there yet, all or none.
    pub(super) async fn insert(&self, entries: &[Entry]) -> Result<(), StoreError> {
        self.insert_with(entries, &[]).await
    }

    /// The same, with the texts of those that have one. A row that was there already gets none: its text went in
    /// with it, and may have been deleted since.
    pub(super) async fn insert_with(&self, entries: &[Entry], texts: &[TextOf]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut seen = HashSet::with_capacity(entries.len());
        let once: Vec<&Entry> = entries.iter().filter(|entry| seen.insert(entry.id)).collect();
        let mut tx = self.db.begin().await?;
        let new = if insert_all(&mut tx, &once).await? {
            once
        } else {
            tx.roll_back().await?;
            tx = self.db.begin().await?;
            insert_some(&mut tx, &once).await?
        };
        derived::add(&mut tx, &new).await?;
        texts::add(&mut tx, &new, texts).await?;
        tx.commit().await
    }

    /// What teams spent in each hour since `since_ms`, the oldest first.
    pub(super) async fn team_hours(&self, since_ms: i64) -> Result<Vec<TeamHour>, StoreError> {
        let text = "SELECT hour_ms, team, cost_nano_usd FROM subject_hours \
            WHERE hour_ms >= $1 AND kind = 'team' ORDER BY hour_ms, team";
        let found = self.db.fetch(Sql::new(text, vec![Value::Int(since_ms)])).await?;
        found.iter().map(team_hour).collect()
    }

    pub(super) async fn close(&self) {
        self.db.close().await;
    }
}

/// Returns whether none of the rows was there before, which is so but after a crash.
async fn insert_all(tx: &mut Tx, entries: &[&Entry]) -> Result<bool, StoreError> {
    let n_inserted = tx.write(&insertion(""), values(entries)).await?;
    Ok(n_inserted == entries.len() as u64)
}

/// Returns those that were not there before.
async fn insert_some<'a>(tx: &mut Tx, entries: &[&'a Entry]) -> Result<Vec<&'a Entry>, StoreError> {
    let found = tx.write_returning(&insertion(" RETURNING id"), values(entries)).await?;
    let inserted = found.iter().map(|row| row.get("id")).collect::<Result<HashSet<String>, _>>()?;
    Ok(entries.iter().copied().filter(|entry| inserted.contains(&entry.id.to_string())).collect())
}

fn insertion(returning: &str) -> Bulk {
    Bulk {
        head: format!("INSERT INTO postings ({}) VALUES ", rows::COLUMNS),
        n_columns: rows::N_COLUMNS,
        tail: format!(" ON CONFLICT (id) DO NOTHING{returning}"),
    }
}

fn values(entries: &[&Entry]) -> Vec<Value> {
    let mut values = Vec::with_capacity(entries.len() * rows::N_COLUMNS);
    entries.iter().for_each(|entry| rows::values(entry, &mut values));
    values
}

fn team_hour(row: &Row) -> Result<TeamHour, StoreError> {
    Ok(TeamHour {
        team: TeamName::from(&row.get::<String>("team")?),
        hour_ms: row.get("hour_ms")?,
        cost_nano_usd: row.get("cost_nano_usd")?,
    })
}
