//! How budgets stand, and when they will be used up if spending goes on as it did.
//!
//! The one place of the dashboard that reads balances. The forecast is pure and simple on purpose: the
//! window's average so far, so that anybody can check it.
//!
//! Invariants: money that is held counts as spent; nothing is forecast from too little of a window.

use std::sync::Arc;

use crate::gateway::Gateway;
use crate::ledger::budget::{Balance, Budget, Of, OnExceed, Payer, Window};
use crate::money::NanoUsd;
use crate::team::{KeyId, TeamName};

/// Of a window must have passed before it says something of the rest: one part in fifty.
const LEAST_SHARE: i64 = 50;

/// A budget and what is left of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    /// Whose it is, as it is shown.
    pub(super) owner: String,
    pub(super) team: String,
    /// Whether the team shares it, or a key or a user has it for itself.
    pub(super) of: Of,
    pub(super) limit: NanoUsd,
    pub(super) used: NanoUsd,
    pub(super) per: Window,
    /// Whose calendar counts, as it is shown.
    pub(super) zone: String,
    pub(super) on_exceed: OnExceed,
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// Whose balance of a budget is asked for: the team's own with an empty name, else a key's or a user's.
pub(super) fn payer(team: &TeamName, of: Of, name: &str) -> Payer {
    let mut payer = Payer::of_team(team);
    match of {
        Of::Team => {}
        Of::EachKey => payer.key = Some(KeyId::from(name)),
        Of::EachUser => payer.user = Some(Arc::from(name)),
    }
    payer
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
    /// All replicas together; where the others cannot be asked, as this one last heard of the team.
    pub(super) async fn read(
        gateway: &Gateway,
        team: &TeamName,
        budget: &Budget,
        name: &str,
        now_ms: i64,
    ) -> Self {
        let of_all = gateway.ledger.balance_of_all(&payer(team, budget.of, name), budget).await;
        let balance = of_all.unwrap_or_else(|_| gateway.ledger.balance(team, budget.per));
        Self::new(team, budget, name, (balance, now_ms))
    }

    fn new(team: &TeamName, budget: &Budget, name: &str, (balance, now_ms): (Balance, i64)) -> Self {
        let owner = match budget.of {
            Of::Team => team.to_string(),
            Of::EachKey => format!("{team} / key {name}"),
            Of::EachUser => format!("{team} / {name}"),
        };
        let span = budget.calendar().span(now_ms);
        Self {
            owner,
            team: team.to_string(),
            of: budget.of,
            limit: budget.usd,
            used: balance.spent.saturating_add(balance.held),
            per: budget.per,
            zone: budget.time_zone.name().to_owned(),
            on_exceed: budget.on_exceed,
            from_ms: span.start_ms,
            to_ms: span.end_ms,
        }
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
            of: Of::Team,
            zone: "UTC".to_owned(),
            limit: NanoUsd::new(limit),
            used: NanoUsd::new(used),
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
