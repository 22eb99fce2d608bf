//! The step: who leaves, who computes what, the device, and what its logits mean.
//!
//! Runs on no thread of its own and waits for nobody: whoever calls [`Core::step`] is the clock. Decides
//! neither who goes first (`scheduler` does) nor what is said (`sampling` does).
//!
//! Invariants: running sequences are in rank, waiting ones in the order of arrival; between steps nobody has
//! drafts or a share; only confirmed tokens count as computed or are registered; whatever the device or a
//! grammar does, each sequence it concerns ends with one `Finished`, and the others go on.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::reading::ReadingRules;
use super::stats::Meters;
use crate::backend::{BLOCK_TOKENS, Backend, BackendError, Chunk, Logits};
use crate::kv::{Expected, KvCache};
use crate::request::FinishReason;
use crate::scheduler::{Candidate, Limits, Load, Order, Plan, Policy, Served, Waiting, plan};
use crate::sequence::{Sequence, Share, State};
use crate::speculate::{Drafter, propose};

/// Of those who wait, in one step.
const MOST_LOOKED_AT: usize = 128;

/// Where the time comes from, so that tests can set it.
pub type Clock = Box<dyn Fn() -> Instant + Send>;

/// What a step goes by.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub limits: Limits,
    pub policy: Policy,
}

/// The engine without its thread.
pub struct Core {
    pub(super) rules: Rules,
    pub(super) reading: ReadingRules,
    target: Box<dyn Backend>,
    pub(super) drafter: Option<Drafter>,
    pub(super) kv: KvCache,
    pub(super) running: Vec<Sequence>,
    pub(super) waiting: VecDeque<Sequence>,
    pub(super) served: Served,
    pub(super) logits: Logits,
    pub(super) meters: Arc<Meters>,
    n_arrived: u64,
    clock: Clock,
    /// The time spent in models during this step.
    on_device: Duration,
}

impl Core {
    pub(super) fn new(
        (rules, reading): (Rules, ReadingRules),
        (target, drafter): (Box<dyn Backend>, Option<Drafter>),
        kv: KvCache,
        meters: Arc<Meters>,
        clock: Clock,
    ) -> Self {
        meters.n_blocks.store(kv.pool().n_blocks(), Relaxed);
        Self {
            rules,
            reading,
            target,
            drafter,
            kv,
            running: Vec::new(),
            waiting: VecDeque::new(),
            served: Served::default(),
            logits: Logits::default(),
            meters,
            n_arrived: 0,
            clock,
            on_device: Duration::ZERO,
        }
    }

    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    #[cfg(test)]
    pub(super) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    pub fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Puts a sequence into the queue.
    pub fn enqueue(&mut self, mut sequence: Sequence) {
        sequence.turn.arrival = self.n_arrived;
        self.n_arrived += 1;
        self.served.arrive(sequence.turn.tenant);
        self.queue(sequence);
    }

    /// One step. Says how many tokens were computed.
    pub fn step(&mut self) -> usize {
        let began = (self.clock)();
        self.on_device = Duration::ZERO;
        self.propose();
        self.dismiss(began);
        let plan = self.plan();
        let n_tokens = plan.n_tokens();
        self.preempt(plan.n_preempted);
        self.admit(plan, began);
        if n_tokens > 0 {
            self.draft();
            match self.forward() {
                Ok(()) => self.commit((self.clock)(), self.on_device),
                Err(failure) => self.fail(&failure),
            }
        }
        self.depart();
        self.measure(began, n_tokens);
        n_tokens
    }

    /// Ends everything that is there.
    pub fn fail_all(&mut self, why: &str) {
        for sequence in self.running.iter_mut().chain(&mut self.waiting) {
            sequence.finish(FinishReason::Failed(why.into()));
        }
        self.depart();
    }

    /// Ends everything that is there and trusts nothing that is kept: something here is not as it should be.
    pub fn break_down(&mut self, why: &str) {
        for mut sequence in self.running.drain(..).chain(self.waiting.drain(..)) {
            sequence.finish(FinishReason::Failed(why.into()));
            self.meters.n_finished.fetch_add(1, Relaxed);
        }
        let n_blocks = u32::try_from(self.kv.pool().n_blocks()).expect("it was made with that many");
        self.kv = KvCache::new(n_blocks, self.kv.prefix().is_some());
        self.served = Served::default();
        self.gauge();
    }

    /// Ends those whose caller went away, asked for it, or set a time that is over.
    fn dismiss(&mut self, now: Instant) {
        for sequence in self.running.iter_mut().chain(&mut self.waiting) {
            if let Some(reason) = sequence.expired(now) {
                sequence.finish(reason);
            }
        }
        self.depart();
    }

    /// Guesses are made for those who read their text to the end in this step, if they are let.
    fn propose(&mut self) {
        for sequence in &mut self.running {
            let n_room = self.reading.max_len.saturating_sub(sequence.tokens.known().len() + 1);
            // The model's own token follows the guesses, so one less than may be answered is enough.
            let n_room = n_room.min(sequence.answer.n_left().saturating_sub(1));
            let gets_there = sequence.gap() <= self.rules.limits.max_chunk_tokens;
            let (n_room, has_model) = (if gets_there { n_room } else { 0 }, self.drafter.is_some());
            let proposed = catch_unwind(AssertUnwindSafe(|| propose(sequence, n_room, has_model)));
            if proposed.is_err() {
                sequence.finish(FinishReason::Failed("the grammar met a fault of its own".into()));
            }
        }
    }

    fn plan(&self) -> Plan {
        let running: Vec<Load<'_>> = self.running.iter().map(|sequence| load(sequence)).collect();
        let look = |idx: usize| waiting(&self.waiting[idx]);
        let hits = |idx: usize| {
            let sequence = &self.waiting[idx];
            self.kv.hits(&sequence.table, sequence.tokens.known().len())
        };
        let policy = self.rules.policy;
        // Looking into the cache for everybody who waits is wasted if nobody can be let in.
        let is_full = self.running.len() >= self.rules.limits.max_running;
        let n_waiting = if is_full { 0 } else { self.waiting.len() };
        let order = Order::new(policy, n_waiting, look, &self.served, |idx| hits(idx).n_blocks);
        let mut expected = self.expected(n_waiting > 0);
        // Whoever stands behind so many is not let in by this step anyway.
        let candidates = order.take(MOST_LOOKED_AT).filter_map(|queue_idx| {
            let Sequence { tokens, table, .. } = &self.waiting[queue_idx];
            let (n_known, hits) = (tokens.known().len(), hits(queue_idx));
            if expected.is_worth_waiting_for(table, n_known, hits) {
                return None;
            }
            // Whoever comes after it in this step is better off waiting for it.
            expected.add(table, hits.n_blocks);
            Some(Candidate { queue_idx, n_known, hits })
        });
        plan(&self.rules.limits, &running, self.kv.pool(), candidates)
    }

    /// What those who read their prompts will have put into the cache in a few steps.
    fn expected(&self, is_wanted: bool) -> Expected {
        let mut expected = Expected::default();
        for sequence in self.running.iter().filter(|sequence| is_wanted && sequence.gap() > 1) {
            expected.add(&sequence.table, sequence.table.n_computed() / BLOCK_TOKENS);
        }
        expected
    }

    /// The last in rank give their blocks back and wait again.
    fn preempt(&mut self, n_preempted: usize) {
        for _ in 0..n_preempted {
            let mut sequence = self.running.pop().expect("only running sequences give way");
            self.kv.release(&mut sequence.table);
            sequence.table.prepare(sequence.tokens.known());
            sequence.tokens.truncate_drafts(0);
            sequence.state = State::Preempted;
            self.queue(sequence);
            self.meters.n_preempted.fetch_add(1, Relaxed);
        }
    }

    /// Hands out the shares and the blocks for them. Cached blocks are taken first, all of them, because
    /// they may be free, and who needs a new block takes what is free.
    fn admit(&mut self, plan: Plan, now: Instant) {
        for (sequence, share) in self.running.iter_mut().zip(plan.shares) {
            sequence.share = share;
            sequence.tokens.truncate_drafts(share.n_drafts);
        }
        for mut sequence in self.take_admitted(&plan.admitted) {
            let n_known = sequence.tokens.known().len();
            let n_cached = self.kv.share(&mut sequence.table, n_known);
            debug_assert!(sequence.share.n_tokens <= sequence.gap());
            sequence.state = State::Running;
            if let Some(queued) = sequence.tally.start(now, n_cached) {
                self.meters.queue_wait.observe(queued, 1);
                self.meters.n_prompt_tokens.fetch_add(n_known as u64, Relaxed);
                self.meters.n_prefix_hit_tokens.fetch_add(n_cached as u64, Relaxed);
                self.served.charge(sequence.turn.tenant, n_known - n_cached);
            }
            let policy = self.rules.policy;
            let own_rank = rank(policy, &sequence);
            let place = self.running.partition_point(|other| rank(policy, other) < own_rank);
            self.running.insert(place, sequence);
        }
        for sequence in &mut self.running {
            let n_positions = sequence.tokens.known().len() + sequence.share.n_drafts;
            if sequence.share.n_tokens > 0 {
                let is_grown = self.kv.grow(&mut sequence.table, n_positions);
                assert!(is_grown, "the plan counted on blocks that are not there");
            }
        }
    }

    /// Takes the admitted out of the queue, in the order of the plan.
    fn take_admitted(&mut self, admitted: &[(usize, usize)]) -> Vec<Sequence> {
        let mut taken: Vec<Option<Sequence>> = admitted.iter().map(|_| None).collect();
        let mut by_place: Vec<usize> = (0..admitted.len()).collect();
        by_place.sort_by_key(|idx| Reverse(admitted[*idx].0));
        for idx in by_place {
            let (queue_idx, n_tokens) = admitted[idx];
            let mut sequence = self.waiting.remove(queue_idx).expect("the plan names places in the queue");
            self.waiting.iter_mut().take(queue_idx).for_each(|other| other.turn.n_overtaken += 1);
            sequence.share = Share { n_tokens, n_drafts: 0 };
            taken[idx] = Some(sequence);
        }
        taken.into_iter().flatten().collect()
    }

    /// A draft model that fails is not asked again: nobody needs it.
    fn draft(&mut self) {
        let Some(drafter) = &mut self.drafter else { return };
        let began = (self.clock)();
        let outcome = catch_unwind(AssertUnwindSafe(|| drafter.guess(&mut self.running)));
        self.on_device += (self.clock)().saturating_duration_since(began);
        if let Err(failure) = settle(outcome) {
            tracing::warn!(%failure, "the draft model failed and is left out from now on");
            self.drafter = None;
            for sequence in &mut self.running {
                sequence.tokens.truncate_drafts(0);
                sequence.share.n_drafts = 0;
            }
        }
    }

    fn forward(&mut self) -> Result<(), String> {
        let began = (self.clock)();
        let batch = self.running.iter().filter(|sequence| sequence.share.n_tokens > 0);
        let chunks: Vec<Chunk<'_>> = batch.map(|sequence| chunk(sequence)).collect();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.target.forward(&chunks, &mut self.logits)));
        self.on_device += (self.clock)().saturating_duration_since(began);
        settle(outcome)
    }

    /// The step was not computed: whoever had a share in it is over.
    fn fail(&mut self, why: &str) {
        tracing::error!(why, "a step could not be computed");
        for sequence in &mut self.running {
            let share = std::mem::take(&mut sequence.share);
            sequence.tokens.truncate_drafts(0);
            if share.n_tokens > 0 {
                sequence.finish(FinishReason::Failed(why.into()));
            }
        }
    }

    /// Lets the finished go, and takes back what they held.
    fn depart(&mut self) {
        let Self { kv, served, meters, .. } = self;
        let mut stays = |sequence: &mut Sequence| {
            if sequence.is_finished() {
                kv.release(&mut sequence.table);
                served.leave(sequence.turn.tenant);
                meters.n_finished.fetch_add(1, Relaxed);
            }
            !sequence.is_finished()
        };
        self.running.retain_mut(&mut stays);
        self.waiting.retain_mut(stays);
    }

    fn queue(&mut self, sequence: Sequence) {
        let arrival = sequence.turn.arrival;
        let place = self.waiting.partition_point(|other| other.turn.arrival < arrival);
        self.waiting.insert(place, sequence);
    }

    fn gauge(&self) {
        self.meters.n_running.store(self.running.len(), Relaxed);
        self.meters.n_blocks_used.store(self.kv.pool().n_used(), Relaxed);
    }

    fn measure(&self, began: Instant, n_tokens: usize) {
        let busy = (self.clock)().saturating_duration_since(began);
        self.gauge();
        self.meters.n_steps.fetch_add(u64::from(n_tokens > 0), Relaxed);
        self.meters.busy_ns.fetch_add(busy.as_nanos() as u64, Relaxed);
        self.meters.device_ns.fetch_add(self.on_device.as_nanos() as u64, Relaxed);
    }
}

/// Who keeps its blocks when there are none left: the less the longer. Only under `priority` does it depend
/// on more than who came first, so that nobody gives way to one who then gives way to it.
pub(super) fn rank(policy: Policy, sequence: &Sequence) -> (Reverse<i32>, u64) {
    let priority = match policy {
        Policy::Priority => sequence.turn.priority,
        Policy::Fcfs | Policy::Fair | Policy::LongestPrefix => 0,
    };
    (Reverse(priority), sequence.turn.arrival)
}

fn load(sequence: &Sequence) -> Load<'_> {
    Load {
        n_known: sequence.tokens.known().len(),
        n_computed: sequence.table.n_computed(),
        n_wanted: sequence.drafting.n_wanted(),
        blocks: sequence.table.blocks(),
    }
}

fn waiting(sequence: &Sequence) -> Waiting {
    let is_preempted = sequence.state == State::Preempted;
    Waiting { turn: sequence.turn, is_preempted, n_known: sequence.tokens.known().len() }
}

fn chunk(sequence: &Sequence) -> Chunk<'_> {
    let start = sequence.table.n_computed();
    let tokens = &sequence.tokens.with_drafts()[start..start + sequence.share.n_computed()];
    let n_logits = if sequence.reaches_end() { 1 + sequence.share.n_drafts } else { 0 };
    Chunk { tokens, start, blocks: sequence.table.blocks(), n_logits }
}

/// A panic in a device is its failure, and no more.
fn settle(outcome: std::thread::Result<Result<(), BackendError>>) -> Result<(), String> {
    match outcome {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("the device panicked: {}", text.unwrap_or("it did not say why")))
        }
    }
}
