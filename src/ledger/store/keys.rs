//! The table of API keys.
//!
//! Invariants: a secret is never in it, and a key that was revoked stays revoked.

use super::db::{Row, Sql, Value};
use super::{Store, StoreError, rows};
use crate::team::{Document, KeyHash, KeyId, KeyRecord, RouteName, TeamName};

const INSERT: &str = "INSERT INTO api_keys \
    (id, hash, name, team, routes, created_ms, expires_ms, revoked_ms, budgets) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const ALL: &str = "SELECT id, hash, name, team, routes, created_ms, expires_ms, revoked_ms, budgets \
    FROM api_keys ORDER BY created_ms, id";
const REVOKE: &str = "UPDATE api_keys SET revoked_ms = $2 WHERE id = $1 AND revoked_ms IS NULL";
const SET_BUDGETS: &str = "UPDATE api_keys SET budgets = $2 WHERE id = $1 AND revoked_ms IS NULL";
const EXPIRE: &str = "UPDATE api_keys SET expires_ms = $2 \
    WHERE id = $1 AND revoked_ms IS NULL AND (expires_ms IS NULL OR expires_ms > $2)";

impl Store {
    pub(in crate::ledger) async fn insert_key(&self, key: &KeyRecord) -> Result<(), StoreError> {
        let routes =
            key.routes.as_ref().map(|routes| serde_json::to_string(routes).expect("names are always JSON"));
        let values = vec![
            Value::from(key.id.as_str()),
            Value::Text(key.hash.to_hex()),
            Value::from(key.name.as_str()),
            Value::from(key.team.as_str()),
            Value::MaybeText(routes),
            Value::Int(key.created_ms),
            Value::MaybeInt(key.expires_ms),
            Value::MaybeInt(key.revoked_ms),
            Value::MaybeText(key.budgets.as_ref().map(|budgets| budgets.as_str().to_owned())),
        ];
        self.db.execute(Sql::new(INSERT, values)).await?;
        Ok(())
    }

    /// All keys, the oldest first, revoked and expired ones too.
    pub(in crate::ledger) async fn keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.db.fetch(Sql::new(ALL, Vec::new())).await?.iter().map(api_key).collect()
    }

    /// Returns whether there was such a key, not revoked before.
    pub(in crate::ledger) async fn revoke_key(&self, id: &KeyId, now_ms: i64) -> Result<bool, StoreError> {
        let sql = Sql::new(REVOKE, vec![Value::from(id.as_str()), Value::Int(now_ms)]);
        Ok(self.db.execute(sql).await? == 1)
    }

    /// Returns whether there is such a key, not revoked.
    pub(in crate::ledger) async fn set_key_budgets(
        &self,
        id: &KeyId,
        budgets: Option<&Document>,
    ) -> Result<bool, StoreError> {
        let budgets = budgets.map(|budgets| budgets.as_str().to_owned());
        let sql = Sql::new(SET_BUDGETS, vec![Value::from(id.as_str()), Value::MaybeText(budgets)]);
        Ok(self.db.execute(sql).await? == 1)
    }

    /// Lets a key end at `at_ms`; `false` where there is no such key, or it ends before that anyway.
    pub(in crate::ledger) async fn expire_key(&self, id: &KeyId, at_ms: i64) -> Result<bool, StoreError> {
        let sql = Sql::new(EXPIRE, vec![Value::from(id.as_str()), Value::Int(at_ms)]);
        Ok(self.db.execute(sql).await? == 1)
    }
}

fn api_key(row: &Row) -> Result<KeyRecord, StoreError> {
    let read_routes = |json: &str| serde_json::from_str::<Vec<RouteName>>(json).ok();
    let routes: Option<String> = row.get("routes")?;
    Ok(KeyRecord {
        id: KeyId::from(&row.get::<String>("id")?),
        hash: rows::word("hash", row.get("hash")?, KeyHash::from_hex)?,
        name: row.get("name")?,
        team: TeamName::from(&row.get::<String>("team")?),
        routes: routes.map(|json| rows::word("routes", json, read_routes)).transpose()?,
        created_ms: row.get("created_ms")?,
        expires_ms: row.get("expires_ms")?,
        revoked_ms: row.get("revoked_ms")?,
        budgets: row.get::<Option<String>>("budgets")?.map(Document::from),
    })
}
