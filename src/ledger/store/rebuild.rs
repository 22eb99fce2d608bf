//! Makes the sums again from the postings, and lets postings go that are older than they have to be kept.
//!
//! Invariants: a day's sums are replaced in one transaction, so that a report in the middle is wrong for no
//! day; sums of days whose postings were deleted are left as they are; deleting goes in small batches,
//! because a large one would hold up the calls that wait for the writer.

use super::db::{Sql, Value};
use super::derived::{self, MS_PER_DAY, MS_PER_HOUR, floor};
use super::{Store, StoreError, rows};
use crate::ledger::entry::Entry;

/// Raised when sums are added that older versions did not keep.
const SUMS_VERSION: i64 = 1;
/// Postings added up at a time.
const BATCH: i64 = 5_000;
const N_DELETED_AT_A_TIME: i64 = 1_000;

const BY_TIME: [(&str, &str); 7] = [
    ("call_hours", "at_ms"),
    ("call_days", "at_ms"),
    ("user_days", "at_ms"),
    ("subject_hours", "hour_ms"),
    ("team_hours", "hour_ms"),
    ("latency_hours", "at_ms"),
    ("latency_days", "at_ms"),
];

impl Store {
    /// Adds up what an older version left without sums. Once, at the first start after it.
    pub(super) async fn rebuild_if_older(&self) -> Result<(), StoreError> {
        if self.fact("sums_version").await?.unwrap_or(0) >= SUMS_VERSION {
            return Ok(());
        }
        let n_days = self.rebuild(i64::MIN).await?;
        if n_days > 0 {
            tracing::info!(n_days, "the sums of an older ledger were made");
        }
        self.set_fact("sums_version", SUMS_VERSION).await
    }

    /// Makes the sums of every day since `since_ms` again that still has all its postings; returns how many.
    pub(in crate::ledger) async fn rebuild(&self, since_ms: i64) -> Result<u64, StoreError> {
        let kept_from_ms = self.fact("deleted_before_ms").await?.unwrap_or(i64::MIN);
        let first_whole_ms = if kept_from_ms == i64::MIN {
            i64::MIN
        } else {
            floor(kept_from_ms.saturating_add(MS_PER_DAY - 1), MS_PER_DAY)
        };
        let mut next = self.first_day(since_ms.max(first_whole_ms)).await?;
        let mut n_days = 0;
        while let Some(day_ms) = next {
            self.rebuild_day(day_ms).await?;
            n_days += 1;
            next = self.first_day(day_ms + MS_PER_DAY).await?;
        }
        Ok(n_days)
    }

    /// The first day since `from_ms` that has a posting.
    async fn first_day(&self, from_ms: i64) -> Result<Option<i64>, StoreError> {
        let text = "SELECT MIN(ts_ms) AS first FROM postings WHERE ts_ms >= $1";
        let found = self.db.fetch(Sql::new(text, vec![Value::Int(from_ms)])).await?;
        let first: Option<i64> = found.first().map(|row| row.get("first")).transpose()?.flatten();
        Ok(first.map(|first| floor(first, MS_PER_DAY)))
    }

    async fn rebuild_day(&self, day_ms: i64) -> Result<(), StoreError> {
        let end_ms = day_ms + MS_PER_DAY;
        let mut tx = self.db.begin().await?;
        tx.lock_postings().await?;
        for (table, time) in BY_TIME {
            let text = format!("DELETE FROM {table} WHERE {time} >= $1 AND {time} < $2");
            tx.execute(Sql::new(text, vec![Value::Int(day_ms), Value::Int(end_ms)])).await?;
        }
        let text = format!(
            "SELECT {} FROM postings WHERE ts_ms >= $1 AND ts_ms < $2 AND id > $3 ORDER BY id LIMIT {BATCH}",
            rows::COLUMNS
        );
        let mut last = String::new();
        loop {
            let values = vec![Value::Int(day_ms), Value::Int(end_ms), Value::Text(last)];
            let found = tx.fetch(Sql::new(text.clone(), values)).await?;
            let entries = found.iter().map(rows::entry).collect::<Result<Vec<Entry>, _>>()?;
            let Some(newest) = entries.last() else { break };
            last = newest.id.to_string();
            derived::add(&mut tx, &entries.iter().collect::<Vec<_>>()).await?;
        }
        tx.commit().await
    }

    /// Deletes a few postings older than `before_ms`; returns how many, 0 when none is left.
    pub(in crate::ledger) async fn delete_some(&self, before_ms: i64) -> Result<u64, StoreError> {
        // Whole hours, so that what is kept can be told from what its sums say.
        let before_ms = floor(before_ms, MS_PER_HOUR);
        // Said before it is done: whoever compares must not take a missing row for a lost one.
        if self.fact("deleted_before_ms").await?.is_none_or(|known| known < before_ms) {
            self.set_fact("deleted_before_ms", before_ms).await?;
        }
        let text = format!(
            "DELETE FROM postings WHERE id IN \
             (SELECT id FROM postings WHERE ts_ms < $1 ORDER BY ts_ms LIMIT {N_DELETED_AT_A_TIME})"
        );
        self.db.execute(Sql::new(text, vec![Value::Int(before_ms)])).await
    }

    /// The time since which every posting is still there; `None` where none was ever deleted.
    pub(in crate::ledger) async fn deleted_before_ms(&self) -> Result<Option<i64>, StoreError> {
        self.fact("deleted_before_ms").await
    }

    async fn fact(&self, name: &str) -> Result<Option<i64>, StoreError> {
        let text = "SELECT value FROM ledger_facts WHERE name = $1";
        let found = self.db.fetch(Sql::new(text, vec![Value::from(name)])).await?;
        found.first().map(|row| row.get("value")).transpose()
    }

    async fn set_fact(&self, name: &str, value: i64) -> Result<(), StoreError> {
        let text = "INSERT INTO ledger_facts (name, value) VALUES ($1, $2) \
            ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.db.execute(Sql::new(text, vec![Value::from(name), Value::Int(value)])).await?;
        Ok(())
    }
}
