//! What one replica may spend while the shared store is away.
//!
//! Invariants: within a window an outage after another does not add up to more than the allowance.

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};

use super::Asking;
use crate::ledger::budget::{Books, Budget, Reserved, usd_from_number_or_text};
use crate::money::NanoUsd;

/// What happens to calls of teams with budgets while the shared store is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenAway {
    /// They are refused.
    #[default]
    Refuse,
    /// Each replica spends up to this much per team and window by its own books, then refuses.
    FailOpen(NanoUsd),
}

/// `"refuse"`, or a table with `fail_open_usd`.
impl<'de> Deserialize<'de> for WhenAway {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct FailOpen {
            #[serde(deserialize_with = "usd_from_number_or_text")]
            fail_open_usd: NanoUsd,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Wire {
            Word(String),
            FailOpen(FailOpen),
        }
        let expected = "need `refuse` or `{ fail_open_usd = 5 }`";
        match Wire::deserialize(from) {
            Ok(Wire::Word(word)) if word == "refuse" => Ok(Self::Refuse),
            Ok(Wire::Word(word)) => {
                Err(serde::de::Error::custom(format!("`{word}` is not known, {expected}")))
            }
            Ok(Wire::FailOpen(FailOpen { fail_open_usd })) => Ok(Self::FailOpen(fail_open_usd)),
            Err(_) => Err(serde::de::Error::custom(expected)),
        }
    }
}

#[derive(Debug)]
pub(super) struct Allowance {
    when_away: WhenAway,
    books: Mutex<Books>,
}

impl Allowance {
    pub(super) fn new(when_away: WhenAway) -> Self {
        Self { when_away, books: Mutex::default() }
    }

    /// Sets the ceiling aside in the allowance, or says why not. `known` is what was last heard.
    pub(super) fn hold(&self, known: &Mutex<Books>, ask: Asking<'_>) -> Result<Reserved, String> {
        let WhenAway::FailOpen(allowed) = self.when_away else {
            return Err("`ledger.when_shared_store_is_away` is `refuse`".to_owned());
        };
        let is_spent = known
            .lock()
            .standings(ask.payer, ask.ts_ms, ask.budgets)
            .any(|at| at.budget.is_hard() && at.balance.spent.saturating_add(ask.ceiling) > at.budget.usd);
        if is_spent {
            return Err("a budget was spent already when it was last heard of".to_owned());
        }
        let capped: Vec<Budget> = ask
            .budgets
            .iter()
            .map(|budget| Budget { usd: allowed.min(budget.usd), ..budget.clone() })
            .collect();
        let held = self.books.lock().hold(ask.payer, ask.ts_ms, ask.ceiling, &capped);
        held.map_err(|_| format!("this replica has spent the ${allowed} it may per window without it"))
    }

    pub(super) fn settle(&self, reserved: Reserved, cost: NanoUsd) {
        self.books.lock().settle(reserved, cost);
    }
}
