//! The vocabulary of a call: what a client sends and what it gets back.
//!
//! Only the fields we act on are typed; all others are carried as the bytes they came in.
//! Nothing here decides anything, and nothing here is async.

pub mod assemble;
mod check;
pub mod fields;
pub mod fingerprint;
mod members;
pub mod message;
pub mod replay;
pub mod request;
pub mod rewrite;
pub mod shape;
pub mod usage;

pub use assemble::Assembler;
pub use assemble::transcript::Transcript;
pub use check::InvalidRequest;
pub use fields::Fields;
pub use fingerprint::Fingerprint;
pub use message::{Message, Role};
pub use request::{Endpoint, Request};
pub use usage::Usage;
