//! Starts the fake upstream by hand: `cargo run --example fake-upstream -- --port 9100`.
//!
//! Everything it does stands in `fake.rs`; `curl localhost:9100/bill` shows what was charged.
//!
//! Invariants: the first line of output is the base URL, so that a script can wait for it.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use clap::Parser;

#[path = "fake.rs"]
pub mod fake;

use fake::{FakeUpstream, Options, Script};

/// A fake upstream that speaks OpenAI's wire format.
#[derive(Parser)]
struct Flags {
    /// The port to listen on; 0 picks a free one.
    #[arg(long, default_value_t = 9100)]
    port: u16,
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Answer calls without a key, too.
    #[arg(long)]
    no_auth: bool,
    /// How many calls `/calls` and `/bill` list; totals count all.
    #[arg(long, default_value_t = 10_000)]
    keep: usize,
    /// Render one answer a model and shape, and send it to all: cheap, for load. Not booked or billed.
    #[arg(long)]
    prebuilt: bool,
    /// Settings for every call, such as "chunks=20 interval_ms=5".
    #[arg(long)]
    script: Option<String>,
    /// A model for `/v1/models` to list; may be repeated.
    #[arg(long = "model")]
    models: Vec<String>,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let flags = Flags::parse();
    let defaults = Options::default();
    let models = if flags.models.is_empty() { defaults.models } else { flags.models };
    let fake = FakeUpstream::start_with(Options {
        address: SocketAddr::from((flags.host, flags.port)),
        requires_key: !flags.no_auth,
        n_kept: flags.keep,
        prebuilt: flags.prebuilt,
        models,
    })?;
    if let Some(settings) = flags.script {
        fake.script(Script::always(&settings));
    }
    writeln!(std::io::stdout(), "{}", fake.base_url())?;
    tokio::select! {
        () = fake.stopped() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}
