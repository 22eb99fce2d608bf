//! Where the state of the risk control is kept, shared by all replicas: what it has to be able to do.
//!
//! Knows no database and reads none of the states: to a store they are text.
//!
//! Invariants: a replica writes its own lines only; a line is taken over by one replica.

use futures_util::future::BoxFuture;

/// What a replica has saved of a scope, without its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub scope: String,
    pub replica: String,
    pub account: String,
    /// When its model was saved; none where there is none.
    pub model_saved_at_ms: Option<i64>,
    /// Its replica's last sign of life; 0 where it has ended.
    pub saved_at_ms: i64,
}

/// A line of a replica that is gone, and what both have together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// As it was seen.
    pub gone: Line,
    pub replica: String,
    pub account: String,
    /// None where one's own stays as it is.
    pub model: Option<String>,
    pub now_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RiskStoreError(pub String);

type Answer<'a, T> = BoxFuture<'a, Result<T, RiskStoreError>>;

pub trait RiskStore: Send + Sync {
    /// All lines of all replicas.
    fn lines(&self) -> Answer<'_, Vec<Line>>;
    fn model<'a>(&'a self, scope: &'a str, replica: &'a str) -> Answer<'a, Option<String>>;
    /// Adds a line; one that is there already stays as it is.
    fn add<'a>(&'a self, line: &'a Line) -> Answer<'a, ()>;
    /// Saves accounts by scope, all or none; tells the scopes whose line another replica has taken over.
    fn save_accounts<'a>(
        &'a self,
        replica: &'a str,
        accounts: &'a [(String, String)],
        now_ms: i64,
    ) -> Answer<'a, Vec<String>>;
    /// Of a scope and a replica; tells whether their line was still there.
    fn save_model<'a>(&'a self, of: (&'a str, &'a str), model: &'a str, now_ms: i64) -> Answer<'a, bool>;
    /// Gives a sign of life, or with 0 of the end.
    fn touch<'a>(&'a self, replica: &'a str, saved_at_ms: i64) -> Answer<'a, ()>;
    /// In one step; tells whether both lines were as they were seen, else nothing is changed.
    fn adopt<'a>(&'a self, adoption: &'a Adoption) -> Answer<'a, bool>;
}
