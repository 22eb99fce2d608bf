//! Keys and values in pages, and what a token takes from them.
//!
//! Decides nothing about who owns a page.
//!
//! Invariants: a token's scores are summed over positions in order, whichever pages they lie in.

use super::dense::dot;
use crate::backend::BLOCK_TOKENS;
use crate::kv::BlockId;
use crate::model::Hparams;

/// `[layer][block][k, v][token][n_kv_heads * head_dim]`
#[derive(Debug, Default)]
pub(super) struct Pages {
    n_blocks: usize,
    /// Numbers of one token's keys.
    n_row: usize,
    values: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Keys = 0,
    Values = 1,
}

impl Pages {
    /// None when there is no such memory.
    pub(super) fn new(hparams: &Hparams, n_blocks: usize) -> Option<Self> {
        let n_row = hparams.n_kv_heads * hparams.head_dim;
        let n_values = (hparams.n_layers * 2 * BLOCK_TOKENS * n_row).checked_mul(n_blocks)?;
        let mut values = Vec::new();
        values.try_reserve_exact(n_values).ok()?;
        values.resize(n_values, 0.0);
        Some(Self { n_blocks, n_row, values })
    }

    pub(super) fn n_blocks(&self) -> usize {
        self.n_blocks
    }

    /// Where a token's row begins; its block is the one its position falls into.
    fn at(&self, view: &View<'_>, position: usize, side: Side) -> usize {
        let block = view.blocks[position / BLOCK_TOKENS].index();
        let page = (view.layer_idx * self.n_blocks + block) * 2 + side as usize;
        (page * BLOCK_TOKENS + position % BLOCK_TOKENS) * self.n_row
    }

    pub(super) fn keep(&mut self, view: &View<'_>, k: &[f32], v: &[f32]) {
        for (side, row) in [(Side::Keys, k), (Side::Values, v)] {
            let at = self.at(view, view.position, side);
            self.values[at..][..self.n_row].copy_from_slice(row);
        }
    }

    /// What one head of a query takes from the positions it sees.
    pub(super) fn attend(&self, view: &View<'_>, kv_head_idx: usize, q: &[f32]) -> Vec<f32> {
        let head_of = |position, side| {
            let at = self.at(view, position, side) + kv_head_idx * q.len();
            &self.values[at..][..q.len()]
        };
        let scale = 1.0 / (q.len() as f32).sqrt();
        let mut scores: Vec<f32> =
            view.positions().map(|position| dot(q, head_of(position, Side::Keys)) * scale).collect();
        softmax(&mut scores);
        let mut taken = vec![0.0; q.len()];
        for (position, score) in view.positions().zip(&scores) {
            for (sum, value) in taken.iter_mut().zip(head_of(position, Side::Values)) {
                *sum += score * value;
            }
        }
        taken
    }
}

/// Which positions of a sequence a token sees in a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) layer_idx: usize,
    pub(super) blocks: &'a [BlockId],
    pub(super) position: usize,
    pub(super) window: Option<usize>,
}

impl View<'_> {
    fn positions(&self) -> std::ops::RangeInclusive<usize> {
        let first = self.window.map_or(0, |window| (self.position + 1).saturating_sub(window));
        first..=self.position
    }
}

fn softmax(scores: &mut [f32]) {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = (*score - greatest).exp();
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}
