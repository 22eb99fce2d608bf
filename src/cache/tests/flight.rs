//! Equal questions at the same time: one goes upstream and the others wait, but not for ever.

use super::*;

#[tokio::test]
async fn of_a_hundred_who_miss_at_once_one_goes_upstream() {
    let bench = Bench::new();
    let question = ask(RESET);
    let leader = miss(bench.find(&question).await);
    let mut followers: Vec<_> = (0..99).map(|_| Box::pin(bench.find(&question))).collect();
    for follower in &mut followers {
        assert!(follower.as_mut().now_or_never().is_none(), "it waits");
    }

    leader.store(&bench.cache, sample_answer("{\"n\":1}", NOW_MS));

    for follower in followers {
        let found = hit(follower.await);
        assert_eq!((found.kind, &found.answer.body[..]), (HitKind::Coalesced, &b"{\"n\":1}"[..]));
    }
    assert_eq!(bench.cache.stats().await.n_coalesced_hits, 99);
    assert_eq!(bench.lexicon.n_asked(), 1);
}

#[tokio::test]
async fn when_the_leader_fails_its_followers_go_upstream_themselves() {
    let bench = Bench::new();
    let question = ask(RESET);
    let leader = miss(bench.find(&question).await);
    let mut follower = Box::pin(bench.find(&question));
    assert!(follower.as_mut().now_or_never().is_none());

    drop(leader);
    miss(follower.await).store(&bench.cache, sample_answer("{}", NOW_MS));
    bench.settle().await;

    assert_eq!(hit(bench.find(&question).await).kind, HitKind::Exact);
    hit(bench.find(&ask(RESET_TOO)).await);
}

#[tokio::test(start_paused = true)]
async fn who_waited_as_long_as_allowed_goes_upstream() {
    let bench =
        Bench::with(&CacheConfig { single_flight_wait_ms: 1_000, ..by_threshold(SemanticConfig::default()) });
    let question = ask(RESET);
    let _leader = miss(bench.find(&question).await);
    let start = tokio::time::Instant::now();

    drop(miss(bench.find(&question).await));

    assert_eq!(start.elapsed().as_millis(), 1_000);
}

#[tokio::test]
async fn with_a_wait_of_nought_nobody_waits() {
    let bench =
        Bench::with(&CacheConfig { single_flight_wait_ms: 0, ..by_threshold(SemanticConfig::default()) });
    let question = ask(RESET);
    let _first = miss(bench.find(&question).await);

    let second = bench.find(&question).now_or_never().unwrap();

    drop(miss(second));
}
