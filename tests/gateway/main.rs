//! The whole gateway against a fake upstream: what clients see, what the book says, what degrades.
//!
//! One binary, a file a subject. Reaches into the gateway only to read its book and its counters.
//!
//! Invariants: every test has a gateway and fakes of its own and ends with [`harness::TestGateway::finish`],
//! which fails if a hold is open, a row unwritten or a concurrency slot taken.

#[path = "../fake_upstream/fake.rs"]
pub mod fake_upstream;
pub mod harness;

mod admin;
mod answers;
mod caching;
mod dashboard;
mod degraded;
mod feedback;
mod figures;
mod local;
mod money;
mod purge;
mod routing;
mod splits;
mod teams;
mod texts;
