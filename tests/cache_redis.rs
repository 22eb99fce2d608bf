//! The exact tier over a real Redis: what is kept, for how long, and what happens when it dies.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "services/redis.rs"]
mod redis_server;

use std::time::{Duration, Instant};

use bytes::Bytes;
use redis_server::RedisServer;
use stiver::cache::store::{HEAD_BYTES, RedisConfig, RedisStore, Store, StoreError};
use stiver::cache::{
    Cache, CacheConfig, Control, ExactConfig, Fill, Found, HitKind, Parts, Question, SemanticConfig,
    StoredAnswer,
};
use stiver::chat::{Fingerprint, Usage};
use tokio_util::task::TaskTracker;

const NOW_MS: i64 = 1_700_000_000_000;
const LONG: Duration = Duration::from_secs(3_600);

fn store_with(server: &RedisServer, max_in_flight: usize) -> RedisStore {
    let timeout = Duration::from_millis(500);
    RedisStore::open(&RedisConfig { url: server.url(), timeout, max_in_flight }).unwrap()
}

fn store(server: &RedisServer) -> RedisStore {
    store_with(server, 64)
}

fn key(n: u8) -> Fingerprint {
    Fingerprint::new([n; 32])
}

/// A connection past the store, to see what it left.
async fn raw(server: &RedisServer) -> redis::aio::MultiplexedConnection {
    redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn bytes_come_back_as_they_were_put() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let value = Bytes::from_static(b"\x00\xff\r\n$5\r\n{}");

    store.put(&key(1), value.clone(), LONG).await.unwrap();

    assert_eq!(store.get(&key(1)).await.unwrap(), Some(value));
    assert_eq!(store.get(&key(2)).await.unwrap(), None);
    assert!(store.remove(&key(1)).await.unwrap());
    assert!(!store.remove(&key(1)).await.unwrap());
    assert_eq!(store.get(&key(1)).await.unwrap(), None);
}

#[tokio::test]
async fn every_key_has_the_prefix_and_a_time_to_live() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);

    store.put(&key(1), Bytes::from_static(b"x"), Duration::from_secs(100)).await.unwrap();

    let mut raw = raw(&server).await;
    let name = format!("stiver:exact:{}", key(1).to_hex());
    let ttl_ms: i64 = redis::cmd("PTTL").arg(&name).query_async(&mut raw).await.unwrap();
    assert!((90_000..=100_000).contains(&ttl_ms), "{ttl_ms}");
}

#[tokio::test]
async fn an_entry_ends_with_its_time() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let ttl = Duration::from_millis(60);
    let start = Instant::now();

    store.put(&key(1), Bytes::from_static(b"x"), ttl).await.unwrap();
    while store.get(&key(1)).await.unwrap().is_some() {
        assert!(start.elapsed() < Duration::from_secs(5), "it never ends");
    }

    assert!(start.elapsed() >= ttl);
}

#[tokio::test]
async fn a_purge_removes_ours_by_the_thousand_and_nothing_else() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let mut raw = raw(&server).await;
    let _: () = redis::cmd("SET").arg("stiver:limits:a").arg(1).query_async(&mut raw).await.unwrap();
    for n in 0..1_200_u32 {
        let key = Fingerprint::new(*blake3::hash(&n.to_le_bytes()).as_bytes());
        store.put(&key, Bytes::from_static(b"x"), LONG).await.unwrap();
    }

    assert_eq!(store.purge().await.unwrap(), 1_200);

    let left: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut raw).await.unwrap();
    assert_eq!(left, ["stiver:limits:a"]);
    assert_eq!(store.purge().await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_meant_is_purged_by_the_beginning_of_its_value_and_the_rest_stays() {
    let Some(server) = RedisServer::start() else { return };
    let store = store(&server);
    let long = |first: &str| Bytes::from(first.to_owned() + &"x".repeat(3 * HEAD_BYTES));
    for n in 0..200_u32 {
        let key = Fingerprint::new(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let value = if n % 4 == 0 { long("meant") } else { long("other") };
        store.put(&key, value, LONG).await.unwrap();
    }
    let is_meant = |value: &Bytes| {
        assert_eq!(value.len(), HEAD_BYTES, "no more is fetched than says what it is");
        value.starts_with(b"meant")
    };

    assert_eq!(store.purge_where(&is_meant).await.unwrap(), 50);
    assert_eq!(store.purge_where(&is_meant).await.unwrap(), 0);
    assert_eq!(store.purge().await.unwrap(), 150);
}

#[tokio::test]
async fn one_request_more_than_allowed_is_refused_at_once() {
    let Some(server) = RedisServer::start() else { return };
    let store = store_with(&server, 2);
    store.readiness().await.unwrap();
    let keys = [key(1), key(2), key(3)];

    let outcomes = futures_util::future::join_all(keys.iter().map(|key| store.get(key))).await;

    assert!(outcomes[0].is_ok() && outcomes[1].is_ok());
    assert!(matches!(outcomes[2], Err(StoreError::Busy { max_in_flight: 2 })));
    assert!(store.get(&key(3)).await.is_ok(), "there is room again");
}

#[tokio::test]
async fn a_server_that_hangs_is_an_error_within_the_timeout() {
    // It accepts, and then says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let timeout = Duration::from_millis(50);
    let store = RedisStore::open(&RedisConfig { url, timeout, max_in_flight: 8 }).unwrap();
    let start = Instant::now();

    let error = store.get(&key(1)).await.unwrap_err();

    assert!(matches!(error, StoreError::Timeout { timeout_ms: 50 }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

fn cache(server: &RedisServer) -> (Cache, TaskTracker) {
    let tasks = TaskTracker::new();
    let exact =
        ExactConfig { redis_url: Some(server.url().into()), redis_timeout_ms: 500, ..ExactConfig::default() };
    let semantic = SemanticConfig { enabled: false, ..SemanticConfig::default() };
    let config = CacheConfig { exact, semantic, ..CacheConfig::default() };
    let parts = Parts { embedder: None, guard: None, data_dir: None, tasks: tasks.clone(), now_ms: NOW_MS };
    (Cache::open(&config, parts).unwrap(), tasks)
}

fn question(n: u8) -> Question<'static> {
    Question {
        exact: key(n),
        scope: key(0),
        text: None,
        control: Control::default(),
        promise: "",
        draw: 0.5,
        may_audit: false,
    }
}

fn answer(body: &'static str) -> StoredAnswer {
    StoredAnswer {
        body: Bytes::from_static(body.as_bytes()),
        model: "m".to_owned(),
        upstream: "u".to_owned(),
        usage: Usage::default(),
        cost: None,
        stored_at_ms: NOW_MS,
        origin: None,
    }
}

async fn miss(cache: &Cache, n: u8) -> Fill {
    match cache.find(&question(n), NOW_MS).await {
        Found::Miss(fill) => fill,
        other @ (Found::Hit(_) | Found::Audited(..) | Found::Bypass(_)) => panic!("{other:?} is not a miss"),
    }
}

async fn keep(cache: &Cache, tasks: &TaskTracker, n: u8) {
    miss(cache, n).await.store(cache, answer("{}"));
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn what_one_replica_stores_another_finds() {
    let Some(server) = RedisServer::start() else { return };
    let (one, tasks) = cache(&server);
    let (other, _) = cache(&server);

    keep(&one, &tasks, 1).await;

    let Found::Hit(hit) = other.find(&question(1), NOW_MS).await else { panic!("the other misses") };
    assert_eq!((hit.kind, &*hit.answer), (HitKind::Exact, &answer("{}")));
}

#[tokio::test]
async fn a_server_killed_meanwhile_is_a_miss_and_serves_again_when_it_is_back() {
    let Some(mut server) = RedisServer::start() else { return };
    let (cache, tasks) = cache(&server);
    keep(&cache, &tasks, 1).await;
    assert_eq!(cache.readiness().await, [("redis", Ok(()))]);

    server.kill();
    let start = Instant::now();
    keep(&cache, &tasks, 1).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(cache.stats().await.n_errors >= 2, "looking and keeping both failed");
    let readiness = cache.readiness().await;
    assert!(readiness[0].1.as_ref().unwrap_err().contains("redis"), "{readiness:?}");

    server.restart();
    let back = Instant::now();
    while !matches!(cache.find(&question(1), NOW_MS).await, Found::Hit(_)) {
        assert!(back.elapsed() < Duration::from_secs(10), "it never comes back");
        keep(&cache, &tasks, 1).await;
    }
}
