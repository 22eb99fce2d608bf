//! Reads HTTP/1.1 answers off a connection, as little of them as a load generator needs.
//!
//! Understands `content-length` and chunked bodies; nothing else is sent by what it measures.
//!
//! Invariants: what follows an answer on its connection is kept for the next one.

use std::io;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const READ_BYTES: usize = 16 * 1024;
const DONE: &[u8] = b"[DONE]";
/// Room for the mark and the blank lines behind it.
const TAIL_BYTES: usize = 16;

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Target {
    pub authority: String,
    pub path: String,
}

impl Target {
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` must start with http://"))?;
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        Ok(Self { authority: authority.to_owned(), path: format!("{slash}{prefix}/chat/completions") })
    }
}

/// An answer, as far as it matters.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub status: u16,
    pub first_byte: Instant,
    /// For a stream, whether `[DONE]` was the last of it.
    pub whole: bool,
    pub keeps_alive: bool,
}

enum Length {
    Known(usize),
    Chunked,
}

struct Head {
    status: u16,
    length: Length,
    streams: bool,
    keeps_alive: bool,
}

/// A connection's unread bytes.
#[derive(Default)]
pub struct Reader {
    bytes: Vec<u8>,
    at: usize,
}

impl Reader {
    pub async fn answer(&mut self, stream: &mut TcpStream) -> io::Result<Seen> {
        self.bytes.drain(..self.at);
        self.at = 0;
        let head = self.head(stream).await?;
        while self.at == self.bytes.len() && !matches!(head.length, Length::Known(0)) {
            self.more(stream).await?;
        }
        let first_byte = Instant::now();
        let mut whole = true;
        match head.length {
            Length::Known(n_bytes) => {
                while self.bytes.len() - self.at < n_bytes {
                    self.more(stream).await?;
                }
                self.at += n_bytes;
            }
            Length::Chunked => whole = self.chunks(stream).await? || !head.streams,
        }
        Ok(Seen { status: head.status, first_byte, whole, keeps_alive: head.keeps_alive })
    }

    async fn head(&mut self, stream: &mut TcpStream) -> io::Result<Head> {
        loop {
            if let Some(n_bytes) = find(&self.bytes, b"\r\n\r\n") {
                let head = read_head(&self.bytes[..n_bytes])?;
                self.at = n_bytes + 4;
                return Ok(head);
            }
            self.more(stream).await?;
        }
    }

    /// Reads to the end of a chunked body, and says whether `[DONE]` stood in its last bytes.
    async fn chunks(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        // The end of the body so far, as servers may cut the mark over chunks.
        let mut tail = Vec::new();
        loop {
            let n_line = loop {
                match find(&self.bytes[self.at..], b"\r\n") {
                    Some(n_line) => break n_line,
                    None => self.more(stream).await?,
                }
            };
            let line = &self.bytes[self.at..self.at + n_line];
            let size = std::str::from_utf8(line).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            let size = size.ok_or_else(|| broken("a chunk without a size"))?;
            let chunk_at = self.at + n_line + 2;
            while self.bytes.len() < chunk_at + size + 2 {
                self.more(stream).await?;
            }
            if size == 0 {
                self.at = chunk_at + 2;
                return Ok(find(&tail, DONE).is_some());
            }
            let chunk = &self.bytes[chunk_at..chunk_at + size];
            tail.extend_from_slice(&chunk[size.saturating_sub(TAIL_BYTES)..]);
            tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
            self.at = chunk_at + size + 2;
        }
    }

    async fn more(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        self.bytes.reserve(READ_BYTES);
        if stream.read_buf(&mut self.bytes).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(())
    }
}

fn read_head(bytes: &[u8]) -> io::Result<Head> {
    let text = std::str::from_utf8(bytes).map_err(|_| broken("a head that is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok());
    let mut head = Head {
        status: status.ok_or_else(|| broken("no status"))?,
        length: Length::Known(0),
        streams: false,
        keeps_alive: true,
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            head.length =
                Length::Known(value.parse().map_err(|_| broken("a content-length that is no number"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            head.length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("content-type") {
            head.streams = value.starts_with("text/event-stream");
        } else if name.eq_ignore_ascii_case("connection") {
            head.keeps_alive = !value.eq_ignore_ascii_case("close");
        }
    }
    Ok(head)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
