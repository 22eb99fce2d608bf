//! Which block already holds a stretch of text, so that it need not be computed again.
//!
//! Does not count who holds a block (`block_pool` does) and never looks at pages.
//!
//! A block is known by a key that covers its own tokens, all tokens before them and the salt of those who
//! may share it: equal keys mean equal keys and values in the page. Salts keep tenants apart, because
//! who can see that a prefix is cached can guess at what others asked.
//!
//! Invariants: only full blocks of confirmed tokens have a key; a key names one block and a block has one
//! key at most; the first to register a key keeps it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::BlockId;
use crate::backend::BLOCK_TOKENS;
use crate::request::TokenId;

/// What a full block holds, with all that came before it. 128 bits: two texts meet by chance once in 2^64
/// blocks, and nobody can look for such a pair faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockKey([u8; 16]);

impl BlockKey {
    /// The key of a block's tokens after a parent block; none is before the first.
    pub fn new(parent: Option<BlockKey>, tokens: &[TokenId; BLOCK_TOKENS], salt: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&parent.map_or([0; 16], |parent| parent.0));
        hasher.update(&salt.to_le_bytes());
        let mut bytes = [0; BLOCK_TOKENS * 4];
        for (bytes, token) in bytes.chunks_exact_mut(4).zip(tokens) {
            bytes.copy_from_slice(&token.to_le_bytes());
        }
        hasher.update(&bytes);
        let mut key = [0; 16];
        hasher.finalize_xof().fill(&mut key);
        Self(key)
    }
}

/// The keys of a text's full blocks, made once and extended as the text grows.
#[derive(Debug, Clone)]
pub struct KeyChain {
    salt: u64,
    keys: Vec<BlockKey>,
}

impl KeyChain {
    pub fn new(salt: u64) -> Self {
        Self { salt, keys: Vec::new() }
    }

    pub fn salt(&self) -> u64 {
        self.salt
    }

    /// Makes the keys of the blocks that the text has filled since.
    pub fn extend(&mut self, text: &[TokenId]) {
        let (blocks, _) = text.as_chunks::<BLOCK_TOKENS>();
        for tokens in blocks.iter().skip(self.keys.len()) {
            self.keys.push(BlockKey::new(self.keys.last().copied(), tokens, self.salt));
        }
    }

    pub fn keys(&self) -> &[BlockKey] {
        &self.keys
    }
}

/// The blocks that can be hit.
#[derive(Debug, Default)]
pub struct PrefixCache {
    blocks: HashMap<BlockKey, BlockId>,
    /// By block.
    keys: Vec<Option<BlockKey>>,
}

impl PrefixCache {
    pub fn new(n_blocks: usize) -> Self {
        Self { blocks: HashMap::new(), keys: vec![None; n_blocks] }
    }

    pub fn find(&self, key: BlockKey) -> Option<BlockId> {
        self.blocks.get(&key).copied()
    }

    pub fn key(&self, block: BlockId) -> Option<BlockKey> {
        self.keys.get(block.index()).copied().flatten()
    }

    /// Lets a full block be found, unless another block with the same text came first.
    pub fn register(&mut self, key: BlockKey, block: BlockId) {
        if let Entry::Vacant(entry) = self.blocks.entry(key)
            && let Some(slot @ None) = self.keys.get_mut(block.index())
        {
            *slot = Some(key);
            entry.insert(block);
        }
    }

    /// The block's page is about to be written anew.
    pub fn forget(&mut self, block: BlockId) {
        if let Some(key) = self.keys.get_mut(block.index()).and_then(Option::take) {
            self.blocks.remove(&key);
        }
    }

    /// Whether keys and blocks name one another.
    pub fn is_consistent(&self) -> bool {
        self.blocks.iter().all(|(key, block)| self.key(*block) == Some(*key))
            && self.keys.iter().flatten().count() == self.blocks.len()
    }
}

#[cfg(test)]
mod tests;
