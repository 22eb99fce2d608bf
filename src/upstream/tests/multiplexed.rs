//! Calls over HTTP/2, where several share one connection.

use std::convert::Infallible;

use futures_util::StreamExt;
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::*;

type Pieces = UnboundedReceiver<String>;

/// Serves one HTTP/2 connection, each call with the next of `bodies`.
async fn serve(listener: tokio::net::TcpListener, mut bodies: Vec<Pieces>) {
    let (socket, _) = listener.accept().await.unwrap();
    bodies.reverse();
    let bodies = parking_lot::Mutex::new(bodies);
    let service = hyper::service::service_fn(|_| {
        let pieces = bodies.lock().pop().unwrap();
        let frames = futures_util::stream::unfold(pieces, |mut pieces| async {
            let piece = pieces.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(piece))), pieces))
        });
        let answer = http::Response::builder().header("content-type", "text/event-stream");
        let answer = answer.body(StreamBody::new(frames.boxed())).unwrap();
        async move { Ok::<_, Infallible>(answer) }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http2_only();
    // The client closes when the test is over, in whatever way it likes.
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

#[tokio::test]
async fn dropping_one_call_leaves_the_others_on_its_connection_alone() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = upstream_at(listener.local_addr().unwrap(), "http2_prior_knowledge = true");
    let (dropped_tx, dropped_rx): (UnboundedSender<String>, _) = unbounded_channel();
    let (kept_tx, kept_rx) = unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, vec![dropped_rx, kept_rx]));
    for sender in [&dropped_tx, &kept_tx] {
        sender.send(event(HELLO)).unwrap();
    }

    let dropped = send_stream(&upstream).await;
    let mut kept = send_stream(&upstream).await;
    drop(dropped);
    tokio::time::timeout(Duration::from_secs(5), dropped_tx.closed()).await.expect("the call goes on");
    kept_tx.send([event(STOP), event("[DONE]")].concat()).unwrap();
    drop(kept_tx);
    let (chunks, ended) = read_all(&mut kept).await;

    assert_eq!(chunks, [HELLO, STOP]);
    assert!(ended.is_ok(), "{ended:?}");
}
