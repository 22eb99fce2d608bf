//! Sums and rows as JSON and as CSV, with the same names in both.
//!
//! Invariants: money is a decimal text of dollars, exact to the nano-dollar; a cell of a CSV that a
//! spreadsheet would take for a formula is made text.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::ledger::entry::Entry;
use crate::ledger::report::{SpendAsk, SpendRow, Step, Sums};
use crate::money::NanoUsd;

/// The columns of a sum.
pub(super) fn cells(sums: &Sums) -> Vec<(&'static str, Value)> {
    let usd = |amount: NanoUsd| Value::from(amount.to_string());
    let saved = &sums.saved;
    vec![
        ("n_calls", json!(sums.n_calls)),
        ("n_errors", json!(sums.n_errors)),
        ("n_unpriced", json!(sums.n_unpriced)),
        ("n_estimated", json!(sums.n_estimated)),
        ("n_hits_exact", json!(sums.n_hits_exact)),
        ("n_hits_semantic", json!(sums.n_hits_semantic)),
        ("n_local", json!(sums.n_local)),
        ("n_upstream", json!(sums.n_upstream)),
        ("n_audits", json!(sums.n_audits)),
        ("n_attempts", json!(sums.n_attempts)),
        ("cost_usd", usd(sums.cost)),
        ("baseline_usd", usd(sums.baseline)),
        ("saved_usd", usd(saved.net())),
        ("saved_exact_usd", usd(saved.exact)),
        ("saved_semantic_usd", usd(saved.semantic)),
        ("saved_route_down_usd", usd(saved.route_down)),
        ("saved_local_usd", usd(saved.local)),
        ("saved_compression_usd", usd(saved.compression)),
        ("prefix_cache_discount_usd", usd(saved.prefix_cache)),
        ("own_cost_usd", usd(saved.own_cost)),
        ("input_tokens", json!(sums.usage.input)),
        ("cached_read_tokens", json!(sums.usage.cached_read)),
        ("cache_write_tokens", json!(sums.usage.cache_write)),
        ("output_tokens", json!(sums.usage.output)),
        ("reasoning_tokens", json!(sums.usage.reasoning)),
        ("audio_input_tokens", json!(sums.usage.audio_input)),
        ("audio_output_tokens", json!(sums.usage.audio_output)),
        ("overhead_us", json!(sums.overhead_us)),
    ]
}

fn spend_object(ask: &SpendAsk, row: &SpendRow) -> Map<String, Value> {
    let mut object = Map::new();
    if ask.step != Step::Whole {
        object.insert("at".to_owned(), Value::from(time(row.at_ms)));
    }
    for (by, name) in ask.by.iter().zip(&row.names) {
        object.insert(by.as_str().to_owned(), Value::from(name.as_str()));
    }
    object.extend(cells(&row.sums).into_iter().map(|(name, value)| (name.to_owned(), value)));
    object
}

pub(super) fn spend_json(ask: &SpendAsk, rows: &[SpendRow]) -> Value {
    let data: Vec<_> = rows.iter().map(|row| Value::Object(spend_object(ask, row))).collect();
    json!({
        "object": "list",
        "from": time(ask.from_ms),
        "to": time(ask.to_ms),
        "by": ask.by.iter().map(|by| by.as_str()).collect::<Vec<_>>(),
        "data": data,
    })
}

pub(super) fn spend_csv(ask: &SpendAsk, rows: &[SpendRow]) -> Result<String> {
    let at = (ask.step != Step::Whole).then_some("at");
    let sums = cells(&Sums::default());
    let header: Vec<&str> = at
        .into_iter()
        .chain(ask.by.iter().map(|by| by.as_str()))
        .chain(sums.iter().map(|(name, _)| *name))
        .collect();
    csv(&header, rows.iter().map(|row| spend_object(ask, row)))
}

/// A call as its row says, money as decimal text.
pub(super) fn call_object(entry: &Entry) -> Map<String, Value> {
    let mut object = match serde_json::to_value(entry) {
        Ok(Value::Object(object)) => object,
        Ok(_) | Err(_) => Map::new(),
    };
    let usd = |amount: Option<NanoUsd>| Value::from(amount.map(|amount| amount.to_string()));
    object.remove("aside");
    for (old, new, amount) in [("cost", "cost_usd", entry.cost), ("baseline", "baseline_usd", entry.baseline)]
    {
        object.remove(old);
        object.insert(new.to_owned(), usd(amount));
    }
    object.insert("saved_usd".to_owned(), usd(entry.saved()));
    object.insert("saved_compression_usd".to_owned(), usd(Some(entry.aside.compression_saved)));
    object.insert("prefix_cache_discount_usd".to_owned(), usd(Some(entry.aside.prefix_saved)));
    object.insert("own_cost_usd".to_owned(), usd(Some(entry.aside.own_cost)));
    object.insert("at".to_owned(), Value::from(time(entry.ts_ms)));
    object.insert("object".to_owned(), Value::from("call"));
    object
}

const CALL_COLUMNS: [&str; 28] = [
    "id",
    "at",
    "team",
    "key",
    "user",
    "tags",
    "endpoint",
    "route",
    "tier",
    "score",
    "split",
    "arm",
    "upstream",
    "model",
    "attempts",
    "path",
    "cache",
    "cache_why",
    "cache_entry",
    "similarity",
    "cost_usd",
    "baseline_usd",
    "saved_usd",
    "estimated",
    "outcome",
    "status",
    "first_byte_ms",
    "total_ms",
];

pub(super) fn calls_csv(entries: &[Entry]) -> Result<String> {
    csv(&CALL_COLUMNS, entries.iter().map(call_object))
}

fn csv(header: &[&str], rows: impl Iterator<Item = Map<String, Value>>) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let broken = |error: csv::Error| Error::internal(format!("a table cannot be written: {error}"));
    writer.write_record(header).map_err(broken)?;
    for row in rows {
        let cells = header.iter().map(|name| row.get(*name).map_or_else(String::new, cell));
        writer.write_record(cells).map_err(broken)?;
    }
    let bytes = writer.into_inner().map_err(|error| Error::internal(error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| Error::internal("a table is not text"))
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => harmless(text),
        Value::Array(_) | Value::Object(_) => harmless(&value.to_string()),
    }
}

/// Spreadsheets run what begins with one of these signs; an amount below zero is let be.
fn harmless(text: &str) -> String {
    let is_amount = text.strip_prefix('-').is_some_and(|rest| rest.parse::<f64>().is_ok());
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_amount {
        return format!("'{text}");
    }
    text.to_owned()
}

pub(super) fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::report::By;

    #[test]
    fn a_table_has_the_same_columns_with_and_without_rows() {
        let ask = SpendAsk::over(&[By::Team], 0, 1);
        let row = SpendRow {
            at_ms: 0,
            names: vec!["search".to_owned()],
            sums: Sums { n_calls: 3, ..Sums::default() },
        };

        let empty = spend_csv(&ask, &[]).unwrap();
        let full = spend_csv(&ask, &[row]).unwrap();

        assert_eq!(empty.lines().next(), full.lines().next());
        assert!(full.lines().nth(1).unwrap().starts_with("search,3,0,"), "{full}");
    }

    #[test]
    fn a_cell_never_becomes_a_formula() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("@sum", "'@sum"),
            ("+49", "'+49"),
            ("-2.50", "-2.50"),
            ("-x", "'-x"),
            ("plain", "plain"),
        ] {
            assert_eq!(harmless(text), expected);
        }
    }
}
