//! How budgets stand, and when they will be used up if spending goes on as it did.
//!
//! The one place of the dashboard that reads budgets: another kind of budget is added in [`Standing::of_team`].
//! The forecast is pure and simple on purpose: the window's average so far, so that anybody can check it.
//!
//! Invariants: money that is held counts as spent; nothing is forecast from too little of a window.

use crate::admission::Team;
use crate::gateway::Gateway;
use crate::ledger::budget::{Budget, OnExceed, Window};
use crate::money::NanoUsd;

/// Of a window must have passed before it says something of the rest: one part in fifty.
const LEAST_SHARE: i64 = 50;

/// A budget and what is left of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    /// Whose it is, as it is shown.
    pub(super) owner: String,
    pub(super) team: String,
    pub(super) limit: NanoUsd,
    pub(super) used: NanoUsd,
    /// Of what is used: set aside for calls that have not ended.
    pub(super) held: NanoUsd,
    pub(super) per: Window,
    pub(super) on_exceed: OnExceed,
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// What will become of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It is too early in the window to say.
    TooEarly,
    UsedUp,
    RunsOut {
        at_ms: i64,
    },
    /// It lasts, and so much will have been used at the end.
    Lasts {
        at_end: NanoUsd,
    },
}

impl Standing {
    pub(super) fn of_team(gateway: &Gateway, team: &Team, now_ms: i64) -> Vec<Self> {
        let standing = |budget: &Budget| {
            let balance = gateway.ledger.balance(&team.name, budget.per);
            let (from_ms, _) = budget.per.bounds_ms(now_ms);
            Self {
                owner: team.name.to_string(),
                team: team.name.to_string(),
                limit: budget.usd,
                used: balance.spent.saturating_add(balance.held),
                held: balance.held,
                per: budget.per,
                on_exceed: budget.on_exceed,
                from_ms,
                to_ms: balance.resets_at_ms,
            }
        };
        team.budgets.iter().map(standing).collect()
    }

    pub(super) fn left(&self) -> NanoUsd {
        NanoUsd::new(self.limit.get().saturating_sub(self.used.get()).max(0))
    }

    pub(super) fn outlook(&self, now_ms: i64) -> Outlook {
        if self.used >= self.limit {
            return Outlook::UsedUp;
        }
        let (passed_ms, window_ms) = (now_ms - self.from_ms, self.to_ms - self.from_ms);
        if passed_ms <= 0 || window_ms <= 0 || passed_ms < window_ms / LEAST_SHARE {
            return Outlook::TooEarly;
        }
        let (used, limit) = (i128::from(self.used.get()), i128::from(self.limit.get()));
        let at_end = used * i128::from(window_ms) / i128::from(passed_ms);
        if at_end < limit {
            return Outlook::Lasts { at_end: NanoUsd::new(i64::try_from(at_end).unwrap_or(i64::MAX)) };
        }
        // Used is above zero here, or the end would be below the limit.
        let lasts_ms = limit * i128::from(passed_ms) / used.max(1);
        Outlook::RunsOut { at_ms: self.from_ms.saturating_add(i64::try_from(lasts_ms).unwrap_or(i64::MAX)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn standing(used: i64, limit: i64) -> Standing {
        Standing {
            owner: "search".to_owned(),
            team: "search".to_owned(),
            limit: NanoUsd::new(limit),
            used: NanoUsd::new(used),
            held: NanoUsd::ZERO,
            per: Window::Month,
            on_exceed: OnExceed::Refuse,
            from_ms: 0,
            to_ms: 30 * DAY_MS,
        }
    }

    fn check(used: i64, passed_days: i64, expected: Outlook) {
        assert_eq!(standing(used, 300).outlook(passed_days * DAY_MS), expected, "{used} in {passed_days}");
    }

    #[test]
    fn a_budget_runs_out_at_the_pace_so_far() {
        check(200, 10, Outlook::RunsOut { at_ms: 15 * DAY_MS });
        check(100, 10, Outlook::RunsOut { at_ms: 30 * DAY_MS });
        check(99, 10, Outlook::Lasts { at_end: NanoUsd::new(297) });
        check(0, 10, Outlook::Lasts { at_end: NanoUsd::ZERO });
        check(300, 10, Outlook::UsedUp);
        check(299, 30, Outlook::Lasts { at_end: NanoUsd::new(299) });
    }

    #[test]
    fn too_little_of_a_window_says_nothing() {
        let least_ms = 30 * DAY_MS / LEAST_SHARE;

        assert_eq!(standing(10, 300).outlook(least_ms - 1), Outlook::TooEarly);
        assert_ne!(standing(10, 300).outlook(least_ms), Outlook::TooEarly);
        assert_eq!(standing(10, 300).outlook(-5), Outlook::TooEarly);
    }

    #[test]
    fn extreme_amounts_do_not_overflow() {
        assert_eq!(standing(i64::MAX - 1, i64::MAX).outlook(DAY_MS), Outlook::RunsOut { at_ms: DAY_MS });
        assert_eq!(standing(0, 0).outlook(DAY_MS), Outlook::UsedUp);
        assert_eq!(standing(i64::MIN, i64::MAX).left(), NanoUsd::MAX);
    }

    #[test]
    fn what_is_left_is_never_negative() {
        assert_eq!(standing(100, 300).left(), NanoUsd::new(200));
        assert_eq!(standing(301, 300).left(), NanoUsd::ZERO);
    }
}
