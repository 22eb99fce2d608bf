//! How budgets stand, and when they will be used up if spending goes on as it did.
//!
//! For the dashboard and for `/admin/v1/budgets`, so that both say the same. The forecast is pure and simple
//! on purpose: the window's average so far, so that anybody can check it.
//!
//! Invariants: money that is held counts as spent; nothing is forecast from too little of a window; nobody
//! is told of a budget of a team that is not his.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::viewer::Viewer;
use crate::admission::Team;
use crate::gateway::Gateway;
use crate::ledger::budget::{Balance, Budget, Calendar, Of, Payer, Subject, Window};
use crate::ledger::report::{By, Figures, Filter, Reports, SpendAsk};
use crate::money::NanoUsd;
use crate::team::{KeyId, State, TeamName};

/// Of a window must have passed before it says something of the rest: one part in fifty.
const LEAST_SHARE: i64 = 50;

/// Keys or users told of a budget that each of them has.
const N_SUBJECTS: usize = 3;
/// Balances asked for at once.
const N_AT_ONCE: usize = 8;
const MS_PER_HOUR: i64 = 3_600_000;

/// A budget and what is left of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    pub(super) team: TeamName,
    /// The key or the user that has it for itself; empty where the team shares it.
    pub(super) name: String,
    pub(super) budget: Budget,
    pub(super) spent: NanoUsd,
    pub(super) held: NanoUsd,
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// Why balances cannot be told, in a sentence for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Untold(String);

/// How the budgets of a team, or of all teams that `viewer` may see, stand at `now_ms`. Of a budget that each
/// key or each user has for itself, the dearest of them are told.
pub(super) async fn standings(
    gateway: &Gateway,
    viewer: &Viewer,
    team: Option<&TeamName>,
    now_ms: i64,
) -> Result<Vec<Standing>, Untold> {
    let live = gateway.live();
    let is_asked = |known: &Team| {
        let name = &known.name;
        let is_good = known.term.state(now_ms) == State::Good;
        is_good && team.is_none_or(|only| name == only) && viewer.may_see(name)
    };
    let ring = live.key_ring();
    let budgets: Vec<(TeamName, Budget)> = ring
        .teams()
        .filter(|team| is_asked(team))
        .flat_map(|team| team.budgets.iter().map(|budget| (team.name.clone(), budget.clone())))
        .collect();
    let reports = &gateway.ledger.reports();
    let of_one = |(team, budget): (TeamName, Budget)| async move {
        let mut found = Vec::new();
        for name in subjects(reports, &team, &budget, now_ms).await? {
            found.push(Standing::read(gateway, &team, &budget, &name, now_ms).await);
        }
        Ok(found)
    };
    let found: Vec<Vec<Standing>> =
        stream::iter(budgets).map(of_one).buffered(N_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Whose balances of a budget are worth telling.
async fn subjects(
    reports: &Reports,
    team: &TeamName,
    budget: &Budget,
    now_ms: i64,
) -> Result<Vec<String>, Untold> {
    let by = match budget.of {
        Of::Team => return Ok(vec![String::new()]),
        Of::EachKey => By::Key,
        Of::EachUser => By::User,
    };
    let span = budget.calendar().span(now_ms);
    let filter = Filter { team: Some(team.clone()), ..Filter::default() };
    let ask =
        SpendAsk { filter, figures: Figures::Spent, ..SpendAsk::over(&[by], span.start_ms, span.end_ms) };
    let rows = reports.spend(&ask).await.map_err(|error| Untold(error.to_string()))?;
    let names = rows.into_iter().filter_map(|row| row.names.into_iter().next());
    Ok(names.filter(|name| !name.is_empty()).take(N_SUBJECTS).collect())
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
    async fn read(gateway: &Gateway, team: &TeamName, budget: &Budget, name: &str, now_ms: i64) -> Self {
        let of_all = gateway.ledger.balance_of_all(&payer(team, budget.of, name), budget).await;
        let balance = of_all.unwrap_or_else(|_| gateway.ledger.balance(team, budget.per));
        Self::new(team, budget, name, (balance, now_ms))
    }

    fn new(team: &TeamName, budget: &Budget, name: &str, (balance, now_ms): (Balance, i64)) -> Self {
        let span = budget.calendar().span(now_ms);
        Self {
            team: team.clone(),
            name: name.to_owned(),
            budget: budget.clone(),
            spent: balance.spent,
            held: balance.held,
            from_ms: span.start_ms,
            to_ms: span.end_ms,
        }
    }

    /// Whose it is, as it is shown.
    pub(super) fn owner(&self) -> String {
        match self.budget.of {
            Of::Team => self.team.to_string(),
            Of::EachKey => format!("{} / key {}", self.team, self.name),
            Of::EachUser => format!("{} / {}", self.team, self.name),
        }
    }

    pub(super) fn subject(&self) -> Subject {
        match self.budget.of {
            Of::Team => Subject::Team,
            Of::EachKey => Subject::Key(KeyId::from(&self.name)),
            Of::EachUser => Subject::User(Arc::from(self.name.as_str())),
        }
    }

    pub(super) fn limit(&self) -> NanoUsd {
        self.budget.usd
    }

    pub(super) fn used(&self) -> NanoUsd {
        self.spent.saturating_add(self.held)
    }

    pub(super) fn left(&self) -> NanoUsd {
        NanoUsd::new(self.limit().get().saturating_sub(self.used().get()).max(0))
    }

    /// Where the window's stretches begin and the last one ends: the hours of a day, the days of a week or a
    /// month, as the budget's own calendar has them.
    pub(super) fn edges_ms(&self) -> Vec<i64> {
        let days = Calendar { per: Window::Day, zone: self.budget.time_zone.clone() };
        let next_ms = |at_ms: i64| match self.budget.per {
            Window::Day => at_ms + MS_PER_HOUR,
            Window::Week | Window::Month => days.span(at_ms).end_ms,
        };
        let within = |at_ms: &i64| *at_ms < self.to_ms;
        let steps = std::iter::successors(Some(self.from_ms), |at_ms| Some(next_ms(*at_ms)).filter(within));
        steps.chain([self.to_ms]).collect()
    }

    pub(super) fn outlook(&self, now_ms: i64) -> Outlook {
        if self.used() >= self.limit() {
            return Outlook::UsedUp;
        }
        let (passed_ms, window_ms) = (now_ms - self.from_ms, self.to_ms - self.from_ms);
        if passed_ms <= 0 || window_ms <= 0 || passed_ms < window_ms / LEAST_SHARE {
            return Outlook::TooEarly;
        }
        let (used, limit) = (i128::from(self.used().get()), i128::from(self.limit().get()));
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
    use crate::ledger::budget::Zone;

    const DAY_MS: i64 = 86_400_000;

    fn standing(used: i64, limit: i64) -> Standing {
        Standing {
            team: TeamName::from("search"),
            name: String::new(),
            budget: Budget::new(NanoUsd::new(limit), Window::Month),
            spent: NanoUsd::new(used),
            held: NanoUsd::ZERO,
            from_ms: 0,
            to_ms: 30 * DAY_MS,
        }
    }

    fn window(per: Window, zone: &str, at_ms: i64) -> Standing {
        let time_zone = Zone::named(zone).unwrap();
        let budget = Budget { time_zone, ..Budget::new(NanoUsd::new(1), per) };
        let balance = Balance { spent: NanoUsd::ZERO, held: NanoUsd::ZERO, resets_at_ms: 0 };
        Standing::new(&TeamName::from("search"), &budget, "", (balance, at_ms))
    }

    /// 2026-10-25, when clocks in Berlin are put back.
    const LONG_DAY_MS: i64 = 1_792_929_600_000;

    #[test]
    fn a_window_is_cut_into_the_hours_or_days_of_its_own_calendar() {
        for (per, zone, expected) in [
            (Window::Day, "UTC", 24),
            (Window::Day, "Europe/Berlin", 25),
            (Window::Week, "UTC", 7),
            (Window::Week, "Asia/Kolkata", 7),
            (Window::Month, "Europe/Berlin", 31),
        ] {
            let standing = window(per, zone, LONG_DAY_MS);
            let edges = standing.edges_ms();

            assert_eq!(edges.len(), expected + 1, "{per} in {zone}");
            assert_eq!((edges[0], edges[expected]), (standing.from_ms, standing.to_ms));
            assert!(edges.windows(2).all(|pair| pair[0] < pair[1]));
        }
        let month = window(Window::Month, "Europe/Berlin", LONG_DAY_MS).edges_ms();
        let longest = month.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert_eq!(longest, 25 * MS_PER_HOUR, "the day on which clocks are put back");
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
