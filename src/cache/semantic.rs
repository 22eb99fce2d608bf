//! The semantic tier: a question much like an earlier one gets its answer, unless the guard objects.
//!
//! Compares the last user's text only; everything else is in the scope and must be equal.
//!
//! Invariants: any failure is a miss; what is served is at least as alike as configured, and as the
//! client asked; nothing is compared across scopes or embedders.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use secrecy::SecretString;
use serde::Deserialize;

use super::alarm::Alarm;
use super::answer::StoredAnswer;
use super::control::Control;
use super::embedder::{Embed, EmbedError};
use super::guard::{self, Verdict, Why};
use super::index::{EntryId, Index, IndexEntry, IndexError, Neighbour, Wanted};
use super::purge::Purge;
use crate::chat::Fingerprint;
use crate::money::NanoUsd;

/// Neighbours looked at: when the guard refuses the nearest, another may be the very same question.
pub(super) const N_NEIGHBOURS: usize = 4;

/// `[cache.semantic]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SemanticConfig {
    /// Whether alike requests share an answer. Default true.
    pub enabled: bool,
    /// Least cosine of a served neighbour, from 0 to 1. Default 0.95.
    pub min_similarity: f32,
    /// Seconds an answer is served for. Default 86400 (a day).
    pub ttl_s: u64,
    /// Answers kept in memory; of no effect with Qdrant. Default 50000.
    pub max_entries: usize,
    /// Bytes of answers, texts and vectors kept in memory; of no effect with Qdrant. Default 268435456 (256 MiB).
    pub max_bytes: u64,
    /// Bytes of the longest text compared; longer ones are not looked up by meaning. Default 2000.
    pub max_text_bytes: usize,
    /// The folder of the embedder: `model.onnx` and its tokenizer files. Default `router-models/embedder`.
    pub model_dir: PathBuf,
    /// Where entries survive a restart; of no effect with Qdrant. Default `data/semantic`.
    pub data_dir: Option<PathBuf>,
    /// A model of the Hugging Face hub, such as `BGESmallENV15`, fetched into `model_dir` on first use;
    /// needs a build with the feature `hub`. Default unset (what lies in `model_dir`).
    pub model: Option<String>,
    /// How token vectors become one: `mean` or `cls`; known for models of the hub. Default `mean`.
    pub pooling: Pooling,
    /// Texts embedded at once, each on a thread of its own. Default 2.
    pub threads: usize,
    /// Milliseconds an embedding may take, waiting included, before the lookup is a miss. Default 50.
    pub deadline_ms: u64,
    /// The folder of the trained guard: `model.onnx`, `tokenizer.json` and `config.json`. Default `router-models/guard`.
    pub guard_dir: PathBuf,
    /// Pairs of texts the guard reads at once, each on a thread of its own. Default 2.
    pub guard_threads: usize,
    /// Milliseconds the guard may take, waiting included, before it is done without. Default 50.
    pub guard_deadline_ms: u64,
    /// Qdrant's gRPC address: keep entries there, shared by all replicas. Default unset (in memory,
    /// with a log in the data folder).
    pub qdrant_url: Option<String>,
    /// Default unset.
    #[serde(deserialize_with = "super::optional_secret")]
    pub qdrant_api_key: Option<SecretString>,
    /// The collection in Qdrant; made on first use. Default `stiver_semantic`.
    pub qdrant_collection: String,
    /// Milliseconds Qdrant may take to answer before the lookup is a miss. Default 200.
    pub qdrant_timeout_ms: u64,
}

/// How the vectors of a text's tokens become the text's vector; the model's card says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    Mean,
    Cls,
}

impl Default for SemanticConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            // Replayed on four public question streams (bitext, banking77, clinc150, QQP) with the shipped
            // embedder and the lexical guard, 0.95 gave a wrong answer to .15, .55, .15 and .28 % of requests and
            // 0.94 to up to .69 %: the former leaves room below 1 % for traffic unlike theirs.
            min_similarity: 0.95,
            ttl_s: 86_400,
            max_entries: 50_000,
            max_bytes: 256 << 20,
            max_text_bytes: 2_000,
            model_dir: PathBuf::from("router-models/embedder"),
            data_dir: Some(PathBuf::from("data/semantic")),
            model: None,
            pooling: Pooling::Mean,
            threads: 2,
            deadline_ms: 50,
            guard_dir: PathBuf::from("router-models/guard"),
            guard_threads: 2,
            guard_deadline_ms: 50,
            qdrant_url: None,
            qdrant_api_key: None,
            qdrant_collection: "stiver_semantic".to_owned(),
            qdrant_timeout_ms: 200,
        }
    }
}

pub(super) struct Semantic {
    embedder: Arc<dyn Embed>,
    index: Arc<dyn Index>,
    min_similarity: f32,
    ttl_s: u64,
    max_text_bytes: usize,
    embedder_alarm: Alarm,
    index_alarm: Alarm,
}

/// A neighbour found good enough to serve.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Similar {
    pub(super) answer: Arc<StoredAnswer>,
    pub(super) similarity: f32,
    pub(super) entry: EntryId,
}

/// What one lookup came to.
#[derive(Debug, Default)]
pub(super) struct Sighting {
    pub(super) similar: Option<Similar>,
    /// Of the question, for storing its answer; none where it could not be made.
    pub(super) vector: Option<Arc<[f32]>>,
    /// Why the guard refused neighbours that were alike enough.
    pub(super) refused: Vec<Why>,
}

/// The text of a question and the scope it may be answered from.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: EntryId,
    pub(super) scope: Fingerprint,
    pub(super) text: Arc<str>,
}

impl Semantic {
    pub(super) fn new(config: &SemanticConfig, embedder: Arc<dyn Embed>, index: Arc<dyn Index>) -> Self {
        Self {
            embedder,
            min_similarity: config.min_similarity,
            ttl_s: config.ttl_s,
            max_text_bytes: config.max_text_bytes,
            embedder_alarm: Alarm::of("embedder"),
            index_alarm: Alarm::of(index.name()),
            index,
        }
    }

    /// Whether a text is short enough to be compared whole.
    pub(super) fn takes(&self, text: &str) -> bool {
        !text.trim().is_empty() && text.len() <= self.max_text_bytes
    }

    pub(super) async fn find(&self, asked: &Asked, control: &Control, now_ms: i64) -> Sighting {
        let Some(vector) = self.embed(&asked.text).await else { return Sighting::default() };
        let wanted = Wanted {
            scope: &self.own_scope(&asked.scope),
            vector: &vector,
            k: N_NEIGHBOURS,
            min_similarity: self.bar(control),
            now_ms,
        };
        let near = self.or_raise(self.index.nearest(wanted).await).unwrap_or_default();
        let mut refused = Vec::new();
        let mut similar = None;
        for neighbour in near {
            match guard::compare(&asked.text, &neighbour.text) {
                Verdict::Same => similar = self.served(neighbour, control, now_ms).await,
                Verdict::Differs(why) => refused.push(why),
            }
            if similar.is_some() {
                break;
            }
        }
        Sighting { similar, vector: Some(vector), refused }
    }

    /// The least similarity that is served: a client may raise it, not lower it.
    pub(super) fn bar(&self, control: &Control) -> f32 {
        control.min_similarity.unwrap_or(0.0).max(self.min_similarity)
    }

    async fn served(&self, neighbour: Neighbour, control: &Control, now_ms: i64) -> Option<Similar> {
        let answer = self.or_raise(self.index.answer(neighbour.id).await)??;
        let answer = match StoredAnswer::decode(&answer) {
            Ok(answer) => answer,
            Err(error) => {
                self.index_alarm.raise(&error);
                return None;
            }
        };
        let is_fresh = !answer.is_expired(now_ms, self.ttl_s) && control.allows_age_of(&answer, now_ms);
        is_fresh.then(|| Similar {
            answer: Arc::new(answer),
            similarity: neighbour.similarity,
            entry: neighbour.id,
        })
    }

    /// Keeps an answer; `vector` spares embedding the text anew.
    pub(super) async fn put(
        &self,
        asked: Asked,
        vector: Option<Arc<[f32]>>,
        answer: Bytes,
        stored_at_ms: i64,
    ) {
        let vector = match vector {
            Some(vector) => vector,
            None => match self.embed(&asked.text).await {
                Some(vector) => vector,
                None => return,
            },
        };
        let ttl_ms = i64::try_from(self.ttl_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        let entry = IndexEntry {
            id: asked.id,
            group: asked.id.own_group(),
            worth: NanoUsd::ZERO,
            scope: self.own_scope(&asked.scope),
            vector,
            text: asked.text,
            answer,
            expires_at_ms: stored_at_ms.saturating_add(ttl_ms),
        };
        self.or_raise(self.index.upsert(entry, stored_at_ms).await);
    }

    async fn embed(&self, text: &str) -> Option<Arc<[f32]>> {
        match self.embedder.embed(text).await {
            Ok(vector) => Some(vector),
            Err(EmbedError::TooLong { .. }) => None,
            Err(error @ (EmbedError::Deadline { .. } | EmbedError::Failed(_))) => {
                self.embedder_alarm.raise(&error);
                None
            }
        }
    }

    /// The caller's scope, apart for each embedder: vectors of two embedders say nothing of each other.
    fn own_scope(&self, scope: &Fingerprint) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_keyed(scope.as_bytes());
        hasher.update(self.embedder.id().as_bytes());
        Fingerprint::new(*hasher.finalize().as_bytes())
    }

    /// Tells how many are gone.
    pub(super) async fn purge(&self, purge: &Purge) -> Result<u64, IndexError> {
        match purge {
            Purge::All => self.index.purge().await,
            Purge::Entry(id) => self.index.remove(*id).await,
            Purge::Chosen(chosen) => self.index.purge_where(chosen).await,
        }
    }

    /// Nothing where a shared index keeps the entries of all replicas.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        self.index.size_bytes()
    }

    pub(super) fn name(&self) -> &'static str {
        self.index.name()
    }

    pub(super) async fn readiness(&self) -> Result<(), String> {
        self.index.readiness().await.map_err(|error| error.to_string())
    }

    pub(super) async fn n_entries(&self) -> Option<u64> {
        self.or_raise(self.index.count().await)
    }

    pub(super) fn n_errors(&self) -> u64 {
        self.embedder_alarm.n_raised() + self.index_alarm.n_raised()
    }

    fn or_raise<T>(&self, outcome: Result<T, IndexError>) -> Option<T> {
        outcome.inspect_err(|error| self.index_alarm.raise(error)).ok()
    }
}
