//! `stiver ledger`: writes rows to files, checks the book, makes its sums again.
//!
//! Runs beside a gateway; what is still in that gateway's journal is not seen.

mod export;
mod parquet;

use std::io::IsTerminal;

use clap::Subcommand;

use super::Done;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::keys::Keys;
use crate::ledger::verify::{self, VerifyAsk};

#[derive(Debug, Subcommand)]
pub(super) enum Ledger {
    /// Write one row a call to a file, as CSV or Parquet
    Export(export::Export),
    /// Compare the rows with the sums made of them, and with the balances that replicas share
    Verify,
    /// Make the sums that reports and budgets are read from again, from the rows
    Rebuild,
}

impl Ledger {
    pub(super) async fn run(self, config: &Config) -> Done {
        match self {
            Self::Export(export) => export.run(config).await,
            Self::Verify => verify(config).await,
            Self::Rebuild => rebuild(config).await,
        }
    }
}

/// The whole book, with the budgets of the file and of the database.
async fn ask(config: &Config) -> Result<VerifyAsk, String> {
    let keys = Keys::open(&config.ledger).await.map_err(|error| error.to_string())?;
    let roster = keys.load_roster().await.map_err(|error| error.to_string())?;
    let (ring, _) = config.key_ring(&roster);
    let (now_ms, shared) = (Clock::system().now_ms(), config.shared.clone());
    Ok(VerifyAsk { now_ms, budgets: ring.budgets(), shared, since_ms: None })
}

/// What does not add up is a failure, for scripts.
async fn verify(config: &Config) -> Done {
    let verified =
        verify::verify(&config.ledger, &ask(config).await?).await.map_err(|error| error.to_string())?;
    for difference in &verified.differences {
        println!("{difference}");
    }
    println!("{} sums and {} shared balances were compared", verified.n_hours, verified.n_accounts);
    match verified.differences.len() {
        0 => Ok(()),
        n => Err(format!("{n} differences; `stiver ledger rebuild` makes the sums again from the rows")),
    }
}

async fn rebuild(config: &Config) -> Done {
    let n_days =
        verify::rebuild(&config.ledger, &ask(config).await?).await.map_err(|error| error.to_string())?;
    println!("the sums of {n_days} days were made again");
    Ok(())
}

/// A count that is written over itself while somebody looks.
fn progress(done: u64, what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{done} {what} ");
    }
}
