//! Teams made over HTTP or by the command line: the table that a gateway reads again from time to time.
//!
//! Checks no document and admits nobody; who writes here has checked, and `config` reads what is kept.
//!
//! Invariants: a name is taken once and for ever, so that keys of a revoked team never open again; what was
//! changed meanwhile is not overwritten.

use super::store::{Store, StoreError};
use crate::team::{Document, TeamName, TeamRecord};

#[derive(Debug, Clone)]
pub struct Teams {
    store: Store,
}

impl Teams {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Returns whether the name was free.
    pub async fn create(&self, team: &TeamRecord) -> Result<bool, StoreError> {
        self.store.insert_team(team).await
    }

    pub async fn find(&self, name: &TeamName) -> Result<Option<TeamRecord>, StoreError> {
        self.store.team(name).await
    }

    /// Puts `config` in the place of what `old` had; `false` where that is not what stands there any more.
    pub async fn replace(
        &self,
        old: &TeamRecord,
        config: &Document,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        self.store.replace_team(old, config, now_ms).await
    }

    /// Lets a team end at `at_ms`, sooner or later than it would have, or never; `false` where it was revoked or
    /// is not there.
    pub async fn expire(&self, name: &TeamName, at_ms: Option<i64>, now_ms: i64) -> Result<bool, StoreError> {
        self.store.expire_team(name, at_ms, now_ms).await
    }

    /// Returns whether there was such a team, not revoked before.
    pub async fn revoke(&self, name: &TeamName, now_ms: i64) -> Result<bool, StoreError> {
        self.store.revoke_team(name, now_ms).await
    }
}
