//! Random lives of the engine, against an oracle without pages, batches, chunks, guesses or preemption.
//!
//! Drives the step by hand: no thread, no clock but the one it sets, no real model.

#[path = "traces/oracle.rs"]
mod oracle;
#[path = "traces/pattern.rs"]
mod pattern;
#[path = "traces/run.rs"]
mod run;
#[path = "traces/trace.rs"]
mod trace;

use std::cell::Cell;

use proptest::test_runner::{Config, TestRunner};

use run::{Coverage, run};
use trace::traces;

/// Enough that a rare meeting of circumstances occurs; a second or two.
const N_TRACES: u32 = 4096;

#[test]
fn every_answer_is_what_the_model_says_when_it_is_alone() {
    let config = Config { cases: N_TRACES, failure_persistence: None, ..Config::default() };
    let total = Cell::new(Coverage::default());

    let outcome = TestRunner::new(config).run(&traces(), |trace| {
        total.set(total.get() + run(&trace)?);
        Ok(())
    });

    outcome.unwrap_or_else(|failure| panic!("{failure}\n{failure:#?}"));
    // A test in which nothing is ever preempted, hit or guessed would prove little.
    let coverage = total.get();
    for (what, n_times, n_least) in coverage.named() {
        assert!(n_times >= n_least, "only {n_times} {what} in {N_TRACES} traces: {coverage:?}");
    }
}
