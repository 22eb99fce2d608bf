//! `stiver prices`: what changed upstream since `prices.toml` was written.
//!
//! Edits no file: a new price is an entry of a later day, so that the past keeps its cost.

use std::path::PathBuf;

use clap::Subcommand;

use super::Done;
use crate::clock::Clock;
use crate::config::Config;
use crate::pricing::{Renewed, compare, shown};

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
            print_entries(&found.renewed, now_ms);
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

/// Whole entries for prices.toml, to be added below those that are there.
fn print_entries(renewed: &[Renewed], now_ms: i64) {
    let today = jiff::Timestamp::from_millisecond(now_ms)
        .map_or_else(|_| String::new(), |now| now.strftime("%F").to_string());
    for Renewed { model, rates, context_tokens, max_output_tokens } in renewed {
        println!("\n[[price]]\nmodel = {model:?}\nfrom = \"{today}\"");
        for (field, rate) in rates {
            println!("{field} = {}", shown(*rate));
        }
        let limits = [("context_tokens", context_tokens), ("max_output_tokens", max_output_tokens)];
        for (field, limit) in limits {
            limit.iter().for_each(|limit| println!("{field} = {limit}"));
        }
    }
}
