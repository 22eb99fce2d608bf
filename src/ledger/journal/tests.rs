//! Tests of the journal alone: torn tails, rotation, bounds and a disk that fails.
//!
//! Invariants: none of its own.
