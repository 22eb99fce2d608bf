//! What a client says of an answer that it was given: one that is wrong leaves the cache.
//!
//! Judges nothing and keeps no text. The risk control is not told: a complaint comes without a coin.
//!
//! Invariants: a team reaches its own calls and answers alone, and learns nothing of others'; saying the same twice
//! changes nothing more.

use std::time::Duration;

use crate::admission::Caller;
use crate::cache::EntryId;
use crate::cache::purge::{Purge, Purged};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::ledger::entry::Entry;
use crate::team::{CallId, TeamName};
use crate::telemetry::events::FeedbackGiven;

/// How long a row on its way to the database is waited for.
const ROW_TIMEOUT: Duration = Duration::from_secs(1);

/// What is spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    Call(CallId),
    Entry(EntryId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rating {
    Wrong,
    Right,
}

impl Rating {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Right => "right",
        }
    }
}

/// Tells what was removed.
pub async fn take_feedback(
    gateway: &Gateway,
    caller: &Caller,
    about: About,
    rating: Rating,
) -> Result<Purged> {
    let team = &caller.team;
    let _pass = gateway.limiter.admit(&team.name, &team.limits, 0).await?;
    let entry = match about {
        About::Call(id) => of_call(gateway, &team.name, id).await?,
        About::Entry(id) => gateway.cache.is_of(id, &team.name).await?.then_some(id),
    };
    let gone = match (rating, entry) {
        (Rating::Wrong, Some(id)) => gateway.cache.purge(&Purge::Entry(id)).await?,
        (Rating::Wrong, None) | (Rating::Right, _) => Purged::default(),
    };
    FeedbackGiven { rating: rating.as_str(), n_exact: gone.n_exact, n_semantic: gone.n_semantic }.emit();
    Ok(gone)
}

/// The answer that a call was given, or that it left behind.
async fn of_call(gateway: &Gateway, team: &TeamName, id: CallId) -> Result<Option<EntryId>> {
    let row = row_of(gateway, id).await?.filter(|row| row.team == *team);
    let row = row.ok_or_else(|| Error::unknown_call(&id.to_string()))?;
    Ok(row.cache_entry.as_deref().and_then(EntryId::parse))
}

async fn row_of(gateway: &Gateway, id: CallId) -> Result<Option<Entry>> {
    let reports = gateway.ledger.reports();
    let found = reports.call(id).await.map_err(|error| Error::ledger_away(&error))?;
    if found.is_some() || gateway.ledger.n_pending() == 0 {
        return Ok(found);
    }
    // It may stand in the journal alone. Whether all rows were written in time is seen by looking again.
    drop(tokio::time::timeout(ROW_TIMEOUT, gateway.ledger.flushed()).await);
    reports.call(id).await.map_err(|error| Error::ledger_away(&error))
}
