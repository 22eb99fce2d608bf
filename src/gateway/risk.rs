//! The keeper of the cache's risk state at its work: every second, and once more at the end.
//!
//! Decides nothing; the keeper does.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;
use super::risk_rows::RiskRows;
use crate::cache::Cache;
use crate::cache::risk_keeper::RiskKeeper;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::Ledger;

const EVERY: Duration = Duration::from_secs(1);

/// A keeper that took over what was left; none where no promise is kept.
pub(super) async fn open(
    cache: &Cache,
    ledger: &Ledger,
    config: &Config,
    clock: &Clock,
) -> Option<RiskKeeper> {
    if !cache.keeps_promise() {
        return None;
    }
    let store = Arc::new(RiskRows(ledger.risk_lines()));
    let replica = format!("{:016x}", rand::random::<u64>());
    // A file belongs to one process; a server may have many.
    let is_alone = config.ledger.url.is_none();
    let keeper = RiskKeeper::new(Arc::clone(cache.warden()), store, replica, is_alone);
    keeper.start(clock.now_ms()).await;
    Some(keeper)
}

impl Gateway {
    pub(super) fn start_keeping_risk(self: &Arc<Self>) {
        if self.risk_keeper.is_some() {
            self.tasks.spawn(keep(Arc::clone(self)));
        }
    }

    /// Saves what audits were charged so far, before one is sent: after a crash it stays charged. Tells whether
    /// it is saved; a database that is away or slow is waited for no longer than 250 ms.
    pub async fn save_risk(&self) -> bool {
        match &self.risk_keeper {
            Some(keeper) => keeper.save_now(self.clock.now_ms()).await,
            None => true,
        }
    }
}

async fn keep(gateway: Arc<Gateway>) {
    let Some(keeper) = &gateway.risk_keeper else { return };
    let mut due = tokio::time::interval(EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            _ = due.tick() => keeper.tick(gateway.clock.now_ms()).await,
        }
    }
}
