//! The book in a SQLite file: the embedded default.
//!
//! Used by one gateway and by the command line beside it, in processes of their own.
//!
//! Invariants: one connection writes and a few read; a commit is on disk when it returns, because the
//! journal deletes what was committed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite, SqliteConnection};
use tokio::task::spawn_blocking;

use super::{StoreError, TeamHour, rows};
use crate::ledger::entry::Entry;
use crate::ledger::report::{By, SpendRow};
use crate::money::NanoUsd;
use crate::team::{KeyHash, KeyRecord};
use crate::team::{KeyId, RouteName, TeamName};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

const N_READERS: u32 = 4;
/// How long one statement waits for another process; whoever calls tries again after it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Rows in one statement: 35 columns each, well under SQLite's 32,766 parameters, and few enough texts
/// for the statement to stay cached.
const ROWS_PER_STATEMENT: usize = 100;
const MS_PER_HOUR: i64 = 3_600_000;

#[derive(Debug, Clone)]
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteStore {
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(dir) = path.parent() {
            let made = std::fs::create_dir_all(dir);
            made.map_err(|source| StoreError::File { path: dir.to_owned(), source })?;
        }
        let _opening = lock_for_opening(path).await?;
        // NORMAL would let a power cut take the last commits after their journal is gone.
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |n_connections| {
            SqlitePoolOptions::new().max_connections(n_connections).acquire_timeout(ACQUIRE_TIMEOUT)
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        let migrated = MIGRATIONS.run(&writer).await;
        migrated.map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
        let readers = pool(N_READERS).connect_lazy_with(options);
        Ok(Self { writer, readers })
    }

    pub(super) async fn insert(&self, entries: &[Entry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut hours = BTreeMap::new();
        for chunk in entries.chunks(ROWS_PER_STATEMENT) {
            for inserted in insert_chunk(&mut transaction, chunk).await? {
                add_to_hour(&mut hours, &inserted)?;
            }
        }
        for ((team, hour_ms), sum) in hours {
            sqlx::query(rows::ADD_TO_HOUR)
                .bind(team)
                .bind(hour_ms)
                .bind(sum.n_calls)
                .bind(sum.n_unpriced)
                .bind(sum.cost_nano_usd)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(super) async fn team_hours(&self, since_ms: i64) -> Result<Vec<TeamHour>, StoreError> {
        let found = sqlx::query(rows::TEAM_HOURS).bind(since_ms).fetch_all(&self.readers).await?;
        found.iter().map(team_hour).collect()
    }

    pub(super) async fn spend(&self, by: By, from_ms: i64, to_ms: i64) -> Result<Vec<SpendRow>, StoreError> {
        // The text is built from words of our own only.
        let query = sqlx::query(AssertSqlSafe(rows::spend_by(by))).bind(from_ms).bind(to_ms);
        query.fetch_all(&self.readers).await?.iter().map(spend_row).collect()
    }

    pub(super) async fn recent(
        &self,
        n_rows: u32,
        team: Option<&TeamName>,
    ) -> Result<Vec<Entry>, StoreError> {
        let columns = rows::COLUMNS;
        let of_team = "$1 IS NULL OR team = $1";
        let sql =
            format!("SELECT {columns} FROM postings WHERE {of_team} ORDER BY ts_ms DESC, id DESC LIMIT $2");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(team.map(TeamName::as_str)).bind(n_rows);
        query.fetch_all(&self.readers).await?.iter().map(rows::entry).collect()
    }

    pub(super) async fn insert_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        let routes =
            key.routes.as_ref().map(|routes| serde_json::to_string(routes).expect("names are always JSON"));
        let query = sqlx::query(rows::INSERT_KEY)
            .bind(key.id.as_str())
            .bind(key.hash.to_hex())
            .bind(key.name.as_str())
            .bind(key.team.as_str())
            .bind(routes)
            .bind(key.created_ms)
            .bind(key.expires_ms)
            .bind(key.revoked_ms);
        query.execute(&self.writer).await?;
        Ok(())
    }

    pub(super) async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        let found = sqlx::query(rows::KEYS).fetch_all(&self.readers).await?;
        found.iter().map(api_key).collect()
    }

    pub(super) async fn revoke_key(&self, id: &KeyId, now_ms: i64) -> Result<bool, StoreError> {
        let query = sqlx::query(rows::REVOKE_KEY).bind(id.as_str()).bind(now_ms);
        Ok(query.execute(&self.writer).await?.rows_affected() == 1)
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Lets one process at a time create and migrate the file; SQLite's own locks refuse the second instead of
/// letting it wait. The lock goes with what is returned.
async fn lock_for_opening(path: &Path) -> Result<File, StoreError> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push("-opening");
    let lock_path = PathBuf::from(lock_path);
    let locked = spawn_blocking(move || {
        let file = OpenOptions::new().create(true).append(true).open(&lock_path);
        let locked = file.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| StoreError::File { path: lock_path, source })
    });
    locked.await.map_err(|_| StoreError::Stopped)?
}

/// What a batch adds to one hour of one team.
#[derive(Default)]
struct HourSum {
    n_calls: i64,
    n_unpriced: i64,
    cost_nano_usd: i64,
}

/// Inserts a chunk and returns only the rows that were not there before.
async fn insert_chunk(to: &mut SqliteConnection, chunk: &[Entry]) -> Result<Vec<SqliteRow>, StoreError> {
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("INSERT INTO postings (");
    query.push(rows::COLUMNS).push(") ").push_values(chunk, rows::bind);
    query.push(" ON CONFLICT (id) DO NOTHING RETURNING team, ts_ms, cost_nano_usd");
    let is_whole = chunk.len() == ROWS_PER_STATEMENT;
    Ok(query.build().persistent(is_whole).fetch_all(to).await?)
}

fn add_to_hour(hours: &mut BTreeMap<(String, i64), HourSum>, row: &SqliteRow) -> Result<(), StoreError> {
    let ts_ms: i64 = row.try_get("ts_ms")?;
    let cost: Option<i64> = row.try_get("cost_nano_usd")?;
    let sum = hours.entry((row.try_get("team")?, ts_ms - ts_ms.rem_euclid(MS_PER_HOUR))).or_default();
    sum.n_calls += 1;
    sum.n_unpriced += i64::from(cost.is_none());
    sum.cost_nano_usd += cost.unwrap_or(0);
    Ok(())
}

fn team_hour(row: &SqliteRow) -> Result<TeamHour, StoreError> {
    Ok(TeamHour {
        team: TeamName::from(&row.try_get::<String, _>("team")?),
        hour_ms: row.try_get("hour_ms")?,
        cost_nano_usd: row.try_get("cost_nano_usd")?,
    })
}

fn spend_row(row: &SqliteRow) -> Result<SpendRow, StoreError> {
    let number = |column: &'static str| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(SpendRow {
        name: row.try_get("name")?,
        n_calls: number("n_calls")?,
        n_unpriced: number("n_unpriced")?,
        cost: NanoUsd::new(row.try_get("cost")?),
        saved: NanoUsd::new(row.try_get("saved")?),
        input_tokens: number("input_tokens")?,
        output_tokens: number("output_tokens")?,
    })
}

fn api_key(row: &SqliteRow) -> Result<KeyRecord, StoreError> {
    let routes: Option<String> = row.try_get("routes")?;
    let read_routes = |json: &str| serde_json::from_str::<Vec<RouteName>>(json).ok();
    Ok(KeyRecord {
        id: KeyId::from(&row.try_get::<String, _>("id")?),
        hash: rows::word("hash", row.try_get("hash")?, KeyHash::from_hex)?,
        name: row.try_get("name")?,
        team: TeamName::from(&row.try_get::<String, _>("team")?),
        routes: routes.map(|json| rows::word("routes", json, read_routes)).transpose()?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        revoked_ms: row.try_get("revoked_ms")?,
    })
}
