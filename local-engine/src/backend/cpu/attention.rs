//! Attention of a few query rows over the pages of a sequence, in one pass.
//!
//! Starts no threads and writes no pages. The rows of a tile are (token, head) pairs that share a head of
//! keys and values; they are taken through each page up to eight at a time, so a page is read once for
//! all of them.
//!
//! Invariants: a row goes through absolute pages of sixteen tokens from the first it sees to the last, and
//! what is computed of it there depends on nothing but itself; so its bits do not depend on the rows beside
//! it, on the chunk it came in, or on where the pages lie. A page that a row does not see changes nothing.

use super::kv::{Page, PageId, Pages, ReadPage};
use super::simd::{LANES, Lanes, Simd};
use crate::backend::BLOCK_TOKENS;
use crate::kv::BlockId;

/// Rows of a tile, at most.
pub(crate) const TILE_ROWS: usize = 32;

/// Numbers in a head, at most.
pub(crate) const MAX_HEAD: usize = 256;

/// Rows that are computed together: their scores, and a vector of keys, fit into sixteen registers.
const GROUP: usize = 8;

/// The query rows of a tile, and what they look at.
pub(crate) struct Tile<'a> {
    pub(crate) pages: &'a Pages,
    pub(crate) layer: usize,
    pub(crate) kv_head: usize,
    pub(crate) blocks: &'a [BlockId],
    /// How far back a row looks, itself included.
    pub(crate) window: Option<usize>,
    pub(crate) head_dim: usize,
    /// The position of each row.
    pub(crate) positions: &'a [usize],
}

/// A tile on its way through the pages.
struct State<'a> {
    /// Queries, `[group][dim][row of the group]`.
    queries: [f32; TILE_ROWS * MAX_HEAD],
    greatest: [f32; TILE_ROWS],
    totals: [f32; TILE_ROWS],
    /// `[row][dim]`: the values so far, weighted.
    sums: &'a mut [f32],
}

/// Attends with each row; `query(row, head)` writes its scaled query, `sums` take the rows' outputs.
pub(crate) fn attend<S: Simd>(simd: S, tile: &Tile<'_>, query: impl Fn(usize, &mut [f32]), sums: &mut [f32]) {
    let n_rows = tile.positions.len();
    assert!(n_rows <= TILE_ROWS && tile.head_dim <= MAX_HEAD, "a tile is within its bounds");
    assert_eq!(sums.len(), n_rows * tile.head_dim, "each row has an output");
    sums.fill(0.0);
    let mut state = State {
        queries: [0.0; TILE_ROWS * MAX_HEAD],
        greatest: [f32::MIN; TILE_ROWS],
        totals: [0.0; TILE_ROWS],
        sums,
    };
    state.take_queries(tile, query);
    let first = tile.positions.iter().map(|position| tile.first_seen(*position)).min().unwrap_or(0);
    let last = tile.positions.iter().copied().max().unwrap_or(0);
    for page_idx in first / BLOCK_TOKENS..=last / BLOCK_TOKENS {
        let id = PageId { layer: tile.layer, block: tile.blocks[page_idx].index(), head: tile.kv_head };
        match tile.pages.page(id) {
            Page::F16(page) => state.visit(simd, tile, page_idx, page),
            Page::Int8(page) => state.visit(simd, tile, page_idx, page),
        }
    }
    state.finish(tile.head_dim);
}

impl Tile<'_> {
    fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// The tokens of a page that a row sees, as bits.
    fn mask(&self, position: usize, page_idx: usize) -> u16 {
        let first_token = page_idx * BLOCK_TOKENS;
        let up_to = |end: usize| ((1_u32 << end.saturating_sub(first_token).min(BLOCK_TOKENS)) - 1) as u16;
        up_to(position + 1) & !up_to(self.first_seen(position))
    }
}

impl State<'_> {
    fn take_queries(&mut self, tile: &Tile<'_>, query: impl Fn(usize, &mut [f32])) {
        let mut head = [0.0; MAX_HEAD];
        let head = &mut head[..tile.head_dim];
        let n_rows = tile.positions.len();
        for row in 0..n_rows {
            query(row, head);
            let first = row / GROUP * GROUP;
            let n_grouped = GROUP.min(n_rows - first);
            let of_group = &mut self.queries[first * tile.head_dim..];
            for (dim, q) in head.iter().enumerate() {
                of_group[dim * n_grouped + row - first] = *q;
            }
        }
    }

    fn visit<S: Simd, P: ReadPage>(&mut self, simd: S, tile: &Tile<'_>, page_idx: usize, page: P) {
        simd.run(
            #[inline(always)]
            || {
                let n_rows = tile.positions.len();
                for first in (0..n_rows).step_by(GROUP) {
                    match n_rows - first {
                        1 => self.visit_group(simd, page, &Group::<1>::new(tile, page_idx, first)),
                        2 => self.visit_group(simd, page, &Group::<2>::new(tile, page_idx, first)),
                        3 => self.visit_group(simd, page, &Group::<3>::new(tile, page_idx, first)),
                        4 => self.visit_group(simd, page, &Group::<4>::new(tile, page_idx, first)),
                        5 => self.visit_group(simd, page, &Group::<5>::new(tile, page_idx, first)),
                        6 => self.visit_group(simd, page, &Group::<6>::new(tile, page_idx, first)),
                        7 => self.visit_group(simd, page, &Group::<7>::new(tile, page_idx, first)),
                        _ => self.visit_group(simd, page, &Group::<8>::new(tile, page_idx, first)),
                    }
                }
            },
        );
    }

    #[inline(always)]
    fn visit_group<S: Simd, P: ReadPage, const R: usize>(&mut self, simd: S, page: P, group: &Group<R>) {
        let Group { first, head_dim, .. } = *group;
        let n_tokens = group.n_tokens();
        if n_tokens == 0 {
            return;
        }
        let queries = self.queries[first * head_dim..][..R * head_dim].as_chunks::<R>().0;
        let mut scores = [simd.splat(0.0); R];
        for (dim, queries) in queries.iter().enumerate() {
            let keys = page.key(simd, dim);
            for (scores, q) in scores.iter_mut().zip(queries) {
                *scores = simd.fma(simd.splat(*q), keys, *scores);
            }
        }
        let scores = scores.map(|scores| page.scale_keys(simd, scores));
        let (kept, scores) = self.soften(simd, group, scores);
        let mut weights = [[0.0; LANES]; R];
        for (weights, scores) in weights.iter_mut().zip(scores) {
            simd.store(page.scale_values(simd, scores), weights);
        }
        let n_vectors = head_dim / LANES;
        let sums = self.sums[first * head_dim..][..R * head_dim].as_chunks_mut::<LANES>().0;
        for vector in 0..n_vectors {
            let mut of_rows = [simd.splat(0.0); R];
            for (row, sum) in of_rows.iter_mut().enumerate() {
                *sum = simd.mul(simd.load(&sums[row * n_vectors + vector]), simd.splat(kept[row]));
            }
            for token in 0..n_tokens {
                let values = page.value(simd, token * n_vectors + vector);
                for (sum, weights) in of_rows.iter_mut().zip(&weights) {
                    *sum = simd.fma(simd.splat(weights[token]), values, *sum);
                }
            }
            for (row, sum) in of_rows.into_iter().enumerate() {
                simd.store(sum, &mut sums[row * n_vectors + vector]);
            }
        }
    }

    /// Scores become weights, against the greatest score so far; says how much of each row's sums stays.
    #[inline(always)]
    fn soften<S: Simd, const R: usize>(
        &mut self,
        simd: S,
        group: &Group<R>,
        mut scores: [S::F32; R],
    ) -> (Lanes, [S::F32; R]) {
        let greatest = self.greatest[group.first..].first_chunk_mut::<R>().expect("a tile has its rows");
        let mut shifts = [0.0; LANES];
        for row in 0..R {
            let of_row = simd.keep(scores[row], group.masks[row], f32::MIN);
            let (before, of_page) = (greatest[row], simd.max_of_lanes(of_row));
            greatest[row] = if of_page > before { of_page } else { before };
            shifts[row] = before - greatest[row];
            let grown = simd.exp(simd.sub(of_row, simd.splat(greatest[row])));
            scores[row] = simd.keep(grown, group.masks[row], 0.0);
        }
        let mut kept = [0.0; LANES];
        simd.store(simd.exp(simd.load(&shifts)), &mut kept);
        let totals = self.totals[group.first..].first_chunk_mut::<R>().expect("a tile has its rows");
        for row in 0..R {
            totals[row] = totals[row] * kept[row] + simd.sum_of_lanes(scores[row]);
        }
        (kept, scores)
    }

    fn finish(self, head_dim: usize) {
        for (row, total) in self.sums.chunks_exact_mut(head_dim).zip(self.totals) {
            let inverse = 1.0 / total;
            row.iter_mut().for_each(|sum| *sum *= inverse);
        }
    }
}

/// Rows of a tile that go through a page together.
struct Group<const R: usize> {
    first: usize,
    head_dim: usize,
    /// The tokens of the page that each row sees, as bits.
    masks: [u16; R],
}

impl<const R: usize> Group<R> {
    #[inline(always)]
    fn new(tile: &Tile<'_>, page_idx: usize, first: usize) -> Self {
        let mask = |row: usize| tile.mask(tile.positions[first + row], page_idx);
        Self { first, head_dim: tile.head_dim, masks: std::array::from_fn(mask) }
    }

    /// Up to the last token that one of the rows sees.
    fn n_tokens(&self) -> usize {
        let seen = self.masks.iter().fold(0, |seen, mask| seen | mask);
        LANES - seen.leading_zeros() as usize
    }
}

#[cfg(test)]
mod tests;
