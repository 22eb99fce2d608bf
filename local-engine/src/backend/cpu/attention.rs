//! Attention of a few query rows over the pages of a sequence, in one pass.
//!
//! Starts no threads and writes no pages. The rows of a tile are (token, head) pairs that share a head of
//! keys and values; they are taken through each page up to eight at a time, so a page is read once for
//! all of them.
//!
//! Invariants: a row goes through absolute pages of sixteen tokens from the first it sees to the last, and
//! what is computed of it there depends on nothing but itself; so its bits do not depend on the rows beside
//! it, on the chunk it came in, or on where the pages lie. A page that a row does not see changes nothing.

use std::ops::Range;

use super::kv::{HeadPages, HeadPagesOf, Number, Page, Pages};
use super::simd::{LANES, Lanes, Simd};
use crate::backend::BLOCK_TOKENS;
use crate::kv::BlockId;

/// Rows of a tile, at most.
pub(crate) const TILE_ROWS: usize = 32;

/// Numbers in a head, at most.
pub(crate) const MAX_HEAD: usize = 256;

/// Rows that are computed together, of so many that are left: as many as leave registers free.
fn group_of(n_left: usize) -> usize {
    if n_left >= 16 { 16 } else { n_left.min(8) }
}

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
    /// `[group][dim][row of the group]`, so that those of a dimension lie side by side.
    queries: &'a mut [f32],
    /// The greatest score so far.
    greatest: [f32; TILE_ROWS],
    /// Of the weights, for each token of a page.
    totals: [Lanes; TILE_ROWS],
    /// `[row][dim]`: the values so far, weighted.
    sums: &'a mut [f32],
}

/// Attends with each row; `query(row, head)` writes its query, scaled so that scores are logarithms to
/// the base of two, `sums` take the rows' outputs, and
/// `queries` are room for as many numbers.
pub(crate) fn attend<S: Simd>(
    simd: S,
    tile: &Tile<'_>,
    query: impl Fn(usize, &mut [f32]),
    (sums, queries): (&mut [f32], &mut [f32]),
) {
    let n_rows = tile.positions.len();
    assert!(n_rows <= TILE_ROWS && tile.head_dim <= MAX_HEAD, "a tile is within its bounds");
    assert!(sums.len() == n_rows * tile.head_dim && queries.len() == sums.len(), "each row has an output");
    sums.fill(0.0);
    let mut state =
        State { queries, greatest: [f32::MIN; TILE_ROWS], totals: [[0.0; LANES]; TILE_ROWS], sums };
    state.take_queries(tile, query);
    let first = tile.positions.iter().map(|position| tile.first_seen(*position)).min().unwrap_or(0);
    let last = tile.positions.iter().copied().max().unwrap_or(0);
    let seen = first / BLOCK_TOKENS..last / BLOCK_TOKENS + 1;
    match tile.pages.of_head(tile.layer, tile.kv_head) {
        HeadPages::F16(pages) => state.visit_all(simd, tile, seen, pages),
        HeadPages::Int8(pages) => state.visit_all(simd, tile, seen, pages),
    }
    state.finish(simd, tile.head_dim);
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
        let mut first = 0;
        while first < n_rows {
            let n_grouped = group_of(n_rows - first);
            let of_group = &mut self.queries[first * tile.head_dim..];
            for row in 0..n_grouped {
                query(first + row, head);
                for (dim, q) in head.iter().enumerate() {
                    of_group[dim * n_grouped + row] = *q;
                }
            }
            first += n_grouped;
        }
    }

    fn visit_all<S: Simd, T: Number>(
        &mut self,
        simd: S,
        tile: &Tile<'_>,
        seen: Range<usize>,
        pages: HeadPagesOf<'_, T>,
    ) {
        let last = seen.end - 1;
        for page_idx in seen {
            let next_idx = last.min(page_idx + 1);
            let two = [pages.page(tile.blocks[page_idx]), pages.page(tile.blocks[next_idx])];
            self.visit(simd, tile, page_idx, two);
        }
    }

    /// Takes all rows through a page, while the next one is asked for.
    fn visit<S: Simd, T: Number>(
        &mut self,
        simd: S,
        tile: &Tile<'_>,
        page_idx: usize,
        pages: [Page<'_, T>; 2],
    ) {
        simd.run(
            #[inline(always)]
            || {
                let n_rows = tile.positions.len();
                let mut first = 0;
                while first < n_rows {
                    let n_grouped = group_of(n_rows - first);
                    match n_grouped {
                        1 => self.visit_group(simd, pages, &Group::<1>::new(tile, page_idx, first)),
                        2 => self.visit_group(simd, pages, &Group::<2>::new(tile, page_idx, first)),
                        3 => self.visit_group(simd, pages, &Group::<3>::new(tile, page_idx, first)),
                        4 => self.visit_group(simd, pages, &Group::<4>::new(tile, page_idx, first)),
                        5 => self.visit_group(simd, pages, &Group::<5>::new(tile, page_idx, first)),
                        6 => self.visit_group(simd, pages, &Group::<6>::new(tile, page_idx, first)),
                        7 => self.visit_group(simd, pages, &Group::<7>::new(tile, page_idx, first)),
                        8 => self.visit_group(simd, pages, &Group::<8>::new(tile, page_idx, first)),
                        _ => self.visit_group(simd, pages, &Group::<16>::new(tile, page_idx, first)),
                    }
                    first += n_grouped;
                }
            },
        );
    }

    #[inline(always)]
    fn visit_group<S: Simd, T: Number, const R: usize>(
        &mut self,
        simd: S,
        [page, next]: [Page<'_, T>; 2],
        group: &Group<R>,
    ) {
        let Group { first, head_dim, .. } = *group;
        let n_tokens = group.n_tokens();
        if n_tokens == 0 {
            return;
        }
        let queries = self.queries[first * head_dim..][..R * head_dim].as_chunks::<R>().0;
        let mut scores = [simd.splat(0.0); R];
        for (dim, queries) in queries.iter().enumerate() {
            // The next page lies anywhere, so only we know where; asked for bit by bit, it is there in time.
            next.prefetch_key(simd, dim);
            let keys = page.key(simd, dim);
            for (scores, q) in scores.iter_mut().zip(queries) {
                *scores = simd.fma(simd.splat(*q), keys, *scores);
            }
        }
        for (scores, mask) in scores.iter_mut().zip(group.masks) {
            *scores = simd.keep(page.scale_keys(simd, *scores), mask, f32::MIN);
        }
        self.raise(simd, group, &scores);
        let mut weights = [[0.0; LANES]; R];
        for row in 0..R {
            let shifted = simd.sub(scores[row], simd.splat(self.greatest[first + row]));
            let of_row = simd.keep(simd.exp2(shifted), group.masks[row], 0.0);
            let totals = &mut self.totals[first + row];
            simd.store(simd.add(simd.load(totals), of_row), totals);
            simd.store(page.scale_values(simd, of_row), &mut weights[row]);
        }
        let n_vectors = head_dim / LANES;
        let sums = self.sums[first * head_dim..][..R * head_dim].as_chunks_mut::<LANES>().0;
        for vector in 0..n_vectors {
            let mut of_rows = [simd.splat(0.0); R];
            for (row, sum) in of_rows.iter_mut().enumerate() {
                *sum = simd.load(&sums[row * n_vectors + vector]);
            }
            for token in 0..n_tokens {
                next.prefetch_value(simd, token * n_vectors + vector);
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

    /// Where a score is above the greatest so far, it becomes the greatest, and what was summed shrinks.
    /// Few pages of a long text have such a score, so this is not what attention spends its time on.
    #[inline(always)]
    fn raise<S: Simd, const R: usize>(&mut self, simd: S, group: &Group<R>, scores: &[S::F32; R]) {
        let Group { first, head_dim, .. } = *group;
        for (row, scores) in (first..first + R).zip(scores) {
            let before = self.greatest[row];
            if !simd.any_above(*scores, before) {
                continue;
            }
            self.greatest[row] = simd.max_of_lanes(*scores);
            let shrunk = simd.exp2(simd.splat(before - self.greatest[row]));
            let totals = &mut self.totals[row];
            simd.store(simd.mul(simd.load(totals), shrunk), totals);
            let (sums, _) = self.sums[row * head_dim..][..head_dim].as_chunks_mut::<LANES>();
            for sums in sums {
                simd.store(simd.mul(simd.load(sums), shrunk), sums);
            }
        }
    }

    fn finish<S: Simd>(self, simd: S, head_dim: usize) {
        for (row, totals) in self.sums.chunks_exact_mut(head_dim).zip(&self.totals) {
            let inverse = 1.0 / simd.sum_of_lanes(simd.load(totals));
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
