//! Raw bytes to a gateway, and a look at the sockets it holds.
//!
//! For what no HTTP client would send, and for what no HTTP client shows.

use std::net::{SocketAddr, TcpStream as StdStream};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Answer, within};

/// Sends `bytes`, and reads what comes back until the connection ends; `None` when nothing came.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    within("the gateway closes the connection", exchange_on(stream, bytes)).await
}

/// As [`exchange`], on a connection that is open already.
pub async fn exchange_on(stream: TcpStream, bytes: &[u8]) -> Option<Answer> {
    let (mut read, mut write) = stream.into_split();
    let mut received = Vec::new();
    // The gateway may answer and hang up before it has read everything.
    let (_, _) = tokio::join!(write.write_all(bytes), read.read_to_end(&mut received));
    parse(&received)
}

fn parse(received: &[u8]) -> Option<Answer> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&received[..end]).expect("heads are ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().expect("a status line has a status");
    let headers: HeaderMap = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("a header has a name and a value");
            let name: HeaderName = name.parse().expect("the name is a header's");
            (name, HeaderValue::from_str(value).expect("the value is a header's"))
        })
        .collect();
    Some(Answer { status, headers, body: Bytes::copy_from_slice(&received[end + 4..]) })
}

/// The connected TCP sockets of a child process, as duplicates.
pub fn sockets_of(process: Pid) -> Vec<StdStream> {
    let held = pidfd_open(process, PidfdFlags::empty()).expect("the process lives");
    std::fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero()))
        .expect("the process is ours")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|number| pidfd_getfd(&held, number, PidfdGetfdFlags::empty()).ok())
        .map(StdStream::from)
        .filter(|socket| socket.peer_addr().is_ok())
        .collect()
}
