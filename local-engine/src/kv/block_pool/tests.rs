//! The pool against a model of itself that is slow and plain.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

impl BlockPool {
    /// The free queue, oldest first, walked both ways.
    fn free_queue(&self) -> Vec<u32> {
        let walk = |start, next: fn(&Block) -> u32| {
            std::iter::successors(Some(start), |idx| self.blocks.get(*idx as usize).map(next))
                .take_while(|idx| *idx != NONE)
                .take(self.blocks.len() + 1)
                .collect::<Vec<u32>>()
        };
        let forward = walk(self.oldest, |block| block.after);
        let mut backward = walk(self.newest, |block| block.before);
        backward.reverse();
        assert_eq!(forward, backward);
        forward
    }
}

#[test]
fn the_longest_free_block_is_taken_first() {
    let mut pool = BlockPool::new(3);
    let [a, b, c] = [(); 3].map(|()| pool.take().unwrap());
    assert_eq!([a, b, c].map(BlockId::index), [0, 1, 2]);
    assert_eq!(pool.take(), None);

    for id in [c, a, b] {
        pool.release(id).unwrap();
    }

    assert_eq!([pool.take(), pool.take(), pool.take()], [Some(c), Some(a), Some(b)]);
}

#[test]
fn a_free_block_that_is_held_again_is_not_taken() {
    let mut pool = BlockPool::new(3);

    pool.retain(BlockId(1)).unwrap();

    assert_eq!([pool.take(), pool.take(), pool.take()], [Some(BlockId(0)), Some(BlockId(2)), None]);
}

#[test]
fn a_block_is_free_only_when_the_last_hold_is_given_back() {
    let mut pool = BlockPool::new(1);
    let id = pool.take().unwrap();
    pool.retain(id).unwrap();

    pool.release(id).unwrap();
    assert_eq!((pool.n_refs(id), pool.n_free(), pool.n_used()), (1, 0, 1));

    pool.release(id).unwrap();
    assert_eq!((pool.n_refs(id), pool.n_free(), pool.n_used()), (0, 1, 0));
}

#[test]
fn a_discarded_block_is_taken_before_those_that_were_given_back() {
    let mut pool = BlockPool::new(4);
    let [a, b, c] = [(); 3].map(|()| pool.take().unwrap());

    pool.release(a).unwrap();
    pool.retain(b).unwrap();
    pool.discard(b).unwrap();
    assert_eq!(pool.free_queue(), [3, 0]);
    pool.discard(c).unwrap();
    pool.discard(b).unwrap();

    assert_eq!(pool.free_queue(), [1, 2, 3, 0]);
    assert_eq!(pool.discard(b), Err(BlockError::NotHeld(b)));
}

#[test]
fn what_is_not_held_cannot_be_given_back() {
    let mut pool = BlockPool::new(2);
    let id = pool.take().unwrap();
    pool.release(id).unwrap();

    assert_eq!(pool.release(id), Err(BlockError::NotHeld(id)));
    assert_eq!(pool.release(BlockId(2)), Err(BlockError::Unknown(BlockId(2))));
    assert_eq!(pool.retain(BlockId(NONE)), Err(BlockError::Unknown(BlockId(NONE))));
    assert_eq!(pool.free_queue(), [1, 0]);
}

#[test]
fn an_empty_pool_has_nothing_to_take() {
    assert_eq!(BlockPool::new(0).take(), None);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Take,
    Retain(u32),
    Release(u32),
    Discard(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Take),
        2 => (0..10_u32).prop_map(Step::Retain),
        3 => (0..10_u32).prop_map(Step::Release),
        1 => (0..10_u32).prop_map(Step::Discard),
    ];
    proptest::collection::vec(step, 0..200)
}

/// What the pool should be: holds by block, and the free blocks, oldest first.
struct Model {
    n_refs: Vec<u32>,
    free: VecDeque<u32>,
}

impl Model {
    fn run(&mut self, step: Step) -> Option<u32> {
        match step {
            Step::Take => {
                let idx = self.free.pop_front()?;
                self.n_refs[idx as usize] = 1;
                return Some(idx);
            }
            Step::Retain(idx) => {
                *self.n_refs.get_mut(idx as usize)? += 1;
                self.free.retain(|free| *free != idx);
            }
            Step::Release(idx) | Step::Discard(idx) => {
                let n_refs = self.n_refs.get_mut(idx as usize).filter(|n_refs| **n_refs > 0)?;
                *n_refs -= 1;
                match (*n_refs, step) {
                    (0, Step::Discard(_)) => self.free.push_front(idx),
                    (0, Step::Take | Step::Retain(_) | Step::Release(_)) => self.free.push_back(idx),
                    (1.., _) => {}
                }
            }
        }
        Some(idx_of(step))
    }
}

fn idx_of(step: Step) -> u32 {
    match step {
        Step::Take => NONE,
        Step::Retain(idx) | Step::Release(idx) | Step::Discard(idx) => idx,
    }
}

proptest! {
    #[test]
    fn invariants_hold_after_any_steps(n_blocks in 0..9_u32, steps in steps()) {
        let mut pool = BlockPool::new(n_blocks);
        let mut model = Model { n_refs: vec![0; n_blocks as usize], free: (0..n_blocks).collect() };
        for step in steps {
            let done = match step {
                Step::Take => pool.take().map(|id| id.0),
                Step::Retain(idx) => pool.retain(BlockId(idx)).ok().map(|()| idx),
                Step::Release(idx) => pool.release(BlockId(idx)).ok().map(|()| idx),
                Step::Discard(idx) => pool.discard(BlockId(idx)).ok().map(|()| idx),
            };

            prop_assert_eq!(done, model.run(step), "{:?}", step);
            let queue = pool.free_queue();
            prop_assert_eq!(&queue, &model.free.iter().copied().collect::<Vec<_>>(), "{:?}", step);
            prop_assert_eq!(queue.len(), pool.n_free());
            prop_assert_eq!(&queue, &pool.free().map(|id| id.0).collect::<Vec<_>>());
            prop_assert_eq!(pool.n_free() + pool.n_used(), pool.n_blocks());
            for idx in 0..n_blocks {
                let n_refs = pool.n_refs(BlockId(idx));
                prop_assert_eq!(n_refs, model.n_refs[idx as usize], "block {}", idx);
                prop_assert_eq!(n_refs == 0, queue.contains(&idx), "block {}", idx);
            }
        }
    }
}
