//! `kill -9` at any moment: every call that reached the upstream is in the book once.
//!
//! The fake upstream stays alive and knows what it was sent; a call's `x-request-id` there is the id
//! of its row here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::fake_upstream::{FakeUpstream, SeenCall};
use crate::harness::{
    Answer, Gateway, Home, Posting, ask, ask_streamed, asked_for, config, cost_told, ids_of, within,
};
use crate::postgres::PostgresServer;

const N_STREAMED: usize = 200;
const N_FINISHED: usize = 20;
/// Kills in a run of all tests; `STIVER_TEST_KILLS` asks for more.
const N_ROUNDS: usize = 5;
const N_CLIENTS: usize = 24;

/// Lets a gateway read what the last one left, and returns the book as it stands then.
async fn book_after_restart(home: &Home) -> BTreeMap<String, Posting> {
    home.start().await.stop().await;
    let postings = home.postings().await;
    let (n_calls, cost) = home.hourly_sums().await;
    assert_eq!(usize::try_from(n_calls), Ok(postings.len()), "the hourly sums count each posting once");
    assert_eq!(cost, postings.iter().filter_map(|posting| posting.cost_nano_usd).sum::<i64>());
    postings.into_iter().map(|posting| (posting.id.clone(), posting)).collect()
}

#[tokio::test]
async fn streams_open_at_a_kill_are_posted_once_and_as_interrupted() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let gateway = home.start().await;
    for nth in 0..N_FINISHED {
        assert_eq!(gateway.chat(&ask(&format!("finished {nth}"))).await.status, 200);
    }
    let finished = ids_of(&fake.calls());
    let mut streams = Vec::new();
    for nth in 0..N_STREAMED {
        let ask = ask_streamed(&format!("left open {nth} [[fake: chunks=9 pause_at=3]]"));
        streams.push(within("a stream begins", gateway.begin(&ask)).await.unwrap());
    }
    let paused = |call: &&SeenCall| call.n_written == 3;
    within("all streams pause", fake.until(|calls| calls.iter().filter(paused).count() == N_STREAMED)).await;

    gateway.kill().await;
    let book = book_after_restart(&home).await;
    let again = book_after_restart(&home).await;

    let (seen, posted) = (ids_of(&fake.calls()), book.keys().cloned().collect());
    assert_eq!(seen.symmetric_difference(&posted).next(), None, "seen or posted, but not both");
    assert_eq!(book.len(), N_FINISHED + N_STREAMED);
    for (id, posting) in &book {
        let expected = if finished.contains(id) { "ok" } else { "interrupted" };
        assert_eq!(posting.outcome, expected, "{posting:?}");
        assert!(posting.cost_nano_usd.is_some_and(|cost| cost > 0), "{posting:?}");
    }
    assert_eq!(book, again, "a second restart changes nothing");
}

/// What a client of the random load knows of a call that was answered in full.
struct Told {
    id: String,
    cost_nano_usd: i64,
}

/// `None` where the client was not answered in full; an error when there is no gateway any more.
async fn one_call(gateway: &Gateway, nth: u64) -> reqwest::Result<Option<Told>> {
    let what = ["", "chunks=8 interval_ms=10", "first_byte_ms=30", "status=500", "chunks=6 cut=3"];
    let directive = what[nth as usize % what.len()];
    let text = format!("call {nth} [[fake: {directive}]]");
    let is_streamed = nth.is_multiple_of(2);
    let ask = if is_streamed { ask_streamed(&text) } else { ask(&text) };
    let mut response = gateway.begin(&ask).await?;
    if nth.is_multiple_of(7) {
        // This client hangs up after the first bytes.
        response.chunk().await?;
        return Ok(None);
    }
    let answer = Answer::read(response).await?;
    let is_whole = answer.status == 200 && (answer.body.ends_with(b"[DONE]\n\n") || !is_streamed);
    let id = answer.header("x-request-id").to_owned();
    Ok(is_whole.then(|| Told { id, cost_nano_usd: cost_told(&answer) }))
}

/// Sends calls from many clients and kills `gateway` after `lifetime`; what the clients were told.
async fn load_until_killed(gateway: Gateway, lifetime: Duration, rng: &mut StdRng) -> Vec<Told> {
    let gateway = Arc::new(gateway);
    let clients = TaskTracker::new();
    let (told, mut heard) = mpsc::unbounded_channel();
    for _ in 0..N_CLIENTS {
        let (gateway, told, mut rng) = (gateway.clone(), told.clone(), StdRng::from_rng(rng));
        clients.spawn(async move {
            loop {
                match one_call(&gateway, rng.random_range(0..1_000_000)).await {
                    Ok(Some(call)) => told.send(call).expect("the test listens"),
                    Ok(None) => {}
                    Err(error) if error.is_connect() => return,
                    Err(_) => {}
                }
            }
        });
    }
    drop(told);
    tokio::time::sleep(lifetime).await;
    gateway.signal(Signal::KILL);
    let mut all = Vec::new();
    while let Some(call) = within("the clients notice", heard.recv()).await {
        all.push(call);
    }
    all
}

fn n_rounds() -> usize {
    asked_for("STIVER_TEST_KILLS").unwrap_or(N_ROUNDS)
}

fn seeded() -> StdRng {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

#[tokio::test]
async fn kills_at_random_moments_lose_and_double_nothing() {
    let mut rng = seeded();
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, "[ledger]\nfsync_interval_ms = 10\n"));
    let mut told = Vec::new();

    for _ in 0..n_rounds() {
        let gateway = home.start().await;
        let lifetime = Duration::from_millis(rng.random_range(100..900));
        told.extend(load_until_killed(gateway, lifetime, &mut rng).await);
    }

    check_book(&fake, &home, &told).await;
}

#[tokio::test]
async fn kills_while_postgres_comes_and_goes_lose_and_double_nothing() {
    let Some(mut postgres) = PostgresServer::start().await else { return };
    let mut rng = seeded();
    let fake = FakeUpstream::start();
    let url = postgres.database().await;
    let ledger = format!("[ledger]\nfsync_interval_ms = 10\nurl = \"{url}\"\n");
    let home = Home::new(&config(&fake, &ledger)).in_postgres(&url);
    let mut told = Vec::new();

    for _ in 0..n_rounds() {
        let gateway = home.start().await;
        let lifetime = Duration::from_millis(rng.random_range(100..900));
        let (before, after) = (rng.random_range(0..600), rng.random_range(0..1_500));
        let outage = async {
            tokio::time::sleep(Duration::from_millis(before)).await;
            postgres.stop(Signal::KILL);
            tokio::time::sleep(Duration::from_millis(after)).await;
            postgres.start_again().await;
        };
        let (heard, ()) = tokio::join!(load_until_killed(gateway, lifetime, &mut rng), outage);
        told.extend(heard);
    }

    check_book(&fake, &home, &told).await;
}

/// Every call that the upstream saw is in the book once, and what clients were told is what was posted.
async fn check_book(fake: &FakeUpstream, home: &Home, told: &[Told]) {
    let book = book_after_restart(home).await;

    let seen = ids_of(&fake.calls());
    eprintln!("{} calls seen, {} posted, {} told to clients", seen.len(), book.len(), told.len());
    assert!(told.len() > n_rounds(), "the load is a load");
    let missing: Vec<_> = seen.iter().filter(|id| !book.contains_key(*id)).collect();
    assert!(missing.is_empty(), "seen by the upstream and not posted: {missing:?}");
    for posting in book.values().filter(|posting| !seen.contains(&posting.id)) {
        // Journalled, and then there was no time to send it.
        assert_eq!((posting.outcome.as_str(), posting.output_tokens), ("interrupted", 0), "{posting:?}");
    }
    for Told { id, cost_nano_usd } in told {
        let posting = &book[id];
        assert_eq!((posting.outcome.as_str(), posting.cost_nano_usd), ("ok", Some(*cost_nano_usd)), "{id}");
    }
}
