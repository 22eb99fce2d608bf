//! The cache as its callers see it, over parts in memory and parts that fail.

mod control;
mod flight;
mod proven;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::answer::sample_answer;
use super::embedder::{EmbedError, of_length_one};
use super::purge::Chosen;
use super::*;
use crate::chat::Fingerprint;
use crate::team::TeamName;

const NOW_MS: i64 = 1_700_000_000_000;

/// Knows a few texts by heart; counts how often it is asked.
#[derive(Default)]
struct Lexicon {
    vectors: Mutex<HashMap<String, Vec<f32>>>,
    n_asked: AtomicU64,
}

impl Lexicon {
    fn of(vectors: &[(&str, [f32; 2])]) -> Arc<Self> {
        let known = vectors.iter().map(|(text, vector)| ((*text).to_owned(), vector.to_vec()));
        Arc::new(Self { vectors: Mutex::new(known.collect()), n_asked: AtomicU64::new(0) })
    }

    fn n_asked(&self) -> u64 {
        self.n_asked.load(Ordering::Relaxed)
    }
}

impl Embed for Lexicon {
    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        self.n_asked.fetch_add(1, Ordering::Relaxed);
        let vector = self.vectors.lock().get(text).cloned().and_then(of_length_one);
        std::future::ready(vector.ok_or_else(|| EmbedError::Failed(format!("{text} is unknown")))).boxed()
    }

    fn id(&self) -> &str {
        "lexicon"
    }

    fn n_dims(&self) -> usize {
        2
    }
}

const RESET: &str = "how do I reset my password";
const RESET_TOO: &str = "how can I reset my password please";
const LIGHT_ON: &str = "turn on the light";
const LIGHT_OFF: &str = "turn off the light";

fn lexicon() -> Arc<Lexicon> {
    Lexicon::of(&[
        (RESET, [1.0, 0.0]),
        (RESET_TOO, [1.0, 0.1]),
        (LIGHT_ON, [0.0, 1.0]),
        (LIGHT_OFF, [0.01, 1.0]),
    ])
}

fn by_threshold(semantic: SemanticConfig) -> CacheConfig {
    CacheConfig {
        semantic: SemanticConfig { policy: Policy::Threshold, ..semantic },
        ..CacheConfig::default()
    }
}

struct Bench {
    cache: Cache,
    tasks: TaskTracker,
    lexicon: Arc<Lexicon>,
}

impl Bench {
    /// Serves by a bar, from the first question on.
    fn new() -> Self {
        Self::with(&by_threshold(SemanticConfig::default()))
    }

    fn with(config: &CacheConfig) -> Self {
        let (tasks, lexicon) = (TaskTracker::new(), lexicon());
        let embedder: Arc<dyn Embed> = Arc::clone(&lexicon) as _;
        let parts = Parts {
            embedder: Some(embedder),
            guard: None,
            data_dir: None,
            tasks: tasks.clone(),
            now_ms: NOW_MS,
        };
        Self { cache: Cache::open(config, parts).unwrap(), tasks, lexicon }
    }

    async fn find(&self, question: &Question<'_>) -> Found {
        self.cache.find(question, NOW_MS).await
    }

    /// Waits until all answers are written.
    async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    async fn keep(&self, question: &Question<'_>, body: &str) {
        miss(self.find(question).await).store(&self.cache, sample_answer(body, NOW_MS));
        self.settle().await;
    }
}

fn fingerprint(parts: &[&str]) -> Fingerprint {
    Fingerprint::new(*blake3::hash(parts.join("\n").as_bytes()).as_bytes())
}

fn ask_in<'a>(scope: &str, text: &'a str) -> Question<'a> {
    Question {
        exact: fingerprint(&[scope, text]),
        scope: fingerprint(&[scope]),
        text: Some(text),
        control: Control::default(),
        promise: "team a/auto",
        draw: 0.5,
        may_audit: true,
    }
}

fn ask(text: &str) -> Question<'_> {
    ask_in("team a", text)
}

#[track_caller]
fn miss(found: Found) -> Fill {
    match found {
        Found::Miss(fill) => fill,
        Found::Hit(_) | Found::Audited(..) | Found::Bypass(_) => panic!("{found:?} is not a miss"),
    }
}

#[track_caller]
fn hit(found: Found) -> Hit {
    match found {
        Found::Hit(hit) | Found::Audited(hit, _) => hit,
        Found::Miss(_) | Found::Bypass(_) => panic!("{found:?} is not a hit"),
    }
}

#[tokio::test]
async fn the_same_question_gets_the_same_answer() {
    let bench = Bench::new();
    bench.keep(&ask(RESET), "{\"n\":1}").await;

    let found = hit(bench.cache.find(&ask(RESET), NOW_MS + 5_000).await);

    assert_eq!(found.kind, HitKind::Exact);
    assert_eq!(*found.answer, sample_answer("{\"n\":1}", NOW_MS));
    assert_eq!(found.age_s, 5);
}

#[tokio::test]
async fn an_alike_question_gets_the_answer_with_its_similarity_and_entry() {
    let bench = Bench::new();
    bench.keep(&ask(RESET), "{\"n\":1}").await;

    let found = hit(bench.find(&ask(RESET_TOO)).await);

    let HitKind::Semantic { similarity, entry } = found.kind else { panic!("{found:?}") };
    assert!((similarity - 0.995).abs() < 0.001, "{similarity}");
    assert_eq!(entry, EntryId::of(ask(RESET).exact));
    assert_eq!(EntryId::parse(&entry.to_string()), Some(entry));
}

#[tokio::test]
async fn what_the_guard_tells_apart_is_not_served() {
    let bench = Bench::new();
    bench.keep(&ask(LIGHT_ON), "{}").await;

    drop(miss(bench.find(&ask(LIGHT_OFF)).await));

    assert_eq!(bench.cache.stats().await.n_guard_refusals, 1);
}

#[tokio::test]
async fn another_scope_gets_nothing() {
    let bench = Bench::new();
    bench.keep(&ask_in("team a", RESET), "{}").await;

    drop(miss(bench.find(&ask_in("team b", RESET_TOO)).await));
    drop(miss(bench.find(&ask_in("team b", RESET)).await));
}

#[tokio::test]
async fn a_question_without_text_is_answered_by_equality_only() {
    let bench = Bench::new();
    bench.keep(&ask(RESET), "{}").await;

    let alike = Question { text: None, ..ask(RESET_TOO) };
    drop(miss(bench.find(&alike).await));
    let same = Question { text: None, ..ask(RESET) };

    assert_eq!(hit(bench.find(&same).await).kind, HitKind::Exact);
    assert_eq!(bench.lexicon.n_asked(), 1, "only the stored text was embedded");
}

#[tokio::test]
async fn a_text_longer_than_the_limit_is_not_compared_and_one_at_the_limit_is() {
    let semantic = SemanticConfig { max_text_bytes: RESET_TOO.len(), ..SemanticConfig::default() };
    let at_limit = Bench::with(&by_threshold(semantic.clone()));
    let semantic = SemanticConfig { max_text_bytes: RESET_TOO.len() - 1, ..semantic };
    let over_limit = Bench::with(&by_threshold(semantic));
    at_limit.keep(&ask(RESET), "{}").await;
    over_limit.keep(&ask(RESET), "{}").await;

    hit(at_limit.find(&ask(RESET_TOO)).await);
    drop(miss(over_limit.find(&ask(RESET_TOO)).await));
}

#[tokio::test]
async fn an_embedder_that_fails_is_a_miss_and_equality_still_answers() {
    let bench = Bench::new();
    let unknown = ask("a text the lexicon lacks");

    bench.keep(&unknown, "{}").await;

    assert_eq!(hit(bench.find(&unknown).await).kind, HitKind::Exact);
    let stats = bench.cache.stats().await;
    assert_eq!((stats.n_errors, stats.n_semantic_entries), (1, Some(0)));
}

#[tokio::test]
async fn without_an_embedder_the_exact_tier_works_and_readiness_says_why() {
    let parts =
        Parts { embedder: None, guard: None, data_dir: None, tasks: TaskTracker::new(), now_ms: NOW_MS };
    let cache = Cache::open(&CacheConfig::default(), parts).unwrap();

    drop(miss(cache.find(&ask(RESET), NOW_MS).await));

    let readiness = cache.readiness().await;
    assert_eq!(readiness[0], ("memory", Ok(())));
    assert_eq!(readiness[1].0, "embedder");
    assert!(readiness[1].1.as_ref().unwrap_err().contains("model_dir"));
}

#[tokio::test]
async fn a_purged_entry_is_gone_from_both_tiers_and_others_stay() {
    let bench = Bench::new();
    bench.keep(&ask(RESET), "{}").await;
    bench.keep(&ask(LIGHT_ON), "{}").await;

    let entry = Purge::Entry(EntryId::of(ask(RESET).exact));
    assert_eq!(bench.cache.purge(&entry).await.unwrap(), Purged { n_exact: 1, n_semantic: 1 });
    assert_eq!(bench.cache.purge(&entry).await.unwrap(), Purged::default());

    drop(miss(bench.find(&ask(RESET)).await));
    drop(miss(bench.find(&ask(RESET_TOO)).await));
    assert_eq!(hit(bench.find(&ask(LIGHT_ON)).await).kind, HitKind::Exact);
}

#[tokio::test]
async fn a_purge_of_all_leaves_nothing() {
    let bench = Bench::new();
    bench.keep(&ask(RESET), "{}").await;

    assert_eq!(bench.cache.purge(&Purge::All).await.unwrap(), Purged { n_exact: 1, n_semantic: 1 });

    drop(miss(bench.find(&ask(RESET)).await));
    assert_eq!(bench.cache.stats().await.n_semantic_entries, Some(0));
}

#[tokio::test]
async fn what_a_team_was_given_is_purged_from_both_tiers_and_others_stay() {
    let bench = Bench::new();
    let other = Origin { team: TeamName::from("team b"), ..sample_answer("{}", NOW_MS).origin.unwrap() };
    bench.keep(&ask(RESET), "{}").await;
    let theirs = StoredAnswer { origin: Some(other), ..sample_answer("{}", NOW_MS) };
    miss(bench.find(&ask(LIGHT_ON)).await).store(&bench.cache, theirs);
    bench.settle().await;

    let of_a = Purge::Chosen(Chosen { team: Some(TeamName::from("team a")), ..Chosen::default() });

    assert_eq!(bench.cache.purge(&of_a).await.unwrap(), Purged { n_exact: 1, n_semantic: 1 });
    drop(miss(bench.find(&ask(RESET)).await));
    assert_eq!(hit(bench.find(&ask(LIGHT_ON)).await).kind, HitKind::Exact);
    let stats = bench.cache.stats().await;
    assert_eq!((stats.n_exact_entries, stats.n_semantic_entries), (Some(1), Some(1)));
    assert!(stats.exact_bytes > Some(0) && stats.semantic_bytes > Some(0), "{stats:?}");
}

#[tokio::test]
async fn after_a_restart_an_alike_question_is_still_answered() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let tasks = TaskTracker::new();
        let data_dir = Some(dir.path().to_owned());
        let parts = Parts {
            embedder: Some(lexicon() as _),
            guard: None,
            data_dir,
            tasks: tasks.clone(),
            now_ms: NOW_MS,
        };
        let config = by_threshold(SemanticConfig::default());
        Bench { cache: Cache::open(&config, parts).unwrap(), tasks, lexicon: lexicon() }
    };
    open().keep(&ask(RESET), "{\"n\":1}").await;

    let found = hit(open().find(&ask(RESET)).await);

    assert!(matches!(found.kind, HitKind::Semantic { .. }), "the exact tier was in memory");
    assert_eq!(*found.answer, sample_answer("{\"n\":1}", NOW_MS));
}

#[test]
fn every_mistake_in_the_configuration_is_told_at_once() {
    let mut config = CacheConfig { max_temperature: -1.0, ..CacheConfig::default() };
    config.semantic.min_similarity = Some(1.5);
    config.exact.ttl_s = 0;
    let parts =
        Parts { embedder: None, guard: None, data_dir: None, tasks: TaskTracker::new(), now_ms: NOW_MS };

    let error = Cache::open(&config, parts).err().unwrap().to_string();

    for key in ["cache.max_temperature", "cache.semantic.min_similarity", "cache.exact.ttl_s"] {
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn a_configuration_is_read_and_an_unknown_key_refused() {
    let text =
        "max_temperature = 0.5\n[exact]\nredis_url = \"redis://:secret@host\"\n[semantic]\npooling = \"cls\"";

    let config: CacheConfig = toml::from_str(text).unwrap();

    assert_eq!(config.max_temperature, 0.5);
    assert_eq!(config.semantic.pooling, Pooling::Cls);
    assert!(config.exact.redis_url.is_some());
    assert!(!format!("{config:?}").contains("secret@host"), "a secret is shown");
    assert!(toml::from_str::<CacheConfig>("[semantic]\nthreshold = 1").is_err());
}

#[tokio::test]
async fn a_stored_answer_in_another_format_is_a_miss() {
    let store = Arc::new(store::MemoryStore::bounded(10_000));
    let key = ask(RESET).exact;
    store.put(&key, Bytes::from_static(b"from the future"), Duration::from_secs(9)).await.unwrap();
    let exact = Exact::over(store, 9);

    assert_eq!(exact.find(&key, NOW_MS).await, None);
    assert_eq!(exact.n_errors(), 1);
}
