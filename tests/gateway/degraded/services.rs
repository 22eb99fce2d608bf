//! A Redis that replicas share, and what is left when it dies in the middle.

#[path = "../../services/redis.rs"]
mod redis;

use redis::RedisServer;

use super::{cache_word, unready};
use crate::fake_upstream::FakeUpstream;
use crate::harness::{TestGateway, endpoints};

#[tokio::test]
async fn replicas_share_exact_answers_and_go_on_alone_while_redis_is_gone() {
    let Some(mut redis) = RedisServer::start() else { return };
    let fake = FakeUpstream::start();
    let toml = endpoints(&fake)
        + &format!("[cache.exact]\nredis_url = \"{}\"\nredis_timeout_ms = 1000\n", redis.url());
    let (one, other) = (TestGateway::start(&toml).await, TestGateway::start(&toml).await);
    assert_eq!(cache_word(&one, "shared").await, "miss");
    until_hit(&one, "shared").await;
    assert_eq!(cache_word(&other, "shared").await, "hit-exact", "the other replica finds it");
    assert_eq!(fake.calls().len(), 1);

    redis.kill();

    assert_eq!(cache_word(&one, "shared").await, "miss");
    assert_eq!(cache_word(&other, "alone").await, "miss");
    assert!(unready(&one).await.contains(&"cache.redis".to_owned()));
    redis.restart();
    until_hit(&one, "after").await;
    assert!(!unready(&one).await.contains(&"cache.redis".to_owned()));
    one.finish().await;
    other.finish().await;
}

/// Asks until the answer comes from the cache, which is written in the background and connects by
/// itself.
async fn until_hit(gateway: &TestGateway, text: &str) {
    for _ in 0..2_000 {
        if cache_word(gateway, text).await == "hit-exact" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("`{text}` never came from the cache");
}
