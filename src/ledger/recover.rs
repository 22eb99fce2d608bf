//! What happens before the first call: rows a crash left behind are posted, and balances are read.
//!
//! Runs once, in `Ledger::open`; needs the database.
//!
//! Invariants: old segments are deleted only after every row in them is in the database; doing it all
//! again after a crash half-way changes nothing, because a row is inserted once per id.

use super::LedgerError;
use super::budget::{Books, Window};
use super::journal::{Journal, Replay};
use super::store::Store;
use crate::money::NanoUsd;

pub(super) async fn post_what_was_left(
    journal: &Journal,
    mut replay: Replay,
    store: &Store,
) -> Result<(), LedgerError> {
    let mut n_rows = 0;
    while let Some(rows) = replay.next_posted()? {
        n_rows += rows.len();
        store.insert(&rows).await?;
    }
    let n_torn_bytes = replay.n_torn_bytes();
    let interrupted = replay.interrupted();
    store.insert(&interrupted).await?;
    journal.delete_before(u64::MAX)?;
    if n_rows + interrupted.len() > 0 || n_torn_bytes > 0 {
        let n_interrupted = interrupted.len();
        tracing::warn!(
            n_rows,
            n_interrupted,
            n_torn_bytes,
            "an earlier run left a journal; it is posted now"
        );
    }
    Ok(())
}

/// The books as they stand in the database, back to the month before this one.
pub(super) async fn read_balances(store: &Store, now_ms: i64) -> Result<Books, LedgerError> {
    let (this_month_ms, _) = Window::Month.bounds_ms(now_ms);
    let (since_ms, _) = Window::Month.bounds_ms(this_month_ms - 1);
    let mut books = Books::default();
    for hour in store.subject_hours(since_ms).await?.into_iter().filter(|hour| hour.kind == "team") {
        books.spend(&hour.team, hour.hour_ms, NanoUsd::new(hour.cost_nano_usd));
    }
    Ok(books)
}
