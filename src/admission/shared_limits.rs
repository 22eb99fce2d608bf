//! Limits of all replicas together, counted in the store that they share.
//!
//! Decides nothing but what its scripts do; `bucket` is the same rule for one replica. What a call took too
//! much is given back when it has ended, in the background.
//!
//! Invariants: the slots of a replica count while its lease lasts, and each sign of life says how many there
//! are, so that what was lost on the way is put right within a third of the lease.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::limiter::{CONCURRENT, LimitHit, Limiter, Limits, REQUESTS, RateState, TOKENS};
use crate::shared::{Script, SharedError, SharedStore, digest};
use crate::team::TeamName;

#[derive(Debug)]
pub(super) struct SharedLimits {
    shared: Arc<SharedStore>,
    admit: Script,
    end: Script,
    live: Script,
    endings: mpsc::UnboundedSender<Ending>,
    ended: Mutex<Option<mpsc::UnboundedReceiver<Ending>>>,
}

/// What a call took in the shared store.
#[derive(Debug)]
pub(super) struct SharedPass {
    /// Beyond what it was taken for; negative where it was less.
    pub(super) more_tokens: i64,
    tokens_per_minute: Option<u64>,
}

#[derive(Debug)]
struct Ending {
    team: TeamName,
    pass: SharedPass,
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Admitted {
    Yes { requests: Option<RateState>, tokens: Option<RateState>, pass: SharedPass },
    No(LimitHit),
}

impl SharedLimits {
    pub(super) fn new(shared: Arc<SharedStore>) -> Self {
        let (endings, ended) = mpsc::unbounded_channel();
        let (admit, end) = (
            Script::new(include_str!("shared_limits/admit.lua")),
            Script::new(include_str!("shared_limits/end.lua")),
        );
        let live = Script::new(include_str!("shared_limits/live.lua"));
        Self { shared, admit, end, live, endings, ended: Mutex::new(Some(ended)) }
    }

    pub(super) async fn admit(
        &self,
        team: &TeamName,
        limits: &Limits,
        n_tokens: u64,
    ) -> Result<Admitted, SharedError> {
        let limit = |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
        let args = [
            self.shared.replica().to_owned(),
            self.lease_ms(),
            n_tokens.to_string(),
            limit(limits.requests_per_minute),
            limit(limits.tokens_per_minute),
            limit(limits.concurrency),
        ];
        let said: [i64; 6] = self.shared.run(&self.admit, &keys(team), &args).await?;
        Ok(read(said, team, limits))
    }

    /// Tells the store in the background that a call has ended.
    pub(super) fn end(&self, team: &TeamName, pass: SharedPass) {
        // Without a receiver the gateway is closing, and the lease soon ends.
        let _ = self.endings.send(Ending { team: team.clone(), pass });
    }

    async fn tell_end(&self, Ending { team, pass }: Ending) {
        let SharedPass { more_tokens, tokens_per_minute } = pass;
        let args = [
            self.shared.replica().to_owned(),
            more_tokens.to_string(),
            tokens_per_minute.map_or_else(|| "-1".to_owned(), |limit| limit.to_string()),
        ];
        // Said once only: a lost slot is put right by the next sign of life, lost tokens by the minute.
        if let Err(error) = self.shared.run::<i64>(&self.end, &keys(&team), &args).await {
            tracing::debug!(%error, "the shared limits were not told of a call's end");
        }
    }

    async fn show_life(&self, team: &TeamName, n_slots: u64) {
        let args = [self.shared.replica().to_owned(), self.lease_ms(), n_slots.to_string()];
        if let Err(error) = self.shared.insist::<i64>(&self.live, &keys(team), &args).await {
            tracing::debug!(%error, "the shared limits heard no sign of life");
        }
    }

    fn lease_ms(&self) -> String {
        self.shared.lease().as_millis().to_string()
    }
}

/// Goes on until the gateway closes; what has ended by then is still told.
pub(super) async fn tell(limiter: Arc<Limiter>, closing: CancellationToken) {
    let Some(shared) = limiter.shared() else { return };
    let Some(mut ended) = shared.ended.lock().take() else { return };
    let mut due = tokio::time::interval(shared.shared.lease() / 3);
    loop {
        tokio::select! {
            () = closing.cancelled() => break,
            Some(ending) = ended.recv() => shared.tell_end(ending).await,
            _ = due.tick() => {
                for (team, n_slots) in limiter.shared_slots() {
                    shared.show_life(&team, n_slots).await;
                }
            }
        }
    }
    while let Ok(ending) = ended.try_recv() {
        shared.tell_end(ending).await;
    }
}

fn keys(team: &TeamName) -> [String; 3] {
    let tag = digest(team.as_str());
    ["rates", "slots", "leases"].map(|what| format!("stiver:limit:{{{tag}}}:{what}"))
}

fn read(said: [i64; 6], team: &TeamName, limits: &Limits) -> Admitted {
    let [code, wait_ms, n_requests, requests_reset_ms, n_tokens, tokens_reset_ms] = said;
    let state = |limit: Option<u64>, remaining: i64, reset_ms: i64| {
        let (remaining, reset_ms) = (remaining.max(0).unsigned_abs(), reset_ms.max(0).unsigned_abs());
        limit.map(|limit| RateState { limit, remaining, reset_ms })
    };
    let hit = |what, limit: Option<u64>| {
        let (limit, retry_after_ms) = (limit.unwrap_or(0), wait_ms.max(1).unsigned_abs());
        Admitted::No(LimitHit { team: team.clone(), what, limit, retry_after_ms })
    };
    match code {
        1 => hit(CONCURRENT, limits.concurrency),
        2 => hit(REQUESTS, limits.requests_per_minute),
        3 => hit(TOKENS, limits.tokens_per_minute),
        _ => Admitted::Yes {
            requests: state(limits.requests_per_minute, n_requests, requests_reset_ms),
            tokens: state(limits.tokens_per_minute, n_tokens, tokens_reset_ms),
            pass: SharedPass { more_tokens: 0, tokens_per_minute: limits.tokens_per_minute },
        },
    }
}
