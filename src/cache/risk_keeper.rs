//! Keeps the state of the risk control: saves what changed, hears what other replicas learned, and takes over
//! what a replica left that is gone.
//!
//! Decides no call, and none waits for it. Knows no clock; the time is handed in. It lives as long as its
//! process: a name is used once.
//!
//! A scope's line in the store: absent ──add, empty──▶ own ──saved every second──▶ own ──end──▶ ended (0)
//!                                                       └──silent for a minute, or ended──▶ another's
//!
//! Invariants: an account is only ever written into a line that is known to be there, so that a line that is
//! missing was taken over; what a store may have saved unheard is never counted twice; a store that is away
//! delays everything and loses nothing.

mod hearing;
mod saving;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::Mutex;

use self::saving::Saving;
use super::alarm::Alarm;
use super::risk::{AccountState, ModelState, Scope, StateError};
use super::risk_store::{Adoption, Line, RiskStore, RiskStoreError};
use super::warden::Warden;

/// How often other lines are looked at, and a sign of life is given.
const LOOK_EVERY_MS: i64 = 10_000;
/// How often models are saved and heard.
const MODELS_EVERY_MS: i64 = 60_000;
/// A replica that gave no sign of life for so long is gone, as this replica's own clock has it.
const GONE_AFTER_MS: i64 = 60_000;
/// How long the end waits for a store.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long an audit waits for its charge to be saved.
const CHARGE_WITHIN: Duration = Duration::from_millis(250);

pub struct RiskKeeper {
    warden: Arc<Warden>,
    store: Arc<dyn RiskStore>,
    /// This process; another one has another name.
    replica: String,
    /// Whoever else has lines is gone: only one process at a time uses the store.
    is_alone: bool,
    saving: Mutex<Saving>,
    /// Savings of accounts that began.
    n_begun: AtomicU64,
    others: Mutex<Others>,
    alarm: Alarm,
}

/// What is known of others' lines.
#[derive(Debug, Default)]
struct Others {
    seen: BTreeMap<(String, String), Seen>,
    looked_at_ms: Option<i64>,
    heard_at_ms: Option<i64>,
}

/// A line as it was last seen.
#[derive(Debug, Clone, Default)]
struct Seen {
    saved_at_ms: i64,
    /// When that was first seen, by the clock of this replica: clocks of two machines need not agree.
    since_ms: i64,
    /// The model that was heard.
    model_saved_at_ms: Option<i64>,
    /// What cannot be read is told once.
    is_unreadable: bool,
}

impl RiskKeeper {
    /// `replica` is a name that no process had before; `is_alone` where no other process uses the store.
    pub fn new(warden: Arc<Warden>, store: Arc<dyn RiskStore>, replica: String, is_alone: bool) -> Self {
        Self {
            warden,
            store,
            replica,
            is_alone,
            saving: Mutex::default(),
            n_begun: AtomicU64::new(0),
            others: Mutex::default(),
            alarm: Alarm::of("risk_state"),
        }
    }

    /// Takes over what earlier processes left and hears the others, before the first call.
    pub async fn start(&self, now_ms: i64) {
        let mut others = self.others.lock().await;
        let begun = async {
            self.look(&mut others, now_ms, self.is_alone).await?;
            others.looked_at_ms = Some(now_ms);
            self.hear(&mut others).await?;
            others.heard_at_ms = Some(now_ms);
            Ok(())
        };
        self.or_raise(begun.await);
    }

    /// To be called about every second.
    pub async fn tick(&self, now_ms: i64) {
        self.or_raise(self.save(now_ms).await);
        let mut others = self.others.lock().await;
        if is_due(others.looked_at_ms, LOOK_EVERY_MS, now_ms) {
            others.looked_at_ms = Some(now_ms);
            let looked = async {
                self.store.touch(&self.replica, now_ms).await?;
                self.look(&mut others, now_ms, false).await
            };
            self.or_raise(looked.await);
        }
        if is_due(others.heard_at_ms, MODELS_EVERY_MS, now_ms) {
            others.heard_at_ms = Some(now_ms);
            let exchanged = async {
                self.save_models(now_ms).await?;
                self.hear(&mut others).await
            };
            self.or_raise(exchanged.await);
        }
    }

    /// Saves what was charged, before an audit is sent; tells whether it is saved. Waits 250 ms at most.
    pub async fn save_now(&self, now_ms: i64) -> bool {
        match tokio::time::timeout(CHARGE_WITHIN, self.save(now_ms)).await {
            Ok(saved) => self.or_raise(saved).is_some(),
            Err(_) => {
                self.alarm.raise(&"the charge of an audit was not saved within 250 ms");
                false
            }
        }
    }

    /// Saves everything and says that this replica has ended: others may take over at once. Waits 5 s at most.
    pub async fn close(&self, now_ms: i64) {
        let ended = async {
            self.save(now_ms).await?;
            self.save_models(now_ms).await?;
            self.store.touch(&self.replica, 0).await
        };
        match tokio::time::timeout(CLOSE_WITHIN, ended).await {
            Ok(ended) => drop(self.or_raise(ended)),
            Err(_) => self.alarm.raise(&"the state was not saved at the end within 5 s"),
        }
    }

    /// Times the store failed.
    pub fn n_errors(&self) -> u64 {
        self.alarm.n_raised()
    }

    fn or_raise<T>(&self, outcome: Result<T, RiskStoreError>) -> Option<T> {
        outcome.inspect_err(|error| self.alarm.raise(error)).ok()
    }
}

impl From<StateError> for RiskStoreError {
    fn from(error: StateError) -> Self {
        Self(error.to_string())
    }
}

fn is_due(last_ms: Option<i64>, every_ms: i64, now_ms: i64) -> bool {
    // A clock that was put back must not stop the work.
    last_ms.is_none_or(|last_ms| now_ms - last_ms >= every_ms || now_ms < last_ms)
}

#[cfg(test)]
mod tests;
