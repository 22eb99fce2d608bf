//! Keepers of several replicas on one store that can be away, lose answers, or be slow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::*;
use crate::cache::risk::{Candidate, EntryKey, GroupKey, Neighbour, RiskConfig, Standing, Tier, Verdict};

const SHOP: &str = "shop/faq";
const MINUTE_MS: i64 = 60_000;

#[derive(Debug, Clone)]
struct Row {
    line: Line,
    model: Option<String>,
}

/// A database in memory.
#[derive(Default)]
struct Database {
    rows: Mutex<BTreeMap<(String, String), Row>>,
    is_away: AtomicBool,
    /// It writes, and its answer is lost.
    loses_answers: AtomicBool,
    never_answers: AtomicBool,
    n_saves: AtomicU64,
}

impl Database {
    fn answer<'a, T: Send + 'a>(
        &'a self,
        write: impl FnOnce(&mut BTreeMap<(String, String), Row>) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, RiskStoreError>> {
        async move {
            if self.never_answers.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            tokio::task::yield_now().await;
            if self.is_away.load(Ordering::Relaxed) {
                return Err(RiskStoreError("away".to_owned()));
            }
            let written = write(&mut self.rows.lock());
            match self.loses_answers.load(Ordering::Relaxed) {
                true => Err(RiskStoreError("lost".to_owned())),
                false => Ok(written),
            }
        }
        .boxed()
    }

    fn names(&self) -> Vec<(String, String)> {
        self.rows.lock().keys().cloned().collect()
    }
}

fn key(scope: &str, replica: &str) -> (String, String) {
    (scope.to_owned(), replica.to_owned())
}

impl RiskStore for Database {
    fn lines(&self) -> BoxFuture<'_, Result<Vec<Line>, RiskStoreError>> {
        self.answer(|rows| rows.values().map(|row| row.line.clone()).collect())
    }

    fn model<'a>(
        &'a self,
        scope: &'a str,
        replica: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, RiskStoreError>> {
        self.answer(move |rows| rows.get(&key(scope, replica)).and_then(|row| row.model.clone()))
    }

    fn add<'a>(&'a self, line: &'a Line) -> BoxFuture<'a, Result<(), RiskStoreError>> {
        self.answer(|rows| {
            let row = Row { line: line.clone(), model: None };
            rows.entry(key(&line.scope, &line.replica)).or_insert(row);
        })
    }

    fn save_accounts<'a>(
        &'a self,
        replica: &'a str,
        accounts: &'a [(String, String)],
        now_ms: i64,
    ) -> BoxFuture<'a, Result<Vec<String>, RiskStoreError>> {
        self.answer(move |rows| {
            self.n_saves.fetch_add(1, Ordering::Relaxed);
            let mut lost = Vec::new();
            for (scope, account) in accounts {
                match rows.get_mut(&key(scope, replica)) {
                    Some(row) => {
                        row.line.account.clone_from(account);
                        row.line.saved_at_ms = now_ms;
                    }
                    None => lost.push(scope.clone()),
                }
            }
            lost
        })
    }

    fn save_model<'a>(
        &'a self,
        of: (&'a str, &'a str),
        model: &'a str,
        now_ms: i64,
    ) -> BoxFuture<'a, Result<bool, RiskStoreError>> {
        self.answer(move |rows| {
            let Some(row) = rows.get_mut(&key(of.0, of.1)) else { return false };
            row.model = Some(model.to_owned());
            (row.line.model_saved_at_ms, row.line.saved_at_ms) = (Some(now_ms), now_ms);
            true
        })
    }

    fn touch<'a>(&'a self, replica: &'a str, saved_at_ms: i64) -> BoxFuture<'a, Result<(), RiskStoreError>> {
        self.answer(move |rows| {
            let own = rows.values_mut().filter(|row| row.line.replica == replica);
            own.for_each(|row| row.line.saved_at_ms = saved_at_ms);
        })
    }

    fn adopt<'a>(&'a self, asked: &'a Adoption) -> BoxFuture<'a, Result<bool, RiskStoreError>> {
        self.answer(|rows| {
            let gone = key(&asked.gone.scope, &asked.gone.replica);
            let own = key(&asked.gone.scope, &asked.replica);
            let is_as_seen = rows.get(&gone).is_some_and(|row| row.line == asked.gone);
            if !is_as_seen || !rows.contains_key(&own) {
                return false;
            }
            rows.remove(&gone);
            let row = rows.get_mut(&own).unwrap();
            row.line.account.clone_from(&asked.account);
            row.line.saved_at_ms = asked.now_ms;
            if let Some(model) = &asked.model {
                row.model = Some(model.clone());
                row.line.model_saved_at_ms = Some(asked.now_ms);
            }
            true
        })
    }
}

/// A process: its risk control and its keeper.
struct Replica {
    warden: Arc<Warden>,
    keeper: RiskKeeper,
}

impl Replica {
    async fn start(database: &Arc<Database>, name: &str, is_alone: bool, now_ms: i64) -> Self {
        let warden = Arc::new(Warden::new(&RiskConfig::default()));
        let store: Arc<dyn RiskStore> = Arc::<Database>::clone(database);
        let keeper = RiskKeeper::new(Arc::clone(&warden), store, name.to_owned(), is_alone);
        keeper.start(now_ms).await;
        Self { warden, keeper }
    }

    /// Requests whose candidates all are right, of which so many are served.
    fn ask(&self, n_requests: u64) -> u64 {
        let mut n_served = 0;
        for _ in 0..n_requests {
            let decision = self.warden.decide(SHOP, candidate(), 0.0);
            n_served += u64::from(matches!(decision.verdict, Verdict::Serve { .. }));
            self.warden.observe(SHOP, &decision, true);
        }
        n_served
    }

    fn standing(&self) -> Standing {
        self.warden.standing(SHOP).unwrap()
    }

    /// What this replica counted itself, as it is once written and read.
    fn account(&self) -> AccountState {
        let state = self.warden.with(|risk| {
            let state = risk.send_account(&Scope::new(SHOP));
            risk.not_saved(&Scope::new(SHOP));
            state
        });
        AccountState::from_json(&state.to_json().unwrap()).unwrap()
    }

    /// What is told of it, but for rounding.
    fn told(&self) -> (u64, u64, u64, u64, Tier) {
        let Standing { n_requests, n_hits, n_audits, n_labels, tier, .. } = self.standing();
        (n_requests, n_hits, n_audits, n_labels, tier)
    }
}

fn candidate() -> Option<Candidate> {
    let near = |entry| Neighbour {
        entry: EntryKey(entry),
        group: GroupKey(1),
        similarity: 0.98,
        text: "how do I cancel an order",
    };
    Candidate::among("how do I cancel an order", &[near(1), near(2), near(3)])
}

#[tokio::test]
async fn a_process_that_ends_and_begins_again_goes_on_where_it_was() {
    let database = Arc::new(Database::default());
    let before = Replica::start(&database, "a", true, 1).await;
    before.ask(400);
    before.keeper.close(1_000).await;

    let after = Replica::start(&database, "b", true, 2_000).await;

    assert_eq!(after.told(), before.told());
    assert_eq!(after.account(), before.account());
    assert!(after.ask(1) == 1, "it was open and is closed");
    assert!(database.names().iter().all(|(_, replica)| replica == "b"), "{:?}", database.names());
}

#[tokio::test]
async fn what_was_charged_before_an_audit_is_there_after_a_crash() {
    let database = Arc::new(Database::default());
    let before = Replica::start(&database, "a", true, 1).await;
    before.ask(400);
    let decision = before.warden.decide(SHOP, candidate(), 0.0);
    assert_eq!(decision.verdict, Verdict::Serve { audit: true });

    assert!(before.keeper.save_now(2).await);
    let after = Replica::start(&database, "b", true, 3).await;

    assert_eq!(after.account(), before.account());
    before.warden.observe(SHOP, &decision, true);
    let bound = |replica: &Replica| replica.standing().false_hit_rate_upper;
    assert!(bound(&after) > bound(&before), "the charge was lost");
}

#[tokio::test]
async fn a_replica_learns_from_the_others_and_counts_their_verdicts_once() {
    let database = Arc::new(Database::default());
    let a = Replica::start(&database, "a", false, 1).await;
    let b = Replica::start(&database, "b", false, 1).await;
    a.ask(60);
    b.ask(50);

    for minute in 1..=5 {
        a.keeper.tick(minute * MINUTE_MS).await;
        b.keeper.tick(minute * MINUTE_MS).await;
    }
    a.keeper.tick(6 * MINUTE_MS).await;

    assert_eq!((a.standing().n_labels, b.standing().n_labels), (110, 110));
    assert_eq!((a.standing().n_requests, b.standing().n_requests), (110, 110));
    let newcomer = Replica::start(&database, "c", false, 6 * MINUTE_MS).await;
    newcomer.ask(1);
    assert_eq!(newcomer.standing().n_labels, 111);
}

#[tokio::test]
async fn a_replica_that_is_silent_is_taken_over_once() {
    let database = Arc::new(Database::default());
    let gone = Replica::start(&database, "gone", false, 1).await;
    gone.ask(300);
    gone.keeper.tick(1_000).await;
    gone.keeper.tick(MINUTE_MS + 1_000).await;
    let expected = gone.account();
    let a = Replica::start(&database, "a", false, MINUTE_MS).await;
    let b = Replica::start(&database, "b", false, MINUTE_MS).await;

    for step in 1..=13 {
        a.keeper.tick(MINUTE_MS + step * 10_000).await;
        b.keeper.tick(MINUTE_MS + step * 10_000).await;
        let is_there = database.names().contains(&key(SHOP, "gone"));
        assert_eq!(is_there, step <= 5, "at step {step}: {:?}", database.names());
    }

    assert_eq!(a.account(), expected);
    assert_eq!((a.standing().n_requests, b.standing().n_requests), (300, 300));
    assert_eq!((a.standing().n_labels, b.standing().n_labels), (300, 300));
}

#[tokio::test]
async fn a_replica_that_was_taken_for_gone_begins_anew_and_hands_the_rest_over() {
    let database = Arc::new(Database::default());
    let silent = Replica::start(&database, "silent", false, 1).await;
    silent.ask(500);
    silent.keeper.tick(MINUTE_MS).await;
    silent.keeper.tick(2 * MINUTE_MS).await;
    let a = Replica::start(&database, "a", false, 2 * MINUTE_MS).await;
    for step in 1..=8 {
        a.keeper.tick(2 * MINUTE_MS + step * 10_000).await;
    }
    assert_eq!(a.standing().n_requests, 500);
    let before = a.standing().false_hit_rate_upper;
    let audited = silent.warden.decide(SHOP, candidate(), 0.0);
    assert_eq!(audited.verdict, Verdict::Serve { audit: true });

    silent.keeper.tick(4 * MINUTE_MS).await;
    silent.keeper.tick(4 * MINUTE_MS + 1_000).await;
    silent.warden.observe(SHOP, &audited, true);
    a.keeper.tick(5 * MINUTE_MS).await;

    let own: serde_json::Value = serde_json::from_str(&silent.account().to_json().unwrap()).unwrap();
    assert_eq!((&own["account"]["n_requests"], &own["account"]["earned"]), (&0.into(), &0.0.into()));
    assert_eq!(a.standing().n_requests, 501);
    assert!(a.standing().false_hit_rate_upper > before, "the charge that was left is nobody's");
}

#[tokio::test]
async fn a_store_that_is_away_delays_and_loses_nothing() {
    let database = Arc::new(Database::default());
    let a = Replica::start(&database, "a", true, 1).await;
    database.is_away.store(true, Ordering::Relaxed);
    a.ask(200);
    for second in 1..=200 {
        a.keeper.tick(second * 1_000).await;
    }
    assert!(a.keeper.n_errors() >= 200 && database.names().is_empty());
    assert!(!a.keeper.save_now(200_500).await);

    database.is_away.store(false, Ordering::Relaxed);
    a.keeper.tick(201_000).await;
    a.keeper.close(202_000).await;

    let after = Replica::start(&database, "b", true, 203_000).await;
    assert_eq!((after.account(), after.told()), (a.account(), a.told()));
}

#[tokio::test]
async fn a_store_whose_answers_are_lost_makes_nothing_count_twice() {
    let database = Arc::new(Database::default());
    let a = Replica::start(&database, "a", true, 1).await;
    database.loses_answers.store(true, Ordering::Relaxed);
    a.ask(200);
    for second in 1..=3 {
        a.keeper.tick(second * 1_000).await;
    }
    database.loses_answers.store(false, Ordering::Relaxed);
    a.keeper.tick(4_000).await;
    a.keeper.close(5_000).await;

    let after = Replica::start(&database, "b", true, 6_000).await;
    assert_eq!(after.standing().n_requests, 200);
    assert_eq!(after.account(), a.account());
}

#[tokio::test(start_paused = true)]
async fn an_audit_waits_for_a_slow_store_a_quarter_of_a_second_and_what_was_not_saved_is_saved_later() {
    let database = Arc::new(Database::default());
    let a = Replica::start(&database, "a", true, 1).await;
    a.ask(10);
    a.keeper.tick(1_000).await;
    a.ask(10);
    database.never_answers.store(true, Ordering::Relaxed);
    let begun = tokio::time::Instant::now();

    assert!(!a.keeper.save_now(2_000).await);

    assert_eq!(begun.elapsed(), CHARGE_WITHIN);
    database.never_answers.store(false, Ordering::Relaxed);
    assert!(a.keeper.save_now(3_000).await);
    let after = Replica::start(&database, "b", true, 4_000).await;
    assert_eq!(after.standing().n_requests, 20);
}

#[tokio::test]
async fn of_many_audits_that_wait_at_once_one_saves_for_all() {
    let database = Arc::new(Database::default());
    let a = Replica::start(&database, "a", true, 1).await;
    a.ask(1);
    a.keeper.tick(1_000).await;

    let audits = (0..8).map(async |_| {
        a.ask(1);
        a.keeper.save_now(2_000).await
    });
    let saved = futures_util::future::join_all(audits).await;

    assert_eq!(saved, [true; 8]);
    assert_eq!(database.n_saves.load(Ordering::Relaxed), 3, "the tick, the first, and one for the others");
    let after = Replica::start(&database, "b", true, 3_000).await;
    assert_eq!(after.standing().n_requests, 9);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_stays_where_it_is_and_stops_nothing() {
    let database = Arc::new(Database::default());
    for (scope, account) in [(SHOP, "no json"), ("other/faq", r#"{"version": 99}"#)] {
        let line = Line {
            scope: scope.to_owned(),
            replica: "old".to_owned(),
            account: account.to_owned(),
            model_saved_at_ms: None,
            saved_at_ms: 0,
        };
        database.add(&line).await.unwrap();
    }

    let a = Replica::start(&database, "a", true, 1).await;
    a.ask(150);
    a.keeper.close(1_000).await;

    assert_eq!(a.standing().n_requests, 150);
    assert_eq!(a.keeper.n_errors(), 0);
    assert!(database.names().contains(&key(SHOP, "old")) && database.names().contains(&key(SHOP, "a")));
}
