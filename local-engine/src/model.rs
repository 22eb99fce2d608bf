//! What a decoder is: its shape, its rotary positions, and the names of its tensors.
//!
//! Computes nothing but the rotation; the backends do the rest, each in its own way.

pub mod hparams;
mod presets;
pub mod rope;

pub use hparams::{Family, Hparams, Rope, RopeScaling};
pub use rope::RopeTable;
