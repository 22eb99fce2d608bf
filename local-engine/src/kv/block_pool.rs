//! Hands out the blocks of a paged KV cache, counts who holds them, and takes the longest free first.
//!
//! Does not know what is in a block. Whoever keeps an index of contents (a prefix cache) may ask for a
//! free block by name, which is a hit, and must forget what a block held when it comes out of `take`.
//!
//! ```text
//!            take (the longest free)                  retain
//!   free ────────────────────────────▶ held by 1 ◀────────────▶ held by n
//!    ▲  └──────── retain (a hit) ────────▲ │          release
//!    └───────── release, discard ──────────┘
//! ```
//!
//! Invariants: free + used = total; a block that is held is not in the free queue, and one that is
//! not held stands in it exactly once; every operation takes constant time.

/// One block of a pool. Means nothing to another pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockId(u32);

impl BlockId {
    /// Where the block's page lies in a backend's memory.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why a block is not the caller's to hold or to give back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("block {0:?} is free, so nobody can give it back; it was given back twice")]
    NotHeld(BlockId),
    #[error("block {0:?} is of another pool")]
    Unknown(BlockId),
}

/// Marks the end of the free queue, and a block that is not in it.
const NONE: u32 = u32::MAX;

/// A block's place in the free queue is in the block itself, so that it can leave from the middle.
#[derive(Debug, Clone, Copy)]
struct Block {
    n_refs: u32,
    before: u32,
    after: u32,
}

/// A fixed number of blocks.
#[derive(Debug)]
pub struct BlockPool {
    blocks: Vec<Block>,
    /// Free the longest: the next to be taken.
    oldest: u32,
    newest: u32,
    n_free: usize,
}

impl BlockPool {
    /// All blocks are free, and are taken in the order of their indices at first.
    pub fn new(n_blocks: u32) -> Self {
        let unqueued = Block { n_refs: 0, before: NONE, after: NONE };
        // One name is taken by the mark of the end.
        let n_blocks = n_blocks.min(NONE - 1);
        let blocks = vec![unqueued; n_blocks as usize];
        let mut pool = Self { blocks, oldest: NONE, newest: NONE, n_free: 0 };
        for idx in 0..n_blocks {
            pool.enqueue(idx);
        }
        pool
    }

    pub fn n_blocks(&self) -> usize {
        self.blocks.len()
    }

    pub fn n_free(&self) -> usize {
        self.n_free
    }

    pub fn n_used(&self) -> usize {
        self.blocks.len() - self.n_free
    }

    /// How many hold the block; none for a block of another pool.
    pub fn n_refs(&self, id: BlockId) -> u32 {
        self.blocks.get(id.index()).map_or(0, |block| block.n_refs)
    }

    /// The block that has been free for longest, held once; none when all are held.
    pub fn take(&mut self) -> Option<BlockId> {
        let id = BlockId(self.oldest);
        let block = self.blocks.get_mut(id.index())?;
        block.n_refs = 1;
        self.dequeue(id.0);
        Some(id)
    }

    /// Holds a block once more, free or not.
    pub fn retain(&mut self, id: BlockId) -> Result<(), BlockError> {
        let block = self.blocks.get_mut(id.index()).ok_or(BlockError::Unknown(id))?;
        let was_free = block.n_refs == 0;
        block.n_refs += 1;
        if was_free {
            self.dequeue(id.0);
        }
        Ok(())
    }

    /// Gives back one hold; with the last one the block becomes the newest of the free.
    pub fn release(&mut self, id: BlockId) -> Result<(), BlockError> {
        let block = self.blocks.get_mut(id.index()).ok_or(BlockError::Unknown(id))?;
        block.n_refs = block.n_refs.checked_sub(1).ok_or(BlockError::NotHeld(id))?;
        if block.n_refs == 0 {
            self.enqueue(id.0);
        }
        Ok(())
    }

    /// Gives back one hold of a block whose content nobody will ask for; with the last one the block
    /// becomes the next to be taken, ahead of those that may still be hit.
    pub fn discard(&mut self, id: BlockId) -> Result<(), BlockError> {
        self.release(id)?;
        if self.n_refs(id) == 0 {
            self.dequeue(id.0);
            self.enqueue_first(id.0);
        }
        Ok(())
    }

    /// The free blocks, the next to be taken first.
    pub fn free(&self) -> impl Iterator<Item = BlockId> + '_ {
        let first = (self.oldest != NONE).then_some(self.oldest);
        std::iter::successors(first, |idx| {
            let after = self.blocks.get(*idx as usize)?.after;
            (after != NONE).then_some(after)
        })
        .map(BlockId)
    }

    fn enqueue(&mut self, idx: u32) {
        let before = std::mem::replace(&mut self.newest, idx);
        let block = &mut self.blocks[idx as usize];
        (block.before, block.after) = (before, NONE);
        match self.blocks.get_mut(before as usize) {
            Some(before) => before.after = idx,
            None => self.oldest = idx,
        }
        self.n_free += 1;
    }

    fn enqueue_first(&mut self, idx: u32) {
        let after = std::mem::replace(&mut self.oldest, idx);
        let block = &mut self.blocks[idx as usize];
        (block.before, block.after) = (NONE, after);
        match self.blocks.get_mut(after as usize) {
            Some(after) => after.before = idx,
            None => self.newest = idx,
        }
        self.n_free += 1;
    }

    fn dequeue(&mut self, idx: u32) {
        let block = &mut self.blocks[idx as usize];
        let before = std::mem::replace(&mut block.before, NONE);
        let after = std::mem::replace(&mut block.after, NONE);
        match self.blocks.get_mut(before as usize) {
            Some(block) => block.after = after,
            None => self.oldest = after,
        }
        match self.blocks.get_mut(after as usize) {
            Some(block) => block.before = before,
            None => self.newest = before,
        }
        self.n_free -= 1;
    }
}

#[cfg(test)]
mod tests;
