//! What goes on beside the calls: settlements on their way to the shared store, and signs of life.
//!
//! Invariants: a settlement leaves the queue only after the store has taken it, and how many may wait in it is
//! counted where calls are let in; while the ledger closes, what can be told is told, for a moment.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use metrics::counter;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::open_calls::OpenCall;
use super::scripts::{Granted, Holding, Renewed, Scripts};
use super::waiting::Waiting;
use super::{Asking, Replicas};
use crate::money::NanoUsd;
use crate::shared::SharedStore;
use crate::team::{CallId, TeamName};

/// Scripts under way at once.
const N_AT_ONCE: usize = 128;
/// After a failure; meanwhile settlements gather.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Tries while the ledger closes, for a store that is away.
const N_LAST_TRIES: usize = 5;

/// The end of one call.
#[derive(Debug, Clone)]
pub(super) struct Settlement {
    pub(super) id: CallId,
    pub(super) call: String,
    pub(super) accounts: Vec<(String, i64)>,
    pub(super) ceiling: NanoUsd,
    pub(super) cost: NanoUsd,
    /// An account without a balance will read this one from the database.
    pub(super) is_in_database: bool,
}

/// Takes settlements to the store.
#[derive(Debug)]
pub(super) struct Settling {
    shared: Arc<SharedStore>,
    scripts: Scripts,
    queue: mpsc::UnboundedReceiver<Settlement>,
    waiting: Arc<Waiting>,
    /// Rows of this replica on their way to the database.
    pending: watch::Receiver<u64>,
}

impl Settling {
    pub(super) fn new(
        shared: Arc<SharedStore>,
        queue: mpsc::UnboundedReceiver<Settlement>,
        waiting: Arc<Waiting>,
        pending: watch::Receiver<u64>,
    ) -> Self {
        Self { shared, scripts: Scripts::new(), queue, waiting, pending }
    }

    pub(super) async fn run(mut self, closing: CancellationToken) {
        let mut batch = Vec::with_capacity(N_AT_ONCE);
        loop {
            tokio::select! {
                n_taken = self.queue.recv_many(&mut batch, N_AT_ONCE) => {
                    if n_taken == 0 {
                        return;
                    }
                }
                () = closing.cancelled() => break,
            }
            while !batch.is_empty() {
                batch = self.settle(batch).await;
                if batch.is_empty() {
                    break;
                }
                if *self.pending.borrow() == 0 {
                    // Their rows are in the database by now, and so in every account that is read from it.
                    batch.iter_mut().for_each(|settlement| settlement.is_in_database = true);
                }
                tokio::select! {
                    () = tokio::time::sleep(TRY_AGAIN_AFTER) => {}
                    () = closing.cancelled() => break,
                }
            }
            if closing.is_cancelled() {
                break;
            }
        }
        self.say_the_last(batch).await;
    }

    /// Those that the store did not take.
    async fn settle(&self, batch: Vec<Settlement>) -> Vec<Settlement> {
        let told = join_all(batch.iter().map(|one| self.scripts.settle(&self.shared, one))).await;
        let n_told = told.iter().filter(|told| told.is_ok()).count();
        self.waiting.remove(n_told);
        batch.into_iter().zip(told).filter(|(_, told)| told.is_err()).map(|(one, _)| one).collect()
    }

    async fn say_the_last(mut self, mut batch: Vec<Settlement>) {
        self.queue.close();
        while let Ok(settlement) = self.queue.try_recv() {
            batch.push(settlement);
        }
        for _ in 0..N_LAST_TRIES {
            let mut left = Vec::new();
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(N_AT_ONCE));
                left.extend(self.settle(batch).await);
                batch = rest;
            }
            batch = left;
            if batch.is_empty() {
                return;
            }
            tokio::time::sleep(TRY_AGAIN_AFTER).await;
        }
        let n_lost = batch.len();
        counter!("stiver_shared_settlements_lost_total").increment(n_lost as u64);
        tracing::error!(
            n_lost,
            "the shared store is away while this replica stops: its accounts miss these calls until they are rebuilt"
        );
    }
}

impl Replicas {
    /// Renews this replica's leases until the ledger closes.
    pub(super) async fn live(
        self: Arc<Self>,
        mut lost: mpsc::UnboundedReceiver<TeamName>,
        closing: CancellationToken,
    ) {
        let mut due = tokio::time::interval(self.shared.lease() / 3);
        due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                Some(team) = lost.recv() => self.hold_again(&team).await,
                _ = due.tick() => {
                    for team in self.open_calls.teams() {
                        self.show_life(&team).await;
                    }
                }
            }
        }
    }

    async fn show_life(&self, team: &TeamName) {
        let holder = self.holder(team);
        match self.scripts.renew(&self.shared, team, &holder).await {
            Ok(Renewed::Yes) => {}
            Ok(Renewed::Lapsed) => {
                self.lapsed(team, &holder);
                self.hold_again(team).await;
            }
            Ok(Renewed::Unknown) => self.hold_again(team).await,
            Err(error) => tracing::debug!(%error, "a lease was not renewed"),
        }
    }

    /// The name under which this replica holds money of a team now.
    pub(super) fn holder(&self, team: &TeamName) -> String {
        format!("{}-{}", self.shared.replica(), self.open_calls.n_lapsed(team))
    }

    pub(super) fn lapsed(&self, team: &TeamName, holder: &str) {
        let number = holder.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        self.open_calls.lapse(team, number);
        counter!("stiver_shared_leases_lapsed_total").increment(1);
        tracing::warn!(%team, "this replica's lease in the shared store ran out; its open calls are held again");
    }

    /// Holds the team's open calls again, whatever the limits say: they are under way.
    async fn hold_again(&self, team: &TeamName) {
        let holder = self.holder(team);
        let mut calls = self.open_calls.of_team(team);
        while !calls.is_empty() {
            let rest = calls.split_off(calls.len().min(N_AT_ONCE));
            join_all(calls.iter().map(|(id, call)| self.hold_one_again(*id, call, &holder))).await;
            calls = rest;
        }
    }

    async fn hold_one_again(&self, id: CallId, call: &OpenCall, holder: &str) {
        let OpenCall { payer, ts_ms, ceiling, accounts, .. } = call;
        let ask = Asking { id, payer, ts_ms: *ts_ms, ceiling: *ceiling, budgets: &[] };
        let limits = vec![None; accounts.len()];
        let holding = Holding { ask, accounts, limits: &limits, holder, is_forced: true };
        match self.scripts.hold(&self.shared, &holding, self.clock.now_ms()).await {
            Ok(Granted::Yes { .. } | Granted::Ended) => {}
            Ok(said) => tracing::warn!(?said, "an open call was not held again"),
            Err(error) => {
                tracing::debug!(%error, "an open call was not held again; the next sign of life tries")
            }
        }
    }
}
