//! The inference engine: from tokens to tokens, on a CPU anywhere and on a GPU where there is one.
//!
//! Knows nothing of HTTP, teams or money; the gateway will see it as one more upstream.
//!
//! **It does not run a model yet.** What stands here are two parts the rest will be built on, each
//! complete in itself: reading quantised weights, and handing out the blocks of a paged KV cache.
//! There is no forward pass, no tokenizer, no scheduler and no sampling, and the gateway does not
//! depend on this crate. `README.md` keeps the list.

pub mod kv;
pub mod weights;
