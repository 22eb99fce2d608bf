//! What is set on the sockets we open.

use std::net::{SocketAddr, TcpStream};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::*;

/// Our own sockets that are connected to `peer`, as duplicates.
fn sockets_to(peer: SocketAddr) -> Vec<TcpStream> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter_map(|number| pidfd_getfd(&this, number, PidfdGetfdFlags::empty()).ok())
        .map(TcpStream::from)
        .filter(|socket| socket.peer_addr().is_ok_and(|addr| addr == peer))
        .collect()
}

#[tokio::test]
async fn every_socket_sends_small_writes_at_once() {
    let server = Server::start(vec![vec![
        Step::Read,
        Step::Write(stream_head()),
        Step::Write(event(HELLO)),
        Step::AwaitClose,
    ]]);

    let _stream = send_stream(&upstream(&server, "")).await;
    let sockets = sockets_to(server.addr);

    assert_eq!(sockets.len(), 1);
    assert!(sockets.iter().all(|socket| socket.nodelay().unwrap()));
}
