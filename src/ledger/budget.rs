//! What a team, a key or a user may spend in a calendar window, and whether a call may still be paid for.
//!
//! Pure: no clock, no I/O, no lock. Times come in as milliseconds since 1970 UTC; a call belongs to the
//! windows in which it began, even when it ends in the next.
//!
//! Invariants: a hold is granted only where spent + held + ceiling stays within every hard budget, in all
//! of them or in none; what was held is released exactly once, because [`Reserved`] is consumed.

mod amount;
mod books;
mod payer;
mod warning;
mod window;

use serde::{Deserialize, Serialize};

pub use self::amount::{Share, usd_as_text, usd_from_number_or_text};
pub use self::books::{Account, Books, Reserved};
pub use self::payer::{AccountId, Payer, Subject};
pub use self::warning::Warning;
pub use self::window::{Calendar, Span, Window, Zone};

use crate::money::NanoUsd;

/// A limit per window: one of a team's, or of a key's, `budgets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Dollars per window, as a number or an exact decimal text.
    #[serde(serialize_with = "usd_as_text", deserialize_with = "usd_from_number_or_text")]
    pub usd: NanoUsd,
    /// `day`, `week` (from Monday) or `month`, aligned to the calendar of `time_zone`.
    pub per: Window,
    /// What happens to a call that the budget cannot cover; default `refuse`.
    #[serde(default)]
    pub on_exceed: OnExceed,
    /// Share of `usd` from which calls carry a warning, above 0 and below 1; default none.
    #[serde(default)]
    pub soft: Option<Share>,
    /// The IANA name of the time zone whose calendar counts, such as `Europe/Berlin`; default `UTC`.
    #[serde(default)]
    pub time_zone: Zone,
    /// Who shares the amount: the `team` as a whole, or `each_key` or `each_user` an amount of its own; default `team`.
    #[serde(default)]
    pub of: Of,
}

impl Budget {
    /// A team's budget in UTC that refuses what it cannot cover.
    pub fn new(usd: NanoUsd, per: Window) -> Self {
        let (on_exceed, soft, time_zone, of) = Default::default();
        Self { usd, per, on_exceed, soft, time_zone, of }
    }

    pub fn calendar(&self) -> Calendar {
        Calendar { per: self.per, zone: self.time_zone.clone() }
    }

    /// Whether a call that it cannot cover is stopped, here or at an upstream that costs.
    pub fn is_hard(&self) -> bool {
        match self.on_exceed {
            OnExceed::Refuse | OnExceed::LocalOnly => true,
            OnExceed::Warn => false,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceed {
    /// The call is refused.
    #[default]
    Refuse,
    /// Only answers from the house's own engine are left; their holds name only the other budgets.
    LocalOnly,
    /// The call passes with a warning.
    Warn,
}

/// Who shares a budget's amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    #[default]
    Team,
    /// Every key of the team has the amount for itself.
    EachKey,
    /// Every user that the team's calls name has the amount for itself.
    EachUser,
}

impl Of {
    pub const ALL: [Self; 3] = [Self::Team, Self::EachKey, Self::EachUser];
}

/// How one window of a team, a key or a user stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    pub spent: NanoUsd,
    pub held: NanoUsd,
    pub resets_at_ms: i64,
}

impl Balance {
    pub fn remaining(self, budget: &Budget) -> NanoUsd {
        NanoUsd::new(budget.usd.get().saturating_sub(self.spent.saturating_add(self.held).get()).max(0))
    }

    pub fn covers(self, ceiling: NanoUsd, budget: &Budget) -> bool {
        !budget.is_hard() || self.spent.saturating_add(self.held).saturating_add(ceiling) <= budget.usd
    }
}

/// A budget, whose it is for this call, and how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub budget: Budget,
    pub subject: Subject,
    pub balance: Balance,
}

/// Why a hold was not granted: the budget that cannot cover it, as it stands.
pub type Exceeded = Standing;

#[cfg(test)]
mod tests;
