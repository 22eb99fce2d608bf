//! What an account spent in a stretch of time, to the millisecond.
//!
//! Whole hours come from their sums; where a stretch begins or ends within an hour, as days do in time zones
//! of half an hour, that hour's postings are added up.
//!
//! Invariants: a posting counts exactly when it began within the stretch.

use std::collections::BTreeMap;

use super::db::{Sql, Value};
use super::derived::{HOUSE, MS_PER_HOUR, floor};
use super::{Store, StoreError};
use crate::ledger::budget::{AccountId, Of, Span, Subject};
use crate::money::NanoUsd;
use crate::team::{KeyId, TeamName};

const IDS_PER_STATEMENT: usize = 500;

/// The postings that a team pays for, bound to `$3`: not those that the house does.
fn paid_by(team: &TeamName) -> &'static str {
    if team.as_str() == HOUSE { "$3 = '' AND path = 'audit'" } else { "team = $3 AND path <> 'audit'" }
}

/// The column of a posting that names a subject of a kind.
fn column(kind: &str) -> &'static str {
    match kind {
        "key" => "COALESCE(key_id, '')",
        "user" => "COALESCE(user_name, '')",
        _ => "''",
    }
}

/// The whole hours of a stretch, and what is left of it before and after them.
fn parts(span: Span) -> (Span, [Span; 2]) {
    let Span { start_ms, end_ms } = span;
    let first_ms = floor(start_ms.saturating_add(MS_PER_HOUR - 1), MS_PER_HOUR).min(end_ms);
    let last_ms = floor(end_ms, MS_PER_HOUR).max(first_ms);
    let whole = Span { start_ms: first_ms, end_ms: last_ms };
    let before = Span { start_ms, end_ms: first_ms };
    (whole, [before, Span { start_ms: last_ms, end_ms }])
}

impl Store {
    /// What one account spent.
    pub(in crate::ledger) async fn spent(
        &self,
        team: &TeamName,
        id: &AccountId,
    ) -> Result<NanoUsd, StoreError> {
        let AccountId { subject, span } = id;
        let (kind, name) = (subject.kind(), subject.name());
        let (whole, edges) = parts(*span);
        let mut spent = 0;
        if subject.of() == Of::Team || !name.is_empty() {
            let text = "SELECT CAST(COALESCE(SUM(cost_nano_usd), 0) AS BIGINT) AS cost FROM subject_hours \
                WHERE hour_ms >= $1 AND hour_ms < $2 AND team = $3 AND kind = $4 AND name = $5";
            let values = [kind, name].map(Value::from);
            spent += self.sum(text, (team, whole), &values).await?;
        } else {
            spent += self.nameless(team, kind, whole).await?;
        }
        let text = format!(
            "SELECT CAST(COALESCE(SUM(cost_nano_usd), 0) AS BIGINT) AS cost FROM postings \
             WHERE ts_ms >= $1 AND ts_ms < $2 AND {} AND {} = $4",
            paid_by(team),
            column(kind)
        );
        for edge in edges.into_iter().filter(|edge| edge.start_ms < edge.end_ms) {
            spent += self.sum(&text, (team, edge), &[Value::from(name)]).await?;
        }
        Ok(NanoUsd::new(spent))
    }

    /// What one account spent in each of the stretches between `edges_ms`, which rise and are an hour or more
    /// apart. An account without a name is the team's.
    pub(in crate::ledger) async fn burned(
        &self,
        team: &TeamName,
        subject: &Subject,
        edges_ms: &[i64],
    ) -> Result<Vec<NanoUsd>, StoreError> {
        let (Some(first), Some(last)) = (edges_ms.first(), edges_ms.last()) else { return Ok(Vec::new()) };
        let hours = self.hours_of(team, subject, (floor(*first, MS_PER_HOUR), *last)).await?;
        let mut burned = vec![0; edges_ms.len() - 1];
        for (hour_ms, cost) in &hours {
            let idx = edges_ms.partition_point(|edge| edge <= hour_ms);
            if let Some(stretch) = idx.checked_sub(1).and_then(|idx| burned.get_mut(idx)) {
                *stretch += cost;
            }
        }
        // An hour that an edge cuts was given to the stretch that it begins in.
        let ragged = edges_ms.iter().enumerate().filter(|(_, edge)| floor(**edge, MS_PER_HOUR) != **edge);
        for (idx, edge) in ragged {
            let hour_ms = floor(*edge, MS_PER_HOUR);
            let Some(whole) = hours.get(&hour_ms) else { continue };
            let span = Span { start_ms: hour_ms, end_ms: *edge };
            let before = self.spent(team, &AccountId { subject: subject.clone(), span }).await?.get();
            let after = whole - before;
            if let Some(stretch) = idx.checked_sub(1).and_then(|idx| burned.get_mut(idx)) {
                *stretch -= after;
            }
            if let Some(stretch) = burned.get_mut(idx) {
                *stretch += after;
            }
        }
        Ok(burned.into_iter().map(NanoUsd::new).collect())
    }

    /// Each hour is looked up by its whole key: a look through the hours would meet every key and every user.
    async fn hours_of(
        &self,
        team: &TeamName,
        subject: &Subject,
        (from_ms, to_ms): (i64, i64),
    ) -> Result<BTreeMap<i64, i64>, StoreError> {
        let text = format!(
            "WITH RECURSIVE hours(at_ms) AS (SELECT CAST($1 AS BIGINT) UNION ALL              SELECT at_ms + {MS_PER_HOUR} FROM hours WHERE at_ms + {MS_PER_HOUR} < $2)              SELECT hour_ms, cost_nano_usd AS cost FROM hours CROSS JOIN subject_hours              WHERE hour_ms = at_ms AND team = $3 AND kind = $4 AND name = $5"
        );
        let mut values = vec![Value::Int(from_ms), Value::Int(to_ms)];
        values.extend([team.as_str(), subject.kind(), subject.name()].map(Value::from));
        let found = self.db.fetch(Sql::new(text, values)).await?;
        found.iter().map(|row| Ok((row.get("hour_ms")?, row.get("cost")?))).collect()
    }

    /// What every account of a kind spent, those left out that spent nothing.
    pub(in crate::ledger) async fn spent_by(
        &self,
        team: &TeamName,
        of: Of,
        span: Span,
    ) -> Result<Vec<(Subject, NanoUsd)>, StoreError> {
        let all = AccountId { subject: Subject::Team, span };
        let kind = match of {
            Of::Team => return Ok(vec![(Subject::Team, self.spent(team, &all).await?)]),
            Of::EachKey => "key",
            Of::EachUser => "user",
        };
        let (whole, edges) = parts(span);
        let mut found = BTreeMap::new();
        let text = format!(
            "SELECT name, CAST(SUM(cost_nano_usd) AS BIGINT) AS cost FROM subject_hours WHERE hour_ms >= $1 \
             AND hour_ms < $2 AND team = $3 AND kind = '{kind}' GROUP BY name"
        );
        self.sums(&text, (team, whole), &mut found).await?;
        *found.entry(String::new()).or_default() += self.nameless(team, kind, whole).await?;
        let text = format!(
            "SELECT {0} AS name, CAST(COALESCE(SUM(cost_nano_usd), 0) AS BIGINT) AS cost FROM postings \
             WHERE ts_ms >= $1 AND ts_ms < $2 AND {1} GROUP BY {0}",
            column(kind),
            paid_by(team)
        );
        for edge in edges.into_iter().filter(|edge| edge.start_ms < edge.end_ms) {
            self.sums(&text, (team, edge), &mut found).await?;
        }
        let subject = |name: String| match of {
            Of::EachKey => Subject::Key(KeyId::from(&name)),
            Of::Team | Of::EachUser => Subject::User(name.into()),
        };
        let spent = found.into_iter().filter(|(_, cost)| *cost != 0);
        Ok(spent.map(|(name, cost)| (subject(name), NanoUsd::new(cost))).collect())
    }

    /// Those of `ids` that have a row.
    pub(in crate::ledger) async fn known_calls(&self, ids: &[String]) -> Result<Vec<String>, StoreError> {
        let mut known = Vec::new();
        for chunk in ids.chunks(IDS_PER_STATEMENT) {
            let places = (1..=chunk.len()).map(|nth| format!("${nth}")).collect::<Vec<_>>().join(", ");
            let text = format!("SELECT id FROM postings WHERE id IN ({places})");
            let values = chunk.iter().map(|id| Value::Text(id.clone())).collect();
            for row in self.db.fetch(Sql::once(text, values)).await? {
                known.push(row.get("id")?);
            }
        }
        Ok(known)
    }

    /// What calls spent that do not say who they are from: all of the team's but the named.
    async fn nameless(&self, team: &TeamName, kind: &str, whole: Span) -> Result<i64, StoreError> {
        let text = "SELECT CAST(COALESCE(SUM(CASE WHEN kind = 'team' THEN cost_nano_usd ELSE -cost_nano_usd END), 0) \
            AS BIGINT) AS cost FROM subject_hours \
            WHERE hour_ms >= $1 AND hour_ms < $2 AND team = $3 AND kind IN ('team', $4)";
        self.sum(text, (team, whole), &[Value::from(kind)]).await
    }

    async fn sum(
        &self,
        text: &str,
        (team, span): (&TeamName, Span),
        more: &[Value],
    ) -> Result<i64, StoreError> {
        let mut values = vec![Value::Int(span.start_ms), Value::Int(span.end_ms), Value::from(team.as_str())];
        values.extend_from_slice(more);
        let found = self.db.fetch(Sql::new(text.to_owned(), values)).await?;
        found.first().map_or(Ok(0), |row| row.get("cost"))
    }

    async fn sums(
        &self,
        text: &str,
        (team, span): (&TeamName, Span),
        into: &mut BTreeMap<String, i64>,
    ) -> Result<(), StoreError> {
        let values = vec![Value::Int(span.start_ms), Value::Int(span.end_ms), Value::from(team.as_str())];
        for row in self.db.fetch(Sql::new(text.to_owned(), values)).await? {
            *into.entry(row.get("name")?).or_default() += row.get::<i64>("cost")?;
        }
        Ok(())
    }
}
