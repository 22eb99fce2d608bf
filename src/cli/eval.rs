//! `stiver eval`: what a part of the gateway would have done with recorded traffic, and how well.
//!
//! Runs the code of the live path. Calls no upstream, opens no ledger and keeps nothing.

mod cache;
mod guard;

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;

use clap::Subcommand;
use serde::de::DeserializeOwned;

use super::Done;
use crate::config::{Config, Environment};

/// An embedding may take as long as it likes here: being late is no miss.
const DEADLINE_MS: u64 = 600_000;

#[derive(Debug, Subcommand)]
pub(super) enum Eval {
    /// The semantic cache: hit rate, wrong answers and latency on a stream of questions
    Cache(cache::CacheStream),
    /// The guards of the semantic cache: which labelled pairs of texts would have shared an answer
    Guard(guard::Pairs),
}

impl Eval {
    pub(super) async fn run(self, config: Config, env: &Environment) -> Done {
        match self {
            Self::Cache(stream) => stream.run(config, env).await,
            Self::Guard(pairs) => pairs.run(config, env).await,
        }
    }
}

/// Every line of a file, gzipped or not; a mistake is told with its line.
fn read_rows<Row: DeserializeOwned>(path: &Path) -> Result<Vec<Row>, String> {
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
    use crate::cache::trial::Row;

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
            let rows: Vec<Row> = read_rows(path).unwrap();
            assert_eq!((rows.len(), rows[1].scope.as_str()), (2, "s"));
        }
        std::fs::write(&plain, format!("{lines}{{}}\n")).unwrap();
        assert!(read_rows::<Row>(&plain).unwrap_err().contains("line 4"));
    }
}
