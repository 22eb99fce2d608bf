//! `stiver eval cache`: a stream of questions asked of an empty cache.
//!
//! Counts nothing itself: [`Trial`] does. Only reads, asks and prints.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::super::Done;
use super::{DEADLINE_MS, Progress, read_rows};
use crate::cache::risk::RiskConfig;
use crate::cache::trial::{Policy, Report, Row, Trial, remembering};
use crate::config::{Config, Environment};
use crate::gateway::{open_embedder, open_guard};

#[derive(Debug, Args)]
pub(in crate::cli) struct CacheStream {
    /// A JSON object a line, {"text", "answer", "scope"?}, gzipped or not: two texts may share a cached
    /// answer exactly when their answers are equal
    #[arg(value_name = "STREAM.jsonl[.gz]")]
    file: PathBuf,
    /// Who decides: stiver, static:COSINE (the nearest the guard lets pass) or vcache:RATE
    #[arg(long, value_name = "POLICY", default_value = "stiver", value_parser = read_policy)]
    policy: Asked,
    /// Share of requests that may get a wrong cached answer
    #[arg(long, value_name = "SHARE", default_value_t = RiskConfig::default().max_false_hit_rate)]
    max_false_hit_rate: f64,
    /// How sure it must be that the share holds at every moment
    #[arg(long, value_name = "SHARE", default_value_t = RiskConfig::default().confidence)]
    confidence: f64,
    /// Share of hits also sent upstream in the long run
    #[arg(long, value_name = "SHARE", default_value_t = RiskConfig::default().audit_share)]
    audit_share: f64,
    /// Ask at most so many rows
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Ask in the file's order and in so many more, drawn from seeds 1, 2, …, each of an empty cache
    #[arg(long, value_name = "N", default_value_t = 0)]
    shuffles: u64,
    /// Seed of the coins that decide about audits
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Do without the trained guard
    #[arg(long)]
    no_guard: bool,
    /// Print the JSON object alone
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Asked {
    Static(f64),
    VCache(f64),
    Stiver,
}

fn read_policy(text: &str) -> Result<Asked, String> {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    let share = value.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    match (name, share) {
        ("stiver", None) if value.is_empty() => Ok(Asked::Stiver),
        ("static", Some(bar)) => Ok(Asked::Static(bar)),
        ("vcache", Some(delta)) => Ok(Asked::VCache(delta)),
        _ => Err(format!("`{text}` is no policy; give stiver, static:0.93 or vcache:0.01")),
    }
}

impl CacheStream {
    pub(super) async fn run(self, mut config: Config, env: &Environment) -> Done {
        let policy = self.policy()?;
        let mut rows: Vec<Row> = read_rows(&self.file)?;
        rows.truncate(self.limit.unwrap_or(usize::MAX));
        config.cache.semantic.deadline_ms = DEADLINE_MS;
        config.cache.semantic.guard_deadline_ms = DEADLINE_MS;
        // Only the first order's latency holds the embedding, and only that is reported.
        let embedder = remembering(open_embedder(&config, env)?);
        // The other policies do not ask it.
        let is_read = self.policy == Asked::Stiver && !self.no_guard;
        let guard = is_read.then(|| open_guard(&config, env)).transpose()?;
        let mut progress = Progress::of(rows.len() * (1 + self.shuffles as usize));
        let mut orders = Vec::new();
        for order in 0..=self.shuffles {
            if order > 0 {
                rows.shuffle(&mut StdRng::seed_from_u64(order));
            }
            let mut trial = Trial::new(Arc::clone(&embedder), guard.clone(), policy);
            let mut coins = StdRng::seed_from_u64(self.seed.wrapping_add(order));
            for row in &rows {
                trial.ask(row, coins.random()).await.map_err(|error| error.to_string())?;
                progress.step();
            }
            orders.push(trial.report());
        }
        progress.end();
        let summary = Summary::of(orders);
        if !self.json {
            summary.print();
        }
        println!("{}", serde_json::to_string(&summary).map_err(|error| error.to_string())?);
        Ok(())
    }

    fn policy(&self) -> Result<Policy, String> {
        match self.policy {
            Asked::Static(bar) => Ok(Policy::Static(bar)),
            Asked::VCache(delta) => Ok(Policy::VCache(delta)),
            Asked::Stiver => {
                let risk = RiskConfig {
                    max_false_hit_rate: self.max_false_hit_rate,
                    confidence: self.confidence,
                    audit_share: self.audit_share,
                };
                let mistakes = risk.mistakes();
                if mistakes.is_empty() { Ok(Policy::Stiver(risk)) } else { Err(mistakes.join("; ")) }
            }
        }
    }
}

/// All orders, and the one with the median hit rate in front.
#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    median: Report,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    orders: Vec<Report>,
}

impl Summary {
    fn of(orders: Vec<Report>) -> Self {
        let first = orders[0].clone();
        let mut by_hits: Vec<&Report> = orders.iter().collect();
        by_hits.sort_by(|a, b| a.hit_rate.total_cmp(&b.hit_rate));
        let median = by_hits[(by_hits.len() - 1) / 2].clone();
        let (lookup_ms_p50, lookup_ms_p99) = (first.lookup_ms_p50, first.lookup_ms_p99);
        let orders = if orders.len() > 1 { orders } else { Vec::new() };
        Self { median: Report { lookup_ms_p50, lookup_ms_p99, ..median }, orders }
    }

    fn print(&self) {
        print_table(&self.median);
        if self.orders.is_empty() {
            return;
        }
        let span = |rate: fn(&Report) -> f64| {
            let rates = || self.orders.iter().map(rate);
            let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
            format!("{:.2} to {:.2} %", 100.0 * least, 100.0 * most)
        };
        println!("over {} orders, the median above; from the least to the most:", self.orders.len());
        println!("{:<22} {}", "hits", span(|report| report.hit_rate));
        println!("{:<22} {}", "wrong", span(|report| report.false_hit_rate));
        println!("{:<22} {}", "wrong at most, proven", span(|report| report.false_hit_rate_upper));
        println!("{:<22} {}", "audits", span(|report| report.audit_rate));
    }
}

fn print_table(report: &Report) {
    let percent = |rate: f64| format!("{:.2} %", 100.0 * rate);
    let within = |[low, high]: [f64; 2]| format!("{} to {}", percent(low), percent(high));
    println!("{:<22} {:>9} {:>10}   95 % interval", "", "count", "share");
    println!("{:<22} {:>9}", "requests", report.n);
    let hits = within(report.hit_rate_ci);
    println!("{:<22} {:>9} {:>10}   {hits}", "hits", report.hits, percent(report.hit_rate));
    let wrong = within(report.false_hit_rate_ci);
    println!("{:<22} {:>9} {:>10}   {wrong}", "wrong", report.false_hits, percent(report.false_hit_rate));
    println!("{:<22} {:>9} {:>10}", "wrong at most, proven", "", percent(report.false_hit_rate_upper));
    println!("{:<22} {:>9} {:>10}", "audits", report.audits, percent(report.audit_rate));
    println!("{:<22} p50 {:.2} ms, p99 {:.2} ms", "lookup", report.lookup_ms_p50, report.lookup_ms_p99);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_by_name_and_value() {
        assert_eq!(read_policy("stiver"), Ok(Asked::Stiver));
        assert_eq!(read_policy("static:0.93"), Ok(Asked::Static(0.93)));
        assert_eq!(read_policy("vcache:0.01"), Ok(Asked::VCache(0.01)));
    }

    #[test]
    fn what_is_no_policy_is_told_with_what_is() {
        for text in ["", "static", "static:2", "vcache:x", "stiver:0.1", "always"] {
            let error = read_policy(text).unwrap_err();
            assert!(error.contains("static:0.93"), "{error}");
        }
    }
}
