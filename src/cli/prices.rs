//! `stiver prices`: what changed upstream since `prices.toml` was written.
//!
//! Edits no file: a new price is an entry of a later day, so that the past keeps its cost.

use std::path::PathBuf;

use clap::Subcommand;

use super::Done;
use crate::clock::Clock;
use crate::config::Config;
use crate::pricing::{Difference, compare, shown};

#[derive(Debug, Subcommand)]
pub(super) enum Prices {
    /// Compare the prices of today with a list in LiteLLM's JSON format
    Diff {
        /// The list, such as model_prices_and_context_window.json
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print entries for prices.toml, dated today, instead of sentences
        #[arg(long)]
        toml: bool,
    },
}

impl Prices {
    pub(super) fn run(self, config: &Config) -> Done {
        let Self::Diff { file, toml } = self;
        let list = std::fs::read_to_string(&file)
            .map_err(|error| format!("`{}` cannot be read: {error}", file.display()))?;
        let now_ms = Clock::system().now_ms();
        let found =
            compare(&config.prices, &list, now_ms).map_err(|error| format!("{}: {error}", file.display()))?;
        if toml {
            print_entries(&found.differences, now_ms);
        } else {
            for difference in &found.differences {
                println!("{difference}");
            }
        }
        for model in &found.unlisted {
            eprintln!("{model}: not in the list");
        }
        eprintln!("{} figures differ; {} models are the same", found.differences.len(), found.n_same);
        Ok(())
    }
}

/// Entries with what changed; the rest of each is to be copied from the entry before.
fn print_entries(differences: &[Difference], now_ms: i64) {
    let today = jiff::Timestamp::from_millisecond(now_ms)
        .map_or_else(|_| String::new(), |now| now.strftime("%F").to_string());
    let mut last = None;
    for difference in differences {
        if last != Some(&difference.model) {
            println!("\n# Copy what did not change from the entry before.\n[[price]]");
            println!("model = {:?}\nfrom = \"{today}\"", difference.model);
            last = Some(&difference.model);
        }
        println!("{} = {}", difference.field, shown(difference.listed));
    }
}
