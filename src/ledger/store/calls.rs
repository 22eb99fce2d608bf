//! Looking up single calls, and how long calls took.
//!
//! Invariants: a search looks through a bounded number of rows, the newest first, so that a word that is
//! nowhere costs no more than one that is everywhere.

use std::collections::BTreeMap;

use super::db::{Sql, Value};
use super::derived::{MS_PER_DAY, MS_PER_HOUR, floor};
use super::{Store, StoreError, rows};
use crate::ledger::entry::{Entry, Outcome};
use crate::ledger::report::{CallsAsk, LatencyAsk, LatencyBy};
use crate::team::CallId;

/// Rows that a search for text looks through.
const MAX_SEARCHED: i64 = 50_000;

/// By the name of a group: buckets of durations and the calls in them.
pub(in crate::ledger) type Buckets = BTreeMap<String, Vec<(i64, u64)>>;

impl Store {
    /// The newest rows that fit, the newest first.
    pub(in crate::ledger) async fn calls(&self, ask: &CallsAsk) -> Result<Vec<Entry>, StoreError> {
        let (text, values) = calls_query(ask);
        self.db.fetch(Sql::once(text, values)).await?.iter().map(rows::entry).collect()
    }

    pub(in crate::ledger) async fn call(&self, id: CallId) -> Result<Option<Entry>, StoreError> {
        let text = format!("SELECT {} FROM postings WHERE id = $1", rows::COLUMNS);
        let found = self.db.fetch(Sql::new(text, vec![Value::Text(id.to_string())])).await?;
        found.first().map(rows::entry).transpose()
    }

    /// Rows of a window in the order of their ids, which is that of time, after the one given.
    pub(in crate::ledger) async fn rows_after(
        &self,
        after: Option<CallId>,
        from_ms: i64,
        to_ms: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, StoreError> {
        let text = format!(
            "SELECT {} FROM postings WHERE ts_ms >= $1 AND ts_ms < $2 AND id > $3 ORDER BY id LIMIT {limit}",
            rows::COLUMNS
        );
        let after = after.map_or_else(String::new, |id| id.to_string());
        let values = vec![Value::Int(from_ms), Value::Int(to_ms), Value::Text(after)];
        self.db.fetch(Sql::new(text, values)).await?.iter().map(rows::entry).collect()
    }

    /// How many calls of each group fell into which bucket, the buckets in their order.
    pub(in crate::ledger) async fn latency_counts(&self, ask: &LatencyAsk) -> Result<Buckets, StoreError> {
        let (text, values) = latency_query(ask);
        let mut groups = Buckets::new();
        for row in self.db.fetch(Sql::once(text, values)).await? {
            groups.entry(row.get("name")?).or_default().push((row.get("bucket")?, row.count("n")?));
        }
        Ok(groups)
    }
}

fn calls_query(ask: &CallsAsk) -> (String, Vec<Value>) {
    let mut values = vec![Value::Int(ask.from_ms), Value::Int(ask.to_ms)];
    let mut wheres = "ts_ms >= $1 AND ts_ms < $2".to_owned();
    if ask.outcome.is_some_and(|outcome| outcome != Outcome::Ok) {
        // Said in so many words, or the index of calls that did not end well is not used.
        wheres.push_str(" AND outcome <> 'ok'");
    }
    let mut and = |clause: &str, value: Value| {
        values.push(value);
        wheres.push_str(&format!(" AND {}", clause.replace('?', &format!("${}", values.len()))));
    };
    let filter = &ask.filter;
    let texts = [
        ("team", filter.team.as_ref().map(|team| team.as_str())),
        ("route", filter.route.as_ref().map(|route| route.as_str())),
        ("model", filter.model.as_deref()),
        ("upstream", filter.upstream.as_deref()),
        ("path", filter.path.as_deref()),
        ("split", filter.split.as_deref()),
        ("key_id", filter.key.as_ref().map(|key| key.as_str())),
        ("user_name", filter.user.as_deref()),
        ("outcome", ask.outcome.map(|outcome| outcome.as_str())),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            and(&format!("{column} = ?"), Value::from(text));
        }
    }
    if let Some(tag) = &filter.tag {
        // Tags are kept as a JSON array of texts.
        let quoted = serde_json::to_string(tag).expect("text is always JSON");
        and("tags LIKE ? ESCAPE '!'", Value::Text(containing(&quoted)));
    }
    if let Some(before) = ask.before {
        and("id < ?", Value::Text(before.to_string()));
    }
    let columns = rows::COLUMNS;
    let limit = i64::from(ask.limit);
    let Some(text) = ask.text.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
        let order = "ORDER BY ts_ms DESC, id DESC LIMIT";
        return (format!("SELECT {columns} FROM postings WHERE {wheres} {order} {limit}"), values);
    };
    values.push(Value::Text(containing(&text.to_lowercase())));
    let place = format!("${}", values.len());
    let searched = ["id", "user_name", "tags", "model", "upstream", "reason"];
    let any = searched.map(|column| format!("LOWER(COALESCE({column}, '')) LIKE {place} ESCAPE '!'"));
    let newest = format!(
        "SELECT {columns} FROM postings WHERE {wheres} ORDER BY ts_ms DESC, id DESC LIMIT {MAX_SEARCHED}"
    );
    let any = any.join(" OR ");
    (
        format!(
            "SELECT {columns} FROM ({newest}) AS newest WHERE {any} ORDER BY ts_ms DESC, id DESC LIMIT {limit}"
        ),
        values,
    )
}

/// A LIKE pattern for text that contains `text`, whatever signs stand in it.
fn containing(text: &str) -> String {
    let escaped = text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
    format!("%{escaped}%")
}

fn latency_query(ask: &LatencyAsk) -> (String, Vec<Value>) {
    let by_day = ask.from_ms.rem_euclid(MS_PER_DAY) == 0
        && ask.to_ms.rem_euclid(MS_PER_DAY) == 0
        && ask.by != Some(LatencyBy::Hour);
    let name = match ask.by {
        None => "''",
        Some(LatencyBy::Team) => "team",
        Some(LatencyBy::Route) => "route",
        Some(LatencyBy::Split) => "split",
        Some(LatencyBy::Arm) => "arm",
        Some(LatencyBy::SplitArm) => "split || '=' || arm",
        Some(LatencyBy::Hour) => "at_ms",
        Some(LatencyBy::Day) => "at_ms - at_ms % 86400000",
    };
    let (from_ms, to_ms) = if by_day {
        (ask.from_ms, ask.to_ms)
    } else {
        (floor(ask.from_ms, MS_PER_HOUR), floor(ask.to_ms.saturating_add(MS_PER_HOUR - 1), MS_PER_HOUR))
    };
    let mut values = vec![Value::Int(from_ms), Value::Int(to_ms)];
    let mut wheres = String::new();
    let texts = [
        ("team", ask.team.as_ref().map(|team| team.as_str())),
        ("route", ask.route.as_ref().map(|route| route.as_str())),
        ("split", ask.split.as_deref()),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            values.push(Value::from(text));
            wheres.push_str(&format!(" AND {column} = ${}", values.len()));
        }
    }
    let text = if by_day {
        days(ask.by, name, &format!("at_ms >= $1 AND at_ms < $2{wheres}"))
    } else {
        whole_days_and_hours((ask.by, name), &wheres, (from_ms, to_ms), &mut values)
    };
    let sums = "SELECT CAST(part AS TEXT) AS name, bucket, CAST(SUM(n) AS BIGINT) AS n";
    (format!("{sums} FROM ({text}) AS parts GROUP BY part, bucket ORDER BY part, bucket"), values)
}

/// The whole days of a window from the sums by day, its ends from those by hour.
fn whole_days_and_hours(
    (by, name): (Option<LatencyBy>, &str),
    wheres: &str,
    (from_ms, to_ms): (i64, i64),
    values: &mut Vec<Value>,
) -> String {
    let hours =
        |clause: &str| format!("SELECT {name} AS part, bucket, n FROM latency_hours WHERE {clause}{wheres}");
    let (first, last) = (floor(from_ms.saturating_add(MS_PER_DAY - 1), MS_PER_DAY), floor(to_ms, MS_PER_DAY));
    if first >= last || by == Some(LatencyBy::Hour) {
        return hours("at_ms >= $1 AND at_ms < $2");
    }
    values.extend([Value::Int(first), Value::Int(last)]);
    let (day_from, day_to) = (values.len() - 1, values.len());
    [
        hours(&format!("at_ms >= $1 AND at_ms < ${day_from}")),
        hours(&format!("at_ms >= ${day_to} AND at_ms < $2")),
        days(by, name, &format!("at_ms >= ${day_from} AND at_ms < ${day_to}{wheres}")),
    ]
    .join(" UNION ALL ")
}

/// Sums by day, added up as far as the order of their key lets it be done without sorting.
fn days(by: Option<LatencyBy>, name: &str, wheres: &str) -> String {
    let after_bucket = match by {
        None | Some(LatencyBy::Hour | LatencyBy::Day) => "",
        Some(LatencyBy::Team) => ", team",
        Some(LatencyBy::Route) => ", team, route",
        Some(LatencyBy::Split) => ", team, route, split",
        // The whole key: every line would be a group of its own.
        Some(LatencyBy::Arm | LatencyBy::SplitArm) => {
            return format!("SELECT {name} AS part, bucket, n FROM latency_days WHERE {wheres}");
        }
    };
    format!(
        "SELECT {name} AS part, bucket, CAST(SUM(n) AS BIGINT) AS n FROM latency_days WHERE {wheres} \
         GROUP BY at_ms, bucket{after_bucket}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_a_pattern_are_looked_for_as_they_are() {
        assert_eq!(containing("50%_!"), "%50!%!_!!%");
    }

    #[test]
    fn what_is_looked_for_is_bound_and_never_part_of_the_text() {
        let evil = "'; DROP TABLE postings; --";
        let ask = CallsAsk { text: Some(evil.to_owned()), limit: 5, ..CallsAsk::default() };

        let (text, values) = calls_query(&ask);

        assert!(!text.contains("DROP"));
        assert_eq!(values.last(), Some(&Value::Text(containing(&evil.to_lowercase()))));
    }
}
