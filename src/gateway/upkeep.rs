//! Small work that has to be done whether anybody looks or not.
//!
//! Invariant: what the metrics recorder gathers is folded into its buckets every few seconds; left to
//! the scrapes, it would grow without a bound where nobody scrapes.

use std::sync::Arc;
use std::time::Duration;

use super::Gateway;

const EVERY: Duration = Duration::from_secs(5);

/// Goes on until the gateway stops.
pub async fn upkeep(gateway: Arc<Gateway>) {
    let mut due = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = gateway.stop.cancelled() => return,
            _ = due.tick() => {
                gateway.metrics.run_upkeep();
                gateway.live().report_loads();
                gateway.watch_splits();
            }
        }
    }
}
