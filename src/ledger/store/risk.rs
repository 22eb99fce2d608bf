//! The table of what replicas know of the risk of cached answers.
//!
//! Reads none of it; to this table it is text.
//!
//! Invariants: a replica writes its own lines only; a line is taken over by one replica, in the transaction in
//! which that one writes its own.

use super::db::{Row, Sql, Tx, Value};
use super::{Store, StoreError};
use crate::ledger::risk_lines::{RiskLine, TakeOver};

const LINES: &str =
    "SELECT scope, replica, account, model_saved_at_ms, saved_at_ms FROM cache_risk ORDER BY scope, replica";
const MODEL: &str = "SELECT model FROM cache_risk WHERE scope = $1 AND replica = $2";
const ADD: &str = "INSERT INTO cache_risk (scope, replica, account, saved_at_ms) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (scope, replica) DO NOTHING";
const SAVE_ACCOUNT: &str =
    "UPDATE cache_risk SET account = $3, saved_at_ms = $4 WHERE scope = $1 AND replica = $2";
const SAVE_MODEL: &str = "UPDATE cache_risk SET model = $3, model_saved_at_ms = $4, saved_at_ms = $4 \
    WHERE scope = $1 AND replica = $2";
const TOUCH: &str = "UPDATE cache_risk SET saved_at_ms = $2 WHERE replica = $1";
const REMOVE: &str = "DELETE FROM cache_risk WHERE scope = $1 AND replica = $2 AND saved_at_ms = $3";
const TAKE_OVER: &str = "UPDATE cache_risk SET account = $3, model = COALESCE($4, model), \
    model_saved_at_ms = CASE WHEN $4 IS NULL THEN model_saved_at_ms ELSE $5 END, saved_at_ms = $5 \
    WHERE scope = $1 AND replica = $2";

impl Store {
    /// All lines, without their models.
    pub(in crate::ledger) async fn risk_lines(&self) -> Result<Vec<RiskLine>, StoreError> {
        self.db.fetch(Sql::new(LINES, Vec::new())).await?.iter().map(line).collect()
    }

    pub(in crate::ledger) async fn risk_model(
        &self,
        scope: &str,
        replica: &str,
    ) -> Result<Option<String>, StoreError> {
        let found = self.db.fetch(Sql::new(MODEL, vec![Value::from(scope), Value::from(replica)])).await?;
        found.first().map_or(Ok(None), |row| row.get("model"))
    }

    /// Adds a line; one that is there already stays as it is.
    pub(in crate::ledger) async fn add_risk_line(&self, line: &RiskLine) -> Result<(), StoreError> {
        let values = vec![
            Value::from(line.scope.as_str()),
            Value::from(line.replica.as_str()),
            Value::from(line.account.as_str()),
            Value::Int(line.saved_at_ms),
        ];
        self.db.execute(Sql::new(ADD, values)).await?;
        Ok(())
    }

    /// Saves accounts by scope, all or none; returns the scopes whose line another replica has taken over.
    pub(in crate::ledger) async fn save_risk_accounts(
        &self,
        replica: &str,
        accounts: &[(String, String)],
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        let mut tx = self.db.begin().await?;
        let mut lost = Vec::new();
        for (scope, account) in accounts {
            let values = vec![
                Value::from(scope.as_str()),
                Value::from(replica),
                Value::from(account.as_str()),
                Value::Int(now_ms),
            ];
            if tx.execute(Sql::new(SAVE_ACCOUNT, values)).await? == 0 {
                lost.push(scope.clone());
            }
        }
        tx.commit().await?;
        Ok(lost)
    }

    /// Returns whether the line was still there.
    pub(in crate::ledger) async fn save_risk_model(
        &self,
        (scope, replica): (&str, &str),
        model: &str,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let values = vec![Value::from(scope), Value::from(replica), Value::from(model), Value::Int(now_ms)];
        Ok(self.db.execute(Sql::new(SAVE_MODEL, values)).await? == 1)
    }

    /// Sets the sign of life of all lines of a replica.
    pub(in crate::ledger) async fn touch_risk_lines(
        &self,
        replica: &str,
        saved_at_ms: i64,
    ) -> Result<(), StoreError> {
        let values = vec![Value::from(replica), Value::Int(saved_at_ms)];
        self.db.execute(Sql::new(TOUCH, values)).await?;
        Ok(())
    }

    /// Deletes the line of a replica that is gone and writes one's own, with what it held; `false`, and nothing
    /// is changed, where either is not as it was seen.
    pub(in crate::ledger) async fn take_over_risk_line(&self, asked: &TakeOver) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        if take_over(&mut tx, asked).await? {
            tx.commit().await?;
            return Ok(true);
        }
        tx.roll_back().await?;
        Ok(false)
    }
}

async fn take_over(tx: &mut Tx, asked: &TakeOver) -> Result<bool, StoreError> {
    let TakeOver { gone, replica, account, model, now_ms } = asked;
    let seen = vec![
        Value::from(gone.scope.as_str()),
        Value::from(gone.replica.as_str()),
        Value::Int(gone.saved_at_ms),
    ];
    if tx.execute(Sql::new(REMOVE, seen)).await? == 0 {
        return Ok(false);
    }
    let own = vec![
        Value::from(gone.scope.as_str()),
        Value::from(replica.as_str()),
        Value::from(account.as_str()),
        Value::MaybeText(model.clone()),
        Value::Int(*now_ms),
    ];
    Ok(tx.execute(Sql::new(TAKE_OVER, own)).await? == 1)
}

fn line(row: &Row) -> Result<RiskLine, StoreError> {
    Ok(RiskLine {
        scope: row.get("scope")?,
        replica: row.get("replica")?,
        account: row.get("account")?,
        model_saved_at_ms: row.get("model_saved_at_ms")?,
        saved_at_ms: row.get("saved_at_ms")?,
    })
}
