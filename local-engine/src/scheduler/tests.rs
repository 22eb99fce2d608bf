//! Plans for given sequences and blocks: both sides of every limit.

use super::*;
use crate::kv::BlockTable;
use crate::kv::KvCache;

const LIMITS: Limits = Limits { max_step_tokens: 64, max_chunk_tokens: 32, max_running: 4, n_watermark: 0 };

/// A pool and running sequences in it: known and computed tokens, and the drafts they want.
struct Scene {
    kv: KvCache,
    running: Vec<(BlockTable, usize, usize, usize)>,
}

impl Scene {
    fn new(n_blocks: u32) -> Self {
        Self { kv: KvCache::new(n_blocks, false), running: Vec::new() }
    }

    /// As it stands between steps: the last token may still need a block.
    fn with(mut self, n_known: usize, n_computed: usize, n_wanted: usize) -> Self {
        let mut table = BlockTable::new(None);
        let n_positions = if n_computed + 1 == n_known { n_computed } else { n_known };
        assert!(self.kv.grow(&mut table, n_positions));
        self.running.push((table, n_known, n_computed, n_wanted));
        self
    }

    fn plan(&self, limits: Limits, candidates: &[(usize, Hits)]) -> Plan {
        let load = |(table, n_known, n_computed, n_wanted): &'_ (BlockTable, usize, usize, usize)| {
            (*n_known, *n_computed, *n_wanted, table.blocks().to_vec())
        };
        let loads: Vec<_> = self.running.iter().map(load).collect();
        let loads: Vec<Load<'_>> = loads
            .iter()
            .map(|(n_known, n_computed, n_wanted, blocks)| Load {
                n_known: *n_known,
                n_computed: *n_computed,
                n_wanted: *n_wanted,
                blocks,
            })
            .collect();
        let candidates = candidates.iter().enumerate().map(|(queue_idx, (n_known, hits))| Candidate {
            queue_idx,
            n_known: *n_known,
            hits: *hits,
        });
        plan(&limits, &loads, self.kv.pool(), candidates)
    }
}

fn shares(plan: &Plan) -> Vec<(usize, usize)> {
    plan.shares.iter().map(|share| (share.n_tokens, share.n_drafts)).collect()
}

fn fresh(n_known: usize) -> (usize, Hits) {
    (n_known, Hits::default())
}

#[test]
fn who_decodes_comes_before_who_prefills_whatever_the_rank() {
    let scene = Scene::new(20).with(100, 0, 0).with(41, 40, 0).with(100, 50, 0);

    let plan = scene.plan(Limits { max_step_tokens: 40, ..LIMITS }, &[]);

    assert_eq!(shares(&plan), [(32, 0), (1, 0), (7, 0)]);
    assert_eq!(plan.n_tokens(), 40);
}

#[test]
fn a_budget_that_is_spent_leaves_the_rest_for_the_next_step() {
    let scene = Scene::new(20).with(3, 2, 0).with(3, 2, 0).with(3, 2, 0);

    let plan = scene.plan(Limits { max_step_tokens: 2, ..LIMITS }, &[fresh(3)]);

    assert_eq!(shares(&plan), [(1, 0), (1, 0), (0, 0)]);
    assert_eq!((plan.n_preempted, plan.admitted.len()), (0, 0));
}

#[test]
fn the_last_in_rank_gives_way_when_there_is_no_block() {
    // Each has 16 positions and needs a block for the next.
    let scene = Scene::new(3).with(17, 16, 0).with(17, 16, 0).with(17, 16, 0);

    let plan = scene.plan(LIMITS, &[fresh(1)]);

    assert_eq!((shares(&plan), plan.n_preempted), (vec![(1, 0)], 2));
    assert_eq!(plan.admitted, []);
}

#[test]
fn nobody_gives_way_while_there_is_a_block() {
    let scene = Scene::new(6).with(17, 16, 0).with(17, 16, 0).with(17, 16, 0);

    let plan = scene.plan(LIMITS, &[]);

    assert_eq!((shares(&plan), plan.n_preempted), (vec![(1, 0); 3], 0));
}

#[test]
fn the_last_gives_way_itself_if_those_before_it_need_their_blocks() {
    let scene = Scene::new(4).with(17, 16, 0).with(33, 32, 0);

    let plan = scene.plan(LIMITS, &[]);

    assert_eq!((shares(&plan), plan.n_preempted), (vec![(1, 0)], 1));
}

#[test]
fn a_shared_block_is_free_only_when_all_who_hold_it_gave_way() {
    let mut kv = KvCache::new(4, true);
    let text: Vec<u32> = (0..33).collect();
    let tables: Vec<BlockTable> = [33, 33]
        .iter()
        .map(|len| {
            let mut table = BlockTable::new(Some(0));
            table.prepare(&text[..*len]);
            kv.share(&mut table, *len);
            assert!(kv.grow(&mut table, *len));
            table.advance(len - table.n_computed());
            kv.register(&mut table, &text, *len);
            table
        })
        .collect();
    assert_eq!(kv.pool().n_free(), 0);
    // The first needs a fourth block. The second gives two that the first holds, too, and one of its own.
    let load = |idx: usize, n_known| Load {
        n_known,
        n_computed: n_known - 1,
        n_wanted: 0,
        blocks: tables[idx].blocks(),
    };

    let one = plan(&LIMITS, &[load(0, 49), load(1, 34)], kv.pool(), std::iter::empty());
    // Needing two, it finds one only, and gives way as well.
    let two = plan(&LIMITS, &[load(0, 65), load(1, 34)], kv.pool(), std::iter::empty());

    assert_eq!((one.n_preempted, two.n_preempted), (1, 2));
}

#[test]
fn drafts_take_what_is_left_of_the_budget() {
    let scene = Scene::new(20).with(5, 4, 3).with(5, 4, 3);

    for (max_step_tokens, expected) in
        [(2, [(1, 0), (1, 0)]), (4, [(1, 2), (1, 0)]), (7, [(1, 3), (1, 2)]), (9, [(1, 3), (1, 3)])]
    {
        let plan = scene.plan(Limits { max_step_tokens, ..LIMITS }, &[]);
        assert_eq!(shares(&plan), expected, "a budget of {max_step_tokens}");
    }
}

#[test]
fn drafts_take_free_blocks_and_nobody_gives_way_for_them() {
    // 14 positions are computed; the 15th and one draft fit, a third needs a block.
    for (n_blocks, n_drafts) in [(1, 1), (2, 4)] {
        let plan = Scene::new(n_blocks).with(15, 14, 4).plan(LIMITS, &[]);
        assert_eq!((shares(&plan), plan.n_preempted), (vec![(1, n_drafts)], 0));
    }
    let plan = Scene::new(2).with(15, 14, 4).with(15, 14, 0).plan(LIMITS, &[]);
    assert_eq!((shares(&plan), plan.n_preempted), (vec![(1, 1), (1, 0)], 0));
}

#[test]
fn who_has_not_read_its_prompt_to_the_end_gets_no_drafts() {
    let plan = Scene::new(20).with(33, 0, 2).with(32, 0, 2).plan(LIMITS, &[]);

    assert_eq!(shares(&plan), [(32, 0), (32, 0)]);
    let plan = Scene::new(20).with(33, 0, 2).with(31, 0, 2).plan(LIMITS, &[]);
    assert_eq!(shares(&plan), [(32, 0), (31, 1)]);
}

#[test]
fn a_prompt_is_admitted_if_all_of_it_fits_and_its_chunk_is_bounded() {
    for (n_blocks, admitted) in [(4, vec![]), (5, vec![(0, 32)])] {
        let scene = Scene::new(n_blocks).with(2, 1, 0);
        assert_eq!(scene.plan(LIMITS, &[fresh(64)]).admitted, admitted);
    }
    let scene = Scene::new(9).with(2, 1, 0);
    assert_eq!(scene.plan(Limits { max_step_tokens: 9, ..LIMITS }, &[fresh(64)]).admitted, [(0, 8)]);
}

#[test]
fn an_admission_leaves_the_watermark_unless_it_is_alone() {
    let limits = Limits { n_watermark: 2, ..LIMITS };

    assert_eq!(Scene::new(4).with(2, 1, 0).plan(limits, &[fresh(16)]).admitted, [(0, 16)]);
    assert_eq!(Scene::new(3).with(2, 1, 0).plan(limits, &[fresh(16)]).admitted, []);
    assert_eq!(Scene::new(1).plan(limits, &[fresh(16)]).admitted, [(0, 16)]);
}

#[test]
fn cached_blocks_that_are_held_cost_nothing_and_free_ones_cost_themselves() {
    let scene = Scene::new(3).with(2, 1, 0);

    let held = (48, Hits { n_blocks: 2, n_held: 2 });
    assert_eq!(scene.plan(LIMITS, &[held]).admitted, [(0, 16)]);
    let free = (48, Hits { n_blocks: 2, n_held: 0 });
    assert_eq!(scene.plan(LIMITS, &[free]).admitted, []);
}

#[test]
fn nobody_is_let_in_past_one_who_does_not_fit() {
    let plan = Scene::new(4).with(2, 1, 0).plan(LIMITS, &[fresh(16), fresh(64), fresh(16)]);

    assert_eq!(plan.admitted, [(0, 16)]);
}

#[test]
fn no_more_run_than_may() {
    let scene = Scene::new(20).with(2, 1, 0).with(2, 1, 0);
    let plan = scene.plan(LIMITS, &[fresh(5), fresh(5), fresh(5)]);

    assert_eq!(plan.admitted, [(0, 5), (1, 5)]);
}
