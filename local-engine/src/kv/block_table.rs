//! What one sequence has in the KV cache: its blocks in order, and how far they are filled.
//!
//! Takes and gives no blocks; [`KvCache`](super::KvCache) does.
//!
//! Invariants: position `p` lies in block `p / 16` of the table; what is counted as computed is of
//! confirmed tokens, never of drafts; a block that came by a hit is full and is not written again.

use super::prefix::KeyChain;
use super::{BlockId, n_blocks_for};
use crate::backend::BLOCK_TOKENS;
use crate::request::TokenId;

/// A sequence's pages.
#[derive(Debug)]
pub struct BlockTable {
    pub(super) blocks: Vec<BlockId>,
    /// None when prefixes are not cached.
    pub(super) chain: Option<KeyChain>,
    /// Blocks at the beginning that were offered to the prefix cache or came from it.
    pub(super) n_registered: usize,
    /// Confirmed tokens whose keys and values are in the model's pages.
    n_computed: usize,
    /// The same for the pages of the draft model, which lag behind.
    n_followed: usize,
}

impl BlockTable {
    /// For a text that nobody but those of the same salt may share; `None` shares with nobody.
    pub fn new(salt: Option<u64>) -> Self {
        let chain = salt.map(KeyChain::new);
        Self { blocks: Vec::new(), chain, n_registered: 0, n_computed: 0, n_followed: 0 }
    }

    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    /// Who may share it; none if nobody may.
    pub fn salt(&self) -> Option<u64> {
        self.chain.as_ref().map(KeyChain::salt)
    }

    pub fn n_computed(&self) -> usize {
        self.n_computed
    }

    pub fn n_followed(&self) -> usize {
        self.n_followed
    }

    /// How many more blocks so many positions need.
    pub fn n_missing(&self, n_positions: usize) -> usize {
        n_blocks_for(n_positions).saturating_sub(self.blocks.len())
    }

    /// Makes the keys of a text that will be looked up soon.
    pub fn prepare(&mut self, text: &[TokenId]) {
        if let Some(chain) = &mut self.chain {
            chain.extend(text);
        }
    }

    /// More confirmed tokens are in the model's pages.
    pub fn advance(&mut self, n_tokens: usize) {
        self.n_computed += n_tokens;
        debug_assert!(self.n_computed <= self.blocks.len() * BLOCK_TOKENS);
    }

    /// The draft model's pages hold the tokens up to there, drafts among them.
    pub fn follow(&mut self, n_followed: usize) {
        debug_assert!(n_followed <= self.blocks.len() * BLOCK_TOKENS);
        self.n_followed = n_followed;
    }

    /// What lies beyond the confirmed tokens came of drafts that did not hold.
    pub fn unfollow(&mut self) {
        self.n_followed = self.n_followed.min(self.n_computed);
    }

    /// The first blocks came from the prefix cache, full.
    pub(super) fn start_after(&mut self, n_hits: usize) {
        self.n_registered = n_hits;
        self.n_computed = n_hits * BLOCK_TOKENS;
        self.n_followed = n_hits * BLOCK_TOKENS;
    }
}
