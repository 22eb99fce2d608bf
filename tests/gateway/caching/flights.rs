//! Equal questions at once: one is asked, the others wait for its answer, but never for its failure.

use futures_util::future::join_all;
use stiver::team::TeamName;

use super::RESET;
use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{Answer, CHAT, TestGateway, chat, chat_stream, endpoints};

/// Asks `n` times at once, and lets the fake go on when all are in flight.
async fn ask_at_once(gateway: &TestGateway, fake: &FakeUpstream, n: usize, n_before: u64) -> Vec<Answer> {
    let bodies = [chat("gpt-4o", RESET), chat_stream("gpt-4o", RESET)];
    let asked = join_all((0..n).map(|nth| gateway.post(CHAT, &bodies[nth % 2])));
    let released = async {
        let n_all = n_before + n as u64;
        let default = TeamName::from("default");
        let are_all_in =
            async |gateway: &stiver::gateway::Gateway| gateway.limiter.in_flight(&default) == n_all;
        gateway.eventually("all calls are in flight", are_all_in).await;
        fake.until(|calls| calls.iter().any(|call| call.n_written > 0)).await;
        fake.release();
    };
    let (answers, ()) = tokio::join!(asked, released);
    answers
}

#[tokio::test]
async fn fifty_equal_calls_at_once_ask_the_upstream_once() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("pause_at=1"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;

    let answers = ask_at_once(&gateway, &fake, 50, 0).await;

    assert_eq!(fake.calls().len(), 1);
    let says = answers[0].says();
    assert!(answers.iter().all(|answer| answer.says() == says));
    let n_free = answers.iter().filter(|answer| answer.cost_nano_usd() == Some(0)).count();
    assert_eq!(n_free, 49);
    let rows = gateway.finish().await;
    let spent: i64 = rows.iter().filter_map(|row| row.cost).map(|cost| cost.get()).sum();
    assert_eq!((rows.len(), spent), (50, fake.bill().total_nano_usd));
}

#[tokio::test]
async fn those_who_wait_go_on_when_the_first_is_cut_off() {
    let fake = FakeUpstream::start();
    fake.script(Script::next(1, "chunks=4 pause_at=1 end_at=2"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let mut first = gateway.open(CHAT, &chat_stream("gpt-4o", RESET), &[]).await;
    first.read_contents(1).await;

    let answers = ask_at_once(&gateway, &fake, 6, 1).await;

    assert!(answers.iter().all(|answer| answer.status == 200 && answer.says().ends_with(RESET)));
    let mut last = String::new();
    while let Some(event) = first.next().await {
        last = event;
    }
    assert!(last.starts_with("{\"error\""), "{last}");
    assert!(fake.calls().len() > 1);
    gateway.finish().await;
}

#[tokio::test]
async fn those_who_wait_go_on_when_the_first_hangs_up() {
    let fake = FakeUpstream::start();
    fake.script(Script::next(1, "chunks=4 pause_at=1"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let mut first = gateway.open(CHAT, &chat_stream("gpt-4o", RESET), &[]).await;
    first.read_contents(1).await;
    let body = chat("gpt-4o", RESET);
    let waiting = gateway.post(CHAT, &body);
    let leaving = async {
        let default = TeamName::from("default");
        let both_in = async |gateway: &stiver::gateway::Gateway| gateway.limiter.in_flight(&default) == 2;
        gateway.eventually("both calls are in flight", both_in).await;
        drop(first);
    };

    let (answer, ()) = tokio::join!(waiting, leaving);

    assert_eq!((answer.status, answer.header("x-stiver-cache")), (200, "miss"));
    assert_eq!(fake.calls().len(), 2);
    gateway.finish().await;
}

#[tokio::test]
async fn a_call_waits_for_another_only_so_long() {
    let fake = FakeUpstream::start();
    fake.script(Script::next(1, "chunks=4 pause_at=1"));
    let gateway = TestGateway::start(&(endpoints(&fake) + "[cache]\nsingle_flight_wait_ms = 20\n")).await;
    let mut first = gateway.open(CHAT, &chat_stream("gpt-4o", RESET), &[]).await;
    first.read_contents(1).await;

    let second = gateway.post(CHAT, &chat("gpt-4o", RESET)).await;

    assert_eq!((second.status, second.header("x-stiver-cache")), (200, "miss"));
    assert_eq!(fake.calls().len(), 2);
    fake.release();
    while first.next().await.is_some() {}
    gateway.finish().await;
}
