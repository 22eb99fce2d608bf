//! `stiver ledger`: writes rows to files, checks the book, makes its sums again.
//!
//! Runs beside a gateway; what is still in that gateway's journal is not seen.

mod export;
mod parquet;

use std::io::IsTerminal;

use clap::Subcommand;

use super::Done;
use crate::config::Config;
use crate::ledger::Keeper;

#[derive(Debug, Subcommand)]
pub(super) enum Ledger {
    /// Write one row a call to a file, as CSV or Parquet
    Export(export::Export),
    /// Make the sums that reports and budgets are read from again, from the rows
    Rebuild,
}

impl Ledger {
    pub(super) async fn run(self, config: &Config) -> Done {
        match self {
            Self::Export(export) => export.run(config).await,
            Self::Rebuild => rebuild(config).await,
        }
    }
}

async fn rebuild(config: &Config) -> Done {
    let keeper = Keeper::open(&config.ledger).await.map_err(|error| error.to_string())?;
    let n_days = keeper.rebuild().await.map_err(|error| error.to_string())?;
    println!("the sums of {n_days} days were made again");
    Ok(())
}

/// A count that is written over itself while somebody looks.
fn progress(done: u64, what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{done} {what} ");
    }
}
