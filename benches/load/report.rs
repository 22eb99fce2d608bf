//! Counts and latencies of a run, as a table or as one JSON object.
//!
//! Keeps no single samples: histograms with three significant digits.
//!
//! Invariants: latencies of failed calls are not in the histograms; rates count served calls only.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::Flags;
use crate::wire::Seen;

/// Wide enough for any call a test waits for.
const NANOS_MAX: u64 = 120_000_000_000;

pub struct Tally {
    total: Histogram<u64>,
    first_byte: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let histogram = || Histogram::new_with_max(NANOS_MAX, 3).expect("the bounds are in order");
        Self { total: histogram(), first_byte: histogram(), errors: BTreeMap::new() }
    }
}

impl Tally {
    pub fn note(&mut self, seen: &io::Result<Seen>, sent: Instant, now: Instant) {
        let error = match seen {
            Ok(seen) if seen.status != 200 => format!("status {}", seen.status),
            Ok(seen) if !seen.whole => "stream without [DONE]".to_owned(),
            Ok(seen) => {
                self.total.saturating_record(nanos(now - sent));
                self.first_byte.saturating_record(nanos(seen.first_byte - sent));
                return;
            }
            Err(error) => error.kind().to_string(),
        };
        *self.errors.entry(error).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        self.total.add(&other.total).expect("all histograms have one range");
        self.first_byte.add(&other.first_byte).expect("all histograms have one range");
        for (error, n_times) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += n_times;
        }
    }

    pub fn n_served(&self) -> u64 {
        self.total.len()
    }

    fn per_second(&self, flags: &Flags) -> f64 {
        self.n_served() as f64 / flags.seconds
    }

    pub fn json(&self, flags: &Flags) -> Value {
        json!({
            "url": flags.url, "clients": flags.clients, "seconds": flags.seconds, "stream": flags.stream,
            "same": flags.same, "seed": flags.seed,
            "n_served": self.n_served(), "n_errors": self.errors.values().sum::<u64>(), "errors": self.errors,
            "per_second": self.per_second(flags),
            "total_us": quantiles(&self.total), "first_byte_us": quantiles(&self.first_byte),
        })
    }

    pub fn table(&self, flags: &Flags) -> String {
        let mut text = format!(
            "{} clients, {} s, {}, {} prompts (seed {})\n{} served, {:.0} a second\n",
            flags.clients,
            flags.seconds,
            if flags.stream { "streamed" } else { "not streamed" },
            if flags.same { "equal" } else { "unique" },
            flags.seed,
            self.n_served(),
            self.per_second(flags),
        );
        for (name, histogram) in [("first byte", &self.first_byte), ("total", &self.total)] {
            let q = quantiles(histogram);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{name:>10}  p50 {} µs  p90 {} µs  p99 {} µs  p99.9 {} µs  most {} µs",
                q["p50"], q["p90"], q["p99"], q["p999"], q["max"]
            );
        }
        for (error, n_times) in &self.errors {
            let _ = writeln!(text, "     error  {error}: {n_times}");
        }
        text.truncate(text.trim_end().len());
        text
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    let us = |quantile: f64| (histogram.value_at_quantile(quantile) as f64 / 100.0).round() / 10.0;
    json!({ "p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p999": us(0.999), "max": us(1.0) })
}
