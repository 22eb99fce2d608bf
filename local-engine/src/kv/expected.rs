//! Blocks that somebody is about to fill, so that others need not fill the same again beside it.
//!
//! When many requests with one long beginning come at once, none of them finds it in the cache. Whoever
//! comes first computes it; the others are better off waiting until they can hit it.
//!
//! Holds nothing and promises nothing: whoever is expected to fill a block may leave, and then nobody is
//! expected to.

use std::collections::HashSet;

use super::prefix::BlockKey;
use super::{BlockTable, Hits};
use crate::backend::BLOCK_TOKENS;

/// With fewer blocks to be had, waiting for a step costs more than it saves: templates begin alike.
const MIN_GAIN: usize = 4;

/// The keys of blocks that are being filled.
#[derive(Debug, Default)]
pub struct Expected {
    keys: HashSet<BlockKey>,
}

impl Expected {
    /// The table's sequence computes its text, from so many blocks on.
    pub fn add(&mut self, table: &BlockTable, n_blocks: usize) {
        self.keys.extend(keys(table).iter().skip(n_blocks));
    }

    /// Whether a text of so many tokens, of which some blocks are in the cache, soon has more of them there.
    pub fn is_worth_waiting_for(&self, table: &BlockTable, n_tokens: usize, hits: Hits) -> bool {
        let n_most = n_tokens.saturating_sub(1) / BLOCK_TOKENS;
        let coming = keys(table).iter().take(n_most).skip(hits.n_blocks);
        coming.take(MIN_GAIN).take_while(|key| self.keys.contains(key)).count() == MIN_GAIN
    }
}

fn keys(table: &BlockTable) -> &[BlockKey] {
    table.chain.as_ref().map_or(&[], |chain| chain.keys())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::TokenId;

    fn table(n_tokens: usize, salt: u64) -> BlockTable {
        let text: Vec<TokenId> = (0..n_tokens as TokenId).collect();
        let mut table = BlockTable::new(Some(salt));
        table.prepare(&text);
        table
    }

    fn waits(expected: &Expected, n_tokens: usize, n_hits: usize, salt: u64) -> bool {
        let hits = Hits { n_blocks: n_hits, n_held: 0 };
        expected.is_worth_waiting_for(&table(n_tokens, salt), n_tokens, hits)
    }

    #[test]
    fn enough_blocks_of_the_same_text_are_worth_waiting_for() {
        let mut expected = Expected::default();
        assert!(!waits(&expected, 200, 0, 0));

        expected.add(&table(100, 0), 0);

        assert!(waits(&expected, 65, 0, 0));
        assert!(!waits(&expected, 64, 0, 0), "the fourth block may not be hit");
        assert!(!waits(&expected, 65, 0, 1), "it is another's");
        assert!(waits(&expected, 200, 2, 0));
        assert!(!waits(&expected, 200, 3, 0), "only three more are coming");
    }

    #[test]
    fn blocks_that_were_filled_before_are_not_expected() {
        let mut expected = Expected::default();

        expected.add(&table(100, 0), 2);

        assert!(!waits(&expected, 200, 0, 0));
        assert!(waits(&expected, 200, 2, 0));
    }
}
