//! Where semantic entries lie: a vector, the text it stands for and the answer, within a scope.
//!
//! Does not judge whether a neighbour is near enough to serve. In memory with a log on disk for one
//! replica, in Qdrant for many.

mod log;
mod qdrant;
mod scan;

pub use qdrant::{QdrantConfig, QdrantIndex};
pub use scan::{ScanConfig, ScanIndex};

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::purge::Chosen;
use super::risk::GroupKey;
use crate::chat::Fingerprint;
use crate::money::NanoUsd;

/// The name of one cached answer: the exact fingerprint of the question it was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryId(Fingerprint);

impl EntryId {
    pub const fn of(question: Fingerprint) -> Self {
        Self(question)
    }

    pub const fn question(&self) -> &Fingerprint {
        &self.0
    }

    /// The group of an entry whose answer is like no other's so far.
    pub fn own_group(&self) -> GroupKey {
        GroupKey(u64::from_le_bytes(std::array::from_fn(|idx| self.0.as_bytes()[idx])))
    }

    /// Reads the 64 hexadecimal digits that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let hash = blake3::Hash::from_hex(text).ok()?;
        Some(Self(Fingerprint::new(*hash.as_bytes())))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex())
    }
}

/// One entry. It owns its answer, so that it can be served when the exact store has lost it.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexEntry {
    pub id: EntryId,
    pub scope: Fingerprint,
    /// Of length 1.
    pub vector: Arc<[f32]>,
    pub text: Arc<str>,
    /// Entries whose answers were found to be the same.
    pub group: GroupKey,
    /// What the answer cost: what serving it again saves.
    pub worth: NanoUsd,
    /// A [`StoredAnswer`](super::StoredAnswer), encoded.
    pub answer: Bytes,
    pub expires_at_ms: i64,
}

/// What a lookup asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub scope: &'a Fingerprint,
    /// Of length 1.
    pub vector: &'a [f32],
    pub k: usize,
    pub min_similarity: f32,
    pub now_ms: i64,
}

/// An entry near to what was asked, nearest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbour {
    pub id: EntryId,
    /// Cosine.
    pub similarity: f32,
    pub text: Arc<str>,
    pub group: GroupKey,
}

/// What every index can do. An entry with a known id replaces the old one.
pub trait Index: Send + Sync {
    fn upsert(&self, entry: IndexEntry, now_ms: i64) -> BoxFuture<'_, Result<(), IndexError>>;
    fn nearest<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Vec<Neighbour>, IndexError>>;
    /// The answer of an entry; none where it is gone meanwhile.
    fn answer(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Bytes>, IndexError>>;
    /// Says that an entry's answer was served: what is used stays longer. Waits for nothing.
    fn touch(&self, id: EntryId);
    /// Tells how many are gone: one or none.
    fn remove(&self, id: EntryId) -> BoxFuture<'_, Result<u64, IndexError>>;
    /// Removes all; tells how many there were.
    fn purge(&self) -> BoxFuture<'_, Result<u64, IndexError>>;
    /// Removes what has all the marks; tells how many there were.
    fn purge_where<'a>(&'a self, chosen: &'a Chosen) -> BoxFuture<'a, Result<u64, IndexError>>;
    /// Nothing where the entries lie elsewhere.
    fn size_bytes(&self) -> Option<u64>;
    fn count(&self) -> BoxFuture<'_, Result<u64, IndexError>>;
    fn readiness(&self) -> BoxFuture<'_, Result<(), IndexError>>;
    /// `scan` or `qdrant`: the name its failures are counted under.
    fn name(&self) -> &'static str;
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(
        "{index}: its vectors have {expected} dimensions and the embedder makes {given}; \
         purge it, or name another collection"
    )]
    Dimension { index: String, expected: usize, given: usize },
    #[error("cannot keep semantic entries in {path}: {source}; they last until the next restart")]
    Persist { path: String, source: std::io::Error },
    #[error("qdrant: {0}; check `cache.semantic.qdrant_url` and that the server is up")]
    Qdrant(#[from] Box<qdrant_client::QdrantError>),
    #[error("qdrant: a point of collection {collection} is not one of ours; name another collection")]
    ForeignPoint { collection: String },
    #[error("the index's thread ended: {0}")]
    Stopped(#[from] tokio::task::JoinError),
}
