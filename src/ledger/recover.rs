//! What happens before the first call: rows a crash left behind are posted, and balances are read.
//!
//! Runs in `Ledger::open`, and where budgets name a new window; needs the database.
//!
//! Invariants: old segments are deleted only after every row in them is in the database; doing it all
//! again after a crash half-way changes nothing, because a row is inserted once per id; an account counts
//! exactly the postings that began in its window, though its edges may lie within an hour.

use parking_lot::Mutex;

use super::budget::{AccountId, Books, Calendar, Of, Payer, Window};
use super::entry::Entry;
use super::journal::{Journal, Replay, Replayed};
use super::store::Store;
use super::{LedgerError, payer_of};
use crate::money::NanoUsd;
use crate::team::{CallId, TeamName};

/// A call that an earlier run left in its journal.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) id: CallId,
    pub(super) payer: Payer,
    pub(super) ts_ms: i64,
    pub(super) cost: NanoUsd,
}

impl Left {
    fn of(row: &Entry) -> Option<Self> {
        let cost = row.charge();
        (cost > NanoUsd::ZERO).then(|| Self { id: row.id, payer: payer_of(row), ts_ms: row.ts_ms, cost })
    }
}

pub(super) async fn post_what_was_left(
    journal: &Journal,
    mut replay: Replay,
    store: &Store,
) -> Result<Vec<Left>, LedgerError> {
    let mut n_rows = 0;
    let mut left = Vec::new();
    while let Some(Replayed { rows, texts }) = replay.next_posted()? {
        n_rows += rows.len();
        store.insert_with(&rows, &texts).await?;
        left.extend(rows.iter().filter_map(Left::of));
    }
    let n_torn_bytes = replay.n_torn_bytes();
    let interrupted = replay.interrupted();
    store.insert(&interrupted).await?;
    left.extend(interrupted.iter().filter_map(Left::of));
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
    Ok(left)
}

/// The books as they stand in the database, back to the month before this one.
pub(super) async fn read_balances(store: &Store, now_ms: i64) -> Result<Books, LedgerError> {
    let (this_month_ms, _) = Window::Month.bounds_ms(now_ms);
    let (since_ms, _) = Window::Month.bounds_ms(this_month_ms - 1);
    let mut books = Books::default();
    for hour in store.team_hours(since_ms).await? {
        books.spend(&Payer::of_team(&hour.team), hour.hour_ms, NanoUsd::new(hour.cost_nano_usd));
    }
    Ok(books)
}

/// Adds what was spent in the running windows of calendars that were not followed before.
pub(super) async fn read_past(
    store: &Store,
    books: &Mutex<Books>,
    opened: &[(TeamName, Vec<(Of, Calendar)>)],
    now_ms: i64,
) -> Result<(), LedgerError> {
    for (team, calendars) in opened {
        for (of, calendar) in calendars {
            let span = calendar.span(now_ms);
            for (subject, spent) in store.spent_by(team, *of, span).await? {
                books.lock().add_past(team, &AccountId { subject, span }, spent);
            }
        }
    }
    Ok(())
}
