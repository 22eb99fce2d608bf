//! The right, and the duty, to leave the answer to a question that missed.
//!
//! Does not judge the answer: [`policy::storable`](super::policy::storable) does, before.
//!
//! Invariants: dropped without an answer, it releases all who wait for it; with one, they get it
//! before it is written anywhere.

use std::fmt;
use std::sync::Arc;

use super::agree::Arbiter;
use super::answer::StoredAnswer;
use super::flight::Leader;
use super::semantic::{Asked, Fresh, Pending};
use super::{Cache, Landed};
use crate::chat::Fingerprint;

#[must_use = "others wait until it is stored or dropped"]
pub struct Fill {
    pub(super) exact: Fingerprint,
    /// For the semantic tier; none where it does not apply.
    pub(super) asked: Option<Asked>,
    pub(super) vector: Option<Arc<[f32]>>,
    /// What the answer will tell of one that was served, or proposed.
    pub(super) pending: Option<Box<Pending>>,
    pub(super) leader: Option<Leader<Landed>>,
    pub(super) may_store: bool,
    /// Who is asked where nobody else can tell whether two answers say the same.
    pub(super) arbiter: Option<Arc<dyn Arbiter>>,
}

impl Fill {
    /// Whether the answer will be compared with one that was served, or proposed.
    pub fn compares(&self) -> bool {
        self.pending.is_some()
    }

    /// Has somebody asked about answers that neither words nor the trained guard can tell apart.
    pub fn judged_by(self, arbiter: Arc<dyn Arbiter>) -> Self {
        Self { arbiter: Some(arbiter), ..self }
    }

    /// Gives the answer to all who wait at once; in the background compares it with what was served or
    /// proposed, and writes it to both tiers.
    pub fn store(self, cache: &Cache, answer: StoredAnswer) {
        if !self.may_store && self.pending.is_none() {
            return;
        }
        let answer = Arc::new(answer);
        if let Some(leader) = &self.leader {
            leader.announce(Landed::New(Arc::clone(&answer)));
        }
        cache.0.tasks.spawn(self.write(cache.clone(), answer));
    }

    async fn write(self, cache: Cache, answer: Arc<StoredAnswer>) {
        let bytes = answer.encode();
        if let Some(exact) = cache.0.exact.as_ref().filter(|_| self.may_store) {
            exact.put(&self.exact, bytes.clone()).await;
        }
        // Only now is the key free: whoever comes next finds the answer in the store.
        drop(self.leader);
        if let (Some(semantic), Some(asked)) = (&cache.0.semantic, self.asked) {
            let fresh = Fresh { answer, bytes, is_kept: self.may_store, arbiter: self.arbiter };
            let learned = semantic.settle(asked, self.vector, self.pending, fresh).await;
            cache.heed(&learned).await;
        }
    }
}

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill")
            .field("exact", &self.exact)
            .field("leads", &self.leader.is_some())
            .field("compares", &self.pending.is_some())
            .field("may_store", &self.may_store)
            .field("is_judged", &self.arbiter.is_some())
            .finish_non_exhaustive()
    }
}
