//! The inference engine: from tokens to tokens, on a CPU anywhere and on a GPU where there is one.
//!
//! Knows nothing of HTTP, teams or money; the gateway sees it as one more upstream.

pub mod backend;
pub mod chat;
pub mod engine;
pub mod grammar;
pub mod kv;
pub mod local_model;
pub mod model;
pub mod quantise;
pub mod request;
pub mod sampling;
pub mod scheduler;
pub mod sequence;
pub mod speculate;
pub mod tokenizer;
pub mod weights;
