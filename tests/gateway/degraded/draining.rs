//! A gateway that is told to stop lets open calls end and takes no new ones.

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{CHAT, TestGateway, chat_stream, endpoints};

#[tokio::test]
async fn open_streams_end_whole_while_the_gateway_stops() {
    let fake = FakeUpstream::start();
    fake.script(Script::always("chunks=4 pause_at=2"));
    let gateway = TestGateway::start(&endpoints(&fake)).await;
    let mut open = gateway.open(CHAT, &chat_stream("gpt-4o", "Still here?"), &[]).await;
    open.read_contents(2).await;
    let address = gateway.url().trim_start_matches("http://").to_owned();

    gateway.stop_accepting();
    while tokio::net::TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    fake.release();
    let mut last = String::new();
    while let Some(event) = open.next().await {
        last = event;
    }

    assert_eq!(last, "[DONE]");
    let rows = gateway.finish().await;
    assert_eq!((rows.len(), rows[0].outcome.as_str(), rows[0].estimated), (1, "ok", false));
}
