//! Accepts connections and serves them, with the time limits of the edge, until told to stop.
//!
//! Knows no endpoint. TLS is left to a proxy in front.
//!
//! Invariants: every accepted socket has `TCP_NODELAY`, or each small chunk of a stream would wait
//! for the client's delayed acknowledgement; after the stop signal no new call is accepted and open ones
//! go on until they end or the drain time is over.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::ServerConfig;

/// hyper answers a head beyond its buffer with a bare status; up to here the answer is ours, with a body.
const HEAD_BUFFER_BYTES: usize = 4 << 20;

/// Serves `app` on `listener` until `stop` is cancelled, then drains.
pub async fn serve(listener: TcpListener, app: Router, config: &ServerConfig, stop: CancellationToken) {
    let builder = connection_builder(config);
    let draining = GracefulShutdown::new();
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: a moment later some are free again.
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(stream) = prepare(stream, config) else { continue };
        let app = app.clone();
        let begun = CancellationToken::new();
        let begins = begun.clone();
        let service = tower::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            begins.cancel();
            request.extensions_mut().insert(ConnectInfo::<SocketAddr>(address));
            app.clone().oneshot(request)
        });
        let connection = builder.serve_connection_with_upgrades(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(service),
        );
        let connection = draining.watch(connection.into_owned());
        let head_timeout = Duration::from_millis(config.head_timeout_ms);
        let cut = cut.clone();
        connections.spawn(async move {
            tokio::select! {
                // A client that goes away or speaks something else is its own affair.
                _ = connection => {}
                () = no_request_within(head_timeout, begun) => {}
                () = cut.cancelled() => {}
            }
        });
    }
    drop(listener);
    let drained =
        tokio::time::timeout(Duration::from_millis(config.drain_timeout_ms), draining.shutdown()).await;
    if drained.is_err() {
        tracing::warn!(open = connections.len(), "the drain time is over; open calls are cut off");
    }
    // A call posts when it is dropped, which must be before the book is closed.
    cut.cancel();
    connections.close();
    connections.wait().await;
}

/// Ends when the first request has not begun in time; never, when it has. hyper's own limit starts only
/// after the bytes that tell HTTP/1 from HTTP/2, which a client may never send.
async fn no_request_within(limit: Duration, begun: CancellationToken) {
    if tokio::time::timeout(limit, begun.cancelled()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

fn connection_builder(config: &ServerConfig) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.head_timeout_ms))
        .max_buf_size(HEAD_BUFFER_BYTES.max(2 * config.max_head_bytes));
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(config.head_timeout_ms))
        .max_header_list_size(HEAD_BUFFER_BYTES as u32);
    builder
}

/// Sets what every socket needs; `None` when the client is gone already.
fn prepare(stream: TcpStream, config: &ServerConfig) -> Option<TimeoutWriter<TcpStream>> {
    stream.set_nodelay(true).ok()?;
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(Duration::from_millis(config.write_timeout_ms)));
    Some(stream)
}
