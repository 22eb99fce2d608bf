//! `stiver eval`: what a part of the gateway would have done with recorded traffic, and how well.
//!
//! Runs the code of the live path. Calls no upstream, opens no ledger and keeps nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::Done;
use crate::cache::risk::RiskConfig;
use crate::cache::trial::{Policy, Report, Row, Trial};
use crate::config::{Config, Environment};
use crate::gateway::open_embedder;

/// An embedding may take as long as it likes here: being late is no miss.
const DEADLINE_MS: u64 = 600_000;

#[derive(Debug, Subcommand)]
pub(super) enum Eval {
    /// The semantic cache: hit rate, wrong answers and latency on a stream of questions
    Cache(CacheStream),
}

#[derive(Debug, Args)]
pub(super) struct CacheStream {
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
    /// Ask in another order, drawn from this seed; without it in the file's
    #[arg(long, value_name = "SEED")]
    shuffle: Option<u64>,
    /// Seed of the coins that decide about audits
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
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

impl Eval {
    pub(super) async fn run(self, config: Config, env: &Environment) -> Done {
        match self {
            Self::Cache(stream) => stream.run(config, env).await,
        }
    }
}

impl CacheStream {
    async fn run(self, mut config: Config, env: &Environment) -> Done {
        let policy = self.policy()?;
        let mut rows = read_rows(&self.file)?;
        if let Some(seed) = self.shuffle {
            rows.shuffle(&mut StdRng::seed_from_u64(seed));
        }
        rows.truncate(self.limit.unwrap_or(usize::MAX));
        config.cache.semantic.deadline_ms = DEADLINE_MS;
        let embedder = open_embedder(&config, env)?;
        let mut trial = Trial::new(embedder, None, policy);
        let mut coins = StdRng::seed_from_u64(self.seed);
        let mut progress = Progress::of(rows.len());
        for row in &rows {
            trial.ask(row, coins.random()).await.map_err(|error| error.to_string())?;
            progress.step();
        }
        progress.end();
        let report = trial.report();
        if !self.json {
            print_table(&report);
        }
        println!("{}", serde_json::to_string(&report).map_err(|error| error.to_string())?);
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

/// Every line of a file, gzipped or not; a mistake is told with its line.
fn read_rows(path: &Path) -> Result<Vec<Row>, String> {
    let unreadable = |error: std::io::Error| format!("`{}` cannot be read: {error}", path.display());
    let file = File::open(path).map_err(unreadable)?;
    let is_gzipped = path.extension().is_some_and(|ending| ending == "gz");
    let plain: Box<dyn Read> =
        if is_gzipped { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut rows = Vec::new();
    for (idx, line) in BufReader::new(plain).lines().enumerate() {
        let line = line.map_err(unreadable)?;
        if !line.trim().is_empty() {
            let row = serde_json::from_str(&line)
                .map_err(|error| format!("{}, line {}: {error}", path.display(), idx + 1))?;
            rows.push(row);
        }
    }
    Ok(rows)
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

/// How far it is, on a terminal only.
struct Progress {
    n_rows: usize,
    n_done: usize,
    is_shown: bool,
}

impl Progress {
    fn of(n_rows: usize) -> Self {
        Self { n_rows, n_done: 0, is_shown: std::io::stderr().is_terminal() }
    }

    fn step(&mut self) {
        self.n_done += 1;
        if self.is_shown && (self.n_done.is_multiple_of(50) || self.n_done == self.n_rows) {
            let n_full = 30 * self.n_done / self.n_rows;
            let bar = format!("{}{}", "#".repeat(n_full), "-".repeat(30 - n_full));
            eprint!("\r[{bar}] {} of {}", self.n_done, self.n_rows);
            // What cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self) {
        if self.is_shown {
            eprintln!();
        }
    }
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

    #[test]
    fn rows_are_read_plain_and_gzipped_and_a_bad_line_is_told_by_number() {
        let folder = tempfile::tempdir().unwrap();
        let lines =
            "{\"text\":\"a\",\"answer\":\"1\"}\n\n{\"text\":\"b\",\"answer\":\"2\",\"scope\":\"s\"}\n";
        let (plain, zipped) = (folder.path().join("s.jsonl"), folder.path().join("s.jsonl.gz"));
        std::fs::write(&plain, lines).unwrap();
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&zipped).unwrap(), flate2::Compression::fast());
        encoder.write_all(lines.as_bytes()).unwrap();
        encoder.finish().unwrap();

        for path in [&plain, &zipped] {
            let rows = read_rows(path).unwrap();
            assert_eq!((rows.len(), rows[1].scope.as_str()), (2, "s"));
        }
        std::fs::write(&plain, format!("{lines}{{}}\n")).unwrap();
        assert!(read_rows(&plain).unwrap_err().contains("line 4"));
    }
}
