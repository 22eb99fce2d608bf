//! Measures the ledger: how long a call waits for its book-keeping, and how fast rows reach the database.
//!
//! Checks nothing. Run it as `cargo run --release --example ledger_speed -- DIR [N_CALLS] [N_THREADS]`.
//!
//! Invariants: every call is held, sent and posted once; times are of one thread's own waiting.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use hdrhistogram::Histogram;
use stiver::clock::Clock;
use stiver::ledger::budget::{Budget, Window};
use stiver::ledger::entry::{Entry, Outcome};
use stiver::ledger::{HoldAsk, Ledger, LedgerConfig};
use stiver::money::NanoUsd;
use stiver::team::{CallId, RouteName, TeamName, UpstreamName};
use tokio_util::task::TaskTracker;

type Failure = Box<dyn Error + Send + Sync>;

/// What one call waits for, step by step.
struct Waits {
    hold: Histogram<u64>,
    sent: Histogram<u64>,
    post: Histogram<u64>,
}

impl Waits {
    fn new() -> Result<Self, Failure> {
        let histogram = || Histogram::new(3);
        Ok(Self { hold: histogram()?, sent: histogram()?, post: histogram()? })
    }

    fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.hold.add(&other.hold)?;
        self.sent.add(&other.sent)?;
        self.post.add(&other.post)?;
        Ok(())
    }
}

fn call(ledger: &Ledger, budgets: &Arc<[Budget]>, waits: &mut Waits) -> Result<(), Failure> {
    let now_ms = Clock::system().now_ms();
    let id = CallId::new(now_ms, rand::random());
    let mut draft =
        Entry::draft(id, now_ms, TeamName::from("search"), "/v1/chat/completions", RouteName::from("auto"));
    draft.reason = "score 0.41 is above the small tier".to_owned();
    draft.tags = vec!["nightly".to_owned(), "batch-7".to_owned()];
    let ask = HoldAsk { entry_draft: draft, ceiling: NanoUsd::new(1_000_000), budgets: Arc::clone(budgets) };

    let began = Instant::now();
    let mut hold = ledger.hold(ask).now_or_never().ok_or("books in this process do not wait")??;
    let held = Instant::now();
    hold.sent(&UpstreamName::from("openai-large"), "gpt-5.2", 1)?;
    let sent = Instant::now();
    let entry = Entry { cost: Some(NanoUsd::new(1_234)), outcome: Outcome::Ok, ..hold.draft().clone() };
    let ending = Instant::now();
    hold.post(entry);
    let posted = Instant::now();

    waits.hold.record(nanos(held - began))?;
    waits.sent.record(nanos(sent - held))?;
    waits.post.record(nanos(posted - ending))?;
    Ok(())
}

fn nanos(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
}

fn call_many(ledger: &Ledger, n_calls: usize, n_threads: usize) -> Result<Waits, Failure> {
    let usd = NanoUsd::new(i64::MAX / 4);
    let budget = |per| Budget::new(usd, per);
    let budgets: Arc<[Budget]> = Arc::from([budget(Window::Day), budget(Window::Month)]);
    let work = || -> Result<Waits, Failure> {
        let mut waits = Waits::new()?;
        for _ in 0..n_calls / n_threads {
            call(ledger, &budgets, &mut waits)?;
        }
        Ok(waits)
    };
    std::thread::scope(|threads| {
        let running: Vec<_> = (0..n_threads).map(|_| threads.spawn(work)).collect();
        let mut all = Waits::new()?;
        for thread in running {
            all.add(&thread.join().map_err(|_| "a caller panicked")??)?;
        }
        Ok(all)
    })
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: ledger_speed DIR [N_CALLS] [N_THREADS]")?);
    let n_calls = arguments.next().map_or(Ok(20_000), |n| n.parse())?;
    let n_threads = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let config = LedgerConfig {
        path: dir.join("ledger.sqlite"),
        journal_dir: dir.join("journal"),
        ..Default::default()
    };
    let ledger = Ledger::open(&config, Clock::system(), TaskTracker::new()).await?;

    let began = Instant::now();
    let waits = call_many(&ledger, n_calls, n_threads)?;
    let called = began.elapsed();
    ledger.flushed().await;
    let flushed = began.elapsed();
    ledger.close().await?;

    let mut out = std::io::stdout().lock();
    for (step, wait) in [("hold", &waits.hold), ("sent", &waits.sent), ("post", &waits.post)] {
        let us = |quantile| wait.value_at_quantile(quantile) as f64 / 1_000.0;
        writeln!(out, "{step}: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us", us(0.5), us(0.99), us(0.999))?;
    }
    let per_second = |elapsed: Duration| n_calls as f64 / elapsed.as_secs_f64();
    writeln!(out, "calls: {:.0} a second on {n_threads} threads", per_second(called))?;
    writeln!(out, "rows in the database: {:.0} a second", per_second(flushed))?;
    Ok(())
}
