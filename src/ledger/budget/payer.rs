//! Whose money a call spends: its team's, its key's and its user's.
//!
//! Holds no balance.

use std::fmt;
use std::sync::Arc;

use super::{Of, Span};
use crate::team::{KeyId, TeamName};

/// Who pays for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payer {
    pub team: TeamName,
    pub key: Option<KeyId>,
    pub user: Option<Arc<str>>,
}

impl Payer {
    /// A call of a team without a key or a user.
    pub fn of_team(team: &TeamName) -> Self {
        Self { team: team.clone(), key: None, user: None }
    }

    /// The gateway itself, which pays for audits. No team has an empty name.
    pub fn house() -> Self {
        Self::of_team(&TeamName::from(""))
    }

    /// Whoever does not say who it is shares one account with the others who do not.
    pub(super) fn subject(&self, of: Of) -> Subject {
        match of {
            Of::Team => Subject::Team,
            Of::EachKey => Subject::Key(self.key.clone().unwrap_or_else(|| KeyId::from(""))),
            Of::EachUser => Subject::User(self.user.clone().unwrap_or_else(|| Arc::from(""))),
        }
    }
}

/// Whose account it is, within a team.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    Team,
    Key(KeyId),
    User(Arc<str>),
}

impl Subject {
    /// The word that stands in the database.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Team => "team",
            Self::Key(_) => "key",
            Self::User(_) => "user",
        }
    }

    /// Empty for the team itself, and for calls that do not say who they are from.
    pub fn name(&self) -> &str {
        match self {
            Self::Team => "",
            Self::Key(key) => key.as_str(),
            Self::User(user) => user,
        }
    }

    pub fn of(&self) -> Of {
        match self {
            Self::Team => Of::Team,
            Self::Key(_) => Of::EachKey,
            Self::User(_) => Of::EachUser,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Team => f.write_str("team"),
            Self::Key(key) => write!(f, "key `{key}`"),
            Self::User(user) => write!(f, "user `{user}`"),
        }
    }
}

/// One account of a team: whose, and for which window. Budgets with equal windows share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountId {
    pub subject: Subject,
    pub span: Span,
}
