//! One decoder layer in f32, over whole sequences, with its activations shown to whoever asks.
//!
//! Keeps no cache: calibration sees every token of a sequence at once. What the reference backend computes
//! for one token, this computes for all of them.
//!
//! Invariants: folding scales does not change what the layer computes, but for rounding.

use super::dense::{Dense, Rows};
use crate::model::{Hparams, RopeTable};
use crate::weights::{LayerWeights, Tensor};

/// Where in a layer matrices read activations. Those at one place read the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Before q, k and v.
    Attention,
    /// Before o.
    Heads,
    /// Before gate and up.
    FeedForward,
    /// Before down.
    Gated,
}

impl Place {
    pub(super) const ALL: [Self; 4] = [Self::Attention, Self::Heads, Self::FeedForward, Self::Gated];
}

/// Is shown what goes into the matrices at a place.
pub(super) type Tap<'a> = dyn FnMut(Place, &Rows) + 'a;

#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) head_dim: usize,
    /// Heads of q that share a head of k and v.
    pub(super) n_sharing: usize,
    pub(super) window: Option<usize>,
    pub(super) attention_norm: Norm,
    pub(super) q: Dense,
    pub(super) k: Dense,
    pub(super) v: Dense,
    pub(super) o: Dense,
    pub(super) q_norm: Option<Norm>,
    pub(super) k_norm: Option<Norm>,
    pub(super) mlp_norm: Norm,
    pub(super) gate: Dense,
    pub(super) up: Dense,
    pub(super) down: Dense,
}

impl Layer {
    pub(super) fn new(hparams: &Hparams, layer_idx: usize, weights: &LayerWeights) -> Self {
        let norm = |tensor| Norm::new(tensor, hparams.norm_eps);
        Self {
            head_dim: hparams.head_dim,
            n_sharing: hparams.n_heads / hparams.n_kv_heads,
            window: hparams.windows[layer_idx],
            attention_norm: norm(&weights.attention_norm),
            q: Dense::new(&weights.q),
            k: Dense::new(&weights.k),
            v: Dense::new(&weights.v),
            o: Dense::new(&weights.o),
            q_norm: weights.q_norm.as_ref().map(norm),
            k_norm: weights.k_norm.as_ref().map(norm),
            mlp_norm: norm(&weights.mlp_norm),
            gate: Dense::new(&weights.gate),
            up: Dense::new(&weights.up),
            down: Dense::new(&weights.down),
        }
    }

    /// The matrices that read the activations at a place.
    pub(super) fn readers(&self, place: Place) -> Vec<&Dense> {
        match place {
            Place::Attention => vec![&self.q, &self.k, &self.v],
            Place::Heads => vec![&self.o],
            Place::FeedForward => vec![&self.gate, &self.up],
            Place::Gated => vec![&self.down],
        }
    }

    pub(super) fn readers_mut(&mut self, place: Place) -> Vec<&mut Dense> {
        match place {
            Place::Attention => vec![&mut self.q, &mut self.k, &mut self.v],
            Place::Heads => vec![&mut self.o],
            Place::FeedForward => vec![&mut self.gate, &mut self.up],
            Place::Gated => vec![&mut self.down],
        }
    }

    /// Mean activations as scales may be made of them: heads that share a head of v have to share theirs.
    pub(super) fn foldable(&self, place: Place, mean_abs: &[f32]) -> Vec<f32> {
        match place {
            Place::Attention | Place::FeedForward | Place::Gated => mean_abs.to_vec(),
            Place::Heads => mean_abs
                .chunks_exact(self.n_sharing * self.head_dim)
                .flat_map(|of_set| {
                    let mean_of = |dim: usize| {
                        let of_heads = of_set.iter().skip(dim).step_by(self.head_dim);
                        of_heads.sum::<f32>() / self.n_sharing as f32
                    };
                    let of_head: Vec<f32> = (0..self.head_dim).map(mean_of).collect();
                    of_head.repeat(self.n_sharing)
                })
                .collect(),
        }
    }

    /// Multiplies the columns of a place's readers by a scale each and divides what makes their inputs by it.
    /// At [`Place::Heads`] heads that share a head of v have to have the same scales.
    pub(super) fn fold(&mut self, place: Place, scales: &[f32]) {
        for reader in self.readers_mut(place) {
            reader.scale_inputs(scales);
        }
        match place {
            Place::Attention => self.attention_norm.divide(scales),
            Place::Heads => {
                // The first head of each set that shares one.
                let of_sets = scales.chunks_exact(self.n_sharing * self.head_dim);
                let of_v: Vec<f32> = of_sets.flat_map(|of_set| &of_set[..self.head_dim]).copied().collect();
                self.v.divide_outputs(&of_v);
            }
            Place::FeedForward => self.mlp_norm.divide(scales),
            Place::Gated => self.up.divide_outputs(scales),
        }
    }

    /// Takes a sequence from its first position on through the layer.
    pub(super) fn forward(&self, x: &mut Rows, rope: &RopeTable, tap: &mut Tap<'_>) {
        let normed = self.attention_norm.of(x);
        tap(Place::Attention, &normed);
        let taken = self.attend(&normed, rope);
        tap(Place::Heads, &taken);
        x.add(&self.o.apply(&taken));
        let normed = self.mlp_norm.of(x);
        tap(Place::FeedForward, &normed);
        let gated = self.gated(&normed);
        tap(Place::Gated, &gated);
        x.add(&self.down.apply(&gated));
    }

    fn attend(&self, x: &Rows, rope: &RopeTable) -> Rows {
        let (mut q, mut k, v) = (self.q.apply(x), self.k.apply(x), self.v.apply(x));
        for (rows, norm) in [(&mut q, &self.q_norm), (&mut k, &self.k_norm)] {
            let width = rows.width;
            for (position, row) in rows.values.chunks_exact_mut(width).enumerate() {
                for head in row.chunks_exact_mut(self.head_dim) {
                    if let Some(norm) = norm {
                        norm.apply(head);
                    }
                    rope.apply(position, head);
                }
            }
        }
        let mut taken = Rows::zeros(x.n_tokens(), q.width);
        let mut scores = Vec::new();
        for (position, taken) in taken.values.chunks_exact_mut(q.width).enumerate() {
            let first = self.window.map_or(0, |window| (position + 1).saturating_sub(window));
            let heads = q.row(position).chunks_exact(self.head_dim);
            for (head_idx, (head, taken)) in heads.zip(taken.chunks_exact_mut(self.head_dim)).enumerate() {
                let at = head_idx / self.n_sharing * self.head_dim;
                let seen = |rows: &Rows, position| -> usize { position * rows.width + at };
                scores.clear();
                scores.extend((first..=position).map(|past| {
                    let key = &k.values[seen(&k, past)..][..self.head_dim];
                    head.iter().zip(key).map(|(q, k)| q * k).sum::<f32>()
                }));
                softmax(&mut scores, 1.0 / (self.head_dim as f32).sqrt());
                for (past, score) in (first..=position).zip(&scores) {
                    let value = &v.values[seen(&v, past)..][..self.head_dim];
                    for (sum, value) in taken.iter_mut().zip(value) {
                        *sum += score * value;
                    }
                }
            }
        }
        taken
    }

    fn gated(&self, x: &Rows) -> Rows {
        let (mut gate, up) = (self.gate.apply(x), self.up.apply(x));
        for (gate, up) in gate.values.iter_mut().zip(&up.values) {
            *gate = *gate / (1.0 + (-*gate).exp()) * up;
        }
        gate
    }
}

fn softmax(scores: &mut [f32], factor: f32) {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = ((*score - greatest) * factor).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}

/// RMSNorm.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub(super) weights: Vec<f32>,
    eps: f32,
}

impl Norm {
    pub(super) fn new(weights: &Tensor, eps: f32) -> Self {
        Self { weights: weights.to_f32(), eps }
    }

    fn divide(&mut self, scales: &[f32]) {
        for (weight, scale) in self.weights.iter_mut().zip(scales) {
            *weight /= scale;
        }
    }

    fn apply(&self, x: &mut [f32]) {
        let mean_square = x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32;
        let factor = 1.0 / (mean_square + self.eps).sqrt();
        for (x, weight) in x.iter_mut().zip(&self.weights) {
            *x *= factor * weight;
        }
    }

    pub(super) fn of(&self, x: &Rows) -> Rows {
        let mut normed = x.clone();
        for row in normed.values.chunks_exact_mut(x.width) {
            self.apply(row);
        }
        normed
    }
}

#[cfg(test)]
mod tests;
