//! An answer as it comes in: whole, or event by event.
//!
//! Changes nothing in it: what a caller gets to see is decided elsewhere.
//!
//! Invariants: a stream gives [`StreamItem::Done`] only when every choice ended or the upstream said
//! so; after an error or the end it gives nothing more; dropping it closes the upstream's side.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use reqwest::Response;
use tokio::time::timeout;

use super::MAX_ERROR_BYTES;
use super::clocks::Clocks;
use super::error::{Refusal, UpstreamError};
use super::event_stream::{Event, EventTooLong, Parser};
use super::local::LocalStream;
use super::openai::{self, ChunkFacts, ChunkKind, Unreadable};
use super::outcome::{self, Phase};
use crate::chat::Usage;
use crate::chat::shape::Shapes;

/// How long to wait for the end of a body that is over, so that its connection can be used again.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub enum Answer {
    Whole(Box<WholeAnswer>),
    Stream(AnswerStream),
}

impl Answer {
    /// Whether it only says that the question is not the model's.
    pub fn is_declined(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.declined,
            Self::Stream(stream) => stream.is_declined(),
        }
    }
}

/// A complete answer, known to be JSON.
#[derive(Debug, Clone)]
pub struct WholeAnswer {
    pub status: u16,
    /// As it came.
    pub body: Bytes,
    pub usage: Option<Usage>,
    /// The model that says it answered.
    pub model: Option<String>,
    /// It only says that the question is not the model's.
    pub declined: bool,
}

impl WholeAnswer {
    pub(super) async fn read(
        response: Response,
        clocks: Clocks,
        limit_bytes: usize,
    ) -> Result<Self, UpstreamError> {
        check_content_type(response.headers(), "application/json", |essence| essence.ends_with("json"))?;
        let status = response.status().as_u16();
        let body = read_body(response, &clocks, limit_bytes).await?;
        if body.trim_ascii().is_empty() {
            return Err(UpstreamError::Empty);
        }
        let facts =
            openai::from_wire(&body).map_err(|unreadable| UpstreamError::of_unreadable(unreadable, &body))?;
        Ok(Self { status, body, usage: facts.usage, model: facts.model, declined: false })
    }
}

async fn read_body(
    mut response: Response,
    clocks: &Clocks,
    limit_bytes: usize,
) -> Result<Bytes, UpstreamError> {
    let next = clocks.within(Phase::FirstByte, response.chunk()).await?;
    let Some(first) = next.map_err(UpstreamError::of_head)? else {
        return Ok(Bytes::new());
    };
    let mut is_too_long = first.len() > limit_bytes;
    // Most bodies come in one piece and stay the bytes that the socket gave.
    let (mut first, mut all) = (Some(first), BytesMut::new());
    while !is_too_long {
        let next = clocks.within(Phase::Idle, response.chunk()).await?;
        let Some(piece) = next.map_err(UpstreamError::of_body)? else {
            return Ok(first.unwrap_or_else(|| all.freeze()));
        };
        if let Some(first) = first.take() {
            all.extend_from_slice(&first);
        }
        is_too_long = all.len() + piece.len() > limit_bytes;
        all.extend_from_slice(&piece);
    }
    Err(UpstreamError::TooLong { limit_bytes })
}

/// Reads an answer whose status is no success. What cannot be read of its body is left out.
pub(super) async fn refusal(mut response: Response, clocks: &Clocks, now_ms: i64) -> UpstreamError {
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let mut body = BytesMut::new();
    while let Ok(Ok(Some(piece))) = clocks.within(Phase::FirstByte, response.chunk()).await {
        let room = MAX_ERROR_BYTES - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            break;
        }
    }
    let body = body.freeze();
    UpstreamError::Refused(Box::new(Refusal {
        status,
        report: openai::from_error_wire(&body),
        retry_after: outcome::retry_after(&headers, now_ms),
        should_retry: outcome::should_retry(&headers),
        content_type: text_of(&headers, &header::CONTENT_TYPE).map(str::to_owned),
        body,
    }))
}

/// One thing a stream gives.
#[derive(Debug, Clone, PartialEq)]
pub enum StreamItem {
    Chunk {
        /// The event's JSON text, exactly as it came.
        data: Bytes,
        usage: Option<Usage>,
        n_choices: usize,
        has_finish: bool,
        /// The length of the text it adds, to estimate tokens where a stream stops before its usage.
        content_chars: usize,
    },
    /// The answer is complete.
    Done,
}

/// An answer that comes event by event. Reading it on to `None` after [`StreamItem::Done`] lets its
/// connection be used again; dropping it earlier cancels the call.
#[derive(Debug)]
pub enum AnswerStream {
    Remote(Box<RemoteStream>),
    Local(Box<LocalStream>),
}

impl AnswerStream {
    fn is_declined(&self) -> bool {
        match self {
            Self::Remote(_) => false,
            Self::Local(stream) => stream.is_declined(),
        }
    }

    /// The next item; `None` after [`StreamItem::Done`] or an error.
    pub async fn next(&mut self) -> Option<Result<StreamItem, UpstreamError>> {
        match self {
            Self::Remote(stream) => stream.next().await,
            Self::Local(stream) => stream.next().await,
        }
    }
}

/// An answer that comes as server-sent events.
#[derive(Debug)]
pub struct RemoteStream {
    /// Gone once there is nothing more to read.
    response: Option<Response>,
    clocks: Clocks,
    parser: Parser,
    events: VecDeque<Event>,
    /// Follows the events already read.
    failure: Option<UpstreamError>,
    /// Read ahead by [`RemoteStream::begin`].
    first: Option<StreamItem>,
    progress: Progress,
    shapes: Shapes,
}

#[derive(Debug, Default)]
struct Progress {
    has_begun: bool,
    is_body_over: bool,
    is_done: bool,
    choices: u128,
    finished: u128,
    n_expected: u32,
}

impl Progress {
    /// Servers that never send `[DONE]` end their body after the last choice ended.
    fn is_complete(&self) -> bool {
        self.finished == self.choices && self.finished.count_ones() >= self.n_expected.max(1)
    }
}

impl RemoteStream {
    pub(super) async fn begin(
        response: Response,
        clocks: Clocks,
        limit_bytes: usize,
        n_choices: u32,
    ) -> Result<Self, UpstreamError> {
        check_content_type(response.headers(), "text/event-stream", |essence| {
            essence == "text/event-stream"
        })?;
        let mut stream = Self {
            response: Some(response),
            clocks,
            parser: Parser::new(limit_bytes),
            events: VecDeque::new(),
            failure: None,
            first: None,
            progress: Progress { n_expected: n_choices, ..Progress::default() },
            shapes: Shapes::default(),
        };
        match stream.next().await.transpose()? {
            Some(StreamItem::Done) | None => Err(UpstreamError::Empty),
            first => {
                stream.first = first;
                Ok(stream)
            }
        }
    }

    async fn next(&mut self) -> Option<Result<StreamItem, UpstreamError>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let item = self.read_item().await;
        if let Some(Err(_)) = item {
            self.response = None;
            self.events.clear();
        }
        item
    }

    async fn read_item(&mut self) -> Option<Result<StreamItem, UpstreamError>> {
        if self.progress.is_done {
            self.drain().await;
            return None;
        }
        loop {
            while let Some(event) = self.events.pop_front() {
                // Some servers keep the line alive with events that hold nothing.
                if !event.data.trim_ascii().is_empty() {
                    return Some(self.item_of(event));
                }
            }
            if let Some(failure) = self.failure.take() {
                return Some(Err(failure));
            }
            if self.progress.is_body_over {
                return self.end();
            }
            if let Err(failure) = self.read_events().await? {
                self.failure = Some(failure);
            }
        }
    }

    /// Reads one piece of the body; `None` when there is no body any more.
    async fn read_events(&mut self) -> Option<Result<(), UpstreamError>> {
        let response = self.response.as_mut()?;
        let phase = if self.progress.has_begun { Phase::Idle } else { Phase::FirstByte };
        let piece = match self.clocks.within(phase, response.chunk()).await {
            Ok(Ok(piece)) => piece,
            Ok(Err(error)) if self.progress.has_begun => return Some(Err(UpstreamError::of_body(error))),
            Ok(Err(error)) => return Some(Err(UpstreamError::of_head(error))),
            Err(timeout) => return Some(Err(timeout)),
        };
        let Some(piece) = piece else {
            self.progress.is_body_over = true;
            self.parser.finish(&mut self.events);
            return Some(Ok(()));
        };
        let fed = self.parser.feed(piece, &mut self.events);
        Some(fed.map_err(|EventTooLong { limit_bytes }| UpstreamError::TooLong { limit_bytes }))
    }

    fn item_of(&mut self, event: Event) -> Result<StreamItem, UpstreamError> {
        if event.name.is_none()
            && let Some(added) = self.shapes.read(&event.data)
        {
            let (n_choices, content_chars) = (1, added.n_chars);
            return Ok(StreamItem::Chunk {
                data: event.data,
                usage: None,
                n_choices,
                has_finish: false,
                content_chars,
            });
        }
        let facts = match openai::from_event(&event.data) {
            Ok(ChunkKind::Done) => {
                self.progress.is_done = true;
                return Ok(StreamItem::Done);
            }
            Ok(ChunkKind::Chunk(facts)) => facts,
            // Only the last event can have been cut off; any other was sent like this.
            Err(Unreadable::CutOff) if !self.progress.is_body_over => {
                return Err(UpstreamError::Malformed { detail: "an event's JSON is cut off".to_owned() });
            }
            Err(unreadable) => return Err(UpstreamError::of_unreadable(unreadable, &event.data)),
        };
        if event.name.as_deref() == Some(b"error") {
            let report = Box::new(openai::from_error_wire(&event.data));
            return Err(UpstreamError::Reported { report, body: event.data });
        }
        self.shapes.learn(&event.data);
        let ChunkFacts { usage, choices, n_choices, finished, content_chars } = facts;
        self.progress.has_begun = true;
        self.progress.choices |= choices;
        self.progress.finished |= finished;
        Ok(StreamItem::Chunk { data: event.data, usage, n_choices, has_finish: finished != 0, content_chars })
    }

    /// The body is over and nobody said `[DONE]`.
    fn end(&mut self) -> Option<Result<StreamItem, UpstreamError>> {
        self.response.take()?;
        if !self.progress.has_begun {
            return Some(Err(UpstreamError::Empty));
        }
        if !self.progress.is_complete() {
            let detail = "the stream ended before every choice did".to_owned();
            return Some(Err(UpstreamError::Truncated { detail }));
        }
        self.progress.is_done = true;
        Some(Ok(StreamItem::Done))
    }

    async fn drain(&mut self) {
        if let Some(mut response) = self.response.take() {
            let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
            // A body that does not end in time costs its connection and nothing else.
            let _ = timeout(DRAIN_TIMEOUT, rest).await;
        }
    }
}

fn check_content_type(
    headers: &HeaderMap,
    expected: &'static str,
    is_right: impl Fn(&str) -> bool,
) -> Result<(), UpstreamError> {
    let found = text_of(headers, &header::CONTENT_TYPE).unwrap_or("none");
    let essence = found.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if is_right(&essence) {
        return Ok(());
    }
    let found = found.chars().take(100).collect();
    Err(UpstreamError::ContentType { expected, found })
}

fn text_of<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
