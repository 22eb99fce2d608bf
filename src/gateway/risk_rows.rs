//! The cache's risk state in the database of the book: the one's words for the other.
//!
//! Decides nothing.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::cache::risk_store::{Adoption, Line, RiskStore, RiskStoreError};
use crate::ledger::risk_lines::{RiskLine, RiskLines, TakeOver};
use crate::ledger::store::StoreError;

#[derive(Debug)]
pub(super) struct RiskRows(pub(super) RiskLines);

type Answer<'a, T> = BoxFuture<'a, Result<T, RiskStoreError>>;

impl RiskStore for RiskRows {
    fn lines(&self) -> Answer<'_, Vec<Line>> {
        async { Ok(told(self.0.lines().await)?.into_iter().map(line).collect()) }.boxed()
    }

    fn model<'a>(&'a self, scope: &'a str, replica: &'a str) -> Answer<'a, Option<String>> {
        async { told(self.0.model(scope, replica).await) }.boxed()
    }

    fn add<'a>(&'a self, line: &'a Line) -> Answer<'a, ()> {
        async { told(self.0.add(&row(line)).await) }.boxed()
    }

    fn save_accounts<'a>(
        &'a self,
        replica: &'a str,
        accounts: &'a [(String, String)],
        now_ms: i64,
    ) -> Answer<'a, Vec<String>> {
        async move { told(self.0.save_accounts(replica, accounts, now_ms).await) }.boxed()
    }

    fn save_model<'a>(&'a self, of: (&'a str, &'a str), model: &'a str, now_ms: i64) -> Answer<'a, bool> {
        async move { told(self.0.save_model(of, model, now_ms).await) }.boxed()
    }

    fn touch<'a>(&'a self, replica: &'a str, saved_at_ms: i64) -> Answer<'a, ()> {
        async move { told(self.0.touch(replica, saved_at_ms).await) }.boxed()
    }

    fn adopt<'a>(&'a self, adoption: &'a Adoption) -> Answer<'a, bool> {
        let Adoption { gone, replica, account, model, now_ms } = adoption.clone();
        let asked = TakeOver { gone: row(&gone), replica, account, model, now_ms };
        async move { told(self.0.take_over(&asked).await) }.boxed()
    }
}

fn told<T>(answer: Result<T, StoreError>) -> Result<T, RiskStoreError> {
    answer.map_err(|error| RiskStoreError(error.to_string()))
}

fn line(row: RiskLine) -> Line {
    let RiskLine { scope, replica, account, model_saved_at_ms, saved_at_ms } = row;
    Line { scope, replica, account, model_saved_at_ms, saved_at_ms }
}

fn row(line: &Line) -> RiskLine {
    let Line { scope, replica, account, model_saved_at_ms, saved_at_ms } = line.clone();
    RiskLine { scope, replica, account, model_saved_at_ms, saved_at_ms }
}
