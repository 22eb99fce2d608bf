//! The SQL texts, and the columns of a posting in one order for writing and reading.
//!
//! Runs nothing. `$1` is understood by SQLite and Postgres alike.
//!
//! Invariants: [`COLUMNS`] and [`bind`] name the same columns in the same order.

use sqlx::Row;
use sqlx::query_builder::Separated;
use sqlx::sqlite::{Sqlite, SqliteRow};

use super::StoreError;
use crate::chat::usage::Usage;
use crate::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome};
use crate::ledger::report::By;
use crate::money::NanoUsd;
use crate::team::{CallId, KeyId, RouteName, TeamName, TierName, UpstreamName};

pub(super) const COLUMNS: &str = "id, ts_ms, team, key_id, user_name, tags, endpoint, route, tier, score, \
    score_source, reason, split, arm, upstream, model, attempts, path, cache, similarity, input_tokens, \
    cached_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens, \
    audio_output_tokens, cost_nano_usd, baseline_nano_usd, estimated, outcome, status, overhead_us, \
    first_byte_ms, total_ms";

pub(super) const ADD_TO_HOUR: &str = "INSERT INTO team_hours (team, hour_ms, n_calls, n_unpriced, cost_nano_usd) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (team, hour_ms) DO UPDATE SET \
    n_calls = team_hours.n_calls + excluded.n_calls, \
    n_unpriced = team_hours.n_unpriced + excluded.n_unpriced, \
    cost_nano_usd = team_hours.cost_nano_usd + excluded.cost_nano_usd";

pub(super) const TEAM_HOURS: &str =
    "SELECT team, hour_ms, cost_nano_usd FROM team_hours WHERE hour_ms >= $1 ORDER BY hour_ms";

pub(super) const INSERT_KEY: &str = "INSERT INTO api_keys (id, hash, name, team, routes, created_ms, expires_ms, revoked_ms) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

pub(super) const KEYS: &str = "SELECT id, hash, name, team, routes, created_ms, expires_ms, revoked_ms \
    FROM api_keys ORDER BY created_ms, id";

pub(super) const REVOKE_KEY: &str =
    "UPDATE api_keys SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL";

pub(super) fn spend_by(by: By) -> String {
    let name = match by {
        By::Team => "team",
        By::Route => "route",
        By::Model => "COALESCE(model, '')",
        By::Path => "path",
        By::Total => "''",
    };
    format!(
        "SELECT {name} AS name, COUNT(*) AS n_calls, \
         CAST(SUM(CASE WHEN cost_nano_usd IS NULL THEN 1 ELSE 0 END) AS BIGINT) AS n_unpriced, \
         CAST(COALESCE(SUM(cost_nano_usd), 0) AS BIGINT) AS cost, \
         CAST(COALESCE(SUM(CASE WHEN cost_nano_usd IS NULL THEN 0 ELSE baseline_nano_usd - cost_nano_usd END), 0) \
         AS BIGINT) AS saved, \
         CAST(SUM(input_tokens) AS BIGINT) AS input_tokens, \
         CAST(SUM(output_tokens) AS BIGINT) AS output_tokens \
         FROM postings WHERE ts_ms >= $1 AND ts_ms < $2 GROUP BY 1 ORDER BY 4 DESC, 1"
    )
}

/// A count as a column; one beyond 63 bits is not a count of anything.
pub(super) fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn bind(mut row: Separated<'_, Sqlite, &'static str>, entry: &Entry) {
    row.push_bind(entry.id.to_string())
        .push_bind(entry.ts_ms)
        .push_bind(entry.team.as_str().to_owned())
        .push_bind(entry.key.as_ref().map(|key| key.as_str().to_owned()))
        .push_bind(entry.user.clone())
        .push_bind(serde_json::to_string(&entry.tags).expect("strings are always JSON"))
        .push_bind(entry.endpoint.clone())
        .push_bind(entry.route.as_str().to_owned())
        .push_bind(entry.tier.as_ref().map(|tier| tier.as_str().to_owned()))
        .push_bind(entry.score.map(f64::from))
        .push_bind(entry.score_source.clone())
        .push_bind(entry.reason.clone())
        .push_bind(entry.split.clone())
        .push_bind(entry.arm.clone())
        .push_bind(entry.upstream.as_ref().map(|upstream| upstream.as_str().to_owned()))
        .push_bind(entry.model.clone())
        .push_bind(i64::from(entry.attempts))
        .push_bind(entry.path.as_str())
        .push_bind(entry.cache.as_str())
        .push_bind(entry.similarity.map(f64::from))
        .push_bind(count(entry.usage.input))
        .push_bind(count(entry.usage.cached_read))
        .push_bind(count(entry.usage.cache_write))
        .push_bind(count(entry.usage.output))
        .push_bind(count(entry.usage.reasoning))
        .push_bind(count(entry.usage.audio_input))
        .push_bind(count(entry.usage.audio_output))
        .push_bind(entry.cost.map(NanoUsd::get))
        .push_bind(entry.baseline.map(NanoUsd::get))
        .push_bind(entry.estimated)
        .push_bind(entry.outcome.as_str())
        .push_bind(i64::from(entry.status))
        .push_bind(count(entry.overhead_us))
        .push_bind(entry.first_byte_ms.map(count))
        .push_bind(count(entry.total_ms));
}

pub(super) fn entry(row: &SqliteRow) -> Result<Entry, StoreError> {
    let text = |column: &'static str| row.try_get::<String, _>(column);
    let maybe = |column: &'static str| row.try_get::<Option<String>, _>(column);
    let real = |column: &'static str| row.try_get::<Option<f64>, _>(column);
    let money = |column: &'static str| row.try_get::<Option<i64>, _>(column);
    let number = |column: &'static str| row.try_get::<i64, _>(column).map(i64::unsigned_abs);
    Ok(Entry {
        id: word("id", text("id")?, CallId::parse)?,
        ts_ms: row.try_get("ts_ms")?,
        team: TeamName::from(&text("team")?),
        key: maybe("key_id")?.map(|key| KeyId::from(&key)),
        user: maybe("user_name")?,
        tags: word("tags", text("tags")?, |json| serde_json::from_str(json).ok())?,
        endpoint: text("endpoint")?,
        route: RouteName::from(&text("route")?),
        tier: maybe("tier")?.map(|tier| TierName::from(&tier)),
        score: real("score")?.map(|score| score as f32),
        score_source: maybe("score_source")?,
        reason: text("reason")?,
        split: maybe("split")?,
        arm: maybe("arm")?,
        upstream: maybe("upstream")?.map(|upstream| UpstreamName::from(&upstream)),
        model: maybe("model")?,
        attempts: u32::try_from(number("attempts")?).unwrap_or(u32::MAX),
        path: word("path", text("path")?, AnswerPath::parse)?,
        cache: word("cache", text("cache")?, CacheOutcome::parse)?,
        similarity: real("similarity")?.map(|similarity| similarity as f32),
        usage: Usage {
            input: number("input_tokens")?,
            cached_read: number("cached_read_tokens")?,
            cache_write: number("cache_write_tokens")?,
            output: number("output_tokens")?,
            reasoning: number("reasoning_tokens")?,
            audio_input: number("audio_input_tokens")?,
            audio_output: number("audio_output_tokens")?,
        },
        cost: money("cost_nano_usd")?.map(NanoUsd::new),
        baseline: money("baseline_nano_usd")?.map(NanoUsd::new),
        estimated: row.try_get("estimated")?,
        outcome: word("outcome", text("outcome")?, Outcome::parse)?,
        status: u16::try_from(number("status")?).unwrap_or(u16::MAX),
        overhead_us: number("overhead_us")?,
        first_byte_ms: row.try_get::<Option<i64>, _>("first_byte_ms")?.map(i64::unsigned_abs),
        total_ms: number("total_ms")?,
    })
}

/// Reads a column whose text must be one of the words that `parse` knows.
pub(super) fn word<T>(
    column: &'static str,
    value: String,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, StoreError> {
    parse(&value).ok_or(StoreError::UnknownWord { column, value })
}
