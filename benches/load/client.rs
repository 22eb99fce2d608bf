//! One client of the closed loop: sends, waits for the whole answer, notes the time, again.
//!
//! Does not pace itself and does not retry; a failed call is an error in the tally.
//!
//! Invariants: a call belongs to the measurement if it was sent within it.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::Flags;
use crate::prompt::Prompts;
use crate::report::Tally;
use crate::wire::{Reader, Seen, Target};

/// A server that is gone is asked again this late, so that failures do not spin.
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);

pub struct Client {
    target: Target,
    stream: TcpStream,
    reader: Reader,
    prompts: Prompts,
    head: String,
}

impl Client {
    pub async fn connect(target: Target, flags: &Flags, prompts: Prompts) -> io::Result<Self> {
        let stream = open(&target).await?;
        let mut head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n",
            target.path, target.authority, flags.key
        );
        for header in &flags.headers {
            head += header;
            head += "\r\n";
        }
        Ok(Self { target, stream, reader: Reader::default(), prompts, head })
    }

    /// Calls until `end`, and tallies the calls sent from `begin` on.
    pub async fn run(mut self, begin: Instant, end: Instant) -> Tally {
        let mut tally = Tally::default();
        loop {
            let body = self.prompts.next_body();
            let request = format!("{}content-length: {}\r\n\r\n{body}", self.head, body.len());
            let sent = Instant::now();
            if sent >= end {
                return tally;
            }
            let seen = self.call(&request).await;
            let now = Instant::now();
            if sent >= begin {
                tally.note(&seen, sent, now);
            }
            if !seen.is_ok_and(|seen| seen.keeps_alive) {
                self.reconnect(end).await;
            }
        }
    }

    async fn call(&mut self, request: &str) -> io::Result<Seen> {
        self.stream.write_all(request.as_bytes()).await?;
        self.reader.answer(&mut self.stream).await
    }

    async fn reconnect(&mut self, end: Instant) {
        while Instant::now() < end {
            if let Ok(stream) = open(&self.target).await {
                self.stream = stream;
                self.reader = Reader::default();
                return;
            }
            tokio::time::sleep(RECONNECT_PAUSE).await;
        }
    }
}

async fn open(target: &Target) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(&target.authority).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
