//! Answers given before, found again: first by equality, then by likeness.
//!
//! Does not decide who may share an answer: that is in the fingerprints it is handed. Does not
//! replay streams, charge or record anything.
//!
//! Invariants: nothing here fails a call — a part that is down is a miss, counted and said; an
//! answer is served only under the exact fingerprint it was stored with, or within its scope to a
//! text the guard does not tell apart; of many who miss at once, one goes upstream.

mod agree;
mod alarm;
mod answer;
mod control;
pub mod embedder;
mod exact;
mod fill;
mod flight;
pub mod guard;
pub mod index;
mod judge;
pub mod pair_trial;
pub mod policy;
pub mod purge;
mod question;
pub mod reader;
pub mod risk;
pub mod risk_keeper;
pub mod risk_store;
mod semantic;
pub mod stats;
pub mod store;
mod strikes;
pub mod trial;
pub mod warden;

pub use agree::Arbiter;
pub use answer::{Origin, StoredAnswer, UnreadableAnswer};
pub use control::{Control, ControlError};
pub use exact::ExactConfig;
pub use fill::Fill;
pub use index::EntryId;
pub use question::{Bypassed, Found, Hit, HitKind, Question};
pub use semantic::{Policy, Pooling, SemanticConfig};
pub use stats::Stats;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tokio_util::task::TaskTracker;

use crate::team::TeamName;
use embedder::Embed;
use exact::Exact;
use flight::{Flights, Follower, Leader, Seat};
use index::{Index, IndexError, QdrantConfig, QdrantIndex, ScanConfig, ScanIndex};
use policy::PersonalData;
use purge::{Purge, Purged};
use reader::ReadPair;
use semantic::{Asked, Learned, Organs, Semantic, Sighting};
use stats::Counts;
use store::{MemoryStore, RedisConfig, RedisStore, Store, StoreError};
use warden::Warden;

/// `[cache]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    pub exact: ExactConfig,
    pub semantic: SemanticConfig,
    /// Requests with a higher temperature want a new answer each time and bypass the cache. Default 1.0.
    pub max_temperature: f64,
    /// What becomes of requests with e-mail addresses, phone, card or account numbers or keys in them: `bypass` the
    /// cache, `exact` (answered from it only when equal) or `allow` (not looked for). Default `bypass`.
    pub personal_data: PersonalData,
    /// Bytes of the largest answer kept. Default 1048576 (1 MiB).
    pub max_answer_bytes: usize,
    /// Milliseconds to wait for an equal request already under way before going upstream as well;
    /// 0 never waits. Default 10000.
    pub single_flight_wait_ms: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            exact: ExactConfig::default(),
            semantic: SemanticConfig::default(),
            max_temperature: 1.0,
            personal_data: PersonalData::Bypass,
            max_answer_bytes: 1 << 20,
            single_flight_wait_ms: 10_000,
        }
    }
}

impl CacheConfig {
    /// Every value that makes no sense, each with its key and what is allowed.
    pub fn mistakes(&self) -> Vec<String> {
        let semantic = &self.semantic;
        let exact = &self.exact;
        let rules = [
            ((0.0..=1.0).contains(&semantic.bar()), "cache.semantic.min_similarity must be from 0 to 1"),
            ((0.0..=2.0).contains(&self.max_temperature), "cache.max_temperature must be from 0 to 2"),
            (
                exact.ttl_s > 0,
                "cache.exact.ttl_s must be at least 1; to keep nothing set cache.exact.enabled = false",
            ),
            (
                semantic.ttl_s > 0,
                "cache.semantic.ttl_s must be at least 1; to keep nothing set cache.semantic.enabled = false",
            ),
            (exact.redis_max_in_flight > 0, "cache.exact.redis_max_in_flight must be at least 1"),
            (exact.redis_timeout_ms > 0, "cache.exact.redis_timeout_ms must be at least 1"),
            (semantic.threads > 0, "cache.semantic.threads must be at least 1"),
            (semantic.deadline_ms > 0, "cache.semantic.deadline_ms must be at least 1"),
            (semantic.guard_threads > 0, "cache.semantic.guard_threads must be at least 1"),
            (semantic.guard_deadline_ms > 0, "cache.semantic.guard_deadline_ms must be at least 1"),
            (semantic.max_entries > 0, "cache.semantic.max_entries must be at least 1"),
            (semantic.qdrant_timeout_ms > 0, "cache.semantic.qdrant_timeout_ms must be at least 1"),
            (!semantic.qdrant_collection.is_empty(), "cache.semantic.qdrant_collection must not be empty"),
        ];
        let broken = rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| rule.to_owned());
        broken.chain(semantic.risk().mistakes()).collect()
    }
}

/// Secrets are read from text and shown to nobody.
fn optional_secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("{}", .0.join("; "))]
    Config(Vec<String>),
    #[error("cache.exact: {0}")]
    Store(#[from] StoreError),
    #[error("cache.semantic: {0}")]
    Index(#[from] IndexError),
}

/// What the cache is built from beside its configuration.
pub struct Parts {
    /// Without one the semantic tier is closed and says so in its readiness.
    pub embedder: Option<Arc<dyn Embed>>,
    /// Without one the semantic tier goes by the rest of what it knows of two texts.
    pub guard: Option<Arc<dyn ReadPair>>,
    /// Where semantic entries survive a restart; of no effect with Qdrant.
    pub data_dir: Option<PathBuf>,
    /// Answers are written by its tasks, so that shutting down can wait for them.
    pub tasks: TaskTracker,
    pub now_ms: i64,
}

/// The cache of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Cache(Arc<Shared>);

struct Shared {
    exact: Option<Exact>,
    semantic: Option<Semantic>,
    warden: Arc<Warden>,
    keeps_promise: bool,
    /// The semantic tier is wanted but has no embedder.
    lacks_embedder: bool,
    flights: Flights<Landed>,
    flight_wait: Duration,
    tasks: TaskTracker,
    counts: Counts,
}

/// What a leader brings to those who wait: a new answer, or an alike one it found.
#[derive(Clone)]
enum Landed {
    New(Arc<StoredAnswer>),
    /// Something alike was served; whether it is to others too is for each to ask. The question's vector.
    Similar(Arc<[f32]>),
}

impl Cache {
    /// Connects lazily: a store that is down at the start is a miss like any other.
    pub fn open(config: &CacheConfig, parts: Parts) -> Result<Self, CacheError> {
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(CacheError::Config(mistakes));
        }
        let exact = config.exact.enabled.then(|| open_store(&config.exact)).transpose()?;
        let warden = Arc::new(Warden::new(&config.semantic.risk()));
        let wants_semantic = config.semantic.enabled;
        let lacks_embedder = wants_semantic && parts.embedder.is_none();
        let semantic = match parts.embedder.filter(|_| wants_semantic) {
            Some(embedder) => {
                let index = open_index(&config.semantic, parts.data_dir, parts.now_ms)?;
                let judge = config.semantic.judge(&warden);
                let organs = Organs { embedder, reader: parts.guard, index, judge };
                Some(Semantic::new(&config.semantic, organs))
            }
            None => None,
        };
        Ok(Self(Arc::new(Shared {
            exact: exact.map(|store| Exact::over(store, config.exact.ttl_s)),
            semantic,
            warden,
            keeps_promise: wants_semantic && config.semantic.policy == Policy::Proven,
            lacks_embedder,
            flights: Flights::default(),
            flight_wait: Duration::from_millis(config.single_flight_wait_ms),
            tasks: parts.tasks,
            counts: Counts::default(),
        })))
    }

    /// Looks for an answer. A [`Found::Miss`] must be held on to until the answer is there: others
    /// with the same question wait for it.
    pub async fn find(&self, question: &Question<'_>, now_ms: i64) -> Found {
        let found = self.look(question, now_ms).await;
        self.0.counts.count(&found);
        found
    }

    async fn look(&self, question: &Question<'_>, now_ms: i64) -> Found {
        let shared = &self.0;
        let control = &question.control;
        if shared.exact.is_none() && shared.semantic.is_none() {
            return Found::Bypass(Bypassed::Off);
        }
        if control.no_cache && control.no_store {
            return Found::Bypass(Bypassed::Client);
        }
        if control.no_cache {
            return Found::Miss(self.fill(question));
        }
        if let Some(hit) = shared.exact_hit(question, now_ms).await {
            return Found::Hit(hit);
        }
        // Who leaves nothing behind cannot lead others.
        if control.no_store || shared.flight_wait.is_zero() {
            return self.look_alike(question, None, None, now_ms).await;
        }
        match shared.flights.join(question.exact) {
            Seat::Leader(leader) => self.lead(question, leader, now_ms).await,
            Seat::Follower(follower) => self.follow(question, follower, now_ms).await,
        }
    }

    async fn lead(&self, question: &Question<'_>, leader: Leader<Landed>, now_ms: i64) -> Found {
        // An earlier leader may have stored the answer between our lookup and our taking its seat.
        if let Some(hit) = self.0.exact_hit(question, now_ms).await {
            leader.announce(Landed::New(Arc::clone(&hit.answer)));
            return Found::Hit(hit);
        }
        self.look_alike(question, Some(leader), None, now_ms).await
    }

    async fn follow(&self, question: &Question<'_>, follower: Follower<Landed>, now_ms: i64) -> Found {
        let landed = tokio::time::timeout(self.0.flight_wait, follower.landing()).await;
        match landed.ok().flatten() {
            Some(Landed::New(answer)) => Found::Hit(Hit { answer, kind: HitKind::Coalesced, age_s: 0 }),
            Some(Landed::Similar(vector)) => self.look_alike(question, None, Some(vector), now_ms).await,
            // The leader failed, or takes long: everyone for himself.
            None => Found::Miss(self.fill(question)),
        }
    }

    async fn look_alike(
        &self,
        question: &Question<'_>,
        leader: Option<Leader<Landed>>,
        vector: Option<Arc<[f32]>>,
        now_ms: i64,
    ) -> Found {
        let fill = self.fill(question);
        let (Some(semantic), Some(asked)) = (&self.0.semantic, &fill.asked) else {
            return Found::Miss(Fill { leader, ..fill });
        };
        let sighting = semantic.find(asked, question, vector, now_ms).await;
        self.0.counts.refuse(&sighting);
        let Sighting { similar, is_audited, vector, pending, .. } = sighting;
        let Some(similar) = similar else {
            // An embedder that just failed is not asked again to store the answer.
            let asked = fill.asked.filter(|_| vector.is_some());
            return Found::Miss(Fill { leader, asked, vector, pending, ..fill });
        };
        if let (Some(leader), Some(vector)) = (leader, &vector) {
            leader.announce(Landed::Similar(Arc::clone(vector)));
        }
        let hit = similar.hit(now_ms);
        match is_audited {
            true => Found::Audited(hit, Fill { vector, pending, ..fill }),
            false => Found::Hit(hit),
        }
    }

    /// Counts what a comparison came to, and removes an entry that audits found wrong too often.
    async fn heed(&self, learned: &Learned) {
        self.0.counts.learn(learned);
        let Some(entry) = learned.condemned else { return };
        match self.purge(&Purge::Entry(entry)).await {
            Ok(purged) => {
                tracing::info!(%entry, ?purged, "a cached answer that audits found wrong is removed")
            }
            Err(error) => {
                tracing::warn!(%entry, %error, "a cached answer that audits found wrong cannot be removed")
            }
        }
    }

    fn fill(&self, question: &Question<'_>) -> Fill {
        let semantic = self.0.semantic.as_ref();
        let text = question.text.filter(|text| semantic.is_some_and(|semantic| semantic.takes(text)));
        let id = EntryId::of(question.exact);
        Fill {
            exact: question.exact,
            asked: text.map(|text| Asked { id, scope: question.scope, text: Arc::from(text) }),
            vector: None,
            pending: None,
            leader: None,
            may_store: !question.control.no_store,
            arbiter: None,
        }
    }

    /// Removes answers from both tiers. What is being answered at this moment is stored after it.
    pub async fn purge(&self, purge: &Purge) -> Result<Purged, CacheError> {
        let n_exact = match &self.0.exact {
            Some(exact) => exact.purge(purge).await?,
            None => 0,
        };
        let n_semantic = match &self.0.semantic {
            Some(semantic) => semantic.purge(purge).await?,
            None => 0,
        };
        Ok(Purged { n_exact, n_semantic })
    }

    /// Whether there is an answer of this name that was given to this team; an answer that an earlier version stored
    /// does not say.
    pub async fn is_of(&self, id: EntryId, team: &TeamName) -> Result<bool, CacheError> {
        let kept = match &self.0.exact {
            Some(exact) => exact.kept(id.question()).await?,
            None => None,
        };
        let kept = match (kept, &self.0.semantic) {
            (None, Some(semantic)) => semantic.kept(id).await?,
            (kept, _) => kept,
        };
        Ok(kept.and_then(|answer| answer.origin).is_some_and(|origin| origin.team == *team))
    }

    /// Every part that is meant to work, by name, and what is wrong with it.
    pub async fn readiness(&self) -> Vec<(&'static str, Result<(), String>)> {
        let mut parts = Vec::new();
        if let Some(exact) = &self.0.exact {
            parts.push((exact.name(), exact.readiness().await));
        }
        if let Some(semantic) = &self.0.semantic {
            parts.push((semantic.name(), semantic.readiness().await));
        }
        if self.0.lacks_embedder {
            let problem = "no embedder: the semantic tier is closed; check `cache.semantic.model_dir`";
            parts.push(("embedder", Err(problem.to_owned())));
        }
        parts
    }

    pub async fn stats(&self) -> Stats {
        let exact = self.0.exact.as_ref();
        let semantic = self.0.semantic.as_ref();
        let exact_size = exact.map(Exact::size).unwrap_or_default();
        Stats {
            n_exact_entries: exact_size.map(|size| size.n_entries),
            exact_bytes: exact_size.map(|size| size.n_bytes),
            n_semantic_entries: match semantic {
                Some(semantic) => semantic.n_entries().await,
                None => None,
            },
            semantic_bytes: semantic.and_then(Semantic::size_bytes),
            n_errors: exact.map_or(0, Exact::n_errors) + semantic.map_or(0, Semantic::n_errors),
            ..self.0.counts.read()
        }
    }
}

impl Shared {
    async fn exact_hit(&self, question: &Question<'_>, now_ms: i64) -> Option<Hit> {
        let answer = self.exact.as_ref()?.find(&question.exact, now_ms).await?;
        question.control.allows_age_of(&answer, now_ms).then(|| Hit {
            age_s: answer.age_s(now_ms),
            answer: Arc::new(answer),
            kind: HitKind::Exact,
        })
    }
}

fn open_store(config: &ExactConfig) -> Result<Arc<dyn Store>, StoreError> {
    match &config.redis_url {
        None => Ok(Arc::new(MemoryStore::bounded(config.max_bytes))),
        Some(url) => Ok(Arc::new(RedisStore::open(&RedisConfig {
            url: url.expose_secret().to_owned(),
            timeout: Duration::from_millis(config.redis_timeout_ms),
            max_in_flight: config.redis_max_in_flight,
        })?)),
    }
}

fn open_index(
    config: &SemanticConfig,
    data_dir: Option<PathBuf>,
    now_ms: i64,
) -> Result<Arc<dyn Index>, IndexError> {
    match &config.qdrant_url {
        None => {
            let scan =
                ScanConfig { max_entries: config.max_entries, max_bytes: config.max_bytes, dir: data_dir };
            Ok(Arc::new(ScanIndex::open(&scan, now_ms)))
        }
        Some(url) => Ok(Arc::new(QdrantIndex::open(&QdrantConfig {
            url: url.clone(),
            api_key: config.qdrant_api_key.clone(),
            collection: config.qdrant_collection.clone(),
            timeout: Duration::from_millis(config.qdrant_timeout_ms),
        })?)),
    }
}

#[cfg(test)]
mod tests;
