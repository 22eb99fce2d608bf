//! Calls that end before their answer does: posted once, with what was metered.

use std::net::SocketAddr;

use futures_util::StreamExt;
use stiver::chat::Usage;
use stiver::ledger::entry::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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

/// The beginning of an answer over a bare connection, which is closed after so many bytes; what came.
async fn read_and_leave(address: SocketAddr, body: &str, n_bytes: usize) -> Vec<u8> {
    let mut connection = TcpStream::connect(address).await.expect("the gateway listens");
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.expect("it reads");
    connection.write_all(body.as_bytes()).await.expect("it reads");
    let mut came = Vec::new();
    connection.take(n_bytes as u64).read_to_end(&mut came).await.expect("it answers");
    came
}

/// Far more than an answer of three chunks and its head take.
const MOST_BYTES: usize = 16_384;

/// The price of gpt-4o by hand: 2,500 nano-dollars a token in, 10,000 out.
fn by_hand(usage: &Usage) -> i64 {
    2_500 * usage.input as i64 + 10_000 * usage.output as i64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_at_any_byte_is_posted_once_at_what_was_metered() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=3 interval_ms=1 usage=every"));
    let toml = endpoints(&fake) + "[cache.exact]\nenabled = false\n[server]\nflood = { per_second = 0 }\n";
    let gateway = TestGateway::start(&toml).await;
    let address = gateway.url().trim_start_matches("http://").parse().unwrap();
    let body = chat_stream("gpt-4o", "Hello").to_string();
    let mut n_whole = MOST_BYTES;
    for n_bytes in (1_024..MOST_BYTES).step_by(64) {
        if read_and_leave(address, &body, n_bytes).await.windows(14).any(|part| part == b"data: [DONE]\n\n") {
            n_whole = n_bytes;
            break;
        }
    }
    assert!(n_whole < MOST_BYTES, "an answer ends");

    futures_util::stream::iter(1..n_whole)
        .for_each_concurrent(16, |n_bytes| {
            let body = body.as_str();
            async move { drop(read_and_leave(address, body, n_bytes).await) }
        })
        .await;

    let rows = gateway.finish().await;
    let seen = fake.calls();
    assert_eq!(rows.len(), seen.len(), "one row for each call that the upstream saw");
    let ids: std::collections::BTreeSet<_> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), rows.len());
    let whole = rows.iter().filter(|row| row.outcome == Outcome::Ok).map(|row| row.usage.output).max();
    for row in &rows {
        assert!(matches!(row.outcome, Outcome::Ok | Outcome::ClientGone), "{row:?}");
        assert!(row.usage.output <= whole.unwrap_or(5), "{row:?}");
        let nothing_came = row.first_byte_ms.is_none();
        let expected = if nothing_came { 0 } else { by_hand(&row.usage) };
        assert_eq!(row.cost.map(|cost| cost.get()), Some(expected), "{row:?}");
    }
    assert!(rows.iter().any(|row| row.outcome == Outcome::ClientGone), "some left in the middle");
}
