//! Balances of teams per calendar window, and the decision whether a call may still be paid for.
//!
//! Pure: no clock, no I/O, no lock. Times come in as milliseconds since 1970 UTC; a call belongs to the
//! windows in which it began, even when it ends in the next.
//!
//! Invariants: a hold is granted only where spent + held + ceiling stays within every budget, in all of
//! them or in none; what was held is released exactly once, because [`Reserved`] is consumed.

use std::collections::HashMap;
use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Deserializer, Serialize};

use crate::money::NanoUsd;
use crate::team::TeamName;

const MS_PER_DAY: i64 = 86_400_000;
/// 1970-01-05 was a Monday.
const FIRST_MONDAY_MS: i64 = 4 * MS_PER_DAY;
/// The running window and the one before it, for calls that began just before the turn.
const N_WINDOWS_KEPT: usize = 2;

/// A limit per window, one of a team's `budgets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Dollars per window, as a number or an exact decimal text.
    #[serde(deserialize_with = "usd_from_number_or_text")]
    pub usd: NanoUsd,
    /// `day`, `week` (from Monday) or `month`, in UTC.
    pub per: Window,
    /// What happens to a call that the budget cannot cover; default `refuse`.
    #[serde(default)]
    pub on_exceed: OnExceed,
}

/// A calendar-aligned span of time in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    Day,
    Week,
    Month,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceed {
    /// The call is refused.
    #[default]
    Refuse,
    /// Only answers from the house's own engine are left; their holds name only the other budgets.
    LocalOnly,
}

impl Window {
    pub const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    /// The first millisecond of the window around `ts_ms`, and of the one after it.
    pub fn bounds_ms(self, ts_ms: i64) -> (i64, i64) {
        match self {
            Self::Day => aligned(ts_ms, 0, MS_PER_DAY),
            Self::Week => aligned(ts_ms, FIRST_MONDAY_MS, 7 * MS_PER_DAY),
            Self::Month => month_bounds_ms(ts_ms),
        }
    }

    fn idx(self) -> usize {
        match self {
            Self::Day => 0,
            Self::Week => 1,
            Self::Month => 2,
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        })
    }
}

fn aligned(ts_ms: i64, origin_ms: i64, span_ms: i64) -> (i64, i64) {
    let start_ms = ts_ms - (ts_ms - origin_ms).rem_euclid(span_ms);
    (start_ms, start_ms + span_ms)
}

fn month_bounds_ms(ts_ms: i64) -> (i64, i64) {
    let instant = Timestamp::from_millisecond(ts_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let first = instant.to_zoned(TimeZone::UTC).date().first_of_month();
    let next = first.checked_add(1.month()).unwrap_or(Date::MAX);
    (midnight_ms(first), midnight_ms(next))
}

fn midnight_ms(date: Date) -> i64 {
    date.to_zoned(TimeZone::UTC).map_or(i64::MAX, |midnight| midnight.timestamp().as_millisecond())
}

/// How one window of a team stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    pub spent: NanoUsd,
    pub held: NanoUsd,
    pub resets_at_ms: i64,
}

impl Balance {
    fn remaining(self, budget: &Budget) -> NanoUsd {
        NanoUsd::new(budget.usd.get().saturating_sub(self.spent.saturating_add(self.held).get()).max(0))
    }

    fn covers(self, ceiling: NanoUsd, budget: &Budget) -> bool {
        self.spent.saturating_add(self.held).saturating_add(ceiling) <= budget.usd
    }
}

/// Why a hold was not granted: the budget that cannot cover it, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    pub budget: Budget,
    pub balance: Balance,
}

/// Money set aside in all windows of a team. Give it back through [`Books::settle`].
#[derive(Debug)]
#[must_use = "money that is not settled stays held"]
pub struct Reserved {
    team: TeamName,
    ts_ms: i64,
    amount: NanoUsd,
}

/// The balances of every team, in memory.
#[derive(Debug, Default)]
pub struct Books {
    teams: HashMap<TeamName, [Vec<Account>; Window::ALL.len()]>,
}

#[derive(Debug)]
struct Account {
    start_ms: i64,
    end_ms: i64,
    spent: NanoUsd,
    held: NanoUsd,
}

impl Books {
    /// Sets `ceiling` aside in all windows of the team if every one of `budgets` covers it.
    ///
    /// # Panics
    ///
    /// On a negative ceiling, which would widen the budget it is held against.
    pub fn hold(
        &mut self,
        team: &TeamName,
        ts_ms: i64,
        ceiling: NanoUsd,
        budgets: &[Budget],
    ) -> Result<Reserved, Exceeded> {
        assert!(ceiling >= NanoUsd::ZERO, "a ceiling is never negative, got {ceiling}");
        if let Some(exceeded) = self.exceeded(team, ts_ms, ceiling, budgets) {
            return Err(exceeded);
        }
        for window in Window::ALL {
            self.account(team, window, ts_ms).held += ceiling;
        }
        Ok(Reserved { team: team.clone(), ts_ms, amount: ceiling })
    }

    /// Releases what was held and books what was really spent.
    pub fn settle(&mut self, reserved: Reserved, cost: NanoUsd) {
        for window in Window::ALL {
            let account = self.account(&reserved.team, window, reserved.ts_ms);
            assert!(account.held >= reserved.amount, "what is released was held before");
            account.held -= reserved.amount;
            account.spent += cost;
        }
    }

    /// Books a cost that no hold preceded.
    pub fn spend(&mut self, team: &TeamName, ts_ms: i64, cost: NanoUsd) {
        for window in Window::ALL {
            self.account(team, window, ts_ms).spent += cost;
        }
    }

    pub fn balance(&self, team: &TeamName, window: Window, ts_ms: i64) -> Balance {
        let (_, end_ms) = window.bounds_ms(ts_ms);
        let empty = Balance { spent: NanoUsd::ZERO, held: NanoUsd::ZERO, resets_at_ms: end_ms };
        let Some(windows) = self.teams.get(team) else { return empty };
        let found = windows[window.idx()].iter().find(|account| account.end_ms == end_ms);
        found.map_or(empty, |account| Balance { spent: account.spent, held: account.held, ..empty })
    }

    /// What the tightest of `budgets` still has; `None` where there is no budget.
    pub fn remaining(&self, team: &TeamName, ts_ms: i64, budgets: &[Budget]) -> Option<NanoUsd> {
        budgets.iter().map(|budget| self.balance(team, budget.per, ts_ms).remaining(budget)).min()
    }

    /// The budget that cannot cover `ceiling`; one that refuses goes before one that allows local answers.
    fn exceeded(
        &self,
        team: &TeamName,
        ts_ms: i64,
        ceiling: NanoUsd,
        budgets: &[Budget],
    ) -> Option<Exceeded> {
        budgets
            .iter()
            .map(|budget| Exceeded { budget: *budget, balance: self.balance(team, budget.per, ts_ms) })
            .filter(|at| !at.balance.covers(ceiling, &at.budget))
            .min_by_key(|at| at.budget.on_exceed != OnExceed::Refuse)
    }

    fn account(&mut self, team: &TeamName, window: Window, ts_ms: i64) -> &mut Account {
        let (start_ms, end_ms) = window.bounds_ms(ts_ms);
        if !self.teams.contains_key(team) {
            self.teams.insert(team.clone(), Default::default());
        }
        let windows = self.teams.get_mut(team).expect("it was inserted above");
        account_at(&mut windows[window.idx()], start_ms, end_ms)
    }
}

/// The account of a window, opened where it is new; windows long past and with nothing held are dropped.
fn account_at(accounts: &mut Vec<Account>, start_ms: i64, end_ms: i64) -> &mut Account {
    let at = accounts.partition_point(|account| account.start_ms < start_ms);
    if accounts.get(at).is_some_and(|account| account.start_ms == start_ms) {
        return &mut accounts[at];
    }
    accounts.insert(at, Account { start_ms, end_ms, spent: NanoUsd::ZERO, held: NanoUsd::ZERO });
    let n_old = accounts.len().saturating_sub(N_WINDOWS_KEPT);
    let mut idx = 0;
    accounts.retain(|account| {
        idx += 1;
        idx > n_old || account.held != NanoUsd::ZERO || account.start_ms == start_ms
    });
    accounts.iter_mut().find(|account| account.start_ms == start_ms).expect("it was inserted above")
}

/// Takes `500`, `0.25` or `"0.25"`; a float goes through its shortest decimal text.
fn usd_from_number_or_text<'de, D: Deserializer<'de>>(from: D) -> Result<NanoUsd, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wire {
        Whole(i64),
        Fraction(f64),
        Text(String),
    }
    let text = match Wire::deserialize(from)? {
        Wire::Whole(usd) => usd.to_string(),
        Wire::Fraction(usd) => usd.to_string(),
        Wire::Text(usd) => usd,
    };
    NanoUsd::from_usd(&text).filter(|usd| *usd >= NanoUsd::ZERO).ok_or_else(|| {
        serde::de::Error::custom(format!(
            "`{text}` is no amount of dollars, need zero or more with at most nine decimals"
        ))
    })
}

#[cfg(test)]
mod tests;
