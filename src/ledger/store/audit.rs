//! Adds the postings up once more, to be compared with the sums that were kept.
//!
//! Compares nothing itself.
//!
//! Invariants: both sides come as the same map, hour by hour; an hour is only looked at whole.

use std::collections::BTreeMap;

use super::db::{Row, Sql, Value};
use super::derived::{HOUSE, MS_PER_HOUR};
use super::{Store, StoreError};

/// The hour, the team, the kind (`team`, `key`, `user`, or `calls` for the sums that reports read) and the name.
pub(in crate::ledger) type HourKey = (i64, String, String, String);
/// Calls, unpriced calls and nano-dollars.
pub(in crate::ledger) type HourSums = [i64; 3];

const COUNTED: &str = "CAST(COUNT(*) AS BIGINT) AS n_calls, \
    CAST(SUM(CASE WHEN cost_nano_usd IS NULL THEN 1 ELSE 0 END) AS BIGINT) AS n_unpriced, \
    CAST(COALESCE(SUM(cost_nano_usd), 0) AS BIGINT) AS cost_nano_usd";

impl Store {
    /// When the first posting began; `None` in an empty book.
    pub(in crate::ledger) async fn first_ms(&self) -> Result<Option<i64>, StoreError> {
        let found = self.db.fetch(Sql::new("SELECT MIN(ts_ms) AS first FROM postings", Vec::new())).await?;
        found.first().map_or(Ok(None), |row| row.get("first"))
    }

    /// What the postings of a stretch of whole hours add up to.
    pub(in crate::ledger) async fn hours_of_postings(
        &self,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<BTreeMap<HourKey, HourSums>, StoreError> {
        let mut sums = BTreeMap::new();
        // Who pays, but for the sums that reports read: the house pays for audits.
        let payer = format!("CASE WHEN path = 'audit' THEN '{HOUSE}' ELSE team END");
        let [key, user] = ["key_id", "user_name"]
            .map(|column| format!("CASE WHEN path = 'audit' THEN NULL ELSE {column} END"));
        for (kind, team, name) in [
            ("team", payer.as_str(), "''"),
            ("calls", "team", "''"),
            ("key", "team", key.as_str()),
            ("user", "team", user.as_str()),
        ] {
            let text = format!(
                "SELECT ts_ms - ts_ms % {MS_PER_HOUR} AS hour_ms, {team} AS team, '{kind}' AS kind, {name} AS name, {COUNTED} \
                 FROM postings WHERE ts_ms >= $1 AND ts_ms < $2 AND COALESCE({name}, '') <> {empty} \
                 GROUP BY 1, 2, 4",
                empty = if name == "''" { "'-'" } else { "''" }
            );
            self.read_hours(text, (from_ms, to_ms), &mut sums).await?;
        }
        Ok(sums)
    }

    /// What the sums of the same stretch say.
    pub(in crate::ledger) async fn hours_of_sums(
        &self,
        from_ms: i64,
        to_ms: i64,
    ) -> Result<BTreeMap<HourKey, HourSums>, StoreError> {
        let mut sums = BTreeMap::new();
        let text = "SELECT hour_ms, team, kind, name, n_calls, n_unpriced, cost_nano_usd FROM subject_hours \
            WHERE hour_ms >= $1 AND hour_ms < $2";
        self.read_hours(text.to_owned(), (from_ms, to_ms), &mut sums).await?;
        let text = "SELECT at_ms AS hour_ms, team, 'calls' AS kind, '' AS name, \
            CAST(SUM(n_calls) AS BIGINT) AS n_calls, CAST(SUM(n_unpriced) AS BIGINT) AS n_unpriced, \
            CAST(SUM(cost_nano_usd) AS BIGINT) AS cost_nano_usd FROM call_hours \
            WHERE at_ms >= $1 AND at_ms < $2 GROUP BY 1, 2";
        self.read_hours(text.to_owned(), (from_ms, to_ms), &mut sums).await?;
        Ok(sums)
    }

    async fn read_hours(
        &self,
        text: String,
        (from_ms, to_ms): (i64, i64),
        into: &mut BTreeMap<HourKey, HourSums>,
    ) -> Result<(), StoreError> {
        let values = vec![Value::Int(from_ms), Value::Int(to_ms)];
        for row in self.db.fetch(Sql::once(text, values)).await? {
            let (key, sums) = hour(&row)?;
            into.insert(key, sums);
        }
        Ok(())
    }
}

fn hour(row: &Row) -> Result<(HourKey, HourSums), StoreError> {
    let key = (row.get("hour_ms")?, row.get("team")?, row.get("kind")?, row.get("name")?);
    Ok((key, [row.get("n_calls")?, row.get("n_unpriced")?, row.get("cost_nano_usd")?]))
}
