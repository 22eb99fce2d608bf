//! The oracle: the same decoder in plain f32, as slow and as clear as can be.
//!
//! No threads, no batches, no quantised arithmetic: every weight is widened once, and every token goes
//! through the layers alone. What the other backends compute is held to what this one does.
//!
//! Invariants: a token's logits do not depend on chunks or batches, because no sum runs over either.

mod dense;
mod pages;

use self::dense::{Dense, RmsNorm, add};
use self::pages::{Pages, View};
use super::{BLOCK_TOKENS, Backend, BackendError, Chunk, Logits};
use crate::kv::BlockId;
use crate::model::{Hparams, RopeTable};
use crate::request::TokenId;
use crate::weights::{LayerWeights, Weights};

/// A model whose weights are all f32.
#[derive(Debug)]
pub struct Reference {
    hparams: Hparams,
    embedding: Vec<f32>,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// None when it is the embedding.
    head: Option<Dense>,
    rope: RopeTable,
    pages: Pages,
}

impl Reference {
    /// Widens all weights; takes four bytes for each of them.
    pub fn new(weights: Weights) -> Result<Self, BackendError> {
        let hparams = weights.hparams;
        Ok(Self {
            embedding: weights.embedding.to_f32(),
            layers: weights.layers.iter().map(|layer| Layer::new(&hparams, layer)).collect(),
            norm: RmsNorm::new(&weights.norm, hparams.norm_eps),
            head: weights.head.as_ref().map(Dense::new),
            rope: RopeTable::new(&hparams, 0),
            pages: Pages::default(),
            hparams,
        })
    }

    fn check(&self, chunk: &Chunk<'_>) -> Result<(), BackendError> {
        let end = chunk.start + chunk.tokens.len();
        let wrong = if let Some(token) = chunk.tokens.iter().find(|token| self.row_of(**token).is_none()) {
            format!("token {token} is not in the vocabulary of {}", self.hparams.n_vocab)
        } else if end > self.hparams.context {
            format!("position {} is past the context of {}", end - 1, self.hparams.context)
        } else if chunk.blocks.len() * BLOCK_TOKENS < end {
            format!("{} blocks do not hold {end} positions", chunk.blocks.len())
        } else if chunk.blocks.iter().any(|block| block.index() >= self.pages.n_blocks()) {
            format!("a block is not one of the {} there are", self.pages.n_blocks())
        } else if chunk.n_logits > chunk.tokens.len() {
            format!("{} rows of logits of {} tokens", chunk.n_logits, chunk.tokens.len())
        } else {
            return Ok(());
        };
        Err(BackendError::Unsupported(wrong))
    }

    fn row_of(&self, token: TokenId) -> Option<&[f32]> {
        self.embedding.chunks_exact(self.hparams.n_hidden).nth(token as usize)
    }

    /// A token's hidden state after all layers.
    fn hidden(&mut self, token: TokenId, position: usize, blocks: &[BlockId]) -> Vec<f32> {
        let mut x = self.row_of(token).expect("a chunk's tokens are checked").to_vec();
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            let view = View { layer_idx, blocks, position, window: self.hparams.windows[layer_idx] };
            let attended = layer.attention(&layer.attention_norm.of(&x), &view, &self.rope, &mut self.pages);
            add(&mut x, &attended);
            let fed = layer.feed_forward(&layer.mlp_norm.of(&x));
            add(&mut x, &fed);
        }
        x
    }

    fn logits(&self, hidden: &[f32]) -> Vec<f32> {
        let normed = self.norm.of(hidden);
        match &self.head {
            Some(head) => head.apply(&normed),
            None => self
                .embedding
                .chunks_exact(self.hparams.n_hidden)
                .map(|row| dense::dot(row, &normed))
                .collect(),
        }
    }
}

impl Backend for Reference {
    fn n_vocab(&self) -> usize {
        self.hparams.n_vocab
    }

    fn context(&self) -> usize {
        self.hparams.context
    }

    fn block_bytes(&self) -> usize {
        let of_layer = 2 * BLOCK_TOKENS * self.hparams.n_kv_heads * self.hparams.head_dim * size_of::<f32>();
        self.hparams.n_layers * of_layer
    }

    fn alloc_kv(&mut self, n_blocks: usize) -> Result<(), BackendError> {
        self.pages = Pages::new(&self.hparams, n_blocks)
            .ok_or_else(|| BackendError::Unsupported(format!("there is no memory for {n_blocks} blocks")))?;
        // No sequence is longer than all blocks, whatever the context is.
        let n_positions = self.hparams.context.min(n_blocks * BLOCK_TOKENS);
        self.rope = RopeTable::new(&self.hparams, n_positions);
        Ok(())
    }

    fn forward(&mut self, chunks: &[Chunk<'_>], logits: &mut Logits) -> Result<(), BackendError> {
        for chunk in chunks {
            self.check(chunk)?;
        }
        logits.reset(chunks.iter().map(|chunk| chunk.n_logits).sum(), self.hparams.n_vocab);
        let mut row_idx = 0;
        for chunk in chunks {
            let first_row = chunk.tokens.len() - chunk.n_logits;
            for (token_idx, token) in chunk.tokens.iter().enumerate() {
                let hidden = self.hidden(*token, chunk.start + token_idx, chunk.blocks);
                if token_idx >= first_row {
                    logits.row_mut(row_idx).copy_from_slice(&self.logits(&hidden));
                    row_idx += 1;
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Layer {
    head_dim: usize,
    /// Heads of q that share a head of k and v.
    n_sharing: usize,
    attention_norm: RmsNorm,
    q: Dense,
    k: Dense,
    v: Dense,
    o: Dense,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    mlp_norm: RmsNorm,
    gate: Dense,
    up: Dense,
    down: Dense,
}

impl Layer {
    fn new(hparams: &Hparams, weights: &LayerWeights) -> Self {
        let norm = |tensor| RmsNorm::new(tensor, hparams.norm_eps);
        Self {
            head_dim: hparams.head_dim,
            n_sharing: hparams.n_heads / hparams.n_kv_heads,
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

    /// Keeps the token's key and value, then takes from all it sees.
    fn attention(&self, x: &[f32], view: &View<'_>, rope: &RopeTable, pages: &mut Pages) -> Vec<f32> {
        let (mut q, mut k, v) = (self.q.apply(x), self.k.apply(x), self.v.apply(x));
        for (heads, norm) in [(&mut q, &self.q_norm), (&mut k, &self.k_norm)] {
            for head in heads.chunks_exact_mut(self.head_dim) {
                if let Some(norm) = norm {
                    norm.apply(head);
                }
                rope.apply(view.position, head);
            }
        }
        pages.keep(view, &k, &v);
        let of_heads = q.chunks_exact(self.head_dim).enumerate();
        let taken: Vec<f32> = of_heads
            .flat_map(|(head_idx, head)| pages.attend(view, head_idx / self.n_sharing, head))
            .collect();
        self.o.apply(&taken)
    }

    fn feed_forward(&self, x: &[f32]) -> Vec<f32> {
        let silu = |gate: f32| gate / (1.0 + (-gate).exp());
        let (gate, up) = (self.gate.apply(x), self.up.apply(x));
        let hidden: Vec<f32> = gate.iter().zip(&up).map(|(gate, up)| silu(*gate) * up).collect();
        self.down.apply(&hidden)
    }
}

#[cfg(test)]
mod tests;
