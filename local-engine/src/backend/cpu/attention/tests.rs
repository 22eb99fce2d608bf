//! Rows attend as f64 arithmetic says, on every tier, and alike however they are tiled.

use super::*;
use crate::backend::cpu::kv::KvFormat;
use crate::backend::cpu::simd::{Scalar, Tier, with_tier};
use crate::kv::block_pool::BlockPool;
use crate::model::{Family, Hparams};

const N_TOKENS: usize = 75;

fn head(seed: usize, head_dim: usize) -> Vec<f32> {
    (0..head_dim).map(|dim| ((dim * 37 + seed * 7_919) % 257) as f32 / 64.0 - 2.0).collect()
}

struct Text {
    pages: Pages,
    blocks: Vec<BlockId>,
    head_dim: usize,
}

/// A text whose keys and values are made up, in pages that lie in this or the other order.
fn text(kv: KvFormat, head_dim: usize, reversed: bool) -> Text {
    let hparams = Hparams { head_dim, ..Hparams::tiny(Family::Llama) };
    let mut pool = BlockPool::new(7);
    let mut blocks: Vec<BlockId> = std::iter::from_fn(|| pool.take()).collect();
    if reversed {
        blocks.reverse();
    }
    let mut pages = Pages::new(&hparams, kv, 7).unwrap();
    // The pages' last owner left large numbers everywhere.
    for block in &blocks {
        for slot in 0..BLOCK_TOKENS {
            pages.block_mut(1, *block).write(Scalar, 1, slot, (&vec![6e4; head_dim], &vec![-6e4; head_dim]));
        }
    }
    for position in 0..N_TOKENS {
        let of_token = (&head(position, head_dim)[..], &head(position + 500, head_dim)[..]);
        let block = blocks[position / BLOCK_TOKENS];
        pages.block_mut(1, block).write(Scalar, 1, position % BLOCK_TOKENS, of_token);
    }
    Text { pages, blocks, head_dim }
}

impl Text {
    fn attend(&self, tier: Tier, window: Option<usize>, positions: &[usize]) -> Vec<f32> {
        let tile = Tile {
            pages: &self.pages,
            layer: 1,
            kv_head: 1,
            blocks: &self.blocks,
            window,
            head_dim: self.head_dim,
            positions,
        };
        let mut sums = vec![f32::NAN; positions.len() * self.head_dim];
        let query = |row: usize, to: &mut [f32]| to.copy_from_slice(&query(positions[row], self.head_dim));
        let mut queries = vec![f32::NAN; sums.len()];
        with_tier!(tier, simd => attend(simd, &tile, query, (&mut sums, &mut queries)));
        sums
    }
}

fn query(position: usize, head_dim: usize) -> Vec<f32> {
    let to_base_two = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
    head(position + 900, head_dim).iter().map(|x| x * to_base_two).collect()
}

/// What a row takes from the values, in f64 and without pages.
fn expected(position: usize, window: Option<usize>, head_dim: usize) -> Vec<f64> {
    let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
    let scores: Vec<f64> = (first..=position)
        .map(|token| {
            let pairs = query(position, head_dim).into_iter().zip(head(token, head_dim));
            pairs.map(|(q, k)| f64::from(q) * f64::from(k)).sum()
        })
        .collect();
    let greatest = scores.iter().copied().fold(f64::MIN, f64::max);
    let total: f64 = scores.iter().map(|score| (score - greatest).exp2()).sum();
    let mut sums = vec![0.0; head_dim];
    for (token, score) in (first..=position).zip(scores) {
        for (sum, value) in sums.iter_mut().zip(head(token + 500, head_dim)) {
            *sum += (score - greatest).exp2() / total * f64::from(value);
        }
    }
    sums
}

fn tiers() -> Vec<Tier> {
    let mut tiers = vec![Tier::Scalar(Scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        use crate::backend::cpu::simd::{Avx2, Avx512};
        tiers.extend(Avx2::detect().map(Tier::Avx2));
        tiers.extend(Avx512::detect().map(Tier::Avx512));
    }
    tiers
}

#[test]
fn rows_take_what_their_tokens_are_worth() {
    for (kv, tolerance) in [(KvFormat::F16, 2e-3), (KvFormat::Int8, 3e-2)] {
        for head_dim in [16, 64, 112] {
            let text = text(kv, head_dim, false);
            for window in [None, Some(1), Some(16), Some(24), Some(200)] {
                for position in [0, 1, 15, 16, 17, 40, N_TOKENS - 1] {
                    for tier in tiers() {
                        let found = text.attend(tier, window, &[position]);
                        for (found, expected) in found.iter().zip(expected(position, window, head_dim)) {
                            let error = (f64::from(*found) - expected).abs();
                            assert!(error < tolerance, "{kv:?} {head_dim} {window:?} {position}: {error}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn tiles_pages_and_tiers_change_no_bit() {
    let positions: Vec<usize> = (0..TILE_ROWS).map(|row| 43 + row).collect();
    for kv in [KvFormat::F16, KvFormat::Int8] {
        let (text, turned) = (text(kv, 48, false), text(kv, 48, true));
        for window in [None, Some(20)] {
            let alone: Vec<Vec<f32>> = positions
                .iter()
                .map(|position| text.attend(Tier::Scalar(Scalar), window, &[*position]))
                .collect();
            for tier in tiers() {
                for n_rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 17, 31, TILE_ROWS] {
                    for (positions, alone) in positions.chunks(n_rows).zip(alone.chunks(n_rows)) {
                        assert_eq!(
                            turned.attend(tier, window, positions),
                            alone.concat(),
                            "{tier:?} {n_rows}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn rows_of_any_order_and_the_same_position_are_rows_of_their_own() {
    let text = text(KvFormat::F16, 32, false);
    let alone = |position| text.attend(Tier::Scalar(Scalar), Some(18), &[position]);
    for tier in tiers() {
        let positions = [70, 3, 3, 41, 70, 0];

        let found = text.attend(tier, Some(18), &positions);

        assert_eq!(found, positions.map(alone).concat());
    }
}
