//! What a fresh answer tells of the one that was proposed, and what becomes of both.
//!
//! The comparison runs after the client has its answer. Does not send audits. An arbiter is asked about the proposed
//! answer only, not about others nearby: a group that is split costs less than a question more.
//!
//! Invariants: the judge hears of a proposal at most once; an entry that audits found wrong again and again
//! goes; a fresh answer joins the group of the answers that it repeats.

use std::sync::Arc;

use bytes::Bytes;

use super::{Asked, Semantic};
use crate::cache::agree::{Agreement, Arbiter, arbitrate};
use crate::cache::answer::StoredAnswer;
use crate::cache::index::{EntryId, IndexEntry, Neighbour};
use crate::cache::judge::Lesson;
use crate::cache::risk::GroupKey;
use crate::money::NanoUsd;

/// Other answers nearby that a fresh one may repeat: so many are compared with.
const N_OTHERS: usize = 2;

/// A proposed answer that waits for a fresh one to be compared with.
#[derive(Debug)]
pub(in crate::cache) struct Pending {
    entry: EntryId,
    group: GroupKey,
    /// What was served; of an answer that was refused only the name is known.
    served: Option<Arc<StoredAnswer>>,
    /// The nearest entry of each other group.
    others: Vec<(EntryId, GroupKey)>,
    lesson: Lesson,
}

/// What a comparison came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::cache) struct Learned {
    /// Whether the proposed answer was right; none where it could not be compared.
    pub(in crate::cache) right: Option<bool>,
    /// Whether it had been served.
    pub(in crate::cache) is_audit: bool,
    /// An entry that must go.
    pub(in crate::cache) condemned: Option<EntryId>,
}

impl Pending {
    pub(super) fn new(
        proposed: &Neighbour,
        near: &[Neighbour],
        lesson: Lesson,
        served: Option<Arc<StoredAnswer>>,
    ) -> Self {
        let mut others: Vec<(EntryId, GroupKey)> = Vec::new();
        for neighbour in near {
            let is_known = neighbour.group == proposed.group
                || others.iter().any(|(_, group)| *group == neighbour.group);
            if !is_known && others.len() < N_OTHERS {
                others.push((neighbour.id, neighbour.group));
            }
        }
        Self { entry: proposed.id, group: proposed.group, served, others, lesson }
    }

    /// The same, had this answer been served.
    #[cfg(test)]
    pub(in crate::cache) fn about(self, entry: EntryId, served: Arc<StoredAnswer>) -> Self {
        Self { entry, served: Some(served), ..self }
    }
}

impl Semantic {
    /// Learns what a fresh answer tells of what was proposed, and keeps it where `is_kept`; `vector` spares
    /// embedding the text anew.
    pub(in crate::cache) async fn settle(
        &self,
        asked: Asked,
        vector: Option<Arc<[f32]>>,
        pending: Option<Box<Pending>>,
        fresh: Fresh,
    ) -> Learned {
        let (learned, group) = match pending {
            Some(pending) => self.learn(&asked, &pending, &fresh).await,
            None => (Learned::default(), asked.id.own_group()),
        };
        if fresh.is_kept && self.judge.keeps(learned.right) {
            self.put(asked, vector, group, fresh).await;
        }
        learned
    }

    /// What was learned, and the group of the fresh answer.
    async fn learn(&self, asked: &Asked, pending: &Pending, fresh: &Fresh) -> (Learned, GroupKey) {
        let is_audit = pending.lesson.is_audit();
        let cached = match &pending.served {
            Some(served) => Some(Arc::clone(served)),
            None => self.answer_of(pending.entry).await.map(Arc::new),
        };
        let Some(cached) = cached else {
            return (Learned { is_audit, ..Learned::default() }, asked.id.own_group());
        };
        // What nobody can tell apart may be wrong.
        let right = self.compare(asked, &cached, fresh).await == Agreement::Same;
        self.judge.learn(&pending.lesson, right);
        let is_condemned = is_audit && pending.entry != asked.id && self.strikes.count(pending.entry, right);
        let condemned = is_condemned.then_some(pending.entry);
        let group = match right {
            true => pending.group,
            false => self.group_among(asked, &pending.others, &fresh.answer).await,
        };
        (Learned { right: Some(right), is_audit, condemned }, group)
    }

    async fn compare(&self, asked: &Asked, cached: &StoredAnswer, fresh: &Fresh) -> Agreement {
        let agreement = self.agree.agree(cached, &fresh.answer).await;
        match (&fresh.arbiter, agreement) {
            (Some(arbiter), Agreement::Unsure) => {
                arbitrate(&**arbiter, &asked.text, cached, &fresh.answer).await
            }
            (_, Agreement::Same | Agreement::Different) | (None, Agreement::Unsure) => agreement,
        }
    }

    async fn group_among(
        &self,
        asked: &Asked,
        others: &[(EntryId, GroupKey)],
        fresh: &StoredAnswer,
    ) -> GroupKey {
        for (entry, group) in others {
            if let Some(cached) = self.answer_of(*entry).await
                && self.agree.agree(&cached, fresh).await == Agreement::Same
            {
                return *group;
            }
        }
        asked.id.own_group()
    }

    async fn put(&self, asked: Asked, vector: Option<Arc<[f32]>>, group: GroupKey, fresh: Fresh) {
        let vector = match vector {
            Some(vector) => vector,
            None => match self.embed(&asked.text).await {
                Some(vector) => vector,
                None => return,
            },
        };
        let Fresh { answer, bytes, .. } = fresh;
        let ttl_ms = i64::try_from(self.ttl_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let entry = IndexEntry {
            id: asked.id,
            scope: self.own_scope(&asked.scope),
            vector,
            text: asked.text,
            group,
            worth: answer.cost.unwrap_or(NanoUsd::ZERO),
            answer: bytes,
            expires_at_ms: answer.stored_at_ms.saturating_add(ttl_ms),
        };
        self.or_raise(self.index.upsert(entry, answer.stored_at_ms).await);
    }
}

/// An answer that just came from upstream.
pub(in crate::cache) struct Fresh {
    pub(in crate::cache) answer: Arc<StoredAnswer>,
    /// The same, encoded.
    pub(in crate::cache) bytes: Bytes,
    /// Whether others may get it.
    pub(in crate::cache) is_kept: bool,
    /// Who is asked whether it says what was proposed, where nobody else can tell.
    pub(in crate::cache) arbiter: Option<Arc<dyn Arbiter>>,
}
