//! Keys cover all they should, and one block answers to one key.

use super::*;
use crate::kv::block_pool::BlockPool;

fn tokens(first: TokenId) -> [TokenId; BLOCK_TOKENS] {
    std::array::from_fn(|idx| first + idx as TokenId)
}

fn blocks<const N: usize>() -> [BlockId; N] {
    let mut pool = BlockPool::new(N as u32);
    [(); N].map(|()| pool.take().unwrap())
}

#[test]
fn a_key_covers_tokens_parent_and_salt() {
    let key = BlockKey::new(None, &tokens(1), 7);

    assert_eq!(key, BlockKey::new(None, &tokens(1), 7));
    assert_ne!(key, BlockKey::new(None, &tokens(2), 7));
    assert_ne!(key, BlockKey::new(None, &tokens(1), 8));
    assert_ne!(key, BlockKey::new(Some(key), &tokens(1), 7));
}

#[test]
fn a_chain_has_a_key_for_every_full_block_however_it_grew() {
    let text: Vec<TokenId> = (0..40).collect();
    let mut at_once = KeyChain::new(1);
    at_once.extend(&text);

    let mut bit_by_bit = KeyChain::new(1);
    for len in [0, 15, 16, 31, 32, 40] {
        bit_by_bit.extend(&text[..len]);
        assert_eq!(bit_by_bit.keys().len(), len / BLOCK_TOKENS);
    }

    assert_eq!(at_once.keys(), bit_by_bit.keys());
    assert_ne!(at_once.keys()[0], at_once.keys()[1]);
}

#[test]
fn the_first_block_to_register_a_key_keeps_it() {
    let mut prefix = PrefixCache::new(2);
    let [first, second] = blocks();
    let key = BlockKey::new(None, &tokens(1), 0);

    prefix.register(key, first);
    prefix.register(key, second);

    assert_eq!((prefix.find(key), prefix.key(second)), (Some(first), None));
    assert!(prefix.is_consistent());
}

#[test]
fn a_block_answers_to_the_first_key_it_was_given() {
    let mut prefix = PrefixCache::new(1);
    let [block] = blocks();
    let [key, other] = [1, 2].map(|first| BlockKey::new(None, &tokens(first), 0));

    prefix.register(key, block);
    prefix.register(other, block);

    assert_eq!((prefix.find(key), prefix.find(other)), (Some(block), None));
    assert!(prefix.is_consistent());
}

#[test]
fn a_forgotten_block_is_not_found_and_may_hold_another_text() {
    let mut prefix = PrefixCache::new(1);
    let [block] = blocks();
    let [key, other] = [1, 2].map(|first| BlockKey::new(None, &tokens(first), 0));
    prefix.register(key, block);

    prefix.forget(block);
    assert_eq!(prefix.find(key), None);
    prefix.register(other, block);

    assert_eq!(prefix.find(other), Some(block));
    assert!(prefix.is_consistent());
}
