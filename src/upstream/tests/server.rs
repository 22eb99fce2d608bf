//! A server on a thread that follows a script, connection by connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Reads one HTTP/1.1 request and reports it.
    Read,
    /// Reads the first bytes of an HTTP/2 connection and reports them.
    ReadPreface,
    Write(String),
    /// Reads until the other side closes, and reports that.
    AwaitClose,
    /// Goes on when the test says so.
    AwaitGo,
    /// Closes so that the other side sees a reset.
    Reset,
}

pub(super) struct Server {
    pub(super) addr: SocketAddr,
    requests: UnboundedReceiver<String>,
    closed: UnboundedReceiver<()>,
    go: Sender<()>,
}

impl Server {
    /// One script a connection, in the order they come; a connection closes when its script is over.
    pub(super) fn start(scripts: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (request_tx, requests) = unbounded_channel();
        let (closed_tx, closed) = unbounded_channel();
        let (go, go_rx) = channel();
        std::thread::spawn(move || {
            for script in scripts {
                let (socket, _) = listener.accept().unwrap();
                follow(socket, &script, (&request_tx, &closed_tx, &go_rx));
            }
        });
        Self { addr, requests, closed, go }
    }

    pub(super) async fn request(&mut self) -> String {
        soon(self.requests.recv()).await
    }

    pub(super) fn go(&self) {
        self.go.send(()).unwrap();
    }

    pub(super) async fn closed(&mut self) {
        soon(self.closed.recv()).await;
    }
}

/// A limit far above what anything takes, so that a broken promise fails rather than hangs.
async fn soon<T>(event: impl Future<Output = Option<T>>) -> T {
    timeout(Duration::from_secs(5), event)
        .await
        .expect("no such event within 5 s")
        .expect("the server is gone")
}

type Signals<'a> = (&'a UnboundedSender<String>, &'a UnboundedSender<()>, &'a Receiver<()>);

fn follow(mut socket: TcpStream, script: &[Step], (requests, closed, go): Signals<'_>) {
    socket.set_nodelay(true).unwrap();
    for step in script {
        match step {
            Step::Read => {
                let Some(request) = read_request(&mut socket) else { return };
                let _ = requests.send(request);
            }
            Step::ReadPreface => {
                let mut preface = [0; 24];
                socket.read_exact(&mut preface).unwrap();
                let _ = requests.send(String::from_utf8(preface.to_vec()).unwrap());
            }
            // The other side may have given up by now, which is what some tests are about.
            Step::Write(text) => drop(socket.write_all(text.as_bytes())),
            Step::AwaitClose => {
                let mut rest = [0; 1_024];
                while socket.read(&mut rest).is_ok_and(|n| n > 0) {}
                let _ = closed.send(());
            }
            Step::AwaitGo => go.recv().unwrap(),
            Step::Reset => {
                rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
                return;
            }
        }
    }
}

fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(text.into_owned());
            }
        }
        match socket.read(&mut piece) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            Ok(_) | Err(_) => return None,
        }
    }
}

/// A whole HTTP answer with a JSON body.
pub(super) fn whole(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

/// The head of a stream that lasts until the connection closes.
pub(super) fn stream_head() -> String {
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n".to_owned()
}

pub(super) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}
