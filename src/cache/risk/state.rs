//! What is written down of a scope: its account with its bar, and apart from them its model.
//!
//! An account is small and changes with every request; a model may have megabytes and is told now and then.
//! Knows no file and no database.
//!
//! Invariants: a state of another version is not read.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::account::Account;
use super::bar::Bar;
use super::model::Model;

/// Of the states that are written; another one is not read.
const STATE_VERSION: u32 = 2;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("a risk state of the cache cannot be read: {0}; remove its line from `cache_risk`")]
    Unreadable(#[from] serde_json::Error),
    #[error("a risk state of the cache has version {found}, this build reads {STATE_VERSION}")]
    Version { found: u32 },
}

/// What one replica counted of its own requests; none for the pool, which answers none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountState {
    version: u32,
    pub(super) account: Option<Account>,
    pub(super) bar: Option<Bar>,
}

/// What one replica learned of its own verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelState {
    version: u32,
    pub(super) model: Model,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl AccountState {
    pub(super) fn of(account: Option<Account>, bar: Option<Bar>) -> Self {
        Self { version: STATE_VERSION, account, bar }
    }

    pub fn to_json(&self) -> Result<String, StateError> {
        Ok(serde_json::to_string(self)?)
    }

    pub fn from_json(text: &str) -> Result<Self, StateError> {
        read(text)
    }

    /// Together with what another replica counted. Of another promise only the bar is of use.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.account, &other.account) {
            (Some(own), Some(other)) if own.promise() == other.promise() => own.merge(other),
            (Some(_) | None, Some(_) | None) => {}
        }
        if let (Some(own), Some(other)) = (&mut self.bar, &other.bar) {
            own.merge(other);
        }
    }
}

impl ModelState {
    pub(super) fn of(model: Model) -> Self {
        Self { version: STATE_VERSION, model }
    }

    pub fn to_json(&self) -> Result<String, StateError> {
        Ok(serde_json::to_string(self)?)
    }

    pub fn from_json(text: &str) -> Result<Self, StateError> {
        read(text)
    }

    /// Together with what another replica learned.
    pub fn merge(&mut self, other: &Self) {
        self.model.merge(&other.model);
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, StateError> {
    let Versioned { version: found } = serde_json::from_str(text)?;
    if found != STATE_VERSION {
        return Err(StateError::Version { found });
    }
    Ok(serde_json::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::super::account::Promise;
    use super::*;

    #[test]
    fn a_state_of_another_version_or_none_at_all_is_refused() {
        let written = AccountState { version: STATE_VERSION + 1, ..AccountState::of(None, None) };
        let newer = AccountState::from_json(&written.to_json().unwrap());

        assert!(matches!(newer, Err(StateError::Version { found }) if found == STATE_VERSION + 1));
        for text in ["", "{}", "7", r#"{"version": 2, "account": 7}"#] {
            assert!(matches!(AccountState::from_json(text), Err(StateError::Unreadable(_))), "{text}");
        }
    }

    #[test]
    fn an_account_of_another_promise_is_left_out() {
        let promise = Promise { max_false_hit_rate: 0.01, confidence: 0.95, audit_share: 0.02 };
        let other = Promise { max_false_hit_rate: 0.02, ..promise };
        let earned = |promise| {
            let mut account = Account::open(promise);
            account.earn();
            AccountState::of(Some(account), Some(Bar::new()))
        };
        let n_requests =
            |state: &AccountState| state.account.as_ref().map_or(0, |account| account.n_requests());
        let mut state = earned(promise);

        state.merge(&earned(other));
        assert_eq!(n_requests(&state), 1);
        state.merge(&earned(promise));
        assert_eq!(n_requests(&state), 2);
    }
}
