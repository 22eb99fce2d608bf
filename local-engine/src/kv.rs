//! The memory for keys and values, in blocks of a fixed number of tokens.
//!
//! Holds no keys and no values: it says which block is whose, and a backend owns the pages.

pub mod block_pool;

pub use block_pool::BlockId;
