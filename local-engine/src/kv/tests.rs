//! Blocks are shared when they are full and equal, and only then.

use super::*;

/// A table for a text, with its pages filled as if it had been computed.
fn filled(kv: &mut KvCache, text: &[TokenId], salt: u64) -> BlockTable {
    let mut table = BlockTable::new(Some(salt));
    table.prepare(text);
    kv.share(&mut table, text.len());
    assert!(kv.grow(&mut table, text.len()));
    table.advance(text.len() - table.n_computed());
    kv.register(&mut table, text, text.len());
    table
}

fn n_hits(kv: &KvCache, text: &[TokenId], salt: u64) -> usize {
    let mut table = BlockTable::new(Some(salt));
    table.prepare(text);
    kv.hits(&table, text.len()).n_blocks
}

fn text(len: usize) -> Vec<TokenId> {
    (0..len as TokenId).collect()
}

#[test]
fn all_but_the_last_token_may_hit() {
    for (len, n_expected) in [(1, 0), (16, 0), (17, 1), (32, 1), (33, 2), (40, 2)] {
        let mut kv = KvCache::new(8, true);
        filled(&mut kv, &text(48), 0);

        assert_eq!(n_hits(&kv, &text(len), 0), n_expected, "{len} tokens");
    }
}

#[test]
fn a_hit_is_held_by_both_and_outlives_the_first() {
    let mut kv = KvCache::new(4, true);
    let mut first = filled(&mut kv, &text(33), 0);
    let mut second = filled(&mut kv, &text(33), 0);

    assert_eq!(first.blocks()[..2], second.blocks()[..2]);
    assert_ne!(first.blocks()[2], second.blocks()[2]);
    assert_eq!(kv.pool().n_refs(first.blocks()[0]), 2);

    kv.release(&mut first);
    assert_eq!((kv.pool().n_used(), kv.pool().n_refs(second.blocks()[0])), (3, 1));
    kv.release(&mut second);
    assert_eq!(kv.pool().n_used(), 0);
}

#[test]
fn another_salt_hits_nothing() {
    let mut kv = KvCache::new(8, true);
    filled(&mut kv, &text(33), 1);

    assert_eq!((n_hits(&kv, &text(33), 1), n_hits(&kv, &text(33), 2)), (2, 0));
}

#[test]
fn only_confirmed_tokens_are_registered() {
    let mut kv = KvCache::new(8, true);
    let mut table = BlockTable::new(Some(0));
    assert!(kv.grow(&mut table, 40));

    kv.register(&mut table, &text(40), 15);
    assert_eq!(n_hits(&kv, &text(40), 0), 0);
    kv.register(&mut table, &text(40), 31);
    assert_eq!(n_hits(&kv, &text(40), 0), 1);
    kv.register(&mut table, &text(40), 32);
    assert_eq!(n_hits(&kv, &text(40), 0), 2);
}

#[test]
fn a_block_that_is_written_anew_is_no_longer_hit() {
    let mut kv = KvCache::new(3, true);
    let mut old = filled(&mut kv, &text(33), 0);
    kv.release(&mut old);
    let mut new = BlockTable::new(Some(0));

    // The block that was not full goes first, then the end of the text, then its beginning.
    for (n_positions, n_left) in [(16, 2), (32, 1), (48, 0)] {
        assert!(kv.grow(&mut new, n_positions));
        assert_eq!(n_hits(&kv, &text(33), 0), n_left);
    }

    assert!(!kv.grow(&mut new, 49));
    assert!(kv.prefix().unwrap().is_consistent());
}

#[test]
fn a_table_that_is_trimmed_keeps_what_its_positions_need() {
    let mut kv = KvCache::new(4, true);
    let mut table = BlockTable::new(Some(0));
    assert!(kv.grow(&mut table, 64));

    for (n_positions, n_blocks) in [(64, 4), (49, 4), (48, 3), (1, 1), (0, 0)] {
        kv.trim(&mut table, n_positions);
        assert_eq!((table.blocks().len(), kv.pool().n_used()), (n_blocks, n_blocks));
    }
}

#[test]
fn without_a_prefix_cache_nothing_hits() {
    let mut kv = KvCache::new(8, false);
    let mut table = filled(&mut kv, &text(33), 0);
    kv.release(&mut table);

    assert_eq!(n_hits(&kv, &text(33), 0), 0);
}
