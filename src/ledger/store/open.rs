//! Opens either database and brings it to this version.
//!
//! Invariants: a commit is on disk when it returns, because the journal deletes what was committed; a
//! password never stands in an error.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::task::spawn_blocking;

use super::StoreError;
use super::db::Db;

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

const N_READERS: u32 = 4;
/// 1 GiB of addresses; of memory only what the system has to spare.
const READERS_MMAP_BYTES: &str = "1073741824";
/// In KiB, where it is negative: 16 MiB a reader.
const READERS_CACHE: &str = "-16384";
const N_CONNECTIONS: u32 = 8;
/// How long one statement waits for another process; whoever calls tries again after it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A dashboard's query must not hold a connection for ever.
const STATEMENT_TIMEOUT: &str = "60s";

/// Opens or creates the SQLite file at `path`.
pub(super) async fn sqlite(path: &Path) -> Result<Db, StoreError> {
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
        // A text that was deleted must not stay in the file.
        .pragma("secure_delete", "on")
        .busy_timeout(BUSY_TIMEOUT);
    let pool = |n_connections| {
        SqlitePoolOptions::new().max_connections(n_connections).acquire_timeout(ACQUIRE_TIMEOUT)
    };
    let writer = pool(1).connect_with(options.clone()).await?;
    let migrated = SQLITE_MIGRATIONS.run(&writer).await;
    migrated.map_err(|source| StoreError::Migrate { place: path.display().to_string(), source })?;
    // Reports run over hundreds of thousands of lines: read in place, and sorted in memory.
    let of_readers = options
        .pragma("mmap_size", READERS_MMAP_BYTES)
        .pragma("cache_size", READERS_CACHE)
        .pragma("temp_store", "memory");
    let readers = pool(N_READERS).connect_lazy_with(of_readers);
    Ok(Db::Sqlite { writer, readers })
}

/// Opens the Postgres database at `url`, which must exist.
pub(super) async fn postgres(url: &str) -> Result<Db, StoreError> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(StoreError::Scheme);
    }
    let options = PgConnectOptions::from_str(url).map_err(StoreError::Url)?;
    let options = options
        .application_name("stiver")
        .options([("statement_timeout", STATEMENT_TIMEOUT), ("synchronous_commit", "on")]);
    let place = format!(
        "{}:{}/{}",
        options.get_host(),
        options.get_port(),
        options.get_database().unwrap_or_else(|| options.get_username())
    );
    // A pool would only say that it waited; a connection says why there is none.
    let connection = PgConnection::connect_with(&options).await;
    let connection = connection.map_err(|source| StoreError::Connect { place: place.clone(), source })?;
    drop(connection.close().await);
    let pool = PgPoolOptions::new().max_connections(N_CONNECTIONS).acquire_timeout(ACQUIRE_TIMEOUT);
    let pool = pool
        .connect_with(options)
        .await
        .map_err(|source| StoreError::Connect { place: place.clone(), source })?;
    let migrated = POSTGRES_MIGRATIONS.run(&pool).await;
    migrated.map_err(|source| StoreError::Migrate { place, source })?;
    Ok(Db::Postgres(pool))
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
