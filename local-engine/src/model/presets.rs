//! Shapes of well-known models, and of one that is small enough for a test of milliseconds.
//!
//! Holds no weights: `weights::random` makes some of any shape.

use super::{Family, Hparams, Rope, RopeScaling};

impl Hparams {
    /// Qwen2.5-0.5B, whose embedding is also its head.
    pub fn qwen2_0_5b() -> Self {
        Self { n_layers: 24, n_hidden: 896, n_heads: 14, n_intermediate: 4_864, ..Self::qwen2() }
    }

    /// Qwen2.5-1.5B, whose embedding is also its head.
    pub fn qwen2_1_5b() -> Self {
        Self {
            n_hidden: 1_536,
            n_heads: 12,
            n_intermediate: 8_960,
            head_dim: 128,
            windows: vec![None; 28],
            n_layers: 28,
            ..Self::qwen2()
        }
    }

    pub fn qwen2_7b() -> Self {
        Self {
            n_hidden: 3_584,
            n_heads: 28,
            n_kv_heads: 4,
            n_intermediate: 18_944,
            n_vocab: 152_064,
            tied: false,
            ..Self::qwen2_1_5b()
        }
    }

    fn qwen2() -> Self {
        Self {
            family: Family::Qwen2,
            n_layers: 24,
            n_hidden: 896,
            n_heads: 14,
            n_kv_heads: 2,
            head_dim: 64,
            n_intermediate: 4_864,
            n_vocab: 151_936,
            context: 32_768,
            norm_eps: 1e-6,
            rope: Rope { theta: 1e6, scaling: RopeScaling::None },
            windows: vec![None; 24],
            qk_norm: false,
            tied: true,
            stop_ids: vec![151_645, 151_643],
            bos_id: None,
        }
    }

    /// Two layers of what the family has of its own: Mistral's window (24 positions, which is no whole
    /// number of blocks), Qwen2's tied head, Qwen3's norms and a head larger than `n_hidden / n_heads`.
    pub fn tiny(family: Family) -> Self {
        let window = match family {
            Family::Mistral => Some(24),
            Family::Llama | Family::Qwen2 | Family::Qwen3 => None,
        };
        Self {
            family,
            n_layers: 2,
            n_hidden: 128,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: if family == Family::Qwen3 { 64 } else { 32 },
            n_intermediate: 256,
            n_vocab: 320,
            context: 512,
            norm_eps: 1e-5,
            rope: Rope { theta: 1e4, scaling: RopeScaling::None },
            windows: vec![window; 2],
            qk_norm: family == Family::Qwen3,
            tied: family == Family::Qwen2,
            stop_ids: vec![2],
            bos_id: Some(1),
        }
    }
}
