//! Lets go of rows that are older than they have to be kept.
//!
//! Sums stay: a report on a day long gone says what it said. Only what needs single rows (users within an
//! hour, tags, calls) ends with them.
//!
//! Invariant: small batches with a pause between them, so that rows of calls never wait long behind it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::store::Store;
use crate::clock::Clock;

const MS_PER_DAY: i64 = 86_400_000;
const EVERY: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_millis(50);

/// Goes on until the ledger closes.
pub(super) async fn run(store: Store, keep_days: u32, clock: Clock, closing: CancellationToken) {
    loop {
        let before_ms = clock.now_ms() - i64::from(keep_days) * MS_PER_DAY;
        let wait = match store.delete_some(before_ms).await {
            Ok(0) => EVERY,
            Ok(n_rows) => {
                metrics::counter!("stiver_ledger_expired_rows_total").increment(n_rows);
                PAUSE
            }
            Err(error) => {
                tracing::warn!(%error, "rows past their time were not deleted; it is tried again");
                EVERY
            }
        };
        tokio::select! {
            () = closing.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}
