//! A budget refuses at its edge, forgets nothing, and holds under any number of calls at once.

use futures_util::future::join_all;
use serde_json::{Value, json};
use stiver::clock::Clock;
use stiver::ledger::budget::Window;
use stiver::money::NanoUsd;
use stiver::team::TeamName;

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{
    Answer, CHAT, NOW_MS, Setup, TestGateway, chat, chat_stream, key_of, nano_usd, route, team, upstream,
};

/// The fake's price of text. Without audio a ceiling is near to what a long answer costs.
pub(crate) const PRICES: &str =
    "[[price]]\nmodel = \"gpt-4o\"\nfrom = \"2025-01-01\"\ninput = 2.5\noutput = 10.0\n";
const HOUR_MS: i64 = 3_600_000;

pub(crate) fn bounded(text: &str) -> Value {
    let mut body = chat("gpt-4o", text);
    body["max_tokens"] = json!(50);
    body
}

/// What a call of [`bounded`] can cost at most. All texts here are of one length.
pub(crate) async fn ceiling(fake: &FakeUpstream, text: &str) -> i64 {
    let gateway = start(&only_large(fake)).await;
    let told = gateway.post_with(CHAT, &bounded(text), &[("x-stiver-dry-run", "1")]).await;
    gateway.finish().await;
    nano_usd(told.json()["cost_usd_at_most"].as_str().expect("a ceiling"))
}

pub(crate) fn only_large(fake: &FakeUpstream) -> String {
    upstream("large", fake, "gpt-4o", "") + &route("gpt-4o", &["large"])
}

async fn start(toml: &str) -> TestGateway {
    Setup::of(toml).prices(PRICES).start().await
}

fn with_budget(fake: &FakeUpstream, nano_usd: i64, per: &str) -> String {
    let usd = NanoUsd::new(nano_usd).to_string();
    only_large(fake) + &team("search", &format!("budgets = [ {{ usd = \"{usd}\", per = \"{per}\" }} ]"))
}

async fn ask(gateway: &TestGateway, body: &Value) -> Answer {
    let (name, key) = key_of("search");
    gateway.post_with(CHAT, body, &[(name, &key)]).await
}

pub(super) fn check_refused(answer: &Answer, retry_after_s: i64) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.error(), ("insufficient_quota".to_owned(), "budget_exceeded".to_owned()));
    assert_eq!(answer.header("x-should-retry"), "false");
    assert_eq!(answer.header("retry-after"), retry_after_s.to_string());
}

#[tokio::test]
async fn a_budget_covers_a_call_to_the_nano_dollar() {
    let fake = FakeUpstream::start();
    let ceiling = ceiling(&fake, "question 0").await;
    for (budget, status) in [(ceiling, 200), (ceiling - 1, 429)] {
        let gateway = start(&with_budget(&fake, budget, "day")).await;
        let n_before = fake.calls().len();

        let answer = ask(&gateway, &bounded("question 0")).await;

        assert_eq!(answer.status, status, "{budget}");
        if status == 429 {
            check_refused(&answer, 12 * HOUR_MS / 1_000);
            assert_eq!(fake.calls().len(), n_before, "nothing was sent");
        }
        let n_rows = gateway.finish().await.len();
        assert_eq!(n_rows, usize::from(status == 200), "a refusal is no row");
    }
}

#[tokio::test]
async fn what_was_spent_counts_until_the_window_ends() {
    let fake = FakeUpstream::start();
    let ceiling = ceiling(&fake, "question 0").await;
    let clock = Clock::standing_at(NOW_MS);
    let toml = with_budget(&fake, ceiling, "day");
    let gateway = Setup::of(&toml).prices(PRICES).clock(&clock).start().await;
    assert_eq!(ask(&gateway, &bounded("question 1")).await.status, 200);

    check_refused(&ask(&gateway, &bounded("question 2")).await, 12 * HOUR_MS / 1_000);
    let mut streamed = bounded("question 3");
    streamed["stream"] = json!(true);
    check_refused(&ask(&gateway, &streamed).await, 12 * HOUR_MS / 1_000);
    clock.advance(12 * HOUR_MS - 1);
    check_refused(&ask(&gateway, &bounded("question 4")).await, 1);
    clock.advance(1);
    let next_day = ask(&gateway, &bounded("question 5")).await;

    assert_eq!(next_day.status, 200);
    let left = nano_usd(next_day.header("x-stiver-budget-remaining-usd"));
    assert_eq!(left, ceiling - next_day.cost_nano_usd().unwrap());
    gateway.finish().await;
}

#[tokio::test]
async fn what_was_spent_is_remembered_after_a_restart() {
    let fake = FakeUpstream::start();
    let toml = with_budget(&fake, ceiling(&fake, "question 0").await, "month");
    let gateway = start(&toml).await;
    assert_eq!(ask(&gateway, &bounded("question 1")).await.status, 200);
    let folder = gateway.folder();
    gateway.finish().await;

    let gateway = Setup::of(&toml).prices(PRICES).in_folder(folder).start().await;
    let answer = ask(&gateway, &bounded("question 2")).await;

    // From noon of the 15th to the end of October.
    check_refused(&answer, (16 * 24 + 12) * HOUR_MS / 1_000);
    gateway.finish().await;
}

#[tokio::test]
async fn a_spent_budget_still_allows_what_costs_nothing() {
    let fake = FakeUpstream::start();
    let toml = with_budget(&fake, ceiling(&fake, "question 0").await, "day");
    let gateway = start(&toml).await;
    assert_eq!(ask(&gateway, &bounded("question 1")).await.status, 200);
    assert_eq!(ask(&gateway, &bounded("question 2")).await.status, 429);

    let cached = ask(&gateway, &bounded("question 1")).await;

    assert_eq!((cached.status, cached.header("x-stiver-cache")), (200, "hit-exact"));
    gateway.finish().await;
}

#[tokio::test]
async fn a_failed_call_gives_its_money_back() {
    let fake = FakeUpstream::start();
    let toml = with_budget(&fake, ceiling(&fake, "question 0").await, "day");
    let gateway = start(&toml).await;
    fake.script(Script::next(3, "status=500"));

    assert_eq!(ask(&gateway, &bounded("question 1")).await.status, 500);

    assert_eq!(ask(&gateway, &bounded("question 2")).await.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn one_teams_budget_is_no_other_teams() {
    let fake = FakeUpstream::start();
    let toml = with_budget(&fake, 0, "day") + &team("sales", "");
    let gateway = start(&toml).await;
    let (name, key) = key_of("sales");

    assert_eq!(ask(&gateway, &bounded("question 1")).await.status, 429);

    let others = gateway.post_with(CHAT, &bounded("question 1"), &[(name, &key)]).await;
    assert_eq!((others.status, others.header("x-stiver-budget-remaining-usd")), (200, ""));
    gateway.finish().await;
}

const N_STREAMS: usize = 64;
const N_COVERED: i64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_streams_at_once_never_overspend() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=50 pause_at=1"));
    let text = |nth: usize| format!("question {nth:02}");
    let budget = N_COVERED * ceiling(&fake, &text(0)).await;
    let gateway = start(&with_budget(&fake, budget, "day")).await;
    let bodies: Vec<Value> = (0..N_STREAMS)
        .map(|nth| {
            let mut body = chat_stream("gpt-4o", &text(nth));
            // As long as the whole form's, so that the ceilings are equal or higher.
            body["max_tokens"] = json!(50);
            body
        })
        .collect();
    let search = TeamName::from("search");
    let (name, key) = key_of("search");
    let headers = [(name, key.as_str())];

    let opened = join_all(bodies.iter().map(|body| gateway.open(CHAT, body, &headers))).await;
    let statuses: Vec<u16> = opened.iter().map(crate::harness::OpenAnswer::status).collect();
    let mid_way = gateway.gateway().ledger.balance(&search, Window::Day);
    fake.release();
    for mut answer in opened {
        while answer.next().await.is_some() {}
    }

    let n_let_in = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!((1..=N_COVERED as usize).contains(&n_let_in), "{n_let_in}");
    assert!(n_let_in >= N_COVERED as usize - 2, "nearly all of the budget can be used: {n_let_in}");
    assert!(mid_way.held.get() > 0 && mid_way.held.get() + mid_way.spent.get() <= budget, "{mid_way:?}");
    let end = gateway.gateway().ledger.balance(&search, Window::Day);
    assert_eq!(end.spent.get(), fake.bill().total_nano_usd);
    assert!(end.spent.get() <= budget);
    assert_eq!(gateway.finish().await.len(), n_let_in);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_budget_spent_again_and_again_by_many_ends_within_its_limit() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=50"));
    let budget = 20 * ceiling(&fake, "question 000").await;
    let gateway = start(&with_budget(&fake, budget, "day")).await;
    let bodies: Vec<Value> = (0..400).map(|nth| bounded(&format!("question {nth:03}"))).collect();

    for wave in bodies.chunks(64) {
        join_all(wave.iter().map(|body| ask(&gateway, body))).await;
    }

    let spent = gateway.gateway().ledger.balance(&TeamName::from("search"), Window::Day).spent.get();
    assert_eq!(spent, fake.bill().total_nano_usd);
    assert!(spent <= budget && spent > budget / 2, "{spent} of {budget}");
    let n_rows = gateway.finish().await.len();
    assert!(
        (21..400).contains(&n_rows),
        "released money was used again, and in the end none was left: {n_rows}"
    );
}
