//! Plays the steps of an answer into a connection: writes, waits, pauses, and ends badly if told so.
//!
//! Knows nothing of events or JSON: steps are bytes and times.
//!
//! Invariants: a played call ends once in the book, by its last step or by being dropped; tokens
//! count as written when their bytes are handed to the connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;

use super::bill::Usage;
use super::book::{Book, CallId, Charge, Ending};
use super::socket::ResetSwitch;

/// Lets paused calls go on.
pub struct Gate(watch::Sender<u64>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Gate {
    pub fn release(&self) {
        self.0.send_modify(|n_releases| *n_releases += 1);
    }

    /// Resolves at the first release after this call, even one before it is awaited.
    pub fn pause(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut released = self.0.subscribe();
        async move {
            // The gate is dropped with the fake, and then nobody waits any more.
            drop(released.changed().await);
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Write {
        bytes: Bytes,
        n_tokens: u64,
    },
    /// What was written so far leaves in a segment of its own.
    Flush,
    Wait(Duration),
    Pause,
    Hang,
    /// The connection ends with RST.
    Reset,
    /// The connection ends with FIN, but the body does not end.
    Close,
}

/// What the book needs to know of a call in flight. Dropping it unended means the client went away.
pub struct OpenCall {
    pub book: Arc<Book>,
    pub id: CallId,
    /// Absent while nothing was answered, so that nothing is billed.
    pub charge: Option<Charge>,
    pub n_written: u64,
    ended: bool,
}

impl OpenCall {
    pub fn new(book: Arc<Book>, id: CallId) -> Self {
        Self { book, id, charge: None, n_written: 0, ended: false }
    }

    pub fn end(&mut self, ending: Ending) {
        if self.ended {
            return;
        }
        self.ended = true;
        let n_written = self.n_written;
        let cut = |charge: Charge| {
            let usage: Usage =
                if ending == Ending::Answered { charge.usage } else { charge.usage.cut_to(n_written) };
            Charge { usage, ..charge }
        };
        self.book.end(self.id, ending, self.charge.take().map(cut));
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.end(Ending::ClientGone);
    }
}

type Waiting = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A body that follows its steps.
pub struct Player {
    steps: VecDeque<Step>,
    waiting: Option<Waiting>,
    call: OpenCall,
    pause: Option<Waiting>,
    reset: ResetSwitch,
    /// How the call ends when all steps were played.
    ending: Ending,
    n_bytes: Option<u64>,
}

/// The steps of a body and what surrounds them.
pub struct Part {
    pub steps: Vec<Step>,
    pub ending: Ending,
    /// The `content-length` to promise, if any.
    pub n_bytes: Option<u64>,
}

impl Part {
    /// What is written, without what happens between.
    pub fn into_bytes(self) -> Vec<Bytes> {
        let bytes = |step| if let Step::Write { bytes, .. } = step { Some(bytes) } else { None };
        self.steps.into_iter().filter_map(bytes).collect()
    }
}

impl Player {
    pub fn new(part: Part, call: OpenCall, gate: &Gate, reset: ResetSwitch) -> Self {
        let pauses = part.steps.contains(&Step::Pause);
        let pause = pauses.then(|| Box::pin(gate.pause()) as Waiting);
        let Part { steps, ending, n_bytes } = part;
        Self { steps: steps.into(), waiting: None, call, pause, reset, ending, n_bytes }
    }

    fn written(&mut self, n_tokens: u64) {
        self.call.n_written += n_tokens;
        self.call.book.written(self.call.id, n_tokens);
        if self.steps.is_empty() {
            self.call.end(self.ending);
        }
    }
}

/// The body ends before its time; hyper then closes the connection.
#[derive(Debug)]
pub struct CutShort;

impl std::fmt::Display for CutShort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the answer was cut short as scripted")
    }
}

impl std::error::Error for CutShort {}

impl From<Infallible> for CutShort {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl http_body::Body for Player {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                std::task::ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
            }
            match self.steps.pop_front() {
                Some(Step::Write { bytes, n_tokens }) => {
                    self.written(n_tokens);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Flush) => {
                    // hyper flushes whenever the body has nothing ready.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Wait(time)) => self.waiting = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Pause) => self.waiting = self.pause.take(),
                Some(Step::Hang) => self.waiting = Some(Box::pin(std::future::pending())),
                Some(Step::Reset) => {
                    self.reset.arm();
                    self.call.end(Ending::CutShort);
                    return Poll::Ready(Some(Err(CutShort)));
                }
                Some(Step::Close) => {
                    self.call.end(Ending::CutShort);
                    return Poll::Ready(Some(Err(CutShort)));
                }
                None => {
                    let ending = self.ending;
                    self.call.end(ending);
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.n_bytes.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
