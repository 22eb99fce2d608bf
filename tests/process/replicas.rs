//! Real gateways that share a Redis and a database: together they stay within a budget, also when one is killed.

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::fake_upstream::FakeUpstream;
use crate::harness::{Gateway, Home, ask, config};
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

const ADMIN: &str = "operator-0123456789-abcdef";

/// As the operator.
async fn operate(gateway: &Gateway, method: Method, path: &str, body: &Value) -> Value {
    let request = gateway.http.request(method, gateway.url(&format!("/admin/v1/{path}")));
    let sent = request.bearer_auth(ADMIN).body(body.to_string()).send().await;
    let response = sent.expect("the gateway answers");
    let (status, text) = (response.status(), response.text().await.expect("the answer comes to its end"));
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).expect("the answer is JSON")
}

#[tokio::test]
async fn a_team_made_on_one_gateway_spends_one_budget_on_both_and_ends_on_both() {
    let Some(redis) = RedisServer::start() else { return };
    let fake = FakeUpstream::start();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let database = folder.path().join("ledger.sqlite").display().to_string();
    // With a team in the file nobody enters without a key, also before a replica has heard of the new team.
    let more = format!(
        "[teams.fixed]\n[admin]\nkey = \"{ADMIN}\"\n[ledger]\npath = \"{database}\"\n[shared]\nredis_url = \"{}\"\n\
         redis_timeout_ms = 10_000\nlease_ms = 1_000\n",
        redis.url()
    );
    let homes = [(); 2].map(|()| Home::new(&config(&fake, &more)));
    let (mut one, mut other) = (homes[0].start().await, homes[1].start().await);
    let of_team = |usd: &str| json!({"budgets": [{"usd": usd, "per": "month"}]});
    let team = json!({"name": "search", "budgets": [{"usd": "0.002", "per": "month"}]});
    operate(&one, Method::POST, "teams", &team).await;
    let key = operate(&one, Method::POST, "keys", &json!({"team": "search"})).await;
    one.key = key["key"].as_str().expect("a new key is shown").to_owned();
    other.key.clone_from(&one.key);

    assert_eq!(one.chat(&ask("at once, where it was made")).await.status, 200);
    other.chat_until(&ask("within seconds elsewhere"), 200).await;
    let mut n_answered = 2;
    while [&one, &other][n_answered % 2].chat(&ask(&format!("{n_answered} [[fake: chunks=40]]"))).await.status
        == 200
    {
        n_answered += 1;
        assert!(n_answered < 1_000, "the budget is spent some time");
    }
    assert!(fake.bill().total_nano_usd <= 2_000_000, "{}", fake.bill().total_nano_usd);

    operate(&one, Method::PUT, "teams/search/budgets", &of_team("5")).await;
    assert_eq!(one.chat(&ask("raised where it was changed [[fake: chunks=40]]")).await.status, 200);
    other.chat_until(&ask("raised elsewhere [[fake: chunks=40]]"), 200).await;
    let said = homes[0].run(&["ledger", "verify"]).await;
    assert!(said.stdout.contains("1 shared balances"), "{}{}", said.stdout, said.stderr);
    operate(&other, Method::DELETE, "teams/search", &json!({})).await;
    assert_eq!(other.chat(&ask("revoked where it was said")).await.status, 401);
    one.chat_until(&ask("revoked elsewhere"), 401).await;
    one.stop().await;
    other.stop().await;
}
