//! Tests of the built binary from outside: its sockets, signals, files and exit codes.
//!
//! Each starts a gateway of its own in a temporary folder. What happens inside one process is tested
//! elsewhere.
//!
//! Invariants: no test needs the network, a free port of a fixed number, or another test.

mod bad_input;
mod commands;
mod crash;
mod dashboard;
mod edge;
mod fleet;
pub mod harness;
mod outage;
mod privacy;
mod replicas;
mod sdks;
pub mod sockets;
mod splits;

#[path = "../fake_upstream/fake.rs"]
pub mod fake_upstream;

#[path = "../services/postgres.rs"]
mod postgres;

#[path = "../services/redis.rs"]
mod redis_server;
