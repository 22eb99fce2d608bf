//! Sums of postings that reports and budgets are read from, kept in the transaction that inserts the rows.
//!
//! Every one of them can be made again from the postings.
//!
//! Invariants: a batch touches each line of a table once, in the order of its key, so that two replicas
//! that write at the same time wait for each other and never lock each other out.

use std::collections::BTreeMap;

use super::StoreError;
use super::db::{Sql, Tx, Value, placeholders};
use super::rows::{count, tokens};
use crate::ledger::entry::Entry;
use crate::ledger::latency::bucket;
use crate::money::NanoUsd;

pub(super) const MS_PER_HOUR: i64 = 3_600_000;
pub(super) const MS_PER_DAY: i64 = 24 * MS_PER_HOUR;
/// Lines in one statement.
const LINES_PER_STATEMENT: usize = 50;
pub(super) const N_SUMS: usize = 18;

/// The summed columns of `call_hours`, `call_days` and `user_days`.
pub(super) const SUMS: [&str; N_SUMS] = [
    "n_calls",
    "n_unpriced",
    "n_estimated",
    "attempts",
    "cost_nano_usd",
    "baseline_nano_usd",
    "saved_nano_usd",
    "compression_saved_nano_usd",
    "prefix_saved_nano_usd",
    "own_cost_nano_usd",
    "input_tokens",
    "cached_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "overhead_us",
];
const CALL_KEY: [&str; 11] =
    ["at_ms", "team", "route", "tier", "upstream", "model", "path", "cache", "split", "arm", "outcome"];
const USER_KEY: [&str; 6] = ["at_ms", "team", "key_id", "user_name", "path", "outcome"];
const LATENCY_KEY: [&str; 6] = ["at_ms", "team", "route", "split", "arm", "bucket"];
const SUBJECT_KEY: [&str; 4] = ["hour_ms", "team", "kind", "name"];
const SUBJECT_SUMS: [&str; 3] = ["n_calls", "n_unpriced", "cost_nano_usd"];

/// A table that adds up numbers under a key: a time, texts, and for latencies a bucket at the end.
struct Table<const K: usize, const S: usize> {
    name: &'static str,
    key: [&'static str; K],
    sums: [&'static str; S],
    lines: BTreeMap<(i64, Vec<String>, Option<i64>), [i64; S]>,
}

impl<const K: usize, const S: usize> Table<K, S> {
    fn new(name: &'static str, key: [&'static str; K], sums: [&'static str; S]) -> Self {
        Self { name, key, sums, lines: BTreeMap::new() }
    }

    fn add(&mut self, at_ms: i64, texts: &[&str], bucket: Option<i64>, sums: [i64; S]) {
        let key = (at_ms, texts.iter().map(|text| (*text).to_owned()).collect(), bucket);
        let line = self.lines.entry(key).or_insert([0; S]);
        line.iter_mut().zip(sums).for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        let lines: Vec<_> = self.lines.into_iter().collect();
        for chunk in lines.chunks(LINES_PER_STATEMENT) {
            let mut values = Vec::with_capacity(chunk.len() * (K + S));
            for ((at_ms, texts, bucket), sums) in chunk {
                values.push(Value::Int(*at_ms));
                values.extend(texts.iter().map(|text| Value::Text(text.clone())));
                values.extend(bucket.map(Value::Int));
                values.extend(sums.map(Value::Int));
            }
            let text = upsert(self.name, &self.key, &self.sums, chunk.len());
            let is_kept = chunk.len() == LINES_PER_STATEMENT || chunk.len() == 1;
            tx.execute(Sql { is_kept, ..Sql::new(text, values) }).await?;
        }
        Ok(())
    }
}

fn upsert(table: &str, key: &[&str], sums: &[&str], n_lines: usize) -> String {
    let (keys, all) = (key.join(", "), [key, sums].concat().join(", "));
    let added = sums.iter().map(|sum| format!("{sum} = {table}.{sum} + excluded.{sum}"));
    let added = added.collect::<Vec<_>>().join(", ");
    let lines = placeholders(n_lines, key.len() + sums.len());
    format!("INSERT INTO {table} ({all}) VALUES {lines} ON CONFLICT ({keys}) DO UPDATE SET {added}")
}

/// Adds rows that were not there before to all sums.
pub(super) async fn add(tx: &mut Tx, entries: &[&Entry]) -> Result<(), StoreError> {
    let mut hours = Table::new("call_hours", CALL_KEY, SUMS);
    let mut days = Table::new("call_days", CALL_KEY, SUMS);
    let mut users = Table::new("user_days", USER_KEY, SUMS);
    let mut subjects = Table::new("subject_hours", SUBJECT_KEY, SUBJECT_SUMS);
    let mut teams = Table::new("team_hours", ["hour_ms", "team"], SUBJECT_SUMS);
    let mut latency_hours = Table::new("latency_hours", LATENCY_KEY, ["n"]);
    let mut latency_days = Table::new("latency_days", LATENCY_KEY, ["n"]);
    for entry in entries {
        let (hour_ms, day_ms) = (floor(entry.ts_ms, MS_PER_HOUR), floor(entry.ts_ms, MS_PER_DAY));
        let (call, sums) = (call_key(entry), sums(entry));
        hours.add(hour_ms, &call, None, sums);
        days.add(day_ms, &call, None, sums);
        let (team, route) = (entry.team.as_str(), entry.route.as_str());
        let (key, user) =
            (entry.key.as_ref().map_or("", |key| key.as_str()), entry.user.as_deref().unwrap_or(""));
        users.add(day_ms, &[team, key, user, entry.path.as_str(), entry.outcome.as_str()], None, sums);
        let spent = [1, i64::from(entry.cost.is_none()), entry.charge().get()];
        teams.add(hour_ms, &[team], None, spent);
        subjects.add(hour_ms, &[team, "team", ""], None, spent);
        if !key.is_empty() {
            subjects.add(hour_ms, &[team, "key", key], None, spent);
        }
        if !user.is_empty() {
            subjects.add(hour_ms, &[team, "user", user], None, spent);
        }
        let timed = [team, route, entry.split.as_deref().unwrap_or(""), entry.arm.as_deref().unwrap_or("")];
        let bucket = Some(bucket(entry.total_ms));
        latency_hours.add(hour_ms, &timed, bucket, [1]);
        latency_days.add(day_ms, &timed, bucket, [1]);
    }
    hours.write(tx).await?;
    days.write(tx).await?;
    users.write(tx).await?;
    subjects.write(tx).await?;
    teams.write(tx).await?;
    latency_hours.write(tx).await?;
    latency_days.write(tx).await
}

pub(super) fn floor(ts_ms: i64, span_ms: i64) -> i64 {
    ts_ms - ts_ms.rem_euclid(span_ms)
}

fn call_key(entry: &Entry) -> [&str; 10] {
    [
        entry.team.as_str(),
        entry.route.as_str(),
        entry.tier.as_ref().map_or("", |tier| tier.as_str()),
        entry.upstream.as_ref().map_or("", |upstream| upstream.as_str()),
        entry.model.as_deref().unwrap_or(""),
        entry.path.as_str(),
        entry.cache.as_str(),
        entry.split.as_deref().unwrap_or(""),
        entry.arm.as_deref().unwrap_or(""),
        entry.outcome.as_str(),
    ]
}

fn sums(entry: &Entry) -> [i64; N_SUMS] {
    let money = |money: Option<NanoUsd>| money.map_or(0, NanoUsd::get);
    let [input, cached_read, cache_write, output, reasoning, audio_input, audio_output] =
        tokens(&entry.usage);
    [
        1,
        i64::from(entry.cost.is_none()),
        i64::from(entry.estimated),
        i64::from(entry.attempts),
        money(entry.cost),
        money(entry.baseline),
        money(entry.saved()),
        entry.aside.compression_saved.get(),
        entry.aside.prefix_saved.get(),
        entry.aside.own_cost.get(),
        input,
        cached_read,
        cache_write,
        output,
        reasoning,
        audio_input,
        audio_output,
        count(entry.overhead_us),
    ]
}
