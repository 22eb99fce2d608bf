//! One line of the book: who called, what answered, what it used and what it cost.
//!
//! Holds no prompt and no answer, and computes no prices.
//!
//! Invariants: money is whole nano-dollars and times are milliseconds; a cost of `None` means that no
//! price was known, never that the call was free; a field added later has a serde default, because
//! a journal written by an older version must still be read.

use serde::{Deserialize, Serialize};

use super::savings::Aside;
use crate::chat::usage::Usage;
use crate::money::NanoUsd;
use crate::team::{CallId, KeyId, RouteName, TeamName, TierName, UpstreamName};

/// One posting. A call has at most one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: CallId,
    /// When the call began; it decides the budget windows that the cost belongs to.
    pub ts_ms: i64,
    pub team: TeamName,
    pub key: Option<KeyId>,
    pub user: Option<String>,
    pub tags: Vec<String>,
    pub endpoint: String,
    pub route: RouteName,
    pub tier: Option<TierName>,
    pub score: Option<f32>,
    pub score_source: Option<String>,
    pub reason: String,
    pub split: Option<String>,
    pub arm: Option<String>,
    pub upstream: Option<UpstreamName>,
    pub model: Option<String>,
    pub attempts: u32,
    pub path: AnswerPath,
    pub cache: CacheOutcome,
    /// Why the cache was not asked, or compared no meanings: a word of `cache::policy::Ineligible`.
    #[serde(default)]
    pub cache_why: Option<String>,
    /// The name of the cached answer that was given, or under which this call's own may be kept.
    #[serde(default)]
    pub cache_entry: Option<String>,
    pub similarity: Option<f32>,
    pub usage: Usage,
    /// What the call cost; `None` where the model has no known price.
    pub cost: Option<NanoUsd>,
    /// What the baseline model would have cost.
    pub baseline: Option<NanoUsd>,
    /// Whether usage or cost were estimated rather than reported by the upstream.
    pub estimated: bool,
    pub outcome: Outcome,
    pub status: u16,
    pub overhead_us: u64,
    pub first_byte_ms: Option<u64>,
    pub total_ms: u64,
    /// Money beside the call's own cost.
    #[serde(default)]
    pub aside: Aside,
    /// When each stage ended.
    #[serde(default)]
    pub stages: Stages,
    /// Attempts that came to nothing, in order.
    #[serde(default)]
    pub tried: Vec<Tried>,
}

/// Microseconds since the call arrived at which each stage had ended; `None` for a stage it did not reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stages {
    pub admitted_us: Option<u64>,
    pub looked_up_us: Option<u64>,
    pub scored_us: Option<u64>,
    pub planned_us: Option<u64>,
    pub held_us: Option<u64>,
    /// The attempt that answered was sent.
    pub sent_us: Option<u64>,
    pub first_byte_us: Option<u64>,
    pub ended_us: Option<u64>,
}

/// An attempt that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub upstream: UpstreamName,
    /// Why, in a word that metrics use, too.
    pub reason: String,
    /// From its sending to its failure.
    pub took_ms: u64,
}

impl Entry {
    /// The row as it would stand if the process died right after sending: interrupted and estimated.
    pub fn draft(id: CallId, ts_ms: i64, team: TeamName, endpoint: &str, route: RouteName) -> Self {
        Self {
            id,
            ts_ms,
            team,
            key: None,
            user: None,
            tags: Vec::new(),
            endpoint: endpoint.to_owned(),
            route,
            tier: None,
            score: None,
            score_source: None,
            reason: String::new(),
            split: None,
            arm: None,
            upstream: None,
            model: None,
            attempts: 0,
            path: AnswerPath::None,
            cache: CacheOutcome::Bypass,
            cache_why: None,
            cache_entry: None,
            similarity: None,
            usage: Usage::default(),
            cost: None,
            baseline: None,
            estimated: true,
            outcome: Outcome::Interrupted,
            status: 0,
            overhead_us: 0,
            first_byte_ms: None,
            total_ms: 0,
            aside: Aside::default(),
            stages: Stages::default(),
            tried: Vec::new(),
        }
    }

    /// What the baseline would have cost more than the call did; `None` where either is unknown.
    pub fn saved(&self) -> Option<NanoUsd> {
        Some(self.baseline? - self.cost?)
    }

    /// Whether it is a call of our own, that checks an answer of the cache: no client waited for it, and no team's
    /// budget pays for it.
    pub fn is_audit(&self) -> bool {
        self.path == AnswerPath::Audit
    }

    /// Whether an earlier answer was given.
    pub fn is_hit(&self) -> bool {
        matches!(self.cache, CacheOutcome::HitExact | CacheOutcome::HitSemantic)
    }

    /// What the call adds to a balance: an unpriced call adds nothing and is counted apart.
    pub fn charge(&self) -> NanoUsd {
        self.cost.unwrap_or(NanoUsd::ZERO)
    }
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that stands in the database and in headers.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }
    };
}

word_enum!(
    /// Where the answer came from.
    AnswerPath {
        Exact = "exact",
        Semantic = "semantic",
        Local = "local",
        Upstream = "upstream",
        /// A call of our own, whose answer is compared with a cached one and given to nobody.
        Audit = "audit",
        /// Nothing answered.
        None = "none",
    }
);
word_enum!(
    /// What the cache did for the call.
    CacheOutcome {
        HitExact = "hit-exact",
        HitSemantic = "hit-semantic",
        Miss = "miss",
        Bypass = "bypass",
        /// The call checks an answer that the cache gave.
        Audit = "audit",
    }
);
word_enum!(
    /// How the call ended.
    Outcome {
        Ok = "ok",
        /// The client hung up before the end.
        ClientGone = "client_gone",
        /// The upstream's stream ended without its end mark.
        Truncated = "truncated",
        UpstreamError = "upstream_error",
        /// This process died with the call in flight.
        Interrupted = "interrupted",
        Refused = "refused",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> Entry {
        let id = CallId::new(1_000, [7; 10]);
        Entry::draft(id, 1_000, TeamName::from("search"), "/v1/chat/completions", RouteName::from("auto"))
    }

    #[test]
    fn an_entry_is_read_back_from_json_as_it_was_written() {
        let mut entry = draft();
        entry.score = Some(0.37);
        entry.cost = Some(NanoUsd::new(1_234));
        entry.tags = vec!["a\"b".to_owned()];

        let json = serde_json::to_string(&entry).unwrap();

        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
    }

    #[test]
    fn every_word_of_an_enum_parses_to_itself() {
        for path in AnswerPath::ALL {
            assert_eq!(AnswerPath::parse(path.as_str()), Some(*path));
        }
        for cache in CacheOutcome::ALL {
            assert_eq!(CacheOutcome::parse(cache.as_str()), Some(*cache));
        }
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::parse(outcome.as_str()), Some(*outcome));
        }
        assert_eq!(Outcome::parse("fine"), None);
    }

    #[test]
    fn an_unpriced_entry_charges_nothing() {
        let mut entry = draft();
        assert_eq!(entry.charge(), NanoUsd::ZERO);

        entry.cost = Some(NanoUsd::new(5));
        assert_eq!(entry.charge(), NanoUsd::new(5));
    }
}
