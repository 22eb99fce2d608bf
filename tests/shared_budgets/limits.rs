//! Limits of all replicas together, and of each alone while Redis is away.

use std::sync::Arc;
use std::time::Duration;

use stiver::admission::{Limiter, Limits};
use stiver::clock::Clock;
use tokio_util::task::TaskTracker;

use crate::fleet::{NOW_MS, eventually, shared, team};
use crate::redis_server::RedisServer;

struct Replica {
    limiter: Arc<Limiter>,
    tasks: TaskTracker,
}

impl Replica {
    fn start(redis: &RedisServer) -> Self {
        let (limiter, tasks) =
            (Limiter::open(Clock::standing_at(NOW_MS), Some(shared(redis, 2_000))), TaskTracker::new());
        limiter.start(&tasks);
        Self { limiter, tasks }
    }

    async fn stop(self) {
        self.limiter.close();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn concurrency(n: u64) -> Limits {
    Limits { concurrency: Some(n), ..Limits::default() }
}

#[tokio::test]
async fn requests_a_minute_are_counted_over_all_replicas() {
    let Some(redis) = RedisServer::start() else { return };
    let (one, other) = (Replica::start(&redis), Replica::start(&redis));
    let limits = Limits { requests_per_minute: Some(5), ..Limits::default() };

    let mut n_let_in = 0;
    for nth in 0..10 {
        let replica = if nth % 2 == 0 { &one } else { &other };
        match replica.limiter.admit(&team(), &limits, 1).await {
            Ok(pass) => {
                n_let_in += 1;
                assert_eq!(pass.requests.unwrap().remaining, 5 - n_let_in);
            }
            Err(hit) => {
                assert_eq!((hit.what, hit.limit), ("requests a minute", 5));
                assert!((1..=12_000).contains(&hit.retry_after_ms), "{hit:?}");
            }
        }
    }

    assert_eq!(n_let_in, 5);
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn tokens_that_were_not_used_are_free_for_another_replica() {
    let Some(redis) = RedisServer::start() else { return };
    let (one, other) = (Replica::start(&redis), Replica::start(&redis));
    let limits = Limits { tokens_per_minute: Some(1_000_000), ..Limits::default() };

    let mut pass = one.limiter.admit(&team(), &limits, 1_000_000).await.unwrap();
    let refused = other.limiter.admit(&team(), &limits, 500_000).await.unwrap_err();
    pass.settle(100_000);
    drop(pass);

    assert_eq!(refused.what, "tokens a minute");
    eventually("the rest is free", async || other.limiter.admit(&team(), &limits, 500_000).await.is_ok())
        .await;
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn slots_are_shared_and_a_dead_replicas_come_free_after_its_lease() {
    let Some(redis) = RedisServer::start() else { return };
    let (one, other) = (Replica::start(&redis), Replica::start(&redis));
    let limits = concurrency(4);

    let mut passes = Vec::new();
    for _ in 0..4 {
        passes.push(one.limiter.admit(&team(), &limits, 1).await.unwrap());
    }
    let refused = other.limiter.admit(&team(), &limits, 1).await.unwrap_err();
    assert_eq!((refused.what, refused.limit), ("concurrent calls", 4));
    tokio::time::sleep(Duration::from_millis(2 * crate::fleet::LEASE_MS)).await;
    assert!(other.limiter.admit(&team(), &limits, 1).await.is_err(), "it shows life");

    passes.pop();
    eventually("a slot is free", async || other.limiter.admit(&team(), &limits, 1).await.is_ok()).await;
    // Dead: it neither ends its calls nor shows life.
    passes.into_iter().for_each(std::mem::forget);
    one.stop().await;
    eventually("all are free", async || {
        let mut passes = Vec::new();
        for _ in 0..4 {
            passes.extend(other.limiter.admit(&team(), &limits, 1).await);
        }
        passes.len() == 4
    })
    .await;
    other.stop().await;
}

#[tokio::test]
async fn without_redis_each_replica_keeps_the_limit_alone_and_no_call_fails() {
    let Some(mut redis) = RedisServer::start() else { return };
    let (one, other) = (Replica::start(&redis), Replica::start(&redis));
    let limits = concurrency(1);
    let shared = one.limiter.admit(&team(), &limits, 1).await.unwrap();
    assert!(other.limiter.admit(&team(), &limits, 1).await.is_err());

    redis.kill();
    let local = other.limiter.admit(&team(), &limits, 1).await.unwrap();
    assert!(other.limiter.admit(&team(), &limits, 1).await.is_err(), "its own limit holds");
    assert!(one.limiter.admit(&team(), &limits, 1).await.is_err(), "what was let in before counts");
    redis.restart();

    eventually("the replica's sign of life says what it has", async || {
        other.limiter.admit(&team(), &limits, 1).await.is_err()
    })
    .await;
    drop((shared, local));
    eventually("all is free", async || other.limiter.admit(&team(), &limits, 1).await.is_ok()).await;
    one.stop().await;
    other.stop().await;
}
