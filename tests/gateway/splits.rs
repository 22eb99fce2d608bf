//! A/B splits as a client, an analyst and an operator see them: arms in headers and rows, each with its own answers.
//!
//! How units are spread over arms, and what makes a split good, is tested where it is decided: `routing/split`.
//! Metrics are one for all gateways of a process, so those are looked at in `tests/process/splits.rs`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use stiver::clock::Clock;
use stiver::config::Environment;

use crate::fake_upstream::{Ending, FakeUpstream, Script};
use crate::harness::{
    Answer, CHAT, EMBEDDINGS, NOW_MS, Setup, TestGateway, chat, chat_stream, have_models, key_of, route,
    team, upstream,
};

const EASY: &str = "What is the capital of France?";

/// A route `auto` with a ladder, and routes without one.
fn routes(fake: &FakeUpstream) -> String {
    upstream("little", fake, "gpt-4o-mini", "max_retries = 0")
        + &upstream("big", fake, "gpt-4o", "max_retries = 0")
        + &upstream("vectors", fake, "text-embedding-3-small", "")
        + &route("gpt-4o", &["big"])
        + &route("text-embedding-3-small", &["vectors"])
        + "[routes.auto]\nladder = [\n\
           { tier = \"small\", up_to = 0.35, upstreams = [\"little\"] },\n\
           { tier = \"large\", up_to = 1.0, upstreams = [\"big\"] },\n]\n"
}

/// A split with two arms of one half each; `changes` are those of the second.
fn halves(name: &str, route: &str, unit: &str, changes: &str) -> String {
    let changes = if changes.is_empty() { String::new() } else { format!(", {changes}") };
    format!(
        "[[split]]\nname = \"{name}\"\nroute = \"{route}\"\nunit = \"{unit}\"\n\
         arms = [{{ name = \"control\", share = 5000 }}, {{ name = \"other\", share = 5000{changes} }}]\n"
    )
}

async fn decision(gateway: &TestGateway, body: &Value, headers: &[(&str, &str)]) -> Value {
    let headers = [&[("x-stiver-dry-run", "true")], headers].concat();
    let answer = gateway.post_with(CHAT, body, &headers).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The first user whose calls to `route` are in `arm`.
async fn user_in(gateway: &TestGateway, route: &str, arm: &str) -> String {
    for nth in 0..100 {
        let user = format!("user-{nth}");
        let told = decision(gateway, &chat(route, EASY), &[("x-stiver-user", &user)]).await;
        if told["split"]["arm"] == json!(arm) {
            return user;
        }
    }
    panic!("none of a hundred users is in arm `{arm}`")
}

async fn ask(gateway: &TestGateway, route: &str, user: &str, text: &str) -> Answer {
    gateway.post_with(CHAT, &chat(route, text), &[("x-stiver-user", user)]).await
}

#[tokio::test]
async fn every_row_of_a_call_in_an_arm_says_so_however_it_ends() {
    let fake = FakeUpstream::start();
    let splits = halves("rows", "auto", "user", "");
    let gateway = Setup::of(&routes(&fake)).splits(&splits).start().await;
    let user = user_in(&gateway, "auto", "other").await;
    let headers = [("x-stiver-user", user.as_str())];

    let whole = ask(&gateway, "auto", &user, EASY).await;
    let hit = ask(&gateway, "auto", &user, EASY).await;
    let stream = gateway.post_with(CHAT, &chat_stream("auto", "A stream"), &headers).await;
    fake.script(Script::next(2, "status=500"));
    let failed = ask(&gateway, "auto", &user, "Nobody answers this").await;
    fake.reset();
    fake.script(Script::always("chunks=10 pause_at=4"));
    let mut left = gateway.open(CHAT, &chat_stream("auto", "Left in the middle"), &headers).await;
    left.read_contents(4).await;
    let left_id = left.header("x-request-id").to_owned();
    drop(left);
    fake.until(|calls| calls[0].ending == Ending::ClientGone).await;

    assert_eq!((hit.header("x-stiver-cache"), failed.status), ("hit-exact", 500));
    for answer in [&whole, &hit, &stream, &failed] {
        assert_eq!(answer.header("x-stiver-split"), "rows=other");
        let row = gateway.row_of(answer).await;
        assert_eq!((row.split.as_deref(), row.arm.as_deref()), (Some("rows"), Some("other")));
    }
    let rows = gateway.finish().await;
    let left = rows.iter().find(|row| row.id.to_string() == left_id).expect("who leaves has a row");
    assert_eq!((left.split.as_deref(), left.arm.as_deref()), (Some("rows"), Some("other")));
    assert_eq!(rows.len(), 5, "asking for an arm is no row");
}

#[tokio::test]
async fn a_call_without_a_split_or_a_unit_is_answered_and_in_no_arm() {
    let fake = FakeUpstream::start();
    let splits = halves("absent", "auto", "user", "");
    let gateway = Setup::of(&routes(&fake)).splits(&splits).start().await;

    let without_user = gateway.post(CHAT, &chat("auto", EASY)).await;
    let elsewhere = ask(&gateway, "gpt-4o", "ada", EASY).await;
    let empty_user = ask(&gateway, "auto", "", "Another question").await;

    for answer in [&without_user, &elsewhere, &empty_user] {
        assert_eq!((answer.status, answer.header("x-stiver-split")), (200, ""));
        let row = gateway.row_of(answer).await;
        assert_eq!((row.split, row.arm), (None, None));
    }
    let told = decision(&gateway, &chat("auto", EASY), &[]).await;
    assert_eq!((&told["split"]["name"], &told["split"]["arm"]), (&json!("absent"), &Value::Null));
    let reason = told["split"]["reason"].as_str().unwrap();
    assert!(reason.contains("names no user"), "{reason}");
    let told = decision(&gateway, &chat("gpt-4o", EASY), &[("x-stiver-user", "ada")]).await;
    assert_eq!(told["split"], Value::Null);
    gateway.finish().await;
}

#[tokio::test]
async fn arms_never_share_an_answer_with_each_other_nor_with_calls_in_none() {
    let fake = FakeUpstream::start();
    let splits = halves("apart", "auto", "user", "");
    let gateway = Setup::of(&routes(&fake)).splits(&splits).start().await;
    let control = user_in(&gateway, "auto", "control").await;
    let other = user_in(&gateway, "auto", "other").await;

    let mut outcomes = Vec::new();
    for user in [control.as_str(), other.as_str(), ""].repeat(2) {
        outcomes.push(ask(&gateway, "auto", user, EASY).await.header("x-stiver-cache").to_owned());
    }

    assert_eq!(outcomes, ["miss", "miss", "miss", "hit-exact", "hit-exact", "hit-exact"]);
    assert_eq!(fake.calls().len(), 3);
    gateway.finish().await;
}

#[tokio::test]
async fn an_arm_with_other_limits_on_its_ladder_sends_the_same_prompt_to_another_tier() {
    let fake = FakeUpstream::start();
    let splits = halves("bar", "auto", "user", "ladder = { small = 0.0 }");
    let gateway = Setup::of(&routes(&fake)).splits(&splits).start().await;

    for (arm, tier, model) in [("control", "small", "gpt-4o-mini"), ("other", "large", "gpt-4o")] {
        let user = user_in(&gateway, "auto", arm).await;
        let answer = ask(&gateway, "auto", &user, EASY).await;
        let told = decision(&gateway, &chat("auto", EASY), &[("x-stiver-user", &user)]).await;

        assert_eq!((answer.header("x-stiver-tier"), answer.header("x-stiver-model")), (tier, model));
        assert_eq!(told["attempts"][0]["tier"], json!(tier), "explain sees what the call sees");
        let row = gateway.row_of(&answer).await;
        assert_eq!(row.tier.map(|tier| tier.to_string()).as_deref(), Some(tier));
        assert!(row.baseline.is_some_and(|usd| usd.get() > 0), "both arms are measured against one baseline");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn an_arm_with_other_upstreams_is_answered_by_them() {
    let fake = FakeUpstream::start();
    let splits = halves("places", "gpt-4o", "user", "upstreams = [\"little\"]")
        + &halves("rungs", "auto", "user", "upstreams = { small = [\"big\"] }");
    let gateway = Setup::of(&routes(&fake)).splits(&splits).start().await;

    for (route, arm, model) in [
        ("gpt-4o", "control", "gpt-4o"),
        ("gpt-4o", "other", "gpt-4o-mini"),
        ("auto", "control", "gpt-4o-mini"),
        ("auto", "other", "gpt-4o"),
    ] {
        let user = user_in(&gateway, route, arm).await;

        let answer = ask(&gateway, route, &user, EASY).await;

        assert_eq!(answer.header("x-stiver-model"), model, "{route} {arm}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn an_arm_may_switch_the_cache_off_for_its_own_calls() {
    let fake = FakeUpstream::start();
    let splits = halves("no-cache", "auto", "user", "cache = \"off\"");
    let gateway = Setup::of(&routes(&fake)).splits(&splits).start().await;
    let control = user_in(&gateway, "auto", "control").await;
    let other = user_in(&gateway, "auto", "other").await;

    let mut outcomes = Vec::new();
    for user in [&control, &control, &other, &other] {
        outcomes.push(ask(&gateway, "auto", user, EASY).await.header("x-stiver-cache").to_owned());
    }

    assert_eq!(outcomes, ["miss", "hit-exact", "bypass; reason=arm", "bypass; reason=arm"]);
    gateway.finish().await;
}

#[tokio::test]
async fn an_answer_of_one_arm_is_not_alike_for_another() {
    if !have_models() {
        return;
    }
    const QUESTIONS: [&str; 2] = ["How do I reset my password?", "How can I reset my password?"];
    let fake = FakeUpstream::start();
    let splits = halves("apart", "gpt-4o", "user", "");
    let gateway = Setup::of(&routes(&fake)).with_models().splits(&splits).start().await;
    let control = user_in(&gateway, "gpt-4o", "control").await;
    let other = user_in(&gateway, "gpt-4o", "other").await;
    ask(&gateway, "gpt-4o", &control, QUESTIONS[0]).await;
    gateway.until_entries(1).await;

    let across = ask(&gateway, "gpt-4o", &other, QUESTIONS[1]).await;
    let within = ask(&gateway, "gpt-4o", &control, QUESTIONS[1]).await;

    assert_eq!(across.header("x-stiver-cache"), "miss");
    assert_eq!(within.header("x-stiver-cache"), "hit-semantic");
    gateway.finish().await;
}

#[tokio::test]
async fn an_arm_may_ask_for_more_likeness_or_for_equality() {
    if !have_models() {
        return;
    }
    const QUESTIONS: [&str; 2] = ["How do I reset my password?", "How can I reset my password?"];
    for (changes, expected) in
        [("cache = { min_similarity = 0.999 }", "miss"), ("cache = \"exact\"", "miss; semantic=arm")]
    {
        let fake = FakeUpstream::start();
        let splits = halves("likeness", "gpt-4o", "user", changes);
        let gateway = Setup::of(&routes(&fake)).with_models().splits(&splits).start().await;
        let control = user_in(&gateway, "gpt-4o", "control").await;
        let other = user_in(&gateway, "gpt-4o", "other").await;
        ask(&gateway, "gpt-4o", &control, QUESTIONS[0]).await;
        gateway.until_entries(1).await;
        ask(&gateway, "gpt-4o", &other, QUESTIONS[0]).await;

        let alike = ask(&gateway, "gpt-4o", &control, QUESTIONS[1]).await;
        let stricter = ask(&gateway, "gpt-4o", &other, QUESTIONS[1]).await;
        let equal = ask(&gateway, "gpt-4o", &other, QUESTIONS[0]).await;

        assert_eq!(alike.header("x-stiver-cache"), "hit-semantic");
        assert_eq!(stricter.header("x-stiver-cache"), expected, "{changes}");
        assert_eq!(equal.header("x-stiver-cache"), "hit-exact");
        gateway.finish().await;
    }
}

#[tokio::test]
async fn a_conversation_stays_in_its_arm_turn_after_turn() {
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&routes(&fake)).splits(&halves("talk", "auto", "conversation", "")).start().await;
    let turns = |first: &str, n: usize| {
        let mut messages = vec![
            json!({"role": "system", "content": "Be brief."}),
            json!({"role": "user", "content": first}),
        ];
        for nth in 0..n {
            messages.push(json!({"role": "assistant", "content": format!("Answer {nth}")}));
            messages.push(json!({"role": "user", "content": format!("And {nth}?")}));
        }
        json!({"model": "auto", "messages": messages})
    };

    let mut seen = BTreeSet::new();
    for nth in 0..20 {
        let first = format!("Question {nth}");
        let arms: Vec<String> = [
            gateway.post(CHAT, &turns(&first, 0)).await,
            gateway.post(CHAT, &turns(&first, 1)).await,
            gateway.post(CHAT, &turns(&first, 2)).await,
        ]
        .map(|answer| answer.header("x-stiver-split").to_owned())
        .into();

        assert!(arms.iter().all(|arm| *arm == arms[0] && !arm.is_empty()), "{first}: {arms:?}");
        seen.extend(arms);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["talk=control", "talk=other"]);
    gateway.finish().await;
}

#[tokio::test]
async fn a_key_or_any_header_can_be_the_unit_on_every_endpoint() {
    let fake = FakeUpstream::start();
    let teams: String = (0..8).map(|nth| team(&format!("t{nth}"), "")).collect();
    let splits = halves("keys", "text-embedding-3-small", "key", "")
        + &halves("tenants", "gpt-4o", "header:X-Tenant", "");
    let gateway = Setup::of(&(routes(&fake) + &teams)).splits(&splits).start().await;
    let body = json!({"model": "text-embedding-3-small", "input": "a"});

    let (mut by_key, mut by_tenant) = (BTreeSet::new(), BTreeSet::new());
    for nth in 0..8 {
        let key = key_of(&format!("t{nth}"));
        let key = (key.0, key.1.as_str());
        for _ in 0..2 {
            let answer = gateway.post_with(EMBEDDINGS, &body, &[key]).await;
            by_key.insert((nth, answer.header("x-stiver-split").to_owned()));
            let headers = [key, ("X-TENANT", &*format!("tenant-{nth}"))];
            let answer = gateway.post_with(CHAT, &chat("gpt-4o", EASY), &headers).await;
            by_tenant.insert((nth, answer.header("x-stiver-split").to_owned()));
        }
    }

    for (split, seen) in [("keys", by_key), ("tenants", by_tenant)] {
        assert_eq!(seen.len(), 8, "each unit has one arm: {seen:?}");
        let arms: BTreeSet<&str> = seen.iter().map(|(_, arm)| arm.as_str()).collect();
        assert!(arms.iter().all(|arm| arm.starts_with(split)) && arms.len() == 2, "{arms:?}");
    }
    gateway.finish().await;
}

/// Replaces the splits and reads them again; what was wrong with them.
async fn reload(gateway: &TestGateway, splits: &str) -> Vec<String> {
    let file = gateway.folder().path().join("splits.toml");
    std::fs::write(file, splits).expect("the folder can be written");
    gateway.gateway().reload(&Environment::default()).await
}

#[tokio::test]
async fn splits_are_replaced_as_a_whole_and_a_bad_file_keeps_the_last_good_one() {
    let fake = FakeUpstream::start();
    let whole = |name: &str, upstream: &str| {
        format!(
            "[[split]]\nname = \"{name}\"\nroute = \"gpt-4o\"\nunit = \"user\"\n\
             arms = [{{ name = \"all\", share = 10000, cache = \"off\", upstreams = [\"{upstream}\"] }}]\n"
        )
    };
    let gateway = Setup::of(&routes(&fake)).splits(&whole("before", "little")).start().await;
    let seen = async || {
        let answer = ask(&gateway, "gpt-4o", "ada", EASY).await;
        format!("{} {}", answer.header("x-stiver-split"), answer.header("x-stiver-model"))
    };

    assert_eq!(seen().await, "before=all gpt-4o-mini");
    assert_eq!(reload(&gateway, &whole("after", "big")).await, Vec::<String>::new());
    assert_eq!(seen().await, "after=all gpt-4o");
    let problems = reload(&gateway, &whole("bad", "ghost").replace("10000", "9999")).await;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.contains("splits.toml: split[0].arms")), "{problems:?}");
    assert_eq!(seen().await, "after=all gpt-4o");
    // Whoever calls meanwhile sees the one or the other, never a name of one with the upstream of the other.
    for nth in 0..6 {
        let splits = if nth % 2 == 0 { whole("before", "little") } else { whole("after", "big") };
        let (told, one, two, three) = tokio::join!(reload(&gateway, &splits), seen(), seen(), seen());

        assert_eq!(told, Vec::<String>::new());
        for answer in [one, two, three] {
            assert!(["before=all gpt-4o-mini", "after=all gpt-4o"].contains(&answer.as_str()), "{answer}");
        }
    }
    assert_eq!(reload(&gateway, "").await, Vec::<String>::new());
    assert_eq!(seen().await, " gpt-4o");
    gateway.finish().await;
}

#[tokio::test]
async fn a_split_that_no_call_comes_to_is_told_of_after_a_day() {
    const DAY_MS: i64 = 86_400_000;
    let fake = FakeUpstream::start();
    let clock = Clock::standing_at(NOW_MS);
    let splits = halves("busy", "auto", "user", "") + &halves("quiet", "gpt-4o", "user", "");
    let gateway = Setup::of(&routes(&fake)).splits(&splits).clock(&clock).start().await;
    let told = || gateway.gateway().watch_splits().iter().map(ToString::to_string).collect::<Vec<_>>();
    let user = user_in(&gateway, "auto", "other").await;

    assert_eq!(told(), [""; 0]);
    clock.advance(DAY_MS - 1);
    ask(&gateway, "auto", &user, EASY).await;
    ask(&gateway, "auto", &user, EASY).await;
    assert_eq!(told(), [""; 0]);
    clock.advance(1);
    assert_eq!(told(), ["quiet"]);
    assert_eq!(told(), [""; 0], "once a day is enough");
    gateway.finish().await;
}
