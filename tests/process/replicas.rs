//! Real gateways that share a Redis and a database: together they stay within a budget, also when one is killed.

use futures_util::future::join_all;

use crate::fake_upstream::FakeUpstream;
use crate::harness::{Home, ask, config};
use crate::redis_server::RedisServer;

const N_CALLS_EACH: usize = 60;

/// A replica with a journal of its own, in a folder of its own; the database is the first one's.
fn home(fake: &FakeUpstream, redis: &RedisServer, database: &str) -> Home {
    let more = format!(
        "[ledger]\npath = \"{database}\"\n[shared]\nredis_url = \"{}\"\nredis_timeout_ms = 10_000\nlease_ms = 1_000\n\
         [teams.tests]\nbudgets = [ {{ usd = \"0.002\", per = \"month\" }} ]\n",
        redis.url()
    );
    Home::new(&config(fake, &more))
}

#[tokio::test]
async fn two_gateways_spend_one_budget_and_a_third_finds_it_spent() {
    let Some(redis) = RedisServer::start() else { return };
    let fake = FakeUpstream::start();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let database = folder.path().join("ledger.sqlite").display().to_string();
    let homes = [(); 3].map(|()| home(&fake, &redis, &database));
    let key = homes[0].create_key(&[]).await;
    let mut gateways = Vec::new();
    for home in &homes[..2] {
        let mut gateway = home.start().await;
        gateway.key.clone_from(&key);
        gateways.push(gateway);
    }

    let calls = (0..2 * N_CALLS_EACH).map(|nth| {
        let gateway = &gateways[nth % 2];
        async move { gateway.chat(&ask(&format!("question {nth:03} [[fake: chunks=40]]"))).await }
    });
    let answers = join_all(calls).await;

    let n_answered = answers.iter().filter(|answer| answer.status == 200).count();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(n_answered > 10 && !refused.is_empty(), "{n_answered} answered");
    for answer in &refused {
        assert_eq!((answer.status, answer.refusal().code.as_deref()), (429, Some("budget_exceeded")));
    }
    let spent = fake.bill().total_nano_usd;
    assert!(spent <= 2_000_000, "{spent} of 2000000");
    // What is left is less than any call may cost.
    let mut third = homes[2].start().await;
    third.key.clone_from(&key);
    let mut n_more = 0;
    while third.chat(&ask(&format!("one more {n_more} [[fake: chunks=40]]"))).await.status == 200 {
        n_more += 1;
        assert!(n_more < N_CALLS_EACH, "the budget is spent some time");
    }
    assert!(fake.bill().total_nano_usd <= 2_000_000);
    for gateway in gateways {
        gateway.stop().await;
    }
    third.stop().await;
    let said = homes[0].run(&["ledger", "verify"]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("1 shared balances"), "{}", said.stdout);
}

#[tokio::test]
async fn what_a_killed_gateway_held_is_free_after_its_lease_and_what_it_spent_counts() {
    let Some(redis) = RedisServer::start() else { return };
    let fake = FakeUpstream::start();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let database = folder.path().join("ledger.sqlite").display().to_string();
    let homes = [(); 2].map(|()| home(&fake, &redis, &database));
    let key = homes[0].create_key(&[]).await;
    let (mut doomed, mut other) = (homes[0].start().await, homes[1].start().await);
    doomed.key.clone_from(&key);
    other.key.clone_from(&key);
    let mut open = Vec::new();
    loop {
        let text = format!("left open {} [[fake: chunks=9 pause_at=3]]", open.len());
        let response = doomed.begin(&crate::harness::ask_streamed(&text)).await.expect("the gateway answers");
        if response.status() != 200 {
            break;
        }
        open.push(response);
    }
    assert!(!open.is_empty());
    assert_eq!(other.chat(&ask("refused")).await.status, 429, "all of it is held");

    doomed.kill().await;
    fake.release();
    other.chat_until(&ask("after the lease"), 200).await;
    homes[0].start().await.stop().await;
    other.stop().await;

    let said = homes[0].run(&["ledger", "verify"]).await;
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
}

#[tokio::test]
async fn while_redis_is_away_a_team_with_a_budget_is_refused_and_served_again_when_it_is_back() {
    let Some(mut redis) = RedisServer::start() else { return };
    let fake = FakeUpstream::start();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let database = folder.path().join("ledger.sqlite").display().to_string();
    let home = home(&fake, &redis, &database);
    let key = home.create_key(&[]).await;
    let mut gateway = home.start().await;
    gateway.key = key;
    assert_eq!(gateway.chat(&ask("before")).await.status, 200);

    redis.kill();
    let refused = gateway.chat(&ask("meanwhile")).await;
    assert_eq!((refused.status, refused.refusal().code.as_deref()), (503, Some("budgets_unavailable")));
    assert!(!refused.text().contains("redis"), "nothing inside is told: {}", refused.text());
    redis.restart();

    gateway.chat_until(&ask("after"), 200).await;
    gateway.stop().await;
}
