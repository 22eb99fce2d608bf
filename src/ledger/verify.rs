//! Whether the book adds up: its rows, the sums kept of them, and the balances that budgets are held against.
//!
//! Changes nothing unless it is asked to rebuild. May run beside gateways: what they post meanwhile can show as
//! a difference of the shared balances, which is gone when it is asked again.
//!
//! Invariants: every difference is told, not only the first; rows that were deleted after their time are not
//! missed; what is rebuilt is made of the rows alone.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::budget::{AccountId, Budget, Calendar, Of, Span};
use super::replicas::SharedAccounts;
use super::store::Store;
use super::{Ledger, LedgerConfig, LedgerError};
use crate::money::NanoUsd;
use crate::shared::{SharedConfig, SharedStore};
use crate::team::TeamName;

const MS_PER_HOUR: i64 = 3_600_000;
/// Compared at a time.
const STRETCH_MS: i64 = 24 * MS_PER_HOUR;

/// What is to be compared.
#[derive(Debug, Clone, Default)]
pub struct VerifyAsk {
    /// Only hours since then; `None` for the whole book.
    pub since_ms: Option<i64>,
    pub now_ms: i64,
    /// Whose running windows are compared with the store that replicas share.
    pub budgets: Vec<(TeamName, Vec<Budget>)>,
    pub shared: SharedConfig,
}

/// What the comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    pub n_hours: u64,
    pub n_accounts: u64,
    pub differences: Vec<Difference>,
}

impl Verified {
    pub fn adds_up(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Two figures that ought to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// The sums of an hour are not what its rows add up to: calls, unpriced calls and nano-dollars.
    Hour { hour_ms: i64, team: String, kind: String, name: String, rows: [i64; 3], sums: [i64; 3] },
    /// A balance is not what the rows of its window add up to.
    Balance { team: TeamName, account: AccountId, rows: NanoUsd, balance: NanoUsd },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hour { hour_ms, team, kind, name, rows, sums } => {
                let hour = jiff::Timestamp::from_millisecond(*hour_ms).unwrap_or_default();
                let [n_calls, n_unpriced, cost] = rows;
                let [n_calls_kept, n_unpriced_kept, cost_kept] = sums;
                write!(
                    f,
                    "hour {hour}, team `{team}`, {kind} `{name}`: rows say {n_calls} calls, {n_unpriced} unpriced, \
                     ${}; its sums say {n_calls_kept}, {n_unpriced_kept}, ${}",
                    NanoUsd::new(*cost),
                    NanoUsd::new(*cost_kept)
                )
            }
            Self::Balance { team, account: AccountId { subject, span }, rows, balance } => {
                let until = jiff::Timestamp::from_millisecond(span.end_ms).unwrap_or_default();
                write!(
                    f,
                    "team `{team}`, {subject}, window until {until}: rows say ${rows}, its balance ${balance}"
                )
            }
        }
    }
}

/// Compares the rows with the sums, and with the balances in the shared store.
pub async fn verify(config: &LedgerConfig, ask: &VerifyAsk) -> Result<Verified, LedgerError> {
    let store = Store::open(config).await?;
    let mut verified = Verified { n_hours: 0, n_accounts: 0, differences: Vec::new() };
    compare_hours(&store, ask, &mut verified).await?;
    if let Some(accounts) = shared_accounts(ask)? {
        compare_shared(&store, ask, &accounts, &mut verified).await?;
    }
    store.close().await;
    Ok(verified)
}

/// Makes the sums again from the rows, and the balances in the shared store from the sums; returns how many
/// days were added up. Balances are put right for whoever is quiet meanwhile.
pub async fn rebuild(config: &LedgerConfig, ask: &VerifyAsk) -> Result<u64, LedgerError> {
    let store = Store::open(config).await?;
    let n_days = store.rebuild(ask.since_ms.unwrap_or(i64::MIN)).await?;
    if let Some(accounts) = shared_accounts(ask)? {
        let mut verified = Verified { n_hours: 0, n_accounts: 0, differences: Vec::new() };
        compare_shared(&store, ask, &accounts, &mut verified).await?;
        for difference in verified.differences {
            if let Difference::Balance { team, account, rows, .. } = difference {
                accounts.rebuild(&team, &account, rows, ask.now_ms).await?;
            }
        }
    }
    store.close().await;
    Ok(n_days)
}

/// Under a name of nobody: it holds nothing.
fn shared_accounts(ask: &VerifyAsk) -> Result<Option<SharedAccounts>, LedgerError> {
    let store = SharedStore::open(&ask.shared, 0)?;
    Ok(store.map(|store| SharedAccounts::new(Arc::new(store))))
}

async fn compare_hours(store: &Store, ask: &VerifyAsk, verified: &mut Verified) -> Result<(), LedgerError> {
    let Some(first_ms) = store.first_ms().await? else { return Ok(()) };
    let kept_since_ms = store.deleted_before_ms().await?.unwrap_or(i64::MIN);
    let since_ms = ask.since_ms.unwrap_or(i64::MIN).max(kept_since_ms).max(first_ms - STRETCH_MS);
    let mut from_ms = since_ms - since_ms.rem_euclid(MS_PER_HOUR);
    while from_ms <= ask.now_ms {
        let to_ms = from_ms + STRETCH_MS;
        let mut rows = store.hours_of_postings(from_ms, to_ms).await?;
        let mut sums = store.hours_of_sums(from_ms, to_ms).await?;
        let keys: BTreeSet<_> = rows.keys().chain(sums.keys()).cloned().collect();
        verified.n_hours += keys.len() as u64;
        for key in keys {
            let (rows, sums) = (rows.remove(&key).unwrap_or_default(), sums.remove(&key).unwrap_or_default());
            if rows != sums {
                let (hour_ms, team, kind, name) = key;
                verified.differences.push(Difference::Hour { hour_ms, team, kind, name, rows, sums });
            }
        }
        from_ms = to_ms;
    }
    Ok(())
}

async fn compare_shared(
    store: &Store,
    ask: &VerifyAsk,
    accounts: &SharedAccounts,
    verified: &mut Verified,
) -> Result<(), LedgerError> {
    for (team, budgets) in &ask.budgets {
        let mut seen: Vec<(Of, Span)> = Vec::new();
        for budget in budgets {
            let Calendar { per, zone } = budget.calendar();
            let span = Calendar { per, zone }.span(ask.now_ms);
            if seen.contains(&(budget.of, span)) {
                continue;
            }
            seen.push((budget.of, span));
            for (subject, rows) in store.spent_by(team, budget.of, span).await? {
                let account = AccountId { subject, span };
                verified.n_accounts += 1;
                // An account that nobody asked for yet has no balance there.
                let (Some(balance), _) = accounts.now(team, &account).await? else { continue };
                if balance != rows {
                    let team = team.clone();
                    verified.differences.push(Difference::Balance { team, account, rows, balance });
                }
            }
        }
    }
    Ok(())
}

impl Ledger {
    /// Compares the balances of this process with the rows, once all of them are in the database.
    pub async fn verify_balances(&self) -> Result<Verified, LedgerError> {
        self.flushed().await;
        let shared = &self.shared;
        let known: Vec<_> = {
            let books = shared.books.lock();
            let account = |(team, id, account): (&TeamName, &AccountId, &super::budget::Account)| {
                (team.clone(), id.clone(), account.spent)
            };
            books.accounts().map(account).collect()
        };
        let mut verified = Verified { n_hours: 0, n_accounts: known.len() as u64, differences: Vec::new() };
        for (team, account, balance) in known {
            let rows = shared.store.spent(&team, &account).await?;
            if rows != balance {
                verified.differences.push(Difference::Balance { team, account, rows, balance });
            }
        }
        Ok(verified)
    }
}
