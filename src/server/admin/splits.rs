//! A/B splits: what is in force, what each arm came to in a window, and what matched nothing.
//!
//! Judges no winner: figures stand side by side, and chance is not taken out of them.
//!
//! Invariant: a team is told of splits that calls of its own came to, and of no other.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::ask;
use super::read::{question, unreadable};
use super::{respond, table};
use crate::error::Result;
use crate::gateway::{Gateway, Live};
use crate::ledger::report::{
    By, Figures, Filter, LatencyAsk, LatencyBy, LatencyRow, SpendAsk, SpendRow, Sums,
};
use crate::money::NanoUsd;
use crate::server::viewer::Viewer;

/// What a split's arms came to.
struct Arms {
    split: String,
    by_arm: Vec<(String, Sums)>,
    latency: Vec<LatencyRow>,
}

pub(super) async fn list(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let (viewer, given) = question(&gateway, request)?;
        let asked = ask::window(given)?;
        let asked = SpendAsk { filter: viewer.narrow(asked.filter), ..asked };
        let live = gateway.live();
        let (rows, without_arm, latency) = tokio::try_join!(
            read(&gateway, &asked, &[By::Split, By::Arm], Figures::All),
            read(&gateway, &asked, &[By::Route, By::Split], Figures::Spent),
            latency_of_arms(&gateway, &asked),
        )?;
        let names = names(&live, &viewer, &rows);
        let arms = names.into_iter().map(|split| arms(split, &rows, &latency));
        let data: Vec<Value> = arms.map(|arms| told(&live, &arms, &without_arm)).collect();
        let (from, to) = (table::time(asked.from_ms), table::time(asked.to_ms));
        Ok(json!({"object": "list", "from": from, "to": to, "data": data}))
    };
    respond(answer.await)
}

async fn read(gateway: &Gateway, asked: &SpendAsk, by: &[By], figures: Figures) -> Result<Vec<SpendRow>> {
    let ask = SpendAsk { by: by.to_vec(), figures, ..asked.clone() };
    gateway.ledger.reports().spend(&ask).await.map_err(|error| unreadable(&error))
}

/// Splits that calls came to, and those in force that none came to.
fn names(live: &Live, viewer: &Viewer, rows: &[SpendRow]) -> Vec<String> {
    let called = rows.iter().filter_map(|row| row.names.first()).filter(|name| !name.is_empty()).cloned();
    let in_force = live.config.splits.iter().map(|split| split.name.to_string());
    let mut names: Vec<String> = match viewer {
        Viewer::Operator => called.chain(in_force).collect(),
        Viewer::Team(_) => called.collect(),
    };
    names.sort();
    names.dedup();
    names
}

/// By `split=arm`.
async fn latency_of_arms(gateway: &Gateway, asked: &SpendAsk) -> Result<Vec<LatencyRow>> {
    let Filter { team, route, .. } = asked.filter.clone();
    let (from_ms, to_ms) = (asked.from_ms, asked.to_ms);
    let ask = LatencyAsk { by: Some(LatencyBy::SplitArm), from_ms, to_ms, team, route, split: None };
    gateway.ledger.reports().latency(&ask).await.map_err(|error| unreadable(&error))
}

fn arms(split: String, rows: &[SpendRow], latency: &[LatencyRow]) -> Arms {
    let own = rows.iter().filter(|row| row.names.first() == Some(&split));
    let by_arm = own.map(|row| (row.names.get(1).cloned().unwrap_or_default(), row.sums)).collect();
    let of_arm = |row: &LatencyRow| {
        let arm = row.name.strip_prefix(split.as_str())?.strip_prefix('=')?;
        Some(LatencyRow { name: arm.to_owned(), ..row.clone() })
    };
    let latency = latency.iter().filter_map(of_arm).collect();
    Arms { by_arm, latency, split }
}

fn told(live: &Live, arms: &Arms, without_arm: &[SpendRow]) -> Value {
    let split = live.config.splits.iter().find(|split| split.name.as_str() == arms.split);
    let mut names: Vec<String> =
        split.map_or_else(Vec::new, |split| split.arms().iter().map(|arm| arm.name.to_string()).collect());
    let gone = arms.by_arm.iter().map(|(arm, _)| arm).filter(|arm| !names.contains(arm)).cloned();
    let gone: Vec<String> = gone.collect();
    names.extend(gone);
    let n_calls: u64 = arms.by_arm.iter().map(|(_, sums)| sums.n_calls).sum();
    let n_without_arm = split.map(|split| {
        let is_it = |row: &&SpendRow| row.names.iter().map(String::as_str).eq([split.route.as_str(), ""]);
        without_arm.iter().filter(is_it).map(|row| row.sums.n_calls).sum::<u64>()
    });
    json!({
        "object": "split",
        "name": arms.split,
        "in_force": split.is_some(),
        "route": split.map(|split| split.route.to_string()),
        "unit": split.map(|split| split.unit.to_string()),
        "control": split.map(|split| split.control().name.to_string()),
        "n_calls": n_calls,
        "is_idle": n_calls == 0,
        // Calls of its route that named no unit, or came before it was in force.
        "n_calls_without_arm": n_without_arm,
        "arms": names.iter().map(|name| arm(live, arms, name, n_calls)).collect::<Vec<Value>>(),
    })
}

fn arm(live: &Live, arms: &Arms, name: &str, n_calls: u64) -> Value {
    let split = live.config.splits.iter().find(|split| split.name.as_str() == arms.split);
    let configured = split.and_then(|split| split.arms().iter().find(|known| known.name.as_str() == name));
    let sums = arms.by_arm.iter().find(|(known, _)| known == name).map(|(_, sums)| *sums).unwrap_or_default();
    let latency = arms.latency.iter().find(|row| row.name == name);
    let quantile = |value: fn(&LatencyRow) -> f64| latency.map(value);
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let n_hits = sums.n_hits_exact + sums.n_hits_semantic;
    let mut told = Map::new();
    let facts = [
        ("name", json!(name)),
        ("share_basis_points", json!(configured.map(|arm| arm.share))),
        ("changes", json!(configured.map(|arm| arm.changes()))),
        ("share_of_calls", json!(share(sums.n_calls, n_calls))),
        ("cost_per_call_usd", json!(per_call(sums.cost, sums.n_calls))),
        ("saved_per_call_usd", json!(per_call(sums.saved.net(), sums.n_calls))),
        ("hit_rate", json!(share(n_hits, sums.n_calls))),
        ("error_rate", json!(share(sums.n_errors, sums.n_calls))),
        ("p50_ms", json!(quantile(|row| row.p50_ms))),
        ("p95_ms", json!(quantile(|row| row.p95_ms))),
        ("p99_ms", json!(quantile(|row| row.p99_ms))),
    ];
    for (name, value) in facts.into_iter().chain(table::cells(&sums)) {
        told.insert(name.to_owned(), value);
    }
    Value::Object(told)
}

fn per_call(amount: NanoUsd, n_calls: u64) -> Option<String> {
    let n_calls = i64::try_from(n_calls).ok().filter(|n_calls| *n_calls > 0)?;
    Some(NanoUsd::new(amount.get() / n_calls).to_string())
}
