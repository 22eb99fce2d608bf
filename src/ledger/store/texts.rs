//! The table of what calls said, where a team has it kept.
//!
//! Whether and how long is decided before. Reports, exports and rebuilt sums never look here.
//!
//! Invariants: a text is inserted in the transaction of its row and never after it, so that one that was deleted
//! does not come back; deleting goes in small batches; in SQLite what was deleted is overwritten.

use std::collections::HashMap;

use super::db::{Bulk, Db, Row, Sql, Tx, Value};
use super::{Store, StoreError};
use crate::ledger::entry::Entry;
use crate::ledger::journal::TextOf;
use crate::ledger::text::CallText;
use crate::team::{CallId, TeamName};

const COLUMNS: &str = "id, team, ts_ms, delete_after_ms, request, request_is_cut, answer, answer_is_cut";
const N_COLUMNS: usize = 8;
const N_DELETED_AT_A_TIME: i64 = 200;

/// Inserts the texts of rows that are `new`.
pub(super) async fn add(tx: &mut Tx, new: &[&Entry], texts: &[TextOf]) -> Result<(), StoreError> {
    if texts.is_empty() {
        return Ok(());
    }
    let by_id: HashMap<CallId, &Entry> = new.iter().map(|entry| (entry.id, *entry)).collect();
    let of_new = texts.iter().filter_map(|of| Some((by_id.get(&of.id)?, &of.text)));
    let values = of_new.flat_map(|(entry, text)| columns(entry, text)).collect();
    let bulk = Bulk {
        head: format!("INSERT INTO call_texts ({COLUMNS}) VALUES "),
        n_columns: N_COLUMNS,
        tail: " ON CONFLICT (id) DO NOTHING".to_owned(),
    };
    tx.write(&bulk, values).await?;
    Ok(())
}

fn columns(entry: &Entry, text: &CallText) -> [Value; N_COLUMNS] {
    [
        Value::Text(entry.id.to_string()),
        Value::from(entry.team.as_str()),
        Value::Int(entry.ts_ms),
        Value::Int(text.delete_after_ms),
        Value::from(text.request.as_str()),
        Value::Bool(text.request_is_cut),
        Value::from(text.answer.as_str()),
        Value::Bool(text.answer_is_cut),
    ]
}

fn text(row: &Row) -> Result<CallText, StoreError> {
    Ok(CallText {
        request: row.get("request")?,
        request_is_cut: row.get("request_is_cut")?,
        answer: row.get("answer")?,
        answer_is_cut: row.get("answer_is_cut")?,
        delete_after_ms: row.get("delete_after_ms")?,
    })
}

impl Store {
    pub(in crate::ledger) async fn text(&self, id: CallId) -> Result<Option<CallText>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM call_texts WHERE id = $1");
        let found = self.db.fetch(Sql::new(sql, vec![Value::Text(id.to_string())])).await?;
        found.first().map(text).transpose()
    }

    /// Returns whether there was one.
    pub(in crate::ledger) async fn delete_text(&self, id: CallId) -> Result<bool, StoreError> {
        let sql = Sql::new("DELETE FROM call_texts WHERE id = $1", vec![Value::Text(id.to_string())]);
        Ok(self.db.execute(sql).await? > 0)
    }

    /// Deletes a few texts of a team's calls that began until then; returns how many, 0 when none is left.
    pub(in crate::ledger) async fn delete_texts_of(
        &self,
        team: &TeamName,
        until_ms: i64,
    ) -> Result<u64, StoreError> {
        let values = vec![Value::from(team.as_str()), Value::Int(until_ms)];
        self.delete_texts("team = $1 AND ts_ms <= $2", "team, ts_ms", values).await
    }

    /// Deletes a few texts whose time is over; returns how many, 0 when none is left.
    pub(in crate::ledger) async fn delete_due_texts(&self, now_ms: i64) -> Result<u64, StoreError> {
        self.delete_texts("delete_after_ms <= $1", "delete_after_ms", vec![Value::Int(now_ms)]).await
    }

    async fn delete_texts(&self, of: &str, order: &str, values: Vec<Value>) -> Result<u64, StoreError> {
        let sql = format!(
            "DELETE FROM call_texts WHERE id IN \
             (SELECT id FROM call_texts WHERE {of} ORDER BY {order} LIMIT {N_DELETED_AT_A_TIME})"
        );
        self.db.execute(Sql::new(sql, values)).await
    }

    /// Takes what was deleted out of SQLite's log of changes, where it would lie until it is written over.
    pub(in crate::ledger) async fn forget_deleted(&self) -> Result<(), StoreError> {
        match &self.db {
            Db::Sqlite { .. } => {
                self.db.execute(Sql::once("PRAGMA wal_checkpoint(TRUNCATE)", Vec::new())).await?;
            }
            // Its vacuum runs by itself.
            Db::Postgres(_) => {}
        }
        Ok(())
    }
}
