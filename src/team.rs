//! Who a call belongs to: teams, keys and the names they carry.
//!
//! Holds no limits and no balances; those live with what enforces them.

pub mod key;
pub mod roster;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use key::{KeyHash, KeyRecord, PresentedKey};
pub use roster::{Document, Roster, State, TeamRecord, Term};

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: AsRef<str> + ?Sized> From<&T> for $name {
            fn from(name: &T) -> Self {
                Self(Arc::from(name.as_ref()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// The name of a team, as in `[teams.NAME]`.
    TeamName
);
impl TeamName {
    pub const MAX_CHARS: usize = 128;

    /// What keeps a text from being a team's name, in a sentence without its subject.
    pub fn fault(text: &str) -> Option<String> {
        if text.trim().is_empty() {
            return Some("is empty; give the team a name".to_owned());
        }
        text_fault(text)
    }

    /// Keeps apart what teams, and scopes within one, must not share, where a number has to say whose it is.
    pub fn salt(&self, scope: Option<&str>) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.0.as_bytes());
        if let Some(scope) = scope {
            // No name holds a zero byte, so no team is another one's scope.
            hasher.update(b"\0").update(scope.as_bytes());
        }
        u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }
}

/// What keeps a text from being shown to people as a name, in a sentence without its subject.
pub fn text_fault(text: &str) -> Option<String> {
    if text.chars().count() > TeamName::MAX_CHARS {
        return Some(format!("is longer than {} characters; shorten it", TeamName::MAX_CHARS));
    }
    text.chars().any(char::is_control).then(|| "has a control character; leave it out".to_owned())
}

name_type!(
    /// The public half of a key: `sk-stiver-<id>-<secret>`.
    KeyId
);
name_type!(
    /// The model name a client asks for.
    RouteName
);
name_type!(
    /// The name of an upstream, as in `[upstreams.NAME]`.
    UpstreamName
);
name_type!(
    /// A rung of a route's ladder.
    TierName
);
name_type!(
    /// The name of an A/B split, as in `[[split]]`.
    SplitName
);
name_type!(
    /// The name of a split's arm.
    ArmName
);

/// The id of one call: a UUID v7, so that rows sort by time. It is the `x-request-id` a client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(uuid::Uuid);

impl CallId {
    /// An id for a call that began at `now_ms`; `entropy` makes it unique within the millisecond.
    pub fn new(now_ms: i64, entropy: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(now_ms.unsigned_abs(), &entropy).into_uuid())
    }

    pub fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text).ok().map(Self)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_has_a_name_that_can_be_shown() {
        let long = "ä".repeat(TeamName::MAX_CHARS);
        for good in ["a", "Search & Rescue", "検索", "<script>", "'; DROP TABLE teams; --", &long] {
            assert_eq!(TeamName::fault(good), None, "{good}");
        }
        for (bad, expected) in [
            ("", "is empty"),
            (" \t", "is empty"),
            ("a\nb", "control character"),
            ("\u{7f}", "control character"),
            ("a\0", "control character"),
            ("a\u{85}", "control character"),
        ] {
            assert!(TeamName::fault(bad).is_some_and(|fault| fault.contains(expected)), "{bad:?}");
        }
        assert!(
            TeamName::fault(&(long + "x")).is_some_and(|fault| fault.contains("longer than 128 characters"))
        );
    }
}
