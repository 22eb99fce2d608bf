//! The ledger's database away for longer than a moment: clients notice nothing until the journal is full, and
//! the book is whole afterwards.
//!
//! `STIVER_TEST_OUTAGE_S` says for how many seconds it is away; what is measured meanwhile is printed, not judged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fake_upstream::FakeUpstream;
use crate::harness::{
    Answer, Gateway, Home, ask, ask_streamed, asked_for, config, cost_told, ids_of, within,
};
use crate::postgres::PostgresServer;

const OUTAGE_S: usize = 3;
const N_CLIENTS: usize = 24;
/// From one call of a client to its next.
const PACE: Duration = Duration::from_millis(100);
/// Streams that begin while the database is away and end when everything else has.
const N_LEFT_OPEN: usize = 5;

/// The load goes on through all of them.
const PHASES: [&str; 3] = ["before", "away", "after"];

/// One call as its client saw it.
struct Heard {
    phase: usize,
    first_byte: Duration,
    id: String,
    cost_nano_usd: i64,
}

/// What the gateway said of its journal at one moment.
struct Sample {
    phase: usize,
    n_pending: f64,
    n_bytes: f64,
}

/// Clients at a steady pace, and somebody who watches the metrics.
struct Load {
    gateway: Arc<Gateway>,
    phase: Arc<AtomicUsize>,
    heard: Arc<Mutex<Vec<Heard>>>,
    samples: Arc<Mutex<Vec<Sample>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Load {
    fn start(gateway: Gateway) -> Self {
        let load = Self {
            gateway: Arc::new(gateway),
            phase: Arc::default(),
            heard: Arc::default(),
            samples: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        for client in 0..N_CLIENTS {
            load.start_client(client);
        }
        load.start_watching();
        load
    }

    fn start_client(&self, client: usize) {
        let (gateway, phase, heard) = (self.gateway.clone(), self.phase.clone(), self.heard.clone());
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let mut due = tokio::time::interval(PACE);
            due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for nth in 0_u64.. {
                due.tick().await;
                if stop.is_cancelled() {
                    return;
                }
                let phase = phase.load(Ordering::Relaxed);
                let text = format!("client {client} call {nth}");
                let call = one_call(&gateway, phase, &text, nth.is_multiple_of(2));
                let call = within("a call is answered", call).await;
                heard.lock().push(call);
            }
        });
    }

    fn start_watching(&self) {
        let (gateway, phase, samples) = (self.gateway.clone(), self.phase.clone(), self.samples.clone());
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                let phase = phase.load(Ordering::Relaxed);
                let n_pending = gateway.metric("stiver_ledger_pending").await;
                let n_bytes = gateway.metric("stiver_ledger_journal_bytes").await;
                samples.lock().push(Sample { phase, n_pending, n_bytes });
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }

    fn enter(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        within("the clients end", self.tasks.wait()).await;
    }
}

/// Every call has to be answered in full: the database is nothing that clients know of.
async fn one_call(gateway: &Gateway, phase: usize, text: &str, is_streamed: bool) -> Heard {
    let text = format!("{text} [[fake: chunks=8 interval_ms=2]]");
    let ask = if is_streamed { ask_streamed(&text) } else { ask(&text) };
    let began = Instant::now();
    let mut response = gateway.begin(&ask).await.expect("the gateway answers");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    let mut first_byte = Duration::ZERO;
    while let Some(chunk) = response.chunk().await.expect("the answer is whole") {
        if body.is_empty() {
            first_byte = began.elapsed();
        }
        body.extend_from_slice(&chunk);
    }
    let answer = Answer { status, headers, body: body.into() };
    assert_eq!(answer.status, 200, "{}: {}", PHASES[phase], answer.text());
    assert!(!is_streamed || answer.body.ends_with(b"[DONE]\n\n"), "{}", answer.text());
    let id = answer.header("x-request-id").to_owned();
    Heard { phase, first_byte, id, cost_nano_usd: cost_told(&answer) }
}

fn report(heard: &[Heard], samples: &[Sample], phase: usize) {
    let mut waits: Vec<Duration> =
        heard.iter().filter(|call| call.phase == phase).map(|call| call.first_byte).collect();
    waits.sort_unstable();
    let ms = |share: f64| waits[(waits.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    let of_phase = || samples.iter().filter(|sample| sample.phase == phase);
    let most = |value: fn(&Sample) -> f64| of_phase().map(value).fold(0.0, f64::max);
    let (n_pending, n_bytes) = (most(|sample| sample.n_pending), most(|sample| sample.n_bytes));
    eprintln!(
        "{:>6}: {:6} calls, first byte p50 {:.1} p99 {:.1} ms; at most {n_pending} rows waited, the journal had {n_bytes} bytes",
        PHASES[phase],
        waits.len(),
        ms(0.5),
        ms(0.99),
    );
}

/// By how many more rows waited at the end of a phase than at its beginning.
fn rise(samples: &[Sample], phase: usize) -> f64 {
    let mut of_phase = samples.iter().filter(|sample| sample.phase == phase).map(|sample| sample.n_pending);
    let first = of_phase.next().unwrap_or(0.0);
    of_phase.next_back().unwrap_or(0.0) - first
}

/// Streams of which nothing more comes until the fake upstream lets them go on.
async fn leave_open(fake: &FakeUpstream, gateway: &Gateway) -> Vec<reqwest::Response> {
    let mut open = Vec::new();
    for nth in 0..N_LEFT_OPEN {
        let ask = ask_streamed(&format!("left open {nth} [[fake: chunks=9 pause_at=3]]"));
        open.push(within("a stream begins", gateway.begin(&ask)).await.expect("the gateway answers"));
    }
    let is_paused = |ask: &[u8]| String::from_utf8_lossy(ask).contains("pause_at=3");
    let paused = fake.until(|calls| {
        calls.iter().filter(|call| is_paused(&call.body) && call.n_written == 3).count() == N_LEFT_OPEN
    });
    within("the streams pause", paused).await;
    open
}

/// A gateway's folder whose book is in Postgres.
async fn home_in(postgres: &PostgresServer, fake: &FakeUpstream, more: &str) -> Home {
    let url = postgres.database().await;
    // A stream that was left open falls silent for as long as the test takes.
    let config =
        config(fake, &format!("[server]\nflood = {{ per_second = 0 }}\n[ledger]\nurl = \"{url}\"\n{more}"))
            .replace("api_key = ", "idle_timeout_ms = 600_000\napi_key = ");
    Home::new(&config).in_postgres(&url)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_notice_nothing_of_a_database_that_is_away_and_the_book_is_whole_afterwards() {
    let Some(mut postgres) = PostgresServer::start().await else { return };
    let outage_s = asked_for("STIVER_TEST_OUTAGE_S").unwrap_or(OUTAGE_S) as u64;
    let fake = FakeUpstream::start();
    let budget = "[teams.tests]\nbudgets = [ { usd = 1_000, per = \"month\" } ]\n";
    let home = home_in(&postgres, &fake, budget).await;
    let key = home.create_key(&[]).await;
    let mut gateway = home.start().await;
    gateway.key = key;
    let load = Load::start(gateway);
    tokio::time::sleep(Duration::from_secs(outage_s.min(10))).await;

    load.enter(1);
    postgres.stop(Signal::INT);
    let open = leave_open(&fake, &load.gateway).await;
    tokio::time::sleep(Duration::from_secs(outage_s)).await;
    postgres.start_again().await;
    load.enter(2);
    let back = Instant::now();
    tokio::time::sleep(Duration::from_secs(outage_s.min(10))).await;
    load.stop().await;
    let under_load = back.elapsed();
    let gateway = load.gateway.clone();
    within("all rows are in the database", async {
        while gateway.metric("stiver_ledger_pending").await > 0.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let drained = back.elapsed();

    let mut heard = std::mem::take(&mut *load.heard.lock());
    let samples = std::mem::take(&mut *load.samples.lock());
    (0..PHASES.len()).for_each(|phase| report(&heard, &samples, phase));
    eprintln!("all rows were in the database {drained:?} after it was back, {under_load:?} of it under load");
    assert!(rise(&samples, 1) > 10.0 * outage_s as f64, "rows wait while it is away");
    // All calls but those left open have ended.
    let told: i64 = heard.iter().map(|call| call.cost_nano_usd).sum();
    let (spent, held) = gateway.balance().await;
    assert!(spent == told && held > 0, "{spent} spent, {held} held, {told} told to clients");
    fake.release();
    for response in open {
        let answer = within("the stream ends", Answer::read(response)).await.expect("it is whole");
        assert!(answer.body.ends_with(b"[DONE]\n\n"), "{}", answer.text());
        let (id, cost_nano_usd) = (answer.header("x-request-id").to_owned(), cost_told(&answer));
        heard.push(Heard { phase: 2, first_byte: Duration::ZERO, id, cost_nano_usd });
    }
    check_book(&fake, &home, &heard, gateway.balance().await).await;
    drop(load);
    Arc::into_inner(gateway).expect("the clients have ended").stop().await;
}

/// One row for each call that the upstream saw and no other; balances are what they add up to.
async fn check_book(fake: &FakeUpstream, home: &Home, heard: &[Heard], balance: (i64, i64)) {
    within("all rows are there", async {
        while home.postings().await.len() < heard.len() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let (postings, calls) = (home.postings().await, fake.calls());
    assert_eq!((postings.len(), calls.len()), (heard.len(), heard.len()), "rows and calls upstream");
    let of_rows = postings.iter().map(|posting| posting.id.clone()).collect();
    assert_eq!(ids_of(&calls).symmetric_difference(&of_rows).next(), None, "each has its row");
    let mut told: Vec<_> = heard.iter().map(|call| (call.id.as_str(), Some(call.cost_nano_usd))).collect();
    told.sort_unstable();
    let posted: Vec<_> =
        postings.iter().map(|posting| (posting.id.as_str(), posting.cost_nano_usd)).collect();
    assert!(told == posted, "what a client was told is what was posted");
    let sum: i64 = postings.iter().filter_map(|posting| posting.cost_nano_usd).sum();
    assert_eq!((balance, fake.bill().total_nano_usd), ((sum, 0), sum));
    assert_eq!(home.hourly_sums().await, (postings.len() as i64, sum));
    let verified = home.run(&["ledger", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
}

#[tokio::test]
async fn a_journal_at_its_bound_refuses_calls_while_postgres_is_away_and_takes_them_when_it_is_back() {
    let Some(mut postgres) = PostgresServer::start().await else { return };
    let fake = FakeUpstream::start();
    // The smallest that is taken.
    let home = home_in(&postgres, &fake, "max_journal_bytes = 65536\n").await;
    let gateway = home.start().await;
    postgres.stop(Signal::INT);

    let mut n_answered = 0;
    let refused = loop {
        // Nobody else calls, and nothing leaves the journal meanwhile.
        let is_full = gateway.metric("stiver_ledger_journal_bytes").await >= 65_536.0;
        let answer = gateway.chat(&ask(&format!("call {n_answered}"))).await;
        assert_eq!(answer.status, if is_full { 503 } else { 200 }, "after {n_answered}: {}", answer.text());
        if is_full {
            break answer.refusal();
        }
        n_answered += 1;
    };

    assert_eq!(refused.code.as_deref(), Some("ledger_unavailable"));
    assert!(refused.message.contains("its limit is 65536; bring the database back"), "{}", refused.message);
    assert!(n_answered > 10 && fake.calls().len() == n_answered, "{n_answered} answered");
    assert_eq!(gateway.metric("stiver_ledger_pending").await as usize, n_answered);
    postgres.start_again().await;
    gateway.chat_until(&ask("afterwards"), 200).await;
    gateway.stop().await;
    let posted = home.postings().await.into_iter().map(|posting| posting.id).collect();
    assert_eq!(ids_of(&fake.calls()).symmetric_difference(&posted).next(), None, "nothing is lost");
    assert_eq!(posted.len(), n_answered + 1);
}
