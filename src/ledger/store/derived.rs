//! Sums of postings that reports and budgets are read from, kept in the transaction that inserts the rows.
//!
//! Every one of them can be made again from the postings.
//!
//! Invariants: a batch touches each line of a table once, in the order of its key, so that two replicas
//! that write at the same time wait for each other and never lock each other out.

use std::collections::BTreeMap;

use super::StoreError;
use super::db::{Bulk, Tx, Value};
use super::rows::{count, tokens};
use crate::ledger::entry::Entry;
use crate::ledger::latency::bucket;
use crate::money::NanoUsd;

pub(super) const MS_PER_HOUR: i64 = 3_600_000;
pub(super) const MS_PER_DAY: i64 = 24 * MS_PER_HOUR;
pub(super) const N_SUMS: usize = 18;
/// The name that audits are on in sums that budgets are read from: that of `Payer::house`.
pub(super) const HOUSE: &str = "";

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

/// A table that adds up `S` numbers under a key: a time, `T` texts, and for latencies a bucket at the end.
struct Table<'a, const T: usize, const S: usize> {
    name: &'static str,
    key: &'static [&'static str],
    sums: [&'static str; S],
    lines: BTreeMap<Key<'a, T>, [i64; S]>,
}

type Key<'a, const T: usize> = (i64, [&'a str; T], Option<i64>);

impl<'a, const T: usize, const S: usize> Table<'a, T, S> {
    fn new(name: &'static str, key: &'static [&'static str], sums: [&'static str; S]) -> Self {
        Self { name, key, sums, lines: BTreeMap::new() }
    }

    fn add(&mut self, key: Key<'a, T>, sums: [i64; S]) {
        let line = self.lines.entry(key).or_insert([0; S]);
        line.iter_mut().zip(sums).for_each(|(sum, more)| *sum = sum.saturating_add(more));
    }

    /// The same by day, in a table of its own.
    fn days(&self, name: &'static str) -> Self {
        let mut days = Self::new(name, self.key, self.sums);
        for ((hour_ms, texts, bucket), sums) in &self.lines {
            days.add((floor(*hour_ms, MS_PER_DAY), *texts, *bucket), *sums);
        }
        days
    }

    async fn write(self, tx: &mut Tx) -> Result<(), StoreError> {
        let bulk = upsert(self.name, self.key, &self.sums);
        let mut values = Vec::with_capacity(self.lines.len() * bulk.n_columns);
        for ((at_ms, texts, bucket), sums) in self.lines {
            values.push(Value::Int(at_ms));
            values.extend(texts.map(Value::from));
            values.extend(bucket.map(Value::Int));
            values.extend(sums.map(Value::Int));
        }
        tx.write(&bulk, values).await?;
        Ok(())
    }
}

fn upsert(table: &str, key: &[&str], sums: &[&str]) -> Bulk {
    let (keys, all) = (key.join(", "), [key, sums].concat().join(", "));
    let added = sums.iter().map(|sum| format!("{sum} = {table}.{sum} + excluded.{sum}"));
    let added = added.collect::<Vec<_>>().join(", ");
    Bulk {
        head: format!("INSERT INTO {table} ({all}) VALUES "),
        n_columns: key.len() + sums.len(),
        tail: format!(" ON CONFLICT ({keys}) DO UPDATE SET {added}"),
    }
}

/// Adds rows that were not there before to all sums.
pub(super) async fn add(tx: &mut Tx, entries: &[&Entry]) -> Result<(), StoreError> {
    let mut hours = Table::new("call_hours", &CALL_KEY, SUMS);
    let mut users = Table::new("user_days", &USER_KEY, SUMS);
    let mut subjects = Table::new("subject_hours", &SUBJECT_KEY, SUBJECT_SUMS);
    let mut teams = Table::new("team_hours", &["hour_ms", "team"], SUBJECT_SUMS);
    let mut latency_hours = Table::new("latency_hours", &LATENCY_KEY, ["n"]);
    for entry in entries {
        let (hour_ms, day_ms) = (floor(entry.ts_ms, MS_PER_HOUR), floor(entry.ts_ms, MS_PER_DAY));
        let sums = sums(entry);
        hours.add((hour_ms, call_key(entry), None), sums);
        let team = entry.team.as_str();
        let (key, user) =
            (entry.key.as_ref().map_or("", |key| key.as_str()), entry.user.as_deref().unwrap_or(""));
        let user_key = [team, key, user, entry.path.as_str(), entry.outcome.as_str()];
        users.add((day_ms, user_key, None), sums);
        let spent = [1, i64::from(entry.cost.is_none()), entry.charge().get()];
        let (payer, key, user) = if entry.is_audit() { (HOUSE, "", "") } else { (team, key, user) };
        teams.add((hour_ms, [payer], None), spent);
        let named = [("team", ""), ("key", key), ("user", user)];
        for (kind, name) in named.into_iter().filter(|(kind, name)| *kind == "team" || !name.is_empty()) {
            subjects.add((hour_ms, [payer, kind, name], None), spent);
        }
        // Nobody waited for an audit.
        if !entry.is_audit() {
            latency_hours.add((hour_ms, latency_key(entry), Some(bucket(entry.total_ms))), [1]);
        }
    }
    let (days, latency_days) = (hours.days("call_days"), latency_hours.days("latency_days"));
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

fn latency_key(entry: &Entry) -> [&str; 4] {
    [
        entry.team.as_str(),
        entry.route.as_str(),
        entry.split.as_deref().unwrap_or(""),
        entry.arm.as_deref().unwrap_or(""),
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
