//! The CPU backend: int4 and int8 weights, int8 activations, paged KV, its own threads.
