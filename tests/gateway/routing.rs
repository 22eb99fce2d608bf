//! Where a call goes: which tier its score and its headers lead to, and what a decision costs.
//!
//! What happens when an upstream fails stands in `routing/fallback.rs` and `routing/breaking.rs`.

mod breaking;
mod fallback;

use serde_json::{Value, json};

use crate::fake_upstream::FakeUpstream;
use crate::harness::{CHAT, Setup, TestGateway, chat, have_models, nano_usd, upstream};

const EASY: &str = "What is the capital of France?";
const HARD: &str = "Prove that there are infinitely many primes of the form 4k+3, then generalise the argument and \
                    explain where it breaks for 4k+1.";

/// A route `auto` with a small and a large rung at one fake.
fn ladder(fake: &FakeUpstream, more: &str) -> String {
    upstream("little", fake, "gpt-4o-mini", more)
        + &upstream("big", fake, "gpt-4o", more)
        + "[routes.auto]\nladder = [\n\
           { tier = \"small\", up_to = 0.35, upstreams = [\"little\"] },\n\
           { tier = \"large\", up_to = 1.0, upstreams = [\"big\"] },\n]\n"
}

#[tokio::test]
async fn the_classifier_sends_easy_prompts_to_the_small_tier_and_hard_ones_to_the_large() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&ladder(&fake, "")).with_models().start().await;
    for (prompt, tier, model) in [(EASY, "small", "gpt-4o-mini"), (HARD, "large", "gpt-4o")] {
        let answer = gateway.post(CHAT, &chat("auto", prompt)).await;

        assert_eq!((answer.header("x-stiver-tier"), answer.header("x-stiver-model")), (tier, model));
        let score: f32 = answer.header("x-stiver-score").parse().unwrap();
        assert_eq!(score > 0.35, tier == "large", "{score}");
        let row = gateway.row_of(&answer).await;
        assert_eq!(row.score_source.as_deref(), Some("classifier"));
        assert_eq!(row.tier.map(|tier| tier.to_string()).as_deref(), Some(tier));
        assert!(row.reason.starts_with("score 0."), "{}", row.reason);
        assert_eq!(fake.calls().pop().unwrap().model, model);
    }
    gateway.finish().await;
}

#[tokio::test]
async fn savings_are_told_against_the_dearest_rung() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&ladder(&fake, "")).await;

    let small = gateway.post(CHAT, &chat("auto", EASY)).await;
    let large = gateway.post(CHAT, &chat("auto", HARD)).await;

    let usage = &fake.bill().calls[0].usage;
    let dear = (usage.prompt * 2_500 + usage.completion * 10_000) as i64;
    let paid = small.cost_nano_usd().unwrap();
    assert_eq!(nano_usd(small.header("x-stiver-saved-usd")), dear - paid);
    assert!(paid > 0 && paid * 10 < dear);
    assert_eq!(large.header("x-stiver-saved-usd"), "0.00");
    gateway.finish().await;
}

#[tokio::test]
async fn the_heuristic_scores_where_there_is_no_model_and_the_row_says_so() {
    let fake = FakeUpstream::start();
    let toml = ladder(&fake, "") + "[complexity]\nmodel_dir = \"/no/such/folder\"\n";
    let gateway = TestGateway::start(&toml).await;
    for (prompt, tier) in [(EASY, "small"), (HARD, "large")] {
        let answer = gateway.post(CHAT, &chat("auto", prompt)).await;

        assert_eq!((answer.status, answer.header("x-stiver-tier")), (200, tier));
        let source = gateway.row_of(&answer).await.score_source;
        assert_eq!(source.as_deref(), Some("heuristic-no-model"));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_least_tier_raises_a_call_and_never_lowers_one() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&ladder(&fake, "")).await;
    for (prompt, min_tier, tier) in [
        (EASY, "small", "small"),
        (EASY, "large", "large"),
        (HARD, "small", "large"),
        (HARD, "large", "large"),
    ] {
        let headers = [("x-stiver-min-tier", min_tier), ("cache-control", "no-store, no-cache")];

        let answer = gateway.post_with(CHAT, &chat("auto", prompt), &headers).await;

        assert_eq!(answer.header("x-stiver-tier"), tier, "{min_tier} {prompt}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn an_earlier_answer_of_a_cheaper_tier_is_not_given_to_who_wants_a_dearer_one() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&ladder(&fake, "")).await;
    let want_large = [("x-stiver-min-tier", "large")];

    let small = gateway.post(CHAT, &chat("auto", EASY)).await;
    let large = gateway.post_with(CHAT, &chat("auto", EASY), &want_large).await;

    assert_eq!((small.header("x-stiver-tier"), large.header("x-stiver-tier")), ("small", "large"));
    assert_eq!(large.header("x-stiver-cache"), "miss");
    gateway.finish().await;
}

async fn decision(gateway: &TestGateway, body: &Value) -> Value {
    let answer = gateway.post_with(CHAT, body, &[("x-stiver-dry-run", "true")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[tokio::test]
async fn a_dry_run_tells_the_decision_and_calls_nothing() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&ladder(&fake, "")).await;
    let mut body = chat("auto", EASY);
    body["max_tokens"] = json!(100);

    let told = decision(&gateway, &body).await;

    assert_eq!((&told["object"], &told["route"]), (&json!("stiver.decision"), &json!("auto")));
    assert_eq!(
        (&told["attempts"][0]["tier"], &told["attempts"][0]["model"]),
        (&json!("small"), &json!("gpt-4o-mini"))
    );
    assert_eq!(told["attempts"][1]["upstream"], json!("big"));
    assert_eq!(told["baseline"], json!("big"));
    let at_most = |value: &Value| nano_usd(value.as_str().unwrap());
    // 100 tokens of output at $0.60 a million, and some input.
    assert!((60_000..100_000).contains(&at_most(&told["attempts"][0]["cost_usd_at_most"])), "{told}");
    assert!(fake.calls().is_empty());
    let first = gateway.post(CHAT, &body).await;
    assert_eq!(first.header("x-stiver-cache"), "miss", "a dry run leaves nothing in the cache");
    assert!(first.cost_nano_usd().unwrap() <= at_most(&told["attempts"][0]["cost_usd_at_most"]));
    assert_eq!(gateway.finish().await.len(), 1, "a dry run is no row");
}

#[tokio::test]
async fn a_greatest_cost_is_kept_to_the_nano_dollar() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&ladder(&fake, "")).await;
    let mut body = chat("auto", EASY);
    body["max_tokens"] = json!(100);
    let told = decision(&gateway, &body).await;
    let [small, large] = [0, 1].map(|n| nano_usd(told["attempts"][n]["cost_usd_at_most"].as_str().unwrap()));
    let with_limit = async |limit_nano_usd: i64| {
        let limit = format!("0.{limit_nano_usd:09}");
        gateway.post_with(CHAT, &body, &[("x-stiver-max-cost-usd", &limit)]).await
    };

    let under = with_limit(small - 1).await;
    let n_calls = fake.calls().len();
    let at = with_limit(small).await;

    assert_eq!((under.status, under.error().1.as_str()), (400, "max_cost_exceeded"));
    assert_eq!(n_calls, 0);
    assert_eq!((at.status, at.header("x-stiver-tier")), (200, "small"));
    assert!(small < large, "the large tier is left out, and the call still answered");
    gateway.finish().await;
}

#[tokio::test]
async fn a_ladder_falls_upwards_and_downwards_only_if_it_may() {
    for (fall_back, dearer_fails, cheaper_fails) in [("any", 200, 200), ("up", 500, 200)] {
        let fake = FakeUpstream::start();
        let toml = ladder(&fake, "max_retries = 0\n") + &format!("fall_back = \"{fall_back}\"\n");
        let gateway = TestGateway::start(&toml).await;
        let failing = crate::fake_upstream::Script::next(1, "status=500");

        fake.script(failing.clone());
        let hard = gateway.post(CHAT, &chat("auto", HARD)).await;
        fake.reset();
        fake.script(failing);
        let easy = gateway.post(CHAT, &chat("auto", EASY)).await;

        assert_eq!((hard.status, easy.status), (dearer_fails, cheaper_fails), "{fall_back}");
        assert_eq!(easy.header("x-stiver-tier"), "large");
        gateway.finish().await;
    }
}
