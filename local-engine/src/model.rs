//! What a decoder is: its shape, its rotary positions, and the names of its tensors.
//!
//! Computes nothing; the backends do, each in its own way.

pub mod hparams;

pub use hparams::{Family, Hparams, Rope, RopeScaling};
