//! The risk control as it serves: what opens it, what it audits, what it throws out, and what keeps it shut.

use super::*;

/// The first word tells the direction, the rest a little turn away from it.
struct FirstWord;

const SUBJECTS: [&str; 3] = ["parcel", "password", "refund"];

impl Embed for FirstWord {
    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        let mut vector = vec![0.0; 8];
        let direction = SUBJECTS.iter().position(|subject| text.starts_with(subject)).unwrap_or(3);
        vector[direction] = 1.0;
        let turns = blake3::hash(text.as_bytes());
        for (value, turn) in vector[4..].iter_mut().zip(turns.as_bytes()) {
            *value = f32::from(*turn) / 2_000.0;
        }
        std::future::ready(of_length_one(vector).ok_or_else(|| EmbedError::Failed(String::new()))).boxed()
    }

    fn id(&self) -> &str {
        "first word"
    }

    fn n_dims(&self) -> usize {
        8
    }
}

struct Counter {
    cache: Cache,
    tasks: TaskTracker,
    n_asked: AtomicU64,
    arbiter: Option<Arc<dyn Arbiter>>,
}

/// What became of some questions.
#[derive(Debug, Default, PartialEq)]
struct Served {
    n_misses: u64,
    n_audited: u64,
    n_hits: u64,
}

impl Counter {
    /// Promises little, so that it opens after few requests.
    fn new() -> Self {
        let tasks = TaskTracker::new();
        let semantic = SemanticConfig { max_false_hit_rate: 0.2, ..SemanticConfig::default() };
        let config = CacheConfig { semantic, ..CacheConfig::default() };
        let parts = Parts {
            embedder: Some(Arc::new(FirstWord)),
            guard: None,
            data_dir: None,
            tasks: tasks.clone(),
            now_ms: NOW_MS,
        };
        let cache = Cache::open(&config, parts).unwrap();
        Self { cache, tasks, n_asked: AtomicU64::new(0), arbiter: None }
    }

    /// A text nobody asked before, in letters alone.
    fn text(&self, subject: &str) -> String {
        let mut n = self.n_asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut word = String::new();
        while n > 0 {
            word.push(char::from(b'a' + u8::try_from(n % 26).unwrap()));
            n /= 26;
        }
        format!("{subject} about {word}x")
    }

    /// Asks; the fresh answer to what is not served, or audited, is `answer`.
    async fn ask(&self, question: Question<'_>, answer: &str) -> Found {
        let found = self.cache.find(&question, NOW_MS).await;
        match found {
            Found::Miss(fill) => {
                self.judged(fill).store(&self.cache, sample_answer(answer, NOW_MS));
                self.settle().await;
                Found::Bypass(Bypassed::Off)
            }
            Found::Audited(hit, fill) => {
                self.judged(fill).store(&self.cache, sample_answer(answer, NOW_MS));
                self.settle().await;
                Found::Audited(hit, self.cache.fill(&question))
            }
            Found::Hit(_) | Found::Bypass(_) => found,
        }
    }

    fn judged(&self, fill: Fill) -> Fill {
        match &self.arbiter {
            Some(arbiter) => fill.judged_by(Arc::clone(arbiter)),
            None => fill,
        }
    }

    async fn settle(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// Asks `n` new questions about each subject; the answer is the subject's name.
    async fn teach(&self, n: usize, change: impl Fn(Question<'_>) -> Question<'_>) -> Served {
        let mut served = Served::default();
        for step in 0..n * SUBJECTS.len() {
            let subject = SUBJECTS[step % SUBJECTS.len()];
            let text = self.text(subject);
            match self.ask(change(ask(&text)), subject).await {
                Found::Audited(..) => served.n_audited += 1,
                Found::Hit(_) => served.n_hits += 1,
                Found::Miss(_) | Found::Bypass(_) => served.n_misses += 1,
            }
        }
        served
    }
}

#[tokio::test]
async fn the_tier_opens_when_fresh_answers_have_taught_it_and_audits_what_it_serves_first() {
    fn lucky(question: Question<'_>) -> Question<'_> {
        Question { draw: 0.0, ..question }
    }
    let counter = Counter::new();

    let first = counter.teach(30, lucky).await;
    let later = counter.teach(100, lucky).await;

    assert_eq!((first.n_audited, first.n_hits), (0, 0), "too few verdicts: {first:?}");
    assert!(later.n_audited > 200, "{later:?}");
}

#[tokio::test]
async fn with_every_audit_right_fewer_are_sent() {
    let counter = Counter::new();
    counter.teach(300, |question| question).await;

    let served = counter.teach(100, |question| Question { draw: 0.999, ..question }).await;

    assert!(served.n_hits > 200 && served.n_audited < served.n_hits, "{served:?}");
}

#[tokio::test]
async fn what_cannot_be_audited_in_the_background_is_asked_upstream_and_teaches_all_the_same() {
    let counter = Counter::new();

    let served = counter.teach(130, |question| Question { draw: 0.0, may_audit: false, ..question }).await;

    assert_eq!((served.n_audited, served.n_hits), (0, 0), "{served:?}");
    let after = counter.teach(20, |question| Question { draw: 0.0, ..question }).await;
    assert!(after.n_audited > 40, "{after:?}");
}

#[tokio::test]
async fn where_like_questions_have_other_answers_nothing_is_served() {
    let counter = Counter::new();
    let mut n_served = 0;
    for step in 0..400 {
        let text = counter.text("refund");
        let found = counter.ask(ask(&text), &format!("{{\"n\":{step}}}")).await;
        n_served += u64::from(matches!(found, Found::Hit(_) | Found::Audited(..)));
    }

    assert!(n_served < 8, "{n_served}");
}

#[tokio::test]
async fn promises_are_kept_apart() {
    let counter = Counter::new();
    counter.teach(130, |question| question).await;

    let other = counter.teach(10, |question| Question { promise: "team b/auto", ..question }).await;

    assert_eq!((other.n_audited, other.n_hits), (0, 0), "another team has to earn its own: {other:?}");
}

#[tokio::test]
async fn an_entry_that_audits_find_wrong_again_is_removed_from_both_tiers() {
    let counter = Counter::new();
    counter.teach(130, |question| question).await;
    let poisoned = counter.text("parcel");
    let away = Question { control: Control { no_cache: true, ..Control::default() }, ..ask(&poisoned) };
    counter.ask(away, "{\"n\":\"poison\"}").await;
    assert_eq!(hit(counter.cache.find(&ask(&poisoned), NOW_MS).await).kind, HitKind::Exact);
    let id = EntryId::of(ask(&poisoned).exact);
    let poison = Arc::new(sample_answer("{\"n\":\"poison\"}", NOW_MS));

    for expected in [0, 1] {
        let text = counter.text("parcel");
        let asked = Question { draw: 0.0, ..ask(&text) };
        let Found::Audited(_, mut fill) = counter.cache.find(&asked, NOW_MS).await else {
            panic!("not audited")
        };
        let pending = fill.pending.take().map(|pending| Box::new(pending.about(id, Arc::clone(&poison))));
        Fill { pending, ..fill }.store(&counter.cache, sample_answer("parcel", NOW_MS));
        counter.settle().await;
        assert_eq!(counter.cache.stats().await.n_condemned, expected);
    }

    assert_eq!(counter.cache.purge(&Purge::Entry(id)).await.unwrap(), Purged::default(), "gone already");
}

#[tokio::test]
async fn who_leaves_nothing_behind_is_compared_and_not_kept() {
    let counter = Counter::new();
    counter.teach(130, |question| question).await;
    let before = counter.cache.stats().await;
    let text = counter.text("refund");
    let control = Control { no_store: true, ..Control::default() };

    let found = counter.ask(Question { control, draw: 0.0, ..ask(&text) }, "refund").await;

    assert!(matches!(found, Found::Audited(..)), "{found:?}");
    let after = counter.cache.stats().await;
    assert_eq!(after.n_semantic_entries, before.n_semantic_entries);
    assert_eq!(after.n_exact_entries, before.n_exact_entries);
}

#[tokio::test]
async fn who_waits_for_an_alike_answer_is_judged_for_himself() {
    let counter = Counter::new();
    counter.teach(130, |question| question).await;
    let text = counter.text("refund");
    let before = counter.cache.warden().standing("team a/auto").unwrap().n_requests;

    let asked = Question { draw: 0.0, ..ask(&text) };
    let (one, other) = tokio::join!(counter.cache.find(&asked, NOW_MS), counter.cache.find(&asked, NOW_MS));

    assert!(matches!((&one, &other), (Found::Audited(..), Found::Audited(..))), "{one:?} {other:?}");
    let after = counter.cache.warden().standing("team a/auto").unwrap().n_requests;
    assert_eq!(after - before, 2, "both count towards the promise");
}

/// Says one thing of all answers, and keeps what it was asked.
struct OfOneMind {
    says: Option<bool>,
    asked: Mutex<Vec<[String; 3]>>,
}

impl Arbiter for OfOneMind {
    fn same<'a>(&'a self, question: &'a str, cached: &'a str, fresh: &'a str) -> BoxFuture<'a, Option<bool>> {
        self.asked.lock().push([question, cached, fresh].map(str::to_owned));
        std::future::ready(self.says).boxed()
    }
}

/// One meaning in two wordings that neither words nor a missing guard can tell apart.
const WORDINGS: [&str; 2] = ["Open the settings.", "You will find it among the settings."];

/// How many of 200 questions were served, where the answers' wordings take turns; what the arbiter was asked.
async fn serves_in_other_words(says: Option<bool>) -> (u64, Vec<[String; 3]>) {
    let arbiter = Arc::new(OfOneMind { says, asked: Mutex::default() });
    let counter = Counter { arbiter: Some(Arc::clone(&arbiter) as _), ..Counter::new() };
    let mut n_served = 0;
    for step in 0..200 {
        let text = counter.text("refund");
        let found = counter.ask(ask(&text), WORDINGS[step % 2]).await;
        n_served += u64::from(matches!(found, Found::Hit(_) | Found::Audited(..)));
    }
    let asked = std::mem::take(&mut *arbiter.asked.lock());
    (n_served, asked)
}

#[tokio::test]
async fn an_arbiter_opens_the_tier_where_answers_differ_in_wording_only() {
    let (n_served, asked) = serves_in_other_words(Some(true)).await;

    assert!(n_served > 50, "{n_served}");
    assert!(asked.iter().all(|[question, cached, fresh]| {
        question.starts_with("refund about") && cached != fresh && WORDINGS.contains(&cached.as_str())
    }));
}

#[tokio::test]
async fn an_arbiter_that_says_no_or_nothing_leaves_it_shut() {
    for says in [Some(false), None] {
        let (n_served, asked) = serves_in_other_words(says).await;

        assert!(n_served < 8 && !asked.is_empty(), "{says:?}: {n_served}");
    }
}

#[tokio::test]
async fn an_arbiter_is_not_asked_what_words_can_tell() {
    let arbiter = Arc::new(OfOneMind { says: Some(true), asked: Mutex::default() });
    let counter = Counter { arbiter: Some(Arc::clone(&arbiter) as _), ..Counter::new() };

    for answer in
        ["refund", "Refund.", "{\"n\":1}", "{\"n\":2}", "It costs 5 dollars.", "It costs 50 dollars."]
    {
        counter.ask(ask(&counter.text("refund")), answer).await;
    }

    assert!(arbiter.asked.lock().is_empty(), "{:?}", arbiter.asked.lock());
}
