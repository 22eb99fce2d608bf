//! Weights that mean nothing and behave: for tests, and for benchmarks of shapes whose files are not there.
//!
//! Not a source of randomness for anything else: what it makes depends on its seed alone.
//!
//! Invariants: every matrix keeps the size of what it multiplies, so activations neither die nor overflow
//! however deep the model is.

use bytes::Bytes;
use half::f16;

use super::{Dtype, Int4Layout, Int4Matrix, LayerWeights, Linear, Matrix, Tensor, Weights};
use crate::model::{Family, Hparams};

/// How the matrices are kept. Embedding, head, norms and biases are floats in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RandomKind {
    F32,
    F16,
    /// The group has to divide the inputs of every matrix, and 8 its outputs.
    AwqGemm {
        group_size: usize,
    },
}

/// Complete weights of a shape.
///
/// # Panics
///
/// When a matrix of the shape cannot be kept as `kind`.
pub fn random_weights(hparams: &Hparams, kind: RandomKind, seed: u64) -> Weights {
    let mut source = Source { kind, rng: SplitMix(seed) };
    let (n_hidden, n_vocab) = (hparams.n_hidden, hparams.n_vocab);
    Weights {
        hparams: hparams.clone(),
        embedding: source.floats(&[n_vocab, n_hidden], head_spread(n_hidden)),
        layers: (0..hparams.n_layers).map(|layer_idx| source.layer(hparams, layer_idx)).collect(),
        norm: source.norm(n_hidden),
        head: (!hparams.tied).then(|| {
            let matrix = Matrix::Float(source.floats(&[n_vocab, n_hidden], head_spread(n_hidden)));
            Linear::new("lm_head", n_hidden, n_vocab, matrix)
        }),
    }
}

/// Logits of a spread of three or so: some tokens are likelier than others, as in a real model.
fn head_spread(n_hidden: usize) -> f32 {
    3.0 * unit_spread(n_hidden)
}

/// The half-width of evenly spread weights that keep the variance of `n_in` inputs.
fn unit_spread(n_in: usize) -> f32 {
    (3.0 / n_in as f32).sqrt()
}

/// The deviation of a nibble from its zero, both as this file draws them.
const NIBBLE_DEVIATION: f32 = 4.74;

struct Source {
    kind: RandomKind,
    rng: SplitMix,
}

impl Source {
    fn layer(&mut self, hparams: &Hparams, layer_idx: usize) -> LayerWeights {
        let hidden = hparams.n_hidden;
        let (q, kv) = (hparams.n_heads * hparams.head_dim, hparams.n_kv_heads * hparams.head_dim);
        let biased = hparams.family == Family::Qwen2;
        let name = |module: &str| format!("model.layers.{layer_idx}.{module}_proj");
        let mut head_norm = || hparams.qk_norm.then(|| self.norm(hparams.head_dim));
        let (q_norm, k_norm) = (head_norm(), head_norm());
        LayerWeights {
            attention_norm: self.norm(hidden),
            q: self.linear(name("self_attn.q"), hidden, q, biased),
            k: self.linear(name("self_attn.k"), hidden, kv, biased),
            v: self.linear(name("self_attn.v"), hidden, kv, biased),
            o: self.linear(name("self_attn.o"), q, hidden, false),
            q_norm,
            k_norm,
            mlp_norm: self.norm(hidden),
            gate: self.linear(name("mlp.gate"), hidden, hparams.n_intermediate, false),
            up: self.linear(name("mlp.up"), hidden, hparams.n_intermediate, false),
            down: self.linear(name("mlp.down"), hparams.n_intermediate, hidden, false),
        }
    }

    fn linear(&mut self, name: String, n_in: usize, n_out: usize, biased: bool) -> Linear {
        let matrix = match self.kind {
            RandomKind::F32 | RandomKind::F16 => {
                Matrix::Float(self.floats(&[n_out, n_in], unit_spread(n_in)))
            }
            RandomKind::AwqGemm { group_size } => Matrix::Int4(self.awq(n_in, n_out, group_size)),
        };
        let bias = biased.then(|| self.floats(&[n_out], 0.5));
        Linear { name, n_in, n_out, matrix, bias }
    }

    fn awq(&mut self, n_in: usize, n_out: usize, group_size: usize) -> Int4Matrix {
        assert!(
            n_out.is_multiple_of(8) && n_in.is_multiple_of(group_size),
            "{n_in} x {n_out} has an AWQ form"
        );
        let n_groups = n_in / group_size;
        let spread = 1.0 / (NIBBLE_DEVIATION * (n_in as f32).sqrt());
        let qweight = self.words(&[n_in, n_out / 8], |bits| bits);
        // Zeros of 6 to 9: near the middle of the nibbles, and not all the same.
        let near_middle = |bits| (bits & 0x3333_3333_3333_3333) + 0x6666_6666_6666_6666;
        let qzeros = self.words(&[n_groups, n_out / 8], near_middle);
        let scale = |level| spread * (0.75 + 0.5 * level);
        let scales = self.halves(&[n_groups, n_out], scale);
        Int4Matrix { n_in, n_out, group_size, layout: Int4Layout::AwqGemm { qweight, qzeros, scales } }
    }

    fn norm(&mut self, n: usize) -> Tensor {
        let near_one = |level| 0.9 + 0.2 * level;
        match self.kind {
            RandomKind::F32 => self.singles(&[n], near_one),
            RandomKind::F16 | RandomKind::AwqGemm { .. } => self.halves(&[n], near_one),
        }
    }

    /// Floats spread evenly over `-spread..spread`.
    fn floats(&mut self, shape: &[usize], spread: f32) -> Tensor {
        let even = |level| spread * (2.0 * level - 1.0);
        match self.kind {
            RandomKind::F32 => self.singles(shape, even),
            RandomKind::F16 | RandomKind::AwqGemm { .. } => self.halves(shape, even),
        }
    }

    /// `value_of` takes an even level from 0 to 1.
    fn singles(&mut self, shape: &[usize], value_of: impl Fn(f32) -> f32) -> Tensor {
        let n: usize = shape.iter().product();
        let mut level = || (self.rng.draw() >> 40) as f32 / (1_u32 << 24) as f32;
        let values: Vec<f32> = (0..n).map(|_| value_of(level())).collect();
        Tensor::of_f32(shape, &values)
    }

    /// As `singles`, through a table of 4,096 levels: rounding half a thousand million numbers takes longer
    /// than all the rest.
    fn halves(&mut self, shape: &[usize], value_of: impl Fn(f32) -> f32) -> Tensor {
        let n: usize = shape.iter().product();
        let level = |level_idx: u16| (f32::from(level_idx) + 0.5) / 4_096.0;
        let table: Vec<[u8; 2]> =
            (0..4_096).map(|level_idx| f16::from_f32(value_of(level(level_idx))).to_le_bytes()).collect();
        let mut bytes = vec![0; 2 * n];
        let (pairs, _) = bytes.as_chunks_mut::<2>();
        for four in pairs.chunks_mut(4) {
            let mut bits = self.rng.draw();
            for value in four {
                *value = table[(bits & 0xfff) as usize];
                bits >>= 16;
            }
        }
        Tensor { dtype: Dtype::F16, shape: shape.to_vec(), bytes: bytes.into() }
    }

    fn words(&mut self, shape: &[usize], of_bits: impl Fn(u64) -> u64) -> Tensor {
        let n: usize = shape.iter().product();
        let mut bytes = vec![0; 4 * n];
        for eight in bytes.chunks_mut(8) {
            let bits = of_bits(self.rng.draw()).to_le_bytes();
            eight.copy_from_slice(&bits[..eight.len()]);
        }
        Tensor { dtype: Dtype::I32, shape: shape.to_vec(), bytes: Bytes::from(bytes) }
    }
}

/// Sebastiano Vigna's splitmix64: a few instructions a draw.
struct SplitMix(u64);

impl SplitMix {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
