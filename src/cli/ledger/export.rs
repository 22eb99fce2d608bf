//! `stiver ledger export`: one row a call, the oldest first.
//!
//! Reads a page at a time, so that memory does not grow with the book.
//!
//! Invariants: the file appears under its name when it is whole, and not before; columns are the same in
//! both formats.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::parquet::Table;
use super::{Done, progress};
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::Keeper;
use crate::ledger::entry::Entry;
use crate::money::NanoUsd;
use crate::team::CallId;

const PAGE: u32 = 5_000;

#[derive(Debug, Args)]
pub(in crate::cli) struct Export {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// csv or parquet [default: what the file's ending says]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The first day, YYYY-MM-DD, UTC [default: the oldest]
    #[arg(long, value_name = "DAY")]
    from: Option<Date>,
    /// The day after the last one [default: now]
    #[arg(long, value_name = "DAY")]
    to: Option<Date>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Parquet,
}

/// A cell: what kinds of values columns have.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Text(Option<String>),
    Int(Option<i64>),
    Real(Option<f64>),
    Bool(bool),
}

/// The columns and what a row has in each. Money is in nano-dollars, times in milliseconds since 1970 UTC.
pub(super) fn cells(entry: &Entry) -> Vec<(&'static str, Cell)> {
    let text = |text: Option<&str>| Cell::Text(text.map(str::to_owned));
    let count = |n: u64| Cell::Int(Some(i64::try_from(n).unwrap_or(i64::MAX)));
    let maybe = |n: Option<u64>| Cell::Int(n.map(|n| i64::try_from(n).unwrap_or(i64::MAX)));
    let money = |money: Option<NanoUsd>| Cell::Int(money.map(NanoUsd::get));
    let usage = &entry.usage;
    vec![
        ("id", text(Some(&entry.id.to_string()))),
        ("ts_ms", Cell::Int(Some(entry.ts_ms))),
        ("team", text(Some(entry.team.as_str()))),
        ("key_id", text(entry.key.as_ref().map(|key| key.as_str()))),
        ("user_name", text(entry.user.as_deref())),
        ("tags", text(Some(&serde_json::to_string(&entry.tags).unwrap_or_default()))),
        ("endpoint", text(Some(&entry.endpoint))),
        ("route", text(Some(entry.route.as_str()))),
        ("tier", text(entry.tier.as_ref().map(|tier| tier.as_str()))),
        ("score", Cell::Real(entry.score.map(f64::from))),
        ("score_source", text(entry.score_source.as_deref())),
        ("reason", text(Some(&entry.reason))),
        ("split", text(entry.split.as_deref())),
        ("arm", text(entry.arm.as_deref())),
        ("upstream", text(entry.upstream.as_ref().map(|upstream| upstream.as_str()))),
        ("model", text(entry.model.as_deref())),
        ("attempts", count(u64::from(entry.attempts))),
        ("path", text(Some(entry.path.as_str()))),
        ("cache", text(Some(entry.cache.as_str()))),
        ("cache_why", text(entry.cache_why.as_deref())),
        ("cache_entry", text(entry.cache_entry.as_deref())),
        ("similarity", Cell::Real(entry.similarity.map(f64::from))),
        ("input_tokens", count(usage.input)),
        ("cached_read_tokens", count(usage.cached_read)),
        ("cache_write_tokens", count(usage.cache_write)),
        ("output_tokens", count(usage.output)),
        ("reasoning_tokens", count(usage.reasoning)),
        ("audio_input_tokens", count(usage.audio_input)),
        ("audio_output_tokens", count(usage.audio_output)),
        ("cost_nano_usd", money(entry.cost)),
        ("baseline_nano_usd", money(entry.baseline)),
        ("compression_saved_nano_usd", money(Some(entry.aside.compression_saved))),
        ("prefix_saved_nano_usd", money(Some(entry.aside.prefix_saved))),
        ("own_cost_nano_usd", money(Some(entry.aside.own_cost))),
        ("estimated", Cell::Bool(entry.estimated)),
        ("outcome", text(Some(entry.outcome.as_str()))),
        ("status", count(u64::from(entry.status))),
        ("overhead_us", count(entry.overhead_us)),
        ("first_byte_ms", maybe(entry.first_byte_ms)),
        ("total_ms", count(entry.total_ms)),
    ]
}

/// Writes rows in one of the formats.
enum Sink {
    Csv { writer: csv::Writer<BufWriter<File>>, is_begun: bool },
    Parquet(Table<File>),
}

impl Sink {
    fn new(format: Format, file: File) -> Self {
        match format {
            Format::Csv => {
                Self::Csv { writer: csv::Writer::from_writer(BufWriter::new(file)), is_begun: false }
            }
            Format::Parquet => Self::Parquet(Table::new(file)),
        }
    }

    fn write(&mut self, entries: &[Entry]) -> Result<(), String> {
        match self {
            Self::Csv { writer, is_begun } => {
                for entry in entries {
                    let cells = cells(entry);
                    if !std::mem::replace(is_begun, true) {
                        writer.write_record(cells.iter().map(|(name, _)| *name)).map_err(told)?;
                    }
                    writer.write_record(cells.iter().map(|(_, cell)| shown(cell))).map_err(told)?;
                }
                Ok(())
            }
            Self::Parquet(table) => table.write(entries),
        }
    }

    fn finish(self) -> Result<(), String> {
        match self {
            Self::Csv { writer, .. } => {
                let mut file = writer.into_inner().map_err(|error| error.to_string())?;
                file.flush().map_err(|error| error.to_string())
            }
            Self::Parquet(table) => table.finish(),
        }
    }
}

fn told(error: csv::Error) -> String {
    format!("the file cannot be written: {error}")
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone().unwrap_or_default(),
        Cell::Int(number) => number.map_or_else(String::new, |number| number.to_string()),
        Cell::Real(number) => number.map_or_else(String::new, |number| number.to_string()),
        Cell::Bool(is) => is.to_string(),
    }
}

impl Export {
    pub(super) async fn run(self, config: &Config) -> Done {
        let format = self.format.or_else(|| by_ending(&self.file));
        let format = format.ok_or_else(|| {
            format!("`{}` ends neither in .csv nor in .parquet; add --format", self.file.display())
        })?;
        let from_ms = self.from.map_or(Ok(0), midnight_ms)?;
        let to_ms = self.to.map_or_else(|| Ok(Clock::system().now_ms() + 1), midnight_ms)?;
        let keeper = Keeper::open(&config.ledger).await.map_err(|error| error.to_string())?;
        let part = self.file.with_extension("part");
        let file = File::create(&part)
            .map_err(|error| format!("`{}` cannot be written: {error}", part.display()))?;
        let written = write_all(&keeper, Sink::new(format, file), from_ms, to_ms).await;
        let named = written.and_then(|n_rows| {
            std::fs::rename(&part, &self.file).map_err(|error| error.to_string())?;
            Ok(n_rows)
        });
        if named.is_err() {
            // The error below says why; half a file would only mislead.
            let _ = std::fs::remove_file(&part);
        }
        println!("{} rows in {}", named?, self.file.display());
        Ok(())
    }
}

async fn write_all(keeper: &Keeper, mut sink: Sink, from_ms: i64, to_ms: i64) -> Result<u64, String> {
    let mut after: Option<CallId> = None;
    let mut n_rows = 0;
    loop {
        let page = keeper.rows_after(after, from_ms, to_ms, PAGE).await.map_err(|error| error.to_string())?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        n_rows += page.len() as u64;
        sink.write(&page)?;
        progress(n_rows, "rows");
    }
    sink.finish()?;
    Ok(n_rows)
}

fn by_ending(file: &Path) -> Option<Format> {
    match file.extension()?.to_str()? {
        "csv" => Some(Format::Csv),
        "parquet" => Some(Format::Parquet),
        _ => None,
    }
}

fn midnight_ms(day: Date) -> Result<i64, String> {
    let midnight = day.to_zoned(TimeZone::UTC).map_err(|error| format!("{day} is out of range: {error}"))?;
    Ok(midnight.timestamp().as_millisecond())
}
