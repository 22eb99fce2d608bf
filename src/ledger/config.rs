//! `[ledger]`: where the book is kept, and what it may take.
//!
//! Opens nothing.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;

use super::journal::JournalLimits;
use super::replicas::WhenAway;

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
    /// What happens to calls of teams with budgets while `shared.redis_url` is away: `refuse`, or
    /// `{ fail_open_usd = 5 }` that each replica may spend per team and window; default `refuse`.
    pub when_shared_store_is_away: WhenAway,
    /// Ended calls that `shared.redis_url` has not been told of, at which no further call of a team with budgets is
    /// let in, at least 1; default 50000, about 35 MB of memory.
    pub max_unsettled_calls: usize,
    /// Where a warning goes when a soft budget is passed, an http(s) address; a team's own goes first. Default: none.
    pub webhook: Option<SecretString>,
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
            when_shared_store_is_away: WhenAway::Refuse,
            max_unsettled_calls: 50_000,
            webhook: None,
        }
    }
}

impl LedgerConfig {
    pub(super) fn limits(&self) -> JournalLimits {
        let max_bytes = self.max_journal_bytes.max(MIN_JOURNAL_BYTES);
        JournalLimits { max_bytes, segment_bytes: self.segment_bytes.min(max_bytes / 4) }
    }
}
