//! `stiver eval guard`: labelled pairs of texts put before the guards of the semantic cache.
//!
//! Counts nothing itself: [`PairTrial`] does. Only reads, asks and prints.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::Done;
use super::{DEADLINE_MS, Progress, read_rows};
use crate::cache::pair_trial::{Bars, Pair, PairTrial, Report, Seen};
use crate::config::{Config, Environment};
use crate::gateway::{open_embedder, open_guard};

#[derive(Debug, Args)]
pub(in crate::cli) struct Pairs {
    /// A JSON object a line, {"a", "b", "same", "kind"?}, gzipped or not: whether the answer to b is right for a
    #[arg(value_name = "PAIRS.jsonl[.gz]")]
    file: PathBuf,
    /// Least cosine of a pair that is served
    #[arg(long, value_name = "COSINE", default_value_t = Bars::default().min_similarity)]
    min_similarity: f64,
    /// Least probability, by the trained guard, of a pair that is served
    #[arg(long, value_name = "SHARE", default_value_t = Bars::default().min_probability)]
    min_probability: f64,
    /// Ask at most so many pairs
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Also write what was seen of each pair to this file, a JSON object a line, to choose bars by
    #[arg(long, value_name = "FILE")]
    seen: Option<PathBuf>,
    /// Print the JSON object alone
    #[arg(long)]
    json: bool,
}

impl Pairs {
    pub(super) async fn run(self, mut config: Config, env: &Environment) -> Done {
        for (name, bar) in
            [("min-similarity", self.min_similarity), ("min-probability", self.min_probability)]
        {
            if !(0.0..=1.0).contains(&bar) {
                return Err(format!("--{name} must be from 0 to 1"));
            }
        }
        let bars = Bars { min_similarity: self.min_similarity, min_probability: self.min_probability };
        let mut pairs: Vec<Pair> = read_rows(&self.file)?;
        pairs.truncate(self.limit.unwrap_or(usize::MAX));
        let semantic = &mut config.cache.semantic;
        (semantic.deadline_ms, semantic.guard_deadline_ms) = (DEADLINE_MS, DEADLINE_MS);
        let mut trial = PairTrial::new(open_embedder(&config, env)?, open_guard(&config, env)?, bars);
        let mut seen = Vec::new();
        let mut progress = Progress::of(pairs.len());
        for pair in &pairs {
            seen.push(trial.ask(pair).await.map_err(|error| error.to_string())?);
            progress.step();
        }
        progress.end();
        if let Some(path) = &self.seen {
            write(path, &seen).map_err(|error| format!("`{}` cannot be written: {error}", path.display()))?;
        }
        let report = trial.report();
        if !self.json {
            print_table(&report);
        }
        println!("{}", serde_json::to_string(&report).map_err(|error| error.to_string())?);
        Ok(())
    }
}

fn write(path: &Path, seen: &[Seen]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for one in seen {
        serde_json::to_writer(&mut file, one)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

fn print_table(report: &Report) {
    let percent = |rate: Option<f64>| rate.map_or("–".to_owned(), |rate| format!("{:.1} %", 100.0 * rate));
    println!(
        "served: the lexical guard finds nothing, cosine at least {}, trained guard at least {}",
        report.min_similarity, report.min_probability
    );
    println!("{:<24} {:>9} {:>9} {:>11} {:>9}", "", "same", "served", "different", "served");
    let line = |name: &str, same: (u64, Option<f64>), different: (u64, Option<f64>)| {
        let (served_same, served_different) = (percent(same.1), percent(different.1));
        println!("{name:<24} {:>9} {served_same:>9} {:>11} {served_different:>9}", same.0, different.0);
    };
    line("all", (report.n_same, report.served_same), (report.n_different, report.served_different));
    for (kind, rates) in &report.by_kind {
        line(kind, (rates.n_same, rates.served_same), (rates.n_different, rates.served_different));
    }
    println!("{:<24} p50 {:.2} ms, p99 {:.2} ms", "two embeddings", report.embed_ms_p50, report.embed_ms_p99);
    println!("{:<24} p50 {:.2} ms, p99 {:.2} ms", "trained guard", report.guard_ms_p50, report.guard_ms_p99);
}
