//! The semantic tier: a question much like an earlier one gets its answer, if the judge lets it pass.
//!
//! Compares the last user's text only; everything else is in the scope and must be equal. What comes of a
//! question that went upstream is in `lesson`.
//!
//! Invariants: any failure is a miss; what is served is at least as alike as configured, and as the
//! client asked; nothing is compared across scopes or embedders.

mod lesson;

use std::path::PathBuf;
use std::sync::Arc;

use secrecy::SecretString;
use serde::Deserialize;

use super::agree::{Agree, ByMeaning};
use super::alarm::Alarm;
use super::answer::StoredAnswer;
use super::control::Control;
use super::embedder::{Embed, EmbedError};
use super::guard::Why;
use super::index::{EntryId, Index, IndexError, Neighbour, Wanted};
use super::judge::{Case, Judge};
use super::purge::Purge;
use super::question::Question;
use super::reader::{ReadError, ReadPair};
use super::risk::{N_NEIGHBOURS, Refusal, RiskConfig, Verdict};
use super::strikes::Strikes;
use super::warden::Warden;
use crate::chat::Fingerprint;
use crate::ledger::budget::usd_from_number_or_text;
use crate::money::NanoUsd;
use crate::team::RouteName;

pub(super) use lesson::{Fresh, Learned, Pending};

/// Texts that are less alike are not worth reading together.
const MIN_SIMILARITY_READ: f32 = 0.5;
/// The bar where nothing but a bar decides: replayed on four public question streams (bitext, banking77, clinc150, QQP)
/// with the shipped embedder and the lexical guard, 0.95 gave a wrong answer to .15, .55, .15 and .28 % of requests and
/// 0.94 to up to .69 %: the former leaves room below 1 % for traffic unlike theirs.
const THRESHOLD: f32 = 0.95;

/// `[cache.semantic]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SemanticConfig {
    /// Whether alike requests share an answer. Default true.
    pub enabled: bool,
    /// What decides about an alike question's answer: `proven` keeps wrong answers below
    /// `max_false_hit_rate` and audits itself; `threshold` serves whatever is as alike as
    /// `min_similarity` and passes the lexical guard, and promises nothing. Default `proven`.
    pub policy: Policy,
    /// Share of requests that may get a wrong cached answer, above 0 and below 1. Default 0.01.
    pub max_false_hit_rate: f64,
    /// How sure it must be that the share holds at every moment, from 0.5 to below 1. Default 0.95.
    pub confidence: f64,
    /// Share of hits also sent upstream to be compared, in the long run, above 0 and up to 1; it begins
    /// at 1 and falls as the promise is proved. Default 0.02.
    pub audit_share: f64,
    /// Least cosine of a served neighbour, from 0 to 1. Default 0 if `policy` is `proven`, else 0.95.
    pub min_similarity: Option<f32>,
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
    /// Dollars a day (UTC) that checks of served answers may cost, all teams and replicas together, as a number or an
    /// exact decimal text; 0 checks none. Default 5.
    #[serde(deserialize_with = "usd_from_number_or_text")]
    pub audit_usd_per_day: NanoUsd,
    /// Checks of served answers under way at once, questions to the judge included. Default 8.
    pub max_audits_in_flight: usize,
    /// The route that is asked whether two answers say the same where neither their words nor the guard can tell. It is
    /// shown questions and answers of all teams, and paid from `audit_usd_per_day`; best a model that answers in one
    /// word, without reasoning first. Default unset (nobody is asked; such answers count as different).
    pub judge_route: Option<RouteName>,
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

/// What decides whether an alike question's answer is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    Proven,
    Threshold,
}

impl SemanticConfig {
    /// The least cosine that is served.
    pub fn bar(&self) -> f32 {
        self.min_similarity.unwrap_or(match self.policy {
            Policy::Proven => 0.0,
            Policy::Threshold => THRESHOLD,
        })
    }

    pub(super) fn risk(&self) -> RiskConfig {
        RiskConfig {
            max_false_hit_rate: self.max_false_hit_rate,
            confidence: self.confidence,
            audit_share: self.audit_share,
        }
    }

    pub(super) fn judge(&self, warden: &Arc<Warden>) -> Judge {
        match self.policy {
            Policy::Proven => Judge::Proven(Arc::clone(warden)),
            Policy::Threshold => Judge::Threshold,
        }
    }
}

impl Default for SemanticConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            policy: Policy::Proven,
            max_false_hit_rate: RiskConfig::default().max_false_hit_rate,
            confidence: RiskConfig::default().confidence,
            audit_share: RiskConfig::default().audit_share,
            min_similarity: None,
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
            audit_usd_per_day: NanoUsd::new(5_000_000_000),
            max_audits_in_flight: 8,
            judge_route: None,
            qdrant_url: None,
            qdrant_api_key: None,
            qdrant_collection: "stiver_semantic".to_owned(),
            qdrant_timeout_ms: 200,
        }
    }
}

pub(super) struct Semantic {
    embedder: Arc<dyn Embed>,
    reader: Option<Arc<dyn ReadPair>>,
    index: Arc<dyn Index>,
    judge: Judge,
    strikes: Strikes,
    agree: Arc<dyn Agree>,
    min_similarity: f32,
    ttl_s: u64,
    max_text_bytes: usize,
    embedder_alarm: Alarm,
    reader_alarm: Alarm,
    index_alarm: Alarm,
}

/// What a semantic tier is built from beside its configuration.
pub(super) struct Organs {
    pub(super) embedder: Arc<dyn Embed>,
    pub(super) reader: Option<Arc<dyn ReadPair>>,
    pub(super) index: Arc<dyn Index>,
    pub(super) judge: Judge,
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
    /// What served answers are compared with, too.
    pub(super) is_audited: bool,
    /// Of the question, for storing its answer; none where it could not be made.
    pub(super) vector: Option<Arc<[f32]>>,
    /// What a fresh answer would tell.
    pub(super) pending: Option<Box<Pending>>,
    /// Why the lexical guard refused neighbours that were alike enough.
    pub(super) told_apart: Vec<Why>,
    /// Why the proposed answer was refused.
    pub(super) refusal: Option<Refusal>,
}

/// The text of a question and the scope it may be answered from.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) id: EntryId,
    pub(super) scope: Fingerprint,
    pub(super) text: Arc<str>,
}

impl Semantic {
    pub(super) fn new(config: &SemanticConfig, organs: Organs) -> Self {
        let Organs { embedder, reader, index, judge } = organs;
        Self {
            embedder,
            agree: Arc::new(ByMeaning { reader: reader.clone() }),
            reader,
            judge,
            strikes: Strikes::default(),
            min_similarity: config.bar(),
            ttl_s: config.ttl_s,
            max_text_bytes: config.max_text_bytes,
            embedder_alarm: Alarm::of("embedder"),
            reader_alarm: Alarm::of("guard"),
            index_alarm: Alarm::of(index.name()),
            index,
        }
    }

    /// Compares answers by something else.
    pub(super) fn agreeing_by(self, agree: Arc<dyn Agree>) -> Self {
        Self { agree, ..self }
    }

    pub(super) fn judge(&self) -> &Judge {
        &self.judge
    }

    /// Whether a text is short enough to be compared whole.
    pub(super) fn takes(&self, text: &str) -> bool {
        !text.trim().is_empty() && text.len() <= self.max_text_bytes
    }

    /// `vector` is the question's, where it is known already.
    pub(super) async fn find(
        &self,
        asked: &Asked,
        question: &Question<'_>,
        vector: Option<Arc<[f32]>>,
        now_ms: i64,
    ) -> Sighting {
        let vector = match vector {
            Some(vector) => vector,
            None => match self.embed(&asked.text).await {
                Some(vector) => vector,
                None => return Sighting::default(),
            },
        };
        let scope = self.own_scope(&asked.scope);
        let wanted = Wanted { scope: &scope, vector: &vector, k: N_NEIGHBOURS, min_similarity: -1.0, now_ms };
        let Some(near) = self.or_raise(self.index.nearest(wanted).await) else {
            return Sighting { vector: Some(vector), ..Sighting::default() };
        };
        let case = Case {
            text: &asked.text,
            near: &near,
            min_similarity: self.bar(&question.control),
            promise: question.promise,
            draw: question.draw,
        };
        let sighting = self.decide(&case, question, now_ms).await;
        Sighting { vector: Some(vector), ..sighting }
    }

    async fn decide(&self, case: &Case<'_>, question: &Question<'_>, now_ms: i64) -> Sighting {
        let (proposal, told_apart) = self.judge.propose(case);
        let proposed = proposal.as_ref().map(|proposal| &case.near[proposal.neighbour_idx]);
        let p_same = match proposed {
            Some(neighbour) => self.read(case.text, neighbour).await,
            None => None,
        };
        let ruling = self.judge.rule(case, proposal, p_same);
        let mut sighting = Sighting { told_apart, ..Sighting::default() };
        let Some(neighbour) = proposed else { return sighting };
        match ruling.verdict {
            Verdict::Refuse(refusal) => sighting.refusal = Some(refusal),
            Verdict::Serve { audit } if !audit || question.may_audit => {
                sighting.similar = self.served(neighbour, &question.control, now_ms).await;
                sighting.is_audited = audit && sighting.similar.is_some();
            }
            // It is asked upstream in the foreground instead.
            Verdict::Serve { .. } => {}
        }
        let served = sighting.similar.as_ref().map(|similar| Arc::clone(&similar.answer));
        sighting.pending =
            ruling.lesson.map(|lesson| Box::new(Pending::new(neighbour, case.near, lesson, served)));
        sighting
    }

    async fn read(&self, text: &str, neighbour: &Neighbour) -> Option<f64> {
        if !self.judge.wants_reading() || neighbour.similarity < MIN_SIMILARITY_READ {
            return None;
        }
        let read = self.reader.as_ref()?.p_same(text, &neighbour.text).await;
        match read {
            Ok(p_same) => Some(p_same),
            Err(ReadError::TooLong { .. }) => None,
            Err(error @ (ReadError::Deadline { .. } | ReadError::Failed(_))) => {
                self.reader_alarm.raise(&error);
                None
            }
        }
    }

    /// The least similarity that is served: a client may raise it, not lower it.
    pub(super) fn bar(&self, control: &Control) -> f32 {
        control.min_similarity.unwrap_or(0.0).max(self.min_similarity)
    }

    async fn served(&self, neighbour: &Neighbour, control: &Control, now_ms: i64) -> Option<Similar> {
        let answer = self.answer_of(neighbour.id).await?;
        let is_fresh = !answer.is_expired(now_ms, self.ttl_s) && control.allows_age_of(&answer, now_ms);
        if is_fresh {
            self.index.touch(neighbour.id);
        }
        is_fresh.then(|| Similar {
            answer: Arc::new(answer),
            similarity: neighbour.similarity,
            entry: neighbour.id,
        })
    }

    async fn answer_of(&self, id: EntryId) -> Option<StoredAnswer> {
        let answer = self.or_raise(self.index.answer(id).await)??;
        StoredAnswer::decode(&answer).inspect_err(|error| self.index_alarm.raise(error)).ok()
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

    /// What is kept under a name, however old.
    pub(super) async fn kept(&self, id: EntryId) -> Result<Option<StoredAnswer>, IndexError> {
        Ok(self.index.answer(id).await?.and_then(|bytes| StoredAnswer::decode(&bytes).ok()))
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
        self.embedder_alarm.n_raised() + self.reader_alarm.n_raised() + self.index_alarm.n_raised()
    }

    fn or_raise<T>(&self, outcome: Result<T, IndexError>) -> Option<T> {
        outcome.inspect_err(|error| self.index_alarm.raise(error)).ok()
    }
}
