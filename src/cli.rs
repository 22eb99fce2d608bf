//! The command line: one file a command.
//!
//! Prints results on standard output and everything else on standard error.

#![expect(clippy::print_stdout, reason = "what a command prints is its result")]

mod check;
mod eval;
mod explain;
mod keys;
mod ledger;
mod prices;
mod serve;
mod teams;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Environment};

/// File and database writes that may wait at once; a disk that stalls must not breed threads.
const MAX_BLOCKING_THREADS: usize = 32;

/// An LLM gateway that spends as little as the answer allows.
///
/// Without a command it serves: the embedded default needs no service and no key. Point an OpenAI
/// client's base_url at http://127.0.0.1:8080/v1.
#[derive(Debug, Parser)]
#[command(name = "stiver", version)]
struct Arguments {
    /// The configuration file [default: config/stiver.toml, then the one compiled in]
    #[arg(long, global = true, value_name = "FILE", env = "STIVER_CONFIG")]
    config: Option<PathBuf>,
    /// Listen on this address instead of the configured one
    #[arg(long, global = true, value_name = "ADDRESS:PORT", env = "STIVER_LISTEN")]
    listen: Option<SocketAddr>,
    /// What is logged: error, warn, info, debug, or a filter such as stiver=debug
    #[arg(long, global = true, value_name = "FILTER", env = "STIVER_LOG", default_value = "info")]
    log: String,
    /// Log lines as JSON objects
    #[arg(long, global = true, env = "STIVER_LOG_JSON")]
    log_json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the same as no command)
    Serve,
    /// Validate the configuration; print what would be in effect and what is missing
    Check,
    /// Print the decision and the predicted cost of a request, with nothing called
    Explain(explain::Explain),
    /// Measure a part of the gateway on recorded traffic, with no upstream called
    #[command(subcommand)]
    Eval(eval::Eval),
    /// Make, list and revoke API keys
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Make, list, end and revoke teams
    #[command(subcommand)]
    Teams(teams::Teams),
    /// Write the rows of the ledger to a file, or make its sums again
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Compare prices.toml with a list of prices
    #[command(subcommand)]
    Prices(prices::Prices),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let env = Environment::read();
    crate::telemetry::start_logging(&arguments.log, arguments.log_json);
    let mut config = match Config::load(arguments.config.as_deref(), &env) {
        Ok(config) => config,
        Err(mistakes) => return refuse(&mistakes),
    };
    config.listen_on(arguments.listen);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build();
    let runtime =
        runtime.expect("the operating system gives threads and an event queue to a starting process");
    let done = runtime.block_on(async {
        match arguments.command.unwrap_or(Command::Serve) {
            Command::Serve => serve::run(config, env).await,
            Command::Check => check::run(&config),
            Command::Explain(explain) => explain.run(config, &env).await,
            Command::Eval(eval) => eval.run(config, &env).await,
            Command::Keys(keys) => keys.run(&config).await,
            Command::Teams(teams) => teams.run(&config).await,
            Command::Ledger(ledger) => ledger.run(&config).await,
            Command::Prices(prices) => prices.run(&config),
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("stiver: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(mistakes: &[crate::config::Mistake]) -> ExitCode {
    let plural = if mistakes.len() == 1 { "" } else { "s" };
    eprintln!("stiver: {} mistake{plural} in the configuration", mistakes.len());
    for mistake in mistakes {
        eprintln!("  {mistake}");
    }
    ExitCode::from(2)
}

/// What a command returns: nothing, or a sentence for the operator.
type Done = Result<(), String>;
