//! Teams and keys as the database keeps them, and whether they still count.
//!
//! Reads no document: what a team may do is `config`'s to say, in the words of the file.
//!
//! Invariants: a document is never shown by `Debug`, because a webhook's address may be a secret; what was
//! revoked stays revoked.

use std::collections::HashMap;
use std::fmt;

use super::{KeyRecord, TeamName};

/// Text of JSON that was checked before it was kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Document(String);

impl Document {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Document {
    fn from(json: String) -> Self {
        Self(json)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Document(..)")
    }
}

/// Whether a key or a team counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Good,
    Expired,
    Revoked,
}

impl State {
    pub fn at(now_ms: i64, expires_ms: Option<i64>, revoked_ms: Option<i64>) -> Self {
        let is_past = |at_ms: Option<i64>| at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        match (is_past(revoked_ms), is_past(expires_ms)) {
            (true, _) => Self::Revoked,
            (false, true) => Self::Expired,
            (false, false) => Self::Good,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// From when to when a team counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
    pub revoked_ms: Option<i64>,
}

impl Term {
    /// That of a team in the file.
    pub const ALWAYS: Self = Self { created_ms: i64::MIN, expires_ms: None, revoked_ms: None };

    /// From `now_ms` on.
    pub const fn from(now_ms: i64, expires_ms: Option<i64>) -> Self {
        Self { created_ms: now_ms, expires_ms, revoked_ms: None }
    }

    pub fn state(&self, now_ms: i64) -> State {
        State::at(now_ms, self.expires_ms, self.revoked_ms)
    }
}

/// A team as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamRecord {
    pub name: TeamName,
    /// An object with the words of `[teams.NAME]`.
    pub config: Document,
    pub changed_ms: i64,
    pub term: Term,
}

/// All teams and keys of the database, revoked and expired ones too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    pub teams: Vec<TeamRecord>,
    pub keys: Vec<KeyRecord>,
}

impl Roster {
    pub fn team(&self, name: &TeamName) -> Option<&TeamRecord> {
        self.teams.iter().find(|team| team.name == *name)
    }

    /// These teams and keys, with nothing of `newer` but when they end.
    pub fn with_ends_of(&self, newer: &Self) -> Self {
        let teams: HashMap<_, _> = newer.teams.iter().map(|team| (&team.name, team)).collect();
        let keys: HashMap<_, _> = newer.keys.iter().map(|key| (&key.id, key)).collect();
        let mut roster = self.clone();
        for team in &mut roster.teams {
            if let Some(now) = teams.get(&team.name) {
                team.term = now.term;
            }
        }
        for key in &mut roster.keys {
            if let Some(now) = keys.get(&key.id) {
                (key.expires_ms, key.revoked_ms) = (now.expires_ms, now.revoked_ms);
            }
        }
        roster
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn team(name: &str, config: &str, revoked_ms: Option<i64>) -> TeamRecord {
        let term = Term { revoked_ms, ..Term::from(1, None) };
        TeamRecord { name: TeamName::from(name), config: config.to_owned().into(), changed_ms: 1, term }
    }

    #[test]
    fn a_term_ends_at_its_millisecond_and_revoked_goes_before_expired() {
        for (now_ms, expires_ms, revoked_ms, expected) in [
            (9, None, None, State::Good),
            (9, Some(10), Some(10), State::Good),
            (10, Some(10), None, State::Expired),
            (10, None, Some(10), State::Revoked),
            (11, Some(10), Some(11), State::Revoked),
        ] {
            let found = State::at(now_ms, expires_ms, revoked_ms);
            assert_eq!(found, expected, "{now_ms} {expires_ms:?} {revoked_ms:?}");
        }
        assert_eq!(Term::ALWAYS.state(i64::MAX), State::Good);
    }

    #[test]
    fn only_ends_are_taken_from_a_newer_roster() {
        let before = Roster { teams: vec![team("a", "{}", None), team("b", "{}", None)], keys: Vec::new() };
        let newer = Roster {
            teams: vec![team("a", "{\"routes\":[]}", Some(5)), team("c", "{}", None)],
            keys: Vec::new(),
        };

        let found = before.with_ends_of(&newer);

        assert_eq!(found.teams, [team("a", "{}", Some(5)), team("b", "{}", None)]);
    }

    #[test]
    fn debug_shows_no_document() {
        let record = team("a", "{\"webhook\":\"https://hooks.example/s3cret\"}", None);

        assert!(!format!("{record:?}").contains("s3cret"));
    }
}
