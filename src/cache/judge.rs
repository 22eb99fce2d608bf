//! Who decides whether a neighbour's answer is served, and what it learns from what becomes of it.
//!
//! Three policies behind one shape: a bar on likeness, thresholds that each entry learns, and the risk
//! control that keeps a promise. Looks nothing up and compares no answers.
//!
//! Invariants: a question is ruled on once, with or without neighbours; nothing is proposed that is less
//! alike than asked for.

use std::sync::Arc;

use parking_lot::Mutex;

use super::guard::{self, Why};
use super::index::{EntryId, Neighbour};
use super::risk::{self, Candidate, Decision, EntryKey, GroupKey, Refusal, VCache, Verdict};
use super::warden::Warden;

pub(super) enum Judge {
    /// The nearest that the lexical guard lets pass.
    Threshold,
    /// To compare with; nothing is served to clients by it.
    VCache(Mutex<VCache>),
    Proven(Arc<Warden>),
}

/// A question and what lies near it, nearest first.
pub(super) struct Case<'a> {
    pub(super) text: &'a str,
    pub(super) near: &'a [Neighbour],
    /// Less alike than this is not served.
    pub(super) min_similarity: f32,
    /// Requests that share a promise.
    pub(super) promise: &'a str,
    /// Uniform in [0, 1).
    pub(super) draw: f64,
}

/// The neighbour whose answer might be served.
pub(super) struct Proposal {
    pub(super) neighbour_idx: usize,
    candidate: Option<Candidate>,
}

/// What was decided, and what can be learned from it.
pub(super) struct Ruling {
    pub(super) verdict: Verdict,
    /// None where a fresh answer would teach nothing.
    pub(super) lesson: Option<Lesson>,
}

/// What the judge wants to hear about: whether the proposed answer was right.
#[derive(Debug)]
pub(super) enum Lesson {
    VCache { entry: EntryKey, similarity: f64 },
    Proven { promise: String, decision: Box<Decision> },
}

impl Judge {
    /// Whose answer might be served; also why nearer ones were passed over.
    pub(super) fn propose(&self, case: &Case<'_>) -> (Option<Proposal>, Vec<Why>) {
        match self {
            Self::Threshold => nearest_alike(case),
            Self::VCache(_) => {
                let first = case.near.first().filter(|nearest| nearest.similarity >= case.min_similarity);
                (first.map(|_| Proposal { neighbour_idx: 0, candidate: None }), Vec::new())
            }
            Self::Proven(_) => (likeliest(case), Vec::new()),
        }
    }

    /// `p_same` is what the trained guard said of the proposal, where it was asked.
    pub(super) fn rule(&self, case: &Case<'_>, proposal: Option<Proposal>, p_same: Option<f64>) -> Ruling {
        match (self, proposal) {
            (Self::Proven(warden), proposal) => {
                let candidate = proposal.and_then(|proposal| proposal.candidate);
                let candidate = candidate.map(|found| match p_same {
                    Some(p_same) => found.with_guard(p_same),
                    None => found,
                });
                let had_candidate = candidate.is_some();
                let decision = warden.decide(case.promise, candidate, case.draw);
                let verdict = decision.verdict;
                let promise = case.promise.to_owned();
                Ruling {
                    verdict,
                    lesson: had_candidate.then_some(Lesson::Proven { promise, decision: Box::new(decision) }),
                }
            }
            (Self::Threshold | Self::VCache(_), None) => {
                Ruling { verdict: Verdict::Refuse(Refusal::NoCandidate), lesson: None }
            }
            (Self::Threshold, Some(_)) => Ruling { verdict: Verdict::Serve { audit: false }, lesson: None },
            (Self::VCache(vcache), Some(proposal)) => {
                let nearest = &case.near[proposal.neighbour_idx];
                let (entry, similarity) = (entry_key(nearest.id), f64::from(nearest.similarity));
                if vcache.lock().explores(entry, similarity, case.draw) {
                    let lesson = Some(Lesson::VCache { entry, similarity });
                    return Ruling { verdict: Verdict::Refuse(Refusal::Doubtful), lesson };
                }
                Ruling { verdict: Verdict::Serve { audit: false }, lesson: None }
            }
        }
    }

    /// Whether what the trained guard says matters.
    pub(super) fn wants_reading(&self) -> bool {
        matches!(self, Self::Proven(_))
    }

    pub(super) fn learn(&self, lesson: &Lesson, right: bool) {
        match (self, lesson) {
            (Self::VCache(vcache), Lesson::VCache { entry, similarity }) => {
                vcache.lock().observe(*entry, *similarity, right);
            }
            (Self::Proven(warden), Lesson::Proven { promise, decision }) => {
                warden.observe(promise, decision, right);
            }
            (Self::Threshold, _) | (Self::VCache(_), Lesson::Proven { .. }) => {}
            (Self::Proven(_), Lesson::VCache { .. }) => {}
        }
    }

    /// Whether a fresh answer becomes an entry; `right` says whether it only repeats the proposed one.
    pub(super) fn keeps(&self, right: Option<bool>) -> bool {
        match self {
            Self::Threshold | Self::Proven(_) => true,
            Self::VCache(_) => right != Some(true),
        }
    }

    pub(super) fn warden(&self) -> Option<&Warden> {
        match self {
            Self::Proven(warden) => Some(warden),
            Self::Threshold | Self::VCache(_) => None,
        }
    }
}

impl Lesson {
    /// Whether the answer in question was served.
    pub(super) fn is_audit(&self) -> bool {
        match self {
            Self::VCache { .. } => false,
            Self::Proven { decision, .. } => decision.verdict == (Verdict::Serve { audit: true }),
        }
    }
}

fn nearest_alike(case: &Case<'_>) -> (Option<Proposal>, Vec<Why>) {
    let mut refused = Vec::new();
    for (neighbour_idx, neighbour) in case.near.iter().enumerate() {
        if neighbour.similarity < case.min_similarity {
            break;
        }
        match guard::compare(case.text, &neighbour.text) {
            guard::Verdict::Same => return (Some(Proposal { neighbour_idx, candidate: None }), refused),
            guard::Verdict::Differs(why) => refused.push(why),
        }
    }
    (None, refused)
}

fn likeliest(case: &Case<'_>) -> Option<Proposal> {
    let of =
        |neighbour: &Neighbour| (entry_key(neighbour.id), neighbour.group, f64::from(neighbour.similarity));
    let near: Vec<risk::Neighbour<'_>> = case
        .near
        .iter()
        .map(|neighbour| {
            let (entry, group, similarity) = of(neighbour);
            risk::Neighbour { entry, group, similarity, text: &neighbour.text }
        })
        .collect();
    let candidate = Candidate::among(case.text, &near)?;
    let is_near = candidate.similarity >= f64::from(case.min_similarity);
    is_near.then_some(Proposal { neighbour_idx: candidate.neighbour_idx, candidate: Some(candidate) })
}

fn entry_key(id: EntryId) -> EntryKey {
    let GroupKey(key) = id.own_group();
    EntryKey(key)
}
