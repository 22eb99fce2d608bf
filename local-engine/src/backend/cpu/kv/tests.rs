//! What was written is read back, from its own slot, as near as the format is.

use super::*;
use crate::backend::cpu::simd::{Lanes, Scalar, Tier, with_tier};
use crate::kv::block_pool::BlockPool;
use crate::model::Family;

fn head(seed: usize, head_dim: usize) -> Vec<f32> {
    (0..head_dim).map(|dim| ((dim * 37 + seed * 101) % 64) as f32 / 16.0 - 2.0).collect()
}

/// A head of a block of a layer.
#[derive(Debug, Clone, Copy)]
struct PageId {
    layer: usize,
    block: BlockId,
    head: usize,
}

impl Pages {
    fn write<S: Simd>(&mut self, simd: S, id: PageId, slot: usize, pair: (&[f32], &[f32])) {
        self.block_mut(id.layer, id.block).write(simd, id.head, slot, pair);
    }
}

/// A slot's key and value, scaled.
fn read(pages: &Pages, id: PageId, slot: usize) -> (Vec<f32>, Vec<f32>) {
    fn of_page<T: Number>(page: Page<'_, T>, head_dim: usize, slot: usize) -> (Vec<f32>, Vec<f32>) {
        let key = (0..head_dim).map(|dim| page.scale_keys(Scalar, page.key(Scalar, dim))[slot]);
        let n_vectors = head_dim / LANES;
        let scale = page.scale_values(Scalar, [1.0; LANES])[slot];
        let value =
            (0..n_vectors).flat_map(|vector| -> Lanes { page.value(Scalar, slot * n_vectors + vector) });
        (key.collect(), value.map(|x| x * scale).collect())
    }
    match pages.of_head(id.layer, id.head) {
        HeadPages::F16(of_head) => of_page(of_head.page(id.block), pages.head_dim, slot),
        HeadPages::Int8(of_head) => of_page(of_head.page(id.block), pages.head_dim, slot),
    }
}

fn pages(format: KvFormat, n_blocks: usize) -> (Hparams, Pages) {
    let hparams = Hparams::tiny(Family::Qwen3);
    let pages = Pages::new(&hparams, format, n_blocks).unwrap();
    (hparams, pages)
}

fn blocks(n_blocks: u32) -> Vec<BlockId> {
    let mut pool = BlockPool::new(n_blocks);
    std::iter::from_fn(|| pool.take()).collect()
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
                blocks(3)
                    .into_iter()
                    .flat_map(move |block| (0..2).map(move |head| PageId { layer, block, head }))
            })
        };
        let seed = |id: PageId, slot| 1 + slot + 16 * (id.layer * 6 + id.block.index() * 2 + id.head);

        for id in ids() {
            for slot in (0..BLOCK_TOKENS).rev() {
                let seed = seed(id, slot);
                let of_slot = (&head(seed, hparams.head_dim)[..], &head(seed + 7, hparams.head_dim)[..]);
                pages.write(Scalar, id, slot, of_slot);
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
    let id = PageId { layer: 1, block: blocks(1)[0], head: 1 };
    for (slot, size) in [1e-20_f32, 1e-3, 1.0, 5e4, 1e30].into_iter().enumerate() {
        let key: Vec<f32> = head(slot, hparams.head_dim).iter().map(|x| x * size).collect();

        pages.write(Scalar, id, slot, (&key, &key));

        let (found, _) = read(&pages, id, slot);
        assert!(near(&found, &key, size * 2.0 / 127.0), "{size}");
    }
}

#[test]
fn what_is_no_number_or_too_large_is_kept_as_one() {
    for format in [KvFormat::F16, KvFormat::Int8] {
        let (hparams, mut pages) = pages(format, 1);
        let id = PageId { layer: 0, block: blocks(1)[0], head: 0 };
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38, -1e38] {
            let mut key = head(3, hparams.head_dim);
            key[5] = wrong;

            pages.write(Scalar, id, 2, (&key, &key));

            let (key, value) = read(&pages, id, 2);
            assert!(key.iter().chain(&value).all(|x| x.is_finite()), "{format:?} {wrong}");
        }
    }
}

#[test]
fn a_block_takes_what_it_says() {
    for (format, n_bytes) in [(KvFormat::F16, 2), (KvFormat::Int8, 1)] {
        let (hparams, pages) = pages(format, 5);
        let found =
            size_of_val(&pages.halves[..]) + size_of_val(&pages.bytes[..]) + size_of_val(&pages.scales[..]);

        assert_eq!(found, 5 * format.block_bytes(&hparams));
        assert!(found >= 5 * 2 * 2 * 2 * 16 * 64 * n_bytes);
    }
}

#[test]
fn tiers_keep_the_same_bits() {
    let mut tiers = vec![Tier::Scalar(Scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        use crate::backend::cpu::simd::{Avx2, Avx512};
        tiers.extend(Avx2::detect().map(Tier::Avx2));
        tiers.extend(Avx512::detect().map(Tier::Avx512));
    }
    for format in [KvFormat::F16, KvFormat::Int8] {
        let of_tiers = tiers.iter().map(|tier| {
            let (hparams, mut pages) = pages(format, 1);
            for slot in 0..BLOCK_TOKENS {
                let mut key: Vec<f32> =
                    head(slot, hparams.head_dim).iter().map(|x| x * 7.3_f32.powi(slot as i32 - 8)).collect();
                key[slot] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-42][slot % 4];
                let id = PageId { layer: 1, block: blocks(1)[0], head: 0 };
                with_tier!(*tier, simd => simd.run(|| pages.write(simd, id, slot, (&key, &key))));
            }
            format!("{:?} {:?} {:?}", &pages.halves[..], &pages.bytes[..], &pages.scales[..])
        });
        let of_tiers: Vec<String> = of_tiers.collect();

        assert!(of_tiers.iter().all(|of_tier| *of_tier == of_tiers[0]), "{format:?}");
    }
}
