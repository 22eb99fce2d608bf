//! A posting as columns, in one order for writing and reading.
//!
//! Runs nothing.
//!
//! Invariants: [`COLUMNS`] and [`values`] name the same columns in the same order.

use super::StoreError;
use super::db::{Row, Value};
use crate::chat::usage::Usage;
use crate::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome, Stages};
use crate::ledger::savings::Aside;
use crate::money::NanoUsd;
use crate::team::{CallId, KeyId, RouteName, TeamName, TierName, UpstreamName};

pub(super) const COLUMNS: &str = "id, ts_ms, team, key_id, user_name, tags, endpoint, route, tier, score, \
    score_source, reason, split, arm, upstream, model, attempts, path, cache, similarity, input_tokens, \
    cached_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens, \
    audio_output_tokens, cost_nano_usd, baseline_nano_usd, estimated, outcome, status, overhead_us, \
    first_byte_ms, total_ms, stages, tried, compression_saved_nano_usd, prefix_saved_nano_usd, \
    own_cost_nano_usd, cache_why, cache_entry";
pub(super) const N_COLUMNS: usize = 42;

/// A count as a column; one beyond 63 bits is not a count of anything.
pub(super) fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn values(entry: &Entry, into: &mut Vec<Value>) {
    let text = |text: Option<&str>| Value::MaybeText(text.map(str::to_owned));
    let real = |real: Option<f32>| Value::MaybeReal(real.map(f64::from));
    let money = |money: Option<NanoUsd>| Value::MaybeInt(money.map(NanoUsd::get));
    into.extend([
        Value::Text(entry.id.to_string()),
        Value::Int(entry.ts_ms),
        Value::from(entry.team.as_str()),
        text(entry.key.as_ref().map(KeyId::as_str)),
        text(entry.user.as_deref()),
        Value::Text(json(&entry.tags)),
        Value::from(entry.endpoint.as_str()),
        Value::from(entry.route.as_str()),
        text(entry.tier.as_ref().map(TierName::as_str)),
        real(entry.score),
        text(entry.score_source.as_deref()),
        Value::from(entry.reason.as_str()),
        text(entry.split.as_deref()),
        text(entry.arm.as_deref()),
        text(entry.upstream.as_ref().map(UpstreamName::as_str)),
        text(entry.model.as_deref()),
        Value::Int(i64::from(entry.attempts)),
        Value::from(entry.path.as_str()),
        Value::from(entry.cache.as_str()),
        real(entry.similarity),
    ]);
    into.extend(tokens(&entry.usage).map(Value::Int));
    into.extend([
        money(entry.cost),
        money(entry.baseline),
        Value::Bool(entry.estimated),
        Value::from(entry.outcome.as_str()),
        Value::Int(i64::from(entry.status)),
        Value::Int(count(entry.overhead_us)),
        Value::MaybeInt(entry.first_byte_ms.map(count)),
        Value::Int(count(entry.total_ms)),
        Value::MaybeText((entry.stages != Stages::default()).then(|| json(&entry.stages))),
        Value::MaybeText((!entry.tried.is_empty()).then(|| json(&entry.tried))),
        Value::Int(entry.aside.compression_saved.get()),
        Value::Int(entry.aside.prefix_saved.get()),
        Value::Int(entry.aside.own_cost.get()),
        text(entry.cache_why.as_deref()),
        text(entry.cache_entry.as_deref()),
    ]);
}

/// The kinds of tokens in the order of the columns.
pub(super) fn tokens(usage: &Usage) -> [i64; 7] {
    [
        usage.input,
        usage.cached_read,
        usage.cache_write,
        usage.output,
        usage.reasoning,
        usage.audio_input,
        usage.audio_output,
    ]
    .map(count)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("strings and numbers are always JSON")
}

pub(super) fn entry(row: &Row) -> Result<Entry, StoreError> {
    let maybe = |column| row.get::<Option<String>>(column);
    let real = |column| row.get::<Option<f64>>(column).map(|real| real.map(|real| real as f32));
    let money = |column| row.get::<Option<i64>>(column).map(|money| money.map(NanoUsd::new));
    Ok(Entry {
        id: word("id", row.get("id")?, CallId::parse)?,
        ts_ms: row.get("ts_ms")?,
        team: TeamName::from(&row.get::<String>("team")?),
        key: maybe("key_id")?.map(|key| KeyId::from(&key)),
        user: maybe("user_name")?,
        tags: word("tags", row.get("tags")?, |json| serde_json::from_str(json).ok())?,
        endpoint: row.get("endpoint")?,
        route: RouteName::from(&row.get::<String>("route")?),
        tier: maybe("tier")?.map(|tier| TierName::from(&tier)),
        score: real("score")?,
        score_source: maybe("score_source")?,
        reason: row.get("reason")?,
        split: maybe("split")?,
        arm: maybe("arm")?,
        upstream: maybe("upstream")?.map(|upstream| UpstreamName::from(&upstream)),
        model: maybe("model")?,
        attempts: u32::try_from(row.count("attempts")?).unwrap_or(u32::MAX),
        path: word("path", row.get("path")?, AnswerPath::parse)?,
        cache: word("cache", row.get("cache")?, CacheOutcome::parse)?,
        cache_why: maybe("cache_why")?,
        cache_entry: maybe("cache_entry")?,
        similarity: real("similarity")?,
        usage: usage(row)?,
        cost: money("cost_nano_usd")?,
        baseline: money("baseline_nano_usd")?,
        estimated: row.get("estimated")?,
        outcome: word("outcome", row.get("outcome")?, Outcome::parse)?,
        status: u16::try_from(row.count("status")?).unwrap_or(u16::MAX),
        overhead_us: row.count("overhead_us")?,
        first_byte_ms: row.get::<Option<i64>>("first_byte_ms")?.map(i64::unsigned_abs),
        total_ms: row.count("total_ms")?,
        aside: aside(row)?,
        stages: maybe_json("stages", maybe("stages")?)?,
        tried: maybe_json("tried", maybe("tried")?)?,
    })
}

pub(super) fn usage(row: &Row) -> Result<Usage, StoreError> {
    Ok(Usage {
        input: row.count("input_tokens")?,
        cached_read: row.count("cached_read_tokens")?,
        cache_write: row.count("cache_write_tokens")?,
        output: row.count("output_tokens")?,
        reasoning: row.count("reasoning_tokens")?,
        audio_input: row.count("audio_input_tokens")?,
        audio_output: row.count("audio_output_tokens")?,
    })
}

pub(super) fn aside(row: &Row) -> Result<Aside, StoreError> {
    Ok(Aside {
        compression_saved: NanoUsd::new(row.get("compression_saved_nano_usd")?),
        prefix_saved: NanoUsd::new(row.get("prefix_saved_nano_usd")?),
        own_cost: NanoUsd::new(row.get("own_cost_nano_usd")?),
    })
}

fn maybe_json<T: Default + serde::de::DeserializeOwned>(
    column: &'static str,
    value: Option<String>,
) -> Result<T, StoreError> {
    value.map_or_else(|| Ok(T::default()), |json| word(column, json, |json| serde_json::from_str(json).ok()))
}

/// Reads a column whose text must be one of the words that `parse` knows.
pub(super) fn word<T>(
    column: &'static str,
    value: String,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, StoreError> {
    parse(&value).ok_or(StoreError::UnknownWord { column, value })
}
