//! How many audits and judgements may be under way, and what they may cost in a day.
//!
//! Sends none; the pipeline does. The money is held and posted by the ledger, on the account of the house, so that
//! replicas that share their budgets share this one, and a restart forgets nothing.
//!
//! Invariants: no more audits and judgements run at once than were allowed when the gateway started; an audit that was
//! promised runs, if later, unless the gateway stops. What audits cost can pass the day's budget by those that are under
//! way then; a judgement is held within it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::ledger::Ledger;
use crate::ledger::budget::{Budget, Payer, Window};
use crate::money::NanoUsd;
use crate::team::TeamName;

/// How long none is promised after one that could not be held, because whoever keeps the money is away.
const PAUSE_MS: i64 = 5_000;

#[derive(Debug)]
pub struct Audits {
    slots: Arc<Semaphore>,
    /// Of judgements, those that wait for a slot included.
    judgements: Arc<Semaphore>,
    tasks: TaskTracker,
    paused_until_ms: AtomicI64,
}

/// Leave to judge two answers; given back when it is dropped.
#[derive(Debug)]
pub struct JudgeSlot {
    _slot: OwnedSemaphorePermit,
    _judgement: OwnedSemaphorePermit,
    _task: TaskTrackerToken,
}

impl Audits {
    pub fn new(max_in_flight: usize) -> Self {
        // Half of the slots are left to audits, without which nothing is served.
        let of = |n| Arc::new(Semaphore::new(n));
        let (slots, judgements, tasks) =
            (of(max_in_flight), of(max_in_flight.div_ceil(2)), TaskTracker::new());
        Self { slots, judgements, tasks, paused_until_ms: AtomicI64::new(i64::MIN) }
    }

    /// Whether a slot is free and money is left, all that is held by audits under way counted as spent.
    pub fn have_room(&self, ledger: &Ledger, usd_per_day: NanoUsd, now_ms: i64) -> bool {
        let left = || ledger.remaining(&Payer::house(), &[Budget::new(usd_per_day, Window::Day)]);
        let is_paused = now_ms < self.paused_until_ms.load(Ordering::Relaxed);
        !is_paused && self.slots.available_permits() > 0 && left().is_some_and(|left| left > NanoUsd::ZERO)
    }

    /// Promises none for a while.
    pub fn pause(&self, now_ms: i64) {
        self.paused_until_ms.store(now_ms.saturating_add(PAUSE_MS), Ordering::Relaxed);
    }

    /// Runs it as soon as a slot is free.
    pub fn start(&self, audit: impl Future<Output = ()> + Send + 'static) {
        let slots = Arc::clone(&self.slots);
        self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            audit.await;
        });
    }

    /// A slot for a judgement, as soon as one is free; none where half as many judgements as there are slots are under
    /// way, or wait for one.
    pub async fn judge_slot(&self) -> Option<JudgeSlot> {
        let judgement = Arc::clone(&self.judgements).try_acquire_owned().ok()?;
        let task = self.tasks.token();
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        Some(JudgeSlot { _slot: slot, _judgement: judgement, _task: task })
    }

    /// Waits for those under way; call it when nothing starts any more.
    pub async fn end(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Those under way, and those that wait for a slot.
    pub fn n_started(&self) -> usize {
        self.tasks.len()
    }
}

/// What a judgement is held against: the day's budget for one of an answer that was served; half of it for one of an
/// answer that was only proposed, so that questions that missed leave money to audits.
pub fn judge_budget(usd_per_day: NanoUsd, is_audit: bool) -> Budget {
    let usd = if is_audit { usd_per_day } else { NanoUsd::new(usd_per_day.get() / 2) };
    Budget::new(usd, Window::Day)
}

/// The account that the ledger has to follow for the day's budget.
pub(super) fn account(usd_per_day: NanoUsd) -> (TeamName, Vec<Budget>) {
    (Payer::house().team, vec![Budget::new(usd_per_day, Window::Day)])
}
