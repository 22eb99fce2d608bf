//! What replicas know of the risk of cached answers, kept in the database of the book.
//!
//! Reads none of it: the cache does. Nothing of the book is derived from it.
//!
//! Invariants: a replica writes its own lines only; a line is taken over by one replica.

use super::store::{Store, StoreError};

/// A line without its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RiskLine {
    pub scope: String,
    pub replica: String,
    pub account: String,
    /// When its model was saved; none where there is none.
    pub model_saved_at_ms: Option<i64>,
    /// Its replica's last sign of life; 0 where it has ended.
    pub saved_at_ms: i64,
}

/// What is written when the line of a replica that is gone is taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// As it was seen.
    pub gone: RiskLine,
    /// Who takes over, and what both have together; without a model one's own stays.
    pub replica: String,
    pub account: String,
    pub model: Option<String>,
    pub now_ms: i64,
}

/// The lines of all scopes and replicas.
#[derive(Debug, Clone)]
pub struct RiskLines {
    store: Store,
}

impl RiskLines {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    pub async fn lines(&self) -> Result<Vec<RiskLine>, StoreError> {
        self.store.risk_lines().await
    }

    pub async fn model(&self, scope: &str, replica: &str) -> Result<Option<String>, StoreError> {
        self.store.risk_model(scope, replica).await
    }

    /// Adds a line; one that is there already stays as it is.
    pub async fn add(&self, line: &RiskLine) -> Result<(), StoreError> {
        self.store.add_risk_line(line).await
    }

    /// Saves accounts by scope, all or none; returns the scopes whose line another replica has taken over.
    pub async fn save_accounts(
        &self,
        replica: &str,
        accounts: &[(String, String)],
        now_ms: i64,
    ) -> Result<Vec<String>, StoreError> {
        self.store.save_risk_accounts(replica, accounts, now_ms).await
    }

    /// Returns whether the line was still there.
    pub async fn save_model(&self, of: (&str, &str), model: &str, now_ms: i64) -> Result<bool, StoreError> {
        self.store.save_risk_model(of, model, now_ms).await
    }

    /// Gives a sign of life, or with 0 of the end.
    pub async fn touch(&self, replica: &str, saved_at_ms: i64) -> Result<(), StoreError> {
        self.store.touch_risk_lines(replica, saved_at_ms).await
    }

    /// Returns whether both lines were as they were seen; else nothing is changed.
    pub async fn take_over(&self, asked: &TakeOver) -> Result<bool, StoreError> {
        self.store.take_over_risk_line(asked).await
    }
}
