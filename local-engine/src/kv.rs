//! The memory for keys and values, in blocks of a fixed number of tokens.
//!
//! Holds no keys and no values: it says which block is whose, and a backend owns the pages.
//!
//! Invariants: a block's holds are the tables it is in; a block that can be hit is full and is forgotten
//! before its page is handed out to be written.

pub mod block_pool;
pub mod block_table;
pub mod expected;
pub mod prefix;

pub use block_pool::BlockId;
pub use block_table::BlockTable;
pub use expected::Expected;

use crate::backend::BLOCK_TOKENS;
use crate::request::TokenId;
use block_pool::BlockPool;
use prefix::{BlockKey, PrefixCache};

/// How many blocks hold so many positions.
pub fn n_blocks_for(n_positions: usize) -> usize {
    n_positions.div_ceil(BLOCK_TOKENS)
}

/// The blocks at the beginning of a text that are in the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hits {
    pub n_blocks: usize,
    /// Those of them that somebody holds already, so that they need no free block.
    pub n_held: usize,
}

/// All blocks, and what is known of their contents.
#[derive(Debug)]
pub struct KvCache {
    pool: BlockPool,
    prefix: Option<PrefixCache>,
}

impl KvCache {
    pub fn new(n_blocks: u32, has_prefix_cache: bool) -> Self {
        let pool = BlockPool::new(n_blocks);
        let prefix = has_prefix_cache.then(|| PrefixCache::new(pool.n_blocks()));
        Self { pool, prefix }
    }

    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    pub fn prefix(&self) -> Option<&PrefixCache> {
        self.prefix.as_ref()
    }

    /// What of a text of so many tokens need not be computed. At least its last token is, because the
    /// logits after it are wanted.
    pub fn hits(&self, table: &BlockTable, n_tokens: usize) -> Hits {
        self.hit_blocks(table, n_tokens).fold(Hits::default(), |hits, block| Hits {
            n_blocks: hits.n_blocks + 1,
            n_held: hits.n_held + usize::from(self.pool.n_refs(block) > 0),
        })
    }

    /// Fills an empty table with the cached beginning of its text.
    pub fn share(&mut self, table: &mut BlockTable, n_tokens: usize) -> usize {
        debug_assert!(table.blocks.is_empty());
        let blocks: Vec<BlockId> = self.hit_blocks(table, n_tokens).collect();
        for block in &blocks {
            self.pool.retain(*block).expect("a cached block is of this pool");
        }
        table.start_after(blocks.len());
        table.blocks = blocks;
        table.n_computed()
    }

    /// Adds blocks until the table has room for so many positions; false if they run out before.
    #[must_use]
    pub fn grow(&mut self, table: &mut BlockTable, n_positions: usize) -> bool {
        for _ in 0..table.n_missing(n_positions) {
            let Some(block) = self.pool.take() else { return false };
            if let Some(prefix) = &mut self.prefix {
                prefix.forget(block);
            }
            table.blocks.push(block);
        }
        true
    }

    /// Lets others hit the blocks that the first tokens of the text have filled; all of them are computed
    /// and none is a draft.
    pub fn register(&mut self, table: &mut BlockTable, text: &[TokenId], n_confirmed: usize) {
        let n_full = n_confirmed.min(text.len()) / BLOCK_TOKENS;
        let (Some(prefix), Some(chain)) = (&mut self.prefix, &mut table.chain) else { return };
        if n_full <= table.n_registered {
            return;
        }
        chain.extend(&text[..n_full * BLOCK_TOKENS]);
        for idx in table.n_registered..n_full {
            prefix.register(chain.keys()[idx], table.blocks[idx]);
        }
        table.n_registered = n_full;
    }

    /// Gives back blocks beyond those that so many positions need.
    pub fn trim(&mut self, table: &mut BlockTable, n_positions: usize) {
        while table.blocks.len() > n_blocks_for(n_positions) {
            let block = table.blocks.pop().expect("it is longer than something");
            self.give_back(block);
        }
    }

    /// Gives back all blocks of a table, the last first: the beginning of a text, which others may share,
    /// then stays the longest.
    pub fn release(&mut self, table: &mut BlockTable) {
        self.trim(table, 0);
        table.start_after(0);
    }

    fn give_back(&mut self, block: BlockId) {
        let is_cached = self.prefix.as_ref().is_some_and(|prefix| prefix.key(block).is_some());
        let given = if is_cached { self.pool.release(block) } else { self.pool.discard(block) };
        given.expect("a table holds its blocks");
    }

    fn hit_blocks(&self, table: &BlockTable, n_tokens: usize) -> impl Iterator<Item = BlockId> {
        let keys: &[BlockKey] = table.chain.as_ref().map_or(&[], |chain| chain.keys());
        let n_most = n_tokens.saturating_sub(1) / BLOCK_TOKENS;
        keys.iter().take(n_most).map_while(|key| self.prefix.as_ref()?.find(*key))
    }
}

#[cfg(test)]
mod tests;
