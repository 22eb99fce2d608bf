//! Calls that end before their answer does: posted once, with what was metered.

use crate::fake_upstream::{Ending, FakeUpstream, Script};
use crate::harness::{CHAT, TestGateway, chat, chat_stream, endpoints, error_of};

#[tokio::test]
async fn a_client_that_hangs_up_pays_once_for_what_was_written() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=10 pause_at=4 usage=every"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let mut left = gateway.open(CHAT, &chat_stream("gpt-4o", "Tell me a story"), &[]).await;
    left.read_contents(4).await;

    drop(left);

    fake.until(|calls| calls[0].ending == Ending::ClientGone).await;
    let rows = gateway.finish().await;
    assert_eq!((rows.len(), rows[0].outcome.as_str()), (1, "client_gone"));
    assert_eq!((rows[0].usage.output, rows[0].estimated), (4, false));
    assert_eq!(rows[0].cost.map(|cost| cost.get()), Some(fake.bill().total_nano_usd));
}

#[tokio::test]
async fn what_was_written_is_estimated_where_usage_had_not_come_yet() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=10 pause_at=4"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let mut left = gateway.open(CHAT, &chat_stream("gpt-4o", "Tell me a story"), &[]).await;
    left.read_contents(4).await;

    drop(left);

    fake.until(|calls| calls[0].ending == Ending::ClientGone).await;
    let rows = gateway.finish().await;
    assert_eq!((rows.len(), rows[0].outcome.as_str(), rows[0].estimated), (1, "client_gone", true));
    assert!((4..=10).contains(&rows[0].usage.output), "{:?}", rows[0].usage);
    assert!(rows[0].cost.is_some_and(|cost| cost.get() > 0));
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_first_byte_leaves_one_row_and_no_call() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("hang=headers"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    for (nth, body) in [chat("gpt-4o", "hello"), chat_stream("gpt-4o", "hello again")].iter().enumerate() {
        tokio::select! {
            _ = gateway.post(CHAT, body) => panic!("the upstream hangs"),
            _ = fake.until(|calls| calls.len() == nth + 1) => {}
        }
        fake.until(|calls| calls[nth].ending == Ending::ClientGone).await;
    }

    let rows = gateway.finish().await;
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!((row.outcome.as_str(), row.attempts), ("client_gone", 1));
        assert_eq!((row.cost.map(|cost| cost.get()), row.estimated), (Some(0), true));
    }
    assert_eq!(fake.bill().total_nano_usd, 0);
}

#[tokio::test]
async fn a_stream_cut_midway_is_posted_as_truncated_and_never_shown_as_whole() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=8 end_at=3 usage=every"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;

    let answer = gateway.post(CHAT, &chat_stream("gpt-4o", "Tell me a story")).await;

    let data = answer.data();
    error_of(&serde_json::from_str(data.last().unwrap()).unwrap());
    assert!(!data.contains(&"[DONE]"));
    let rows = gateway.finish().await;
    assert_eq!((rows.len(), rows[0].outcome.as_str(), rows[0].usage.output), (1, "truncated", 3));
    assert_eq!(rows[0].cost.map(|cost| cost.get()), Some(fake.bill().total_nano_usd));
}

#[tokio::test]
async fn a_stream_without_its_done_mark_is_whole_if_every_choice_ended() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=3 no_done"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;

    let answer = gateway.post(CHAT, &chat_stream("gpt-4o", "hello")).await;

    assert_eq!(answer.data().last(), Some(&"[DONE]"));
    let row = gateway.row_of(&answer).await;
    assert_eq!((row.outcome.as_str(), row.estimated), ("ok", false));
    assert_eq!(row.cost.map(|cost| cost.get()), Some(fake.bill().total_nano_usd));
    gateway.finish().await;
}

#[tokio::test]
async fn a_call_that_failed_first_pays_only_for_its_answer() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("status=503 fail_first=2"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;

    let answer = gateway.post(CHAT, &chat("gpt-4o", "hello")).await;

    assert_eq!((answer.status, answer.header("x-stiver-attempts")), (200, "3"));
    let rows = gateway.finish().await;
    assert_eq!((rows.len(), rows[0].cost.map(|cost| cost.get())), (1, Some(fake.bill().total_nano_usd)));
}
