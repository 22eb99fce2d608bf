//! The table of teams.
//!
//! Invariants: a team that was revoked stays revoked, and keeps its name.

use super::db::{Row, Sql, Value};
use super::{Store, StoreError};
use crate::team::{Document, TeamName, TeamRecord, Term};

const INSERT: &str = "INSERT INTO teams (name, config, created_ms, changed_ms, expires_ms, revoked_ms) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING";
const ALL: &str =
    "SELECT name, config, created_ms, changed_ms, expires_ms, revoked_ms FROM teams ORDER BY name";
const ONE: &str =
    "SELECT name, config, created_ms, changed_ms, expires_ms, revoked_ms FROM teams WHERE name = $1";
const REPLACE: &str = "UPDATE teams SET config = $2, changed_ms = $3 \
    WHERE name = $1 AND config = $4 AND revoked_ms IS NULL";
const EXPIRE: &str =
    "UPDATE teams SET expires_ms = $2, changed_ms = $3 WHERE name = $1 AND revoked_ms IS NULL";
const REVOKE: &str =
    "UPDATE teams SET revoked_ms = $2, changed_ms = $2 WHERE name = $1 AND revoked_ms IS NULL";

impl Store {
    /// Returns whether the name was free.
    pub(in crate::ledger) async fn insert_team(&self, team: &TeamRecord) -> Result<bool, StoreError> {
        let values = vec![
            Value::from(team.name.as_str()),
            Value::from(team.config.as_str()),
            Value::Int(team.term.created_ms),
            Value::Int(team.changed_ms),
            Value::MaybeInt(team.term.expires_ms),
            Value::MaybeInt(team.term.revoked_ms),
        ];
        Ok(self.db.execute(Sql::new(INSERT, values)).await? == 1)
    }

    /// All teams by name, revoked and expired ones too.
    pub(in crate::ledger) async fn teams(&self) -> Result<Vec<TeamRecord>, StoreError> {
        self.db.fetch(Sql::new(ALL, Vec::new())).await?.iter().map(team).collect()
    }

    pub(in crate::ledger) async fn team(&self, name: &TeamName) -> Result<Option<TeamRecord>, StoreError> {
        let found = self.db.fetch(Sql::new(ONE, vec![Value::from(name.as_str())])).await?;
        found.first().map(team).transpose()
    }

    /// Returns whether `old` was what stood there.
    pub(in crate::ledger) async fn replace_team(
        &self,
        old: &TeamRecord,
        config: &Document,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let values = vec![
            Value::from(old.name.as_str()),
            Value::from(config.as_str()),
            Value::Int(now_ms),
            Value::from(old.config.as_str()),
        ];
        Ok(self.db.execute(Sql::new(REPLACE, values)).await? == 1)
    }

    pub(in crate::ledger) async fn expire_team(
        &self,
        name: &TeamName,
        at_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let values = vec![Value::from(name.as_str()), Value::MaybeInt(at_ms), Value::Int(now_ms)];
        Ok(self.db.execute(Sql::new(EXPIRE, values)).await? == 1)
    }

    /// Returns whether there was such a team, not revoked before.
    pub(in crate::ledger) async fn revoke_team(
        &self,
        name: &TeamName,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let sql = Sql::new(REVOKE, vec![Value::from(name.as_str()), Value::Int(now_ms)]);
        Ok(self.db.execute(sql).await? == 1)
    }
}

fn team(row: &Row) -> Result<TeamRecord, StoreError> {
    let term = Term {
        created_ms: row.get("created_ms")?,
        expires_ms: row.get("expires_ms")?,
        revoked_ms: row.get("revoked_ms")?,
    };
    Ok(TeamRecord {
        name: TeamName::from(&row.get::<String>("name")?),
        config: Document::from(row.get::<String>("config")?),
        changed_ms: row.get("changed_ms")?,
        term,
    })
}
