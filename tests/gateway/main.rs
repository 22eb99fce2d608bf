//! The whole gateway against a fake upstream: what clients see, what the book says, what degrades.
//!
//! One binary, a file a subject. Reaches into the gateway only to read its book and its counters.
//!
//! Invariants: every test has a gateway and fakes of its own and ends with [`harness::TestGateway::finish`],
//! which fails if a hold is open, a row unwritten or a concurrency slot taken.

#[path = "../fake_upstream/fake.rs"]
pub mod fake_upstream;
pub mod harness;
#[path = "../services/postgres.rs"]
#[expect(dead_code, reason = "its outages are for the tests of processes")]
mod postgres;

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
mod risk;
mod routing;
mod splits;
mod teams;
mod texts;
