//! What is asked of the cache, and what comes back.
//!
//! Only the shapes; the looking is the story of [`Cache`](super::Cache).

use std::sync::Arc;

use super::answer::StoredAnswer;
use super::control::Control;
use super::fill::Fill;
use super::index::EntryId;
use super::semantic::Similar;
use crate::chat::Fingerprint;

/// A request as the cache sees it.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Of the whole request.
    pub exact: Fingerprint,
    /// Of everything but the last user's text: team, route, system prompt, earlier turns, tools.
    pub scope: Fingerprint,
    /// The last user's text; `None` where likeness is not enough.
    pub text: Option<&'a str>,
    pub control: Control,
    /// Requests that share a promise about wrong answers: a team's on a route.
    pub promise: &'a str,
    /// Uniform in [0, 1); decides about an audit and about nothing else.
    pub draw: f64,
    /// Whether an audit can be sent in the background now; if not, the question that would be audited is a miss.
    pub may_audit: bool,
}

#[derive(Debug)]
pub enum Found {
    Hit(Hit),
    /// Served, and asked anew in the background: the fresh answer goes into the [`Fill`], which compares.
    Audited(Hit, Fill),
    /// Nothing found; the answer may be left behind with the [`Fill`].
    Miss(Fill),
    /// Not looked for, and nothing to be left behind.
    Bypass(Bypassed),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bypassed {
    /// Both tiers are off.
    Off,
    /// The client asked for a fresh answer and for no traces.
    Client,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub answer: Arc<StoredAnswer>,
    pub kind: HitKind,
    /// Seconds since the answer was stored.
    pub age_s: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HitKind {
    Exact,
    /// An equal request was under way and its answer was waited for.
    Coalesced,
    Semantic {
        /// Cosine.
        similarity: f32,
        entry: EntryId,
    },
}

impl Similar {
    pub(super) fn hit(self, now_ms: i64) -> Hit {
        Hit {
            age_s: self.answer.age_s(now_ms),
            kind: HitKind::Semantic { similarity: self.similarity, entry: self.entry },
            answer: self.answer,
        }
    }
}
