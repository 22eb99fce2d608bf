//! What was written is read back, from its own slot, as near as the format is.

use super::*;
use crate::backend::cpu::simd::{Lanes, Scalar};
use crate::model::Family;

fn head(seed: usize, head_dim: usize) -> Vec<f32> {
    (0..head_dim).map(|dim| ((dim * 37 + seed * 101) % 64) as f32 / 16.0 - 2.0).collect()
}

/// A slot's key and value, scaled.
fn read(pages: &Pages, id: PageId, slot: usize) -> (Vec<f32>, Vec<f32>) {
    fn of_page<P: ReadPage>(page: P, head_dim: usize, slot: usize) -> (Vec<f32>, Vec<f32>) {
        let key = (0..head_dim).map(|dim| page.scale_keys(Scalar, page.key(Scalar, dim))[slot]);
        let n_vectors = head_dim / LANES;
        let scale = page.scale_values(Scalar, [1.0; LANES])[slot];
        let value =
            (0..n_vectors).flat_map(|vector| -> Lanes { page.value(Scalar, slot * n_vectors + vector) });
        (key.collect(), value.map(|x| x * scale).collect())
    }
    match pages.page(id) {
        Page::F16(page) => of_page(page, pages.head_dim, slot),
        Page::Int8(page) => of_page(page, pages.head_dim, slot),
    }
}

fn pages(format: KvFormat, n_blocks: usize) -> (Hparams, Pages) {
    let hparams = Hparams::tiny(Family::Qwen3);
    let pages = Pages::new(&hparams, format, n_blocks).unwrap();
    (hparams, pages)
}

fn near(found: &[f32], expected: &[f32], tolerance: f32) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= tolerance)
}

#[test]
fn every_slot_of_every_page_keeps_its_own() {
    for (format, tolerance) in [(KvFormat::F16, 0.0), (KvFormat::Int8, 2.0 / 127.0)] {
        let (hparams, mut pages) = pages(format, 3);
        let ids = || {
            (0..2).flat_map(|layer| {
                (0..3).flat_map(move |block| (0..2).map(move |head| PageId { layer, block, head }))
            })
        };
        let seed = |id: PageId, slot| 1 + slot + 16 * (id.layer * 6 + id.block * 2 + id.head);

        for id in ids() {
            for slot in (0..BLOCK_TOKENS).rev() {
                let seed = seed(id, slot);
                pages.write(id, slot, &head(seed, hparams.head_dim), &head(seed + 7, hparams.head_dim));
            }
        }

        for id in ids() {
            for slot in 0..BLOCK_TOKENS {
                let (key, value) = read(&pages, id, slot);
                assert!(
                    near(&key, &head(seed(id, slot), hparams.head_dim), tolerance),
                    "{format:?} {id:?} {slot}"
                );
                assert!(near(&value, &head(seed(id, slot) + 7, hparams.head_dim), tolerance));
            }
        }
    }
}

#[test]
fn bytes_follow_the_size_of_their_token() {
    let (hparams, mut pages) = pages(KvFormat::Int8, 1);
    let id = PageId { layer: 1, block: 0, head: 1 };
    for (slot, size) in [1e-20_f32, 1e-3, 1.0, 5e4, 1e30].into_iter().enumerate() {
        let key: Vec<f32> = head(slot, hparams.head_dim).iter().map(|x| x * size).collect();

        pages.write(id, slot, &key, &key);

        let (found, _) = read(&pages, id, slot);
        assert!(near(&found, &key, size * 2.0 / 127.0), "{size}");
    }
}

#[test]
fn what_is_no_number_or_too_large_is_kept_as_one() {
    for format in [KvFormat::F16, KvFormat::Int8] {
        let (hparams, mut pages) = pages(format, 1);
        let id = PageId { layer: 0, block: 0, head: 0 };
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38] {
            let mut key = head(3, hparams.head_dim);
            key[5] = wrong;

            pages.write(id, 2, &key, &key);

            let (key, value) = read(&pages, id, 2);
            assert!(key.iter().chain(&value).all(|x| x.is_finite()), "{format:?} {wrong}");
        }
    }
}

#[test]
fn a_block_takes_what_it_says() {
    for (format, n_bytes) in [(KvFormat::F16, 2), (KvFormat::Int8, 1)] {
        let (hparams, pages) = pages(format, 5);
        let found = match &pages.numbers {
            Numbers::F16(numbers) => size_of_val(&numbers[..]),
            Numbers::Int8 { numbers, scales } => size_of_val(&numbers[..]) + size_of_val(&scales[..]),
        };

        assert_eq!(found, 5 * format.block_bytes(&hparams));
        assert!(found >= 5 * 2 * 2 * 2 * 16 * 64 * n_bytes);
    }
}
