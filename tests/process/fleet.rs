//! Many gateways on one Redis and one Postgres, all of whose clients want more of one budget than there is.
//!
//! Smaller by default than what is promised: `STIVER_TEST_REPLICAS` and `STIVER_TEST_STREAMS` (for each replica)
//! ask for more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::task::TaskTracker;

use crate::fake_upstream::{FakeUpstream, Price};
use crate::harness::{
    Answer, Gateway, Home, MODEL, ask_streamed, asked_for, config, cost_told, ids_of, within,
};
use crate::postgres::PostgresServer;
use crate::redis_server::RedisServer;

const N_REPLICAS: usize = 3;
const N_STREAMS: usize = 24;
/// A client that is refused asks again, so many times in all.
const N_TRIES: usize = 6;
const ONE_DOLLAR: i64 = 1_000_000_000;
/// Dear enough that a hundred answers spend the budget; the same for the gateways and the upstream.
const PRICES: &str = "[[price]]\nmodel = \"gpt-4o-mini\"\nfrom = \"2025-01-01\"\ninput = 10.0\noutput = 200.0\n\
                      context_tokens = 128_000\nmax_output_tokens = 16_384\n";
const PRICE: Price = Price::of(10_000_000_000, 200_000_000_000);

/// A replica with a journal of its own, in a folder of its own.
fn home(fake: &FakeUpstream, redis: &RedisServer, url: &str) -> Home {
    let more = format!(
        "[server]\nflood = {{ per_second = 0 }}\n[ledger]\nurl = \"{url}\"\n\
         [shared]\nredis_url = \"{}\"\nredis_timeout_ms = 30_000\nlease_ms = 60_000\n\
         [teams.tests]\nbudgets = [ {{ usd = 1, per = \"month\" }} ]\n",
        redis.url()
    );
    let home = Home::new(&config(fake, &more)).in_postgres(url);
    home.write("config/prices.toml", PRICES);
    home
}

/// What the calls of one client came to.
#[derive(Debug, Default, Clone, Copy)]
struct Came {
    n_answered: usize,
    n_refused: usize,
    cost_nano_usd: i64,
}

async fn client(gateway: Arc<Gateway>, nth: usize) -> Came {
    let mut rng = StdRng::seed_from_u64(nth as u64);
    let mut came = Came::default();
    for n_before in 0..N_TRIES {
        let ask = ask_streamed(&format!("client {nth} call {n_before} [[fake: chunks=40 interval_ms=5]]"));
        let answer = async { Answer::read(gateway.begin(&ask).await?).await };
        let answer = answer.await.expect("the gateway answers");
        if answer.status == 200 {
            assert!(answer.body.ends_with(b"[DONE]\n\n"), "{}", answer.text());
            came.n_answered += 1;
            came.cost_nano_usd += cost_told(&answer);
            continue;
        }
        let code = answer.refusal().code;
        assert_eq!((answer.status, code.as_deref()), (429, Some("budget_exceeded")), "{}", answer.text());
        came.n_refused += 1;
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..500))).await;
    }
    came
}

/// All clients of all replicas at once.
async fn load(gateways: &[Arc<Gateway>], n_streams: usize) -> Came {
    let clients = TaskTracker::new();
    let running: Vec<_> = (0..gateways.len() * n_streams)
        .map(|nth| clients.spawn(client(Arc::clone(&gateways[nth % gateways.len()]), nth)))
        .collect();
    let mut all = Came::default();
    for one in running {
        let Came { n_answered, n_refused, cost_nano_usd } = one.await.expect("no client fails");
        all.n_answered += n_answered;
        all.n_refused += n_refused;
        all.cost_nano_usd += cost_nano_usd;
    }
    all
}

/// Waits until Redis has been told of everything, and returns what each replica says is spent and held.
async fn balances(gateways: &[Arc<Gateway>]) -> Vec<(i64, i64)> {
    let mut told = Vec::new();
    for gateway in gateways {
        within("all calls are settled", async {
            while gateway.metric("stiver_shared_settlements_waiting").await > 0.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }
    for gateway in gateways {
        told.push(gateway.balance().await);
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_gateways_with_many_streams_each_spend_a_dollar_and_no_more() {
    let Some(redis) = RedisServer::start() else { return };
    let Some(postgres) = PostgresServer::start().await else { return };
    let n_replicas = asked_for("STIVER_TEST_REPLICAS").unwrap_or(N_REPLICAS);
    let n_streams = asked_for("STIVER_TEST_STREAMS").unwrap_or(N_STREAMS);
    let fake = FakeUpstream::start();
    fake.price(MODEL, PRICE);
    let url = postgres.database().await;
    let homes: Vec<Home> = (0..n_replicas).map(|_| home(&fake, &redis, &url)).collect();
    let key = homes[0].create_key(&[]).await;
    let mut gateways = Vec::new();
    for home in &homes {
        let mut gateway = home.start().await;
        gateway.key.clone_from(&key);
        gateways.push(Arc::new(gateway));
    }

    let began = Instant::now();
    let came = load(&gateways, n_streams).await;
    let took = began.elapsed();
    let balances = balances(&gateways).await;

    let wanted =
        (came.n_answered + came.n_refused) as i64 * came.cost_nano_usd / came.n_answered.max(1) as i64;
    eprintln!(
        "{n_replicas} gateways, {n_streams} streams each: {came:?} of {wanted} wanted, in {took:?}; balances {balances:?}"
    );
    let spent = fake.bill().total_nano_usd;
    // The bound while Redis and all replicas live is the budget itself.
    assert!(spent <= ONE_DOLLAR, "{spent} of a dollar");
    assert!(spent > ONE_DOLLAR / 2 && wanted > 2 * ONE_DOLLAR, "{spent} spent of {wanted} wanted");
    assert_eq!(came.cost_nano_usd, spent, "clients were told what the upstream charged");
    assert!(balances.iter().all(|balance| *balance == (spent, 0)), "{balances:?}, {spent} spent");
    for gateway in gateways {
        Arc::into_inner(gateway).expect("the clients have ended").stop().await;
    }
    let postings = homes[0].postings().await;
    let posted = postings.iter().map(|posting| posting.id.clone()).collect();
    assert_eq!(ids_of(&fake.calls()).symmetric_difference(&posted).next(), None, "each has its row");
    assert_eq!((postings.len(), fake.calls().len()), (came.n_answered, came.n_answered));
    assert_eq!(postings.iter().filter_map(|posting| posting.cost_nano_usd).sum::<i64>(), spent);
    let verified = homes[0].run(&["ledger", "verify"]).await;
    assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
    assert!(verified.stdout.contains("1 shared balances"), "{}", verified.stdout);
}
