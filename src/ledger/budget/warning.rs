//! What is told when an account passes the soft line of a budget.
//!
//! Tells nobody; whoever gets a warning does.

use std::fmt;

use super::{Balance, Budget, OnExceed, Standing, Subject};
use crate::money::NanoUsd;
use crate::team::TeamName;

/// A budget's soft line was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub team: TeamName,
    pub subject: Subject,
    pub budget: Budget,
    pub balance: Balance,
}

impl Budget {
    /// What an account has spent when its calls begin to carry a warning.
    pub fn soft_line(&self) -> Option<NanoUsd> {
        match (self.soft, self.on_exceed) {
            (Some(share), _) => Some(share.of(self.usd)),
            (None, OnExceed::Warn) => Some(self.usd),
            (None, OnExceed::Refuse | OnExceed::LocalOnly) => None,
        }
    }
}

impl Standing {
    pub fn is_past_soft_line(&self) -> bool {
        self.budget.soft_line().is_some_and(|line| self.balance.spent >= line)
    }

    /// Whole percents of the budget that are spent; 100 and more for a budget of nothing.
    pub fn percent(&self) -> i64 {
        let (spent, usd) = (i128::from(self.balance.spent.get()), i128::from(self.budget.usd.get()));
        if usd == 0 {
            return 100;
        }
        i64::try_from(spent * 100 / usd).unwrap_or(i64::MAX)
    }
}

impl Warning {
    pub(super) fn of(team: &TeamName, standing: Standing) -> Self {
        let Standing { budget, subject, balance } = standing;
        Self { team: team.clone(), subject, budget, balance }
    }

    pub fn percent(&self) -> i64 {
        self.standing().percent()
    }

    fn standing(&self) -> Standing {
        Standing { budget: self.budget.clone(), subject: self.subject.clone(), balance: self.balance }
    }
}

/// `month team search 83%`, as the response header has it.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = self.budget.per;
        match &self.subject {
            Subject::Team => write!(f, "{per} team {} {}%", self.team, self.percent()),
            Subject::Key(key) => write!(f, "{per} key {key} {}%", self.percent()),
            Subject::User(user) => write!(f, "{per} user {user} {}%", self.percent()),
        }
    }
}
