//! What the book says against what the upstream charges, to the nano-dollar.
//!
//! The fake's bill is computed by code of its own. Budgets stand in `money/budgets.rs` and `money/soft.rs`, calls that
//! end early in `money/early_ends.rs`.

pub(crate) mod budgets;
mod early_ends;
mod soft;

use futures_util::StreamExt;
use futures_util::stream::iter;
use serde_json::{Value, json};
use stiver::ledger::budget::Window;
use stiver::ledger::report::SpendAsk;
use stiver::team::TeamName;

use crate::fake_upstream::{FakeUpstream, Price, Script};
use crate::harness::stack::is_embedded;
use crate::harness::{
    CHAT, COMPLETIONS, EMBEDDINGS, NOW_MS, Setup, TestGateway, chat, chat_stream, default_prices, endpoints,
    price, route, upstream,
};

/// A price at which nearly every cost has to be rounded.
const ODD: (i64, i64) = (37_100_004, 111_300_001);
const DAY_MS: i64 = 86_400_000;

/// Every way of counting, crossed with every place and form that counts come in.
fn mixed_calls() -> Vec<(&'static str, Value)> {
    let counts = [
        "ok",
        "cached=3",
        "cache_write=5",
        "cached=2 cache_write=3 reasoning=4",
        "audio_in=4 audio_out=1",
        "prompt=123457 cached=98765",
        "reasoning=7 chunks=11",
        "chunks=1",
    ];
    let places = ["empty-choices", "finish", "last-content", "every"];
    let travels = ["", "crlf split=5", "comments", "multi_data"];
    let mut calls = Vec::new();
    for (nth, count) in counts.iter().enumerate() {
        for (place_nth, place) in places.iter().enumerate() {
            for model in ["gpt-4o", "odd"] {
                let travel = travels[(nth + place_nth) % travels.len()];
                let text = format!("Call {nth} {place} [[fake: {count} usage={place} {travel}]]");
                let mut silent = chat_stream(model, &text);
                silent["stream_options"] = Value::Null;
                let mut twofold = chat_stream(model, &text);
                twofold["n"] = json!(2);
                calls.extend(
                    [chat(model, &text), chat_stream(model, &text), silent, twofold].map(|body| (CHAT, body)),
                );
            }
        }
    }
    // Counts the upstream insists on, whatever was written.
    for count in ["completion=98761", "prompt=7 completion=3", "completion=0", "prompt=0 completion=0"] {
        let text = format!("Told [[fake: {count}]]");
        calls.extend([chat("odd", &text), chat_stream("odd", &text)].map(|body| (CHAT, body)));
    }
    for nth in 0..10 {
        let prompt = format!("Prompt {nth} [[fake: cached={}]]", nth % 5);
        calls.push((
            COMPLETIONS,
            json!({"model": "gpt-3.5-turbo-instruct", "prompt": prompt, "stream": nth % 2 == 0}),
        ));
        calls.push((
            EMBEDDINGS,
            json!({"model": "text-embedding-3-small", "input": [prompt, "and"], "dimensions": 2}),
        ));
    }
    calls
}

async fn start_with_odd_price(fake: &FakeUpstream) -> TestGateway {
    fake.price("odd", Price::of(ODD.0, ODD.1));
    let toml = endpoints(fake) + &upstream("odd", fake, "odd", "") + &route("odd", &["odd"]);
    let toml = toml + "[cache.exact]\nenabled = false\n[server]\nflood = { per_second = 0 }\n";
    Setup::of(&toml).prices(&(default_prices() + &price("odd", ODD.0, ODD.1))).start().await
}

#[tokio::test]
async fn the_book_adds_up_to_the_upstreams_bill() {
    let fake = FakeUpstream::start();
    let gateway = start_with_odd_price(&fake).await;
    let calls = mixed_calls();
    assert!(calls.len() >= 284, "{}", calls.len());

    let answers =
        iter(&calls).map(|(path, body)| gateway.post(path, body)).buffered(16).collect::<Vec<_>>().await;

    for (answer, (_, body)) in answers.iter().zip(&calls) {
        assert_eq!(answer.status, 200, "{body} {}", answer.text());
    }
    let bill = fake.bill();
    let default = TeamName::from("default");
    let rows = gateway.rows().await;
    let mut booked: Vec<i64> =
        rows.iter().map(|row| row.cost.expect("every model has a price").get()).collect();
    let mut billed: Vec<i64> = bill.calls.iter().map(|call| call.cost_nano_usd).collect();
    booked.sort_unstable();
    billed.sort_unstable();
    assert_eq!(booked, billed, "call by call");
    assert_eq!(booked.iter().sum::<i64>(), bill.total_nano_usd);
    assert_eq!(rows.iter().map(|row| row.usage.input).sum::<u64>(), bill.n_prompt_tokens);
    assert_eq!(rows.iter().map(|row| row.usage.output).sum::<u64>(), bill.n_completion_tokens);
    assert!(rows.iter().all(|row| !row.estimated));
    // Where replicas share balances, one that no budget asks for is kept nowhere.
    if is_embedded() {
        assert_eq!(gateway.gateway().ledger.balance(&default, Window::Day).spent.get(), bill.total_nano_usd);
    }
    let spend = gateway
        .gateway()
        .ledger
        .reports()
        .spend(&SpendAsk::over(&[], NOW_MS - DAY_MS, NOW_MS + DAY_MS))
        .await;
    let spend = spend.unwrap().remove(0).sums;
    assert_eq!(
        (spend.cost.get(), spend.n_calls, spend.n_unpriced),
        (bill.total_nano_usd, calls.len() as u64, 0)
    );
    gateway.finish().await;
}

#[tokio::test]
async fn what_a_client_is_told_is_what_is_booked() {
    let fake = FakeUpstream::start();
    let gateway = start_with_odd_price(&fake).await;
    for body in [
        chat("odd", "Tell [[fake: cached=3 chunks=7]]"),
        chat_stream("odd", "Tell [[fake: cached=3 chunks=7]]"),
    ] {
        let answer = gateway.post(CHAT, &body).await;

        let booked = gateway.row_of(&answer).await.cost.map(|cost| cost.get());
        assert_eq!(answer.cost_nano_usd(), booked);
        assert_eq!(booked, fake.bill().calls.pop().map(|call| call.cost_nano_usd));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn usage_that_never_comes_is_estimated_and_the_row_says_so() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("usage=absent chunks=20"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    for body in [chat("gpt-4o", "How much?"), chat_stream("gpt-4o", "And how much now?")] {
        let answer = gateway.post(CHAT, &body).await;

        let row = gateway.row_of(&answer).await;
        assert!(row.estimated && row.usage.output >= 20, "{row:?}");
        let billed = fake.bill().calls.pop().unwrap().cost_nano_usd;
        assert!(row.cost.is_some_and(|cost| cost.get() > billed / 2), "{row:?} {billed}");
        assert_eq!(
            (answer.usage(), answer.cost_nano_usd()),
            (Value::Null, None),
            "an estimate is not told as usage"
        );
    }
    gateway.finish().await;
}

#[tokio::test]
async fn an_upstream_that_cannot_tell_usage_in_a_stream_is_not_asked_to() {
    let fake = FakeUpstream::start();
    let toml = upstream("plain", &fake, "gpt-4o", "supports = { stream_usage = false }\n")
        + &route("plain", &["plain"]);
    let gateway = TestGateway::start(&toml).await;
    let mut body = chat_stream("plain", "hello");
    body.as_object_mut().unwrap().remove("stream_options");

    let answer = gateway.post(CHAT, &body).await;

    assert_eq!(fake.calls()[0].json().get("stream_options"), None);
    assert!(gateway.row_of(&answer).await.estimated);
    gateway.finish().await;
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_or_metered_as_null_but_never_free() {
    let fake = FakeUpstream::start();
    let base = upstream("new", &fake, "brand-new", "") + &route("new", &["new"]);

    let gateway = TestGateway::start(&base).await;
    let refused = gateway.post(CHAT, &chat("new", "hello")).await;
    assert_eq!((refused.status, refused.error().1.as_str()), (503, "no_upstream"));
    assert_eq!(refused.header("x-should-retry"), "false");
    assert!(
        refused.text().contains("brand-new") && refused.text().contains("prices.toml"),
        "{}",
        refused.text()
    );
    assert!(fake.calls().is_empty());
    assert!(gateway.finish().await.is_empty());

    let gateway = TestGateway::start(&(base + "[pricing]\nunknown_price = \"meter\"\n")).await;
    for body in [chat("new", "hello"), chat_stream("new", "hello again")] {
        let metered = gateway.post(CHAT, &body).await;
        assert_eq!(
            (metered.status, metered.cost_nano_usd(), metered.header("x-stiver-cost-usd")),
            (200, None, "")
        );
        let row = gateway.row_of(&metered).await;
        assert_eq!((row.cost, row.estimated), (None, false));
        assert!(row.usage.output > 0);
    }
    let spend = gateway
        .gateway()
        .ledger
        .reports()
        .spend(&SpendAsk::over(&[], 0, i64::MAX))
        .await
        .unwrap()
        .remove(0)
        .sums;
    assert_eq!((spend.n_unpriced, spend.cost.get()), (2, 0));
    gateway.finish().await;
}

#[tokio::test]
async fn a_kind_of_token_without_a_price_makes_the_cost_unknown_not_lower() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("audio_in=3"));
    let prices = "[[price]]\nmodel = \"gpt-4o\"\nfrom = \"2025-01-01\"\ninput = 2.5\noutput = 10.0\n";
    let toml = upstream("large", &fake, "gpt-4o", "") + &route("gpt-4o", &["large"]);
    let gateway = Setup::of(&toml).prices(prices).start().await;

    let answer = gateway.post(CHAT, &chat("gpt-4o", "listen")).await;

    assert_eq!((answer.status, gateway.row_of(&answer).await.cost), (200, None));
    gateway.finish().await;
}
