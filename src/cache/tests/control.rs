//! What a client may ask of the cache: a higher bar, nothing old, no looking, no leaving.

use super::*;

#[tokio::test]
async fn a_client_may_raise_the_bar_but_not_lower_it() {
    let semantic = SemanticConfig { min_similarity: Some(0.999), ..SemanticConfig::default() };
    let strict = Bench::with(&by_threshold(semantic));
    let bench = Bench::new();
    bench.keep(&ask(RESET), "{}").await;
    strict.keep(&ask(RESET), "{}").await;
    let at = |min_similarity| {
        let control = Control { min_similarity: Some(min_similarity), ..Control::default() };
        Question { control, ..ask(RESET_TOO) }
    };

    drop(miss(bench.find(&at(0.999)).await));
    hit(bench.find(&at(0.99)).await);
    drop(miss(strict.find(&at(0.0)).await));
}

#[tokio::test]
async fn an_answer_is_served_until_its_time_is_over_in_both_tiers() {
    let exact = ExactConfig { ttl_s: 10, ..ExactConfig::default() };
    let semantic = SemanticConfig { ttl_s: 20, ..SemanticConfig::default() };
    let bench = Bench::with(&CacheConfig { exact, ..by_threshold(semantic) });
    bench.keep(&ask(RESET), "{}").await;
    let at = async |text, after_ms| bench.cache.find(&ask(text), NOW_MS + after_ms).await;

    assert_eq!(hit(at(RESET, 9_999).await).kind, HitKind::Exact);
    assert!(matches!(hit(at(RESET, 10_000).await).kind, HitKind::Semantic { .. }));
    hit(at(RESET_TOO, 19_999).await);
    drop(miss(at(RESET_TOO, 20_000).await));
}

#[tokio::test]
async fn a_client_gets_nothing_older_than_it_asks_for() {
    let bench = Bench::new();
    bench.keep(&ask(RESET), "{}").await;
    let control = Control { max_age_s: Some(5), ..Control::default() };
    let at =
        async |text, after_ms| bench.cache.find(&Question { control, ..ask(text) }, NOW_MS + after_ms).await;

    hit(at(RESET, 5_000).await);
    hit(at(RESET_TOO, 5_000).await);
    drop(miss(at(RESET, 5_001).await));
    drop(miss(at(RESET_TOO, 5_001).await));
}

#[tokio::test]
async fn no_cache_looks_for_nothing_but_leaves_its_answer_behind() {
    let bench = Bench::new();
    bench.keep(&ask(RESET), "{\"n\":1}").await;
    let control = Control { no_cache: true, ..Control::default() };

    bench.keep(&Question { control, ..ask(RESET) }, "{\"n\":2}").await;

    assert_eq!(&hit(bench.find(&ask(RESET)).await).answer.body[..], b"{\"n\":2}");
    assert_eq!(&hit(bench.find(&ask(RESET_TOO)).await).answer.body[..], b"{\"n\":2}");
}

#[tokio::test]
async fn no_store_leaves_nothing_behind_but_may_be_answered() {
    let bench = Bench::new();
    let control = Control { no_store: true, ..Control::default() };

    bench.keep(&Question { control, ..ask(RESET) }, "{\"n\":1}").await;
    bench.keep(&ask(RESET), "{\"n\":2}").await;

    let found = hit(bench.find(&Question { control, ..ask(RESET) }).await);
    assert_eq!(&found.answer.body[..], b"{\"n\":2}");
}

#[tokio::test]
async fn neither_looking_nor_leaving_is_a_bypass() {
    let bench = Bench::new();
    let control = Control { no_cache: true, no_store: true, ..Control::default() };

    let found = bench.find(&Question { control, ..ask(RESET) }).await;

    assert!(matches!(found, Found::Bypass(Bypassed::Client)));
}

#[tokio::test]
async fn with_both_tiers_off_all_is_bypassed() {
    let exact = ExactConfig { enabled: false, ..ExactConfig::default() };
    let semantic = SemanticConfig { enabled: false, ..SemanticConfig::default() };
    let bench = Bench::with(&CacheConfig { exact, ..by_threshold(semantic) });

    assert!(matches!(bench.find(&ask(RESET)).await, Found::Bypass(Bypassed::Off)));
    assert_eq!(bench.cache.readiness().await, []);
}
