//! Weights as checkpoints store them, and the numbers they stand for.
//!
//! Opens no file: tensors come in as slices, whoever read them.

pub mod awq;
