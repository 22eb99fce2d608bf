//! A gateway in a folder of its own, before an upstream that says one thing.
//!
//! For stages that no request reaches by itself; what clients see is tested from outside.

mod audits;
mod judgements;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::admit::{Admitted, admit};
use super::call::{Call, Options};
use crate::chat::{Endpoint, Request};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::gateway::Gateway;
use crate::ledger::entry::Entry;
use crate::team::CallId;

const NOW_MS: i64 = 1_760_529_600_000;

const PRICES: &str = "[[price]]\nmodel = \"gpt-4o\"\nfrom = \"2025-01-01\"\ninput = 2.5\noutput = 10\n\
    cached_read = 1.25\ncache_write = 3\naudio_input = 20\naudio_output = 80\ncontext_tokens = 128000\n\
    max_output_tokens = 4096\n";

/// What an upstream does with every request.
#[derive(Debug, Clone, Copy)]
enum Says {
    Whole(&'static str),
    Stream(&'static str),
    Broken,
    Nothing,
}

/// The address of an upstream, which lives as long as the test.
async fn upstream(says: Says) -> String {
    upstream_in_turn(&[says]).await
}

/// The same, of one that says something else each time, and its last thing ever after.
async fn upstream_in_turn(says: &[Says]) -> String {
    let says = says.to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    let answers = tasks.clone();
    tasks.spawn(async move {
        let mut turns = says.iter().copied().chain(std::iter::repeat(says[says.len() - 1]));
        while let (Ok((socket, _)), Some(says)) = (listener.accept().await, turns.next()) {
            answers.spawn(answer(socket, says));
        }
    });
    format!("http://{address}/v1")
}

async fn answer(mut socket: TcpStream, says: Says) {
    read_request(&mut socket).await;
    let (head, body) = match says {
        Says::Whole(body) => ("200 OK\r\ncontent-type: application/json", body),
        Says::Stream(body) => ("200 OK\r\ncontent-type: text/event-stream", body),
        Says::Broken => ("500 Internal Server Error\r\ncontent-type: application/json", "{}"),
        Says::Nothing => std::future::pending().await,
    };
    let n_bytes = body.len();
    let response = format!("HTTP/1.1 {head}\r\ncontent-length: {n_bytes}\r\nconnection: close\r\n\r\n{body}");
    // Whoever asked may have left.
    let _ = socket.write_all(response.as_bytes()).await;
}

async fn read_request(socket: &mut TcpStream) {
    let (mut read, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        let text = String::from_utf8_lossy(&read).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
            if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
                return;
            }
        }
        match socket.read(&mut piece).await {
            Ok(n_bytes) if n_bytes > 0 => read.extend_from_slice(&piece[..n_bytes]),
            _ => return,
        }
    }
}

async fn gateway(folder: &TempDir, base_url: &str, more: &str) -> Arc<Gateway> {
    let within = |name: &str| Path::join(folder.path(), name).display().to_string();
    let toml = format!(
        "[upstreams.large]\ndialect = \"openai\"\nbase_url = \"{base_url}\"\napi_key = \"k\"\nmodel = \"gpt-4o\"\n\
         max_retries = 0\n[routes.auto]\nupstreams = [\"large\"]\n\
         [ledger]\npath = \"{}\"\njournal_dir = \"{}\"\nflush_interval_ms = 1\n[onnx]\nlibrary = \"{}\"\n\
         [cache.semantic]\nenabled = false\n{more}\n",
        within("ledger.sqlite"),
        within("journal"),
        within("no-such-library.so"),
    );
    let env = Environment::default();
    let config = Config::parse("the test", &toml, PRICES, &env);
    let config = config.unwrap_or_else(|mistakes| panic!("{toml}\n{mistakes:#?}"));
    Gateway::open(config, &env, Clock::standing_at(NOW_MS)).await.unwrap()
}

async fn rows(gateway: &Gateway) -> Vec<Entry> {
    gateway.ledger.flushed().await;
    gateway.ledger.reports().recent(10, None).await.unwrap()
}

async fn admitted(gateway: &Gateway, body: &str) -> (Admitted, Call) {
    let request = Request::parse(Endpoint::Chat, body.as_bytes()).unwrap();
    let id = CallId::new(NOW_MS, rand::random());
    let call = Call::new(id, Instant::now(), NOW_MS, request, Options::default());
    (admit(gateway, &call).await.unwrap(), call)
}
