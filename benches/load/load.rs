//! A closed-loop load generator for chat completions: so many clients, each waiting for its answer.
//!
//! Plain HTTP/1.1 over TCP on one thread, so that it takes little from what it measures. It does
//! not open connections during a measurement but to replace broken ones, and does not check what
//! answers say beyond their being whole.
//!
//! Invariants: only answers with status 200 that arrived whole count as served; a stream is whole
//! if it ends with `[DONE]`; samples from the warm-up are thrown away.

pub mod client;
pub mod prompt;
pub mod report;
pub mod wire;

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Parser;
use tokio::task::JoinSet;

use client::Client;
use prompt::Prompts;
use report::Tally;
use wire::Target;

/// Sends chat completions in a closed loop and reports latencies.
#[derive(Debug, Clone, Parser)]
pub struct Flags {
    /// The base URL, such as http://127.0.0.1:9100/v1.
    #[arg(long)]
    url: String,
    /// How many calls are in flight at any time, each on a connection of its own.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long to run before measuring, in seconds.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Ask for streamed answers, with usage.
    #[arg(long)]
    stream: bool,
    /// Every prompt is a new one, so that no cache can answer. The default.
    #[arg(long, conflicts_with = "same")]
    unique: bool,
    /// Every prompt is the same, so that an exact cache answers all but the first.
    #[arg(long)]
    same: bool,
    /// The API key.
    #[arg(long, default_value = "load-test")]
    key: String,
    #[arg(long, default_value = "gpt-4o-mini")]
    model: String,
    /// Words in a prompt.
    #[arg(long, default_value_t = 24)]
    words: usize,
    /// Settings for the fake upstream, sent within every prompt.
    #[arg(long)]
    directive: Option<String>,
    /// A request header, NAME:VALUE; may be repeated.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// Makes the prompts; 0 draws a seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut flags = Flags::parse();
    if flags.seed == 0 {
        flags.seed = rand::random::<u64>() | 1;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tally = runtime.block_on(measure(&flags))?;
    let text = if flags.json { tally.json(&flags).to_string() } else { tally.table(&flags) };
    writeln!(std::io::stdout(), "{text}")?;
    if tally.n_served() == 0 {
        return Err("no answer was served; see the errors above".into());
    }
    Ok(())
}

async fn measure(flags: &Flags) -> Result<Tally, Box<dyn std::error::Error>> {
    let target = Target::parse(&flags.url)?;
    let begin = Instant::now() + Duration::from_secs_f64(flags.warmup);
    let end = begin + Duration::from_secs_f64(flags.seconds);
    let mut clients = JoinSet::new();
    for nth in 0..flags.clients {
        let prompts = Prompts::new(flags, nth);
        let client = Client::connect(target.clone(), flags, prompts).await?;
        clients.spawn(client.run(begin, end));
    }
    let mut tally = Tally::default();
    while let Some(done) = clients.join_next().await {
        tally.add(&done?);
    }
    Ok(tally)
}
