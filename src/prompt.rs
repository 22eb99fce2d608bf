//! Pure work on prompts: one canonical form, and the fingerprints taken from it.
//!
//! Never changes what is sent upstream; the canonical form is only compared.

mod canonical_json;
mod canonical_text;
mod estimate;
mod normalize;
mod opening;

pub use canonical_text::canonical_text;
pub use estimate::{estimate_tokens, most_input_tokens};
pub use normalize::{Canonical, normalize};
pub use opening::opening;
