//! Passes a stream on to the client chunk by chunk, metering it on the way.
//!
//! Buffers nothing but a copy for the cache; a slow client slows the upstream down.
//!
//! Invariants: `[DONE]` is sent only after a complete answer was posted; a stream that breaks ends with
//! an error event and no `[DONE]`; when the client leaves, this is dropped, which cancels the
//! upstream and posts what was metered.

use std::pin::Pin;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::unfold;

use super::call::Call;
use super::dispatch::report;
use super::meter::Meter;
use super::settle::Keeper;
use crate::chat::assemble::Assembler;
use crate::chat::rewrite::chunk_for_client;
use crate::error::Error;
use crate::ledger::entry::Outcome;
use crate::upstream::{AnswerStream, StreamItem, UpstreamError};

/// What ends a stream whose answer came whole.
pub(super) const DONE: &[u8] = b"data: [DONE]\n\n";

/// What travels with a stream until its end.
pub(super) struct Passing {
    meter: Meter,
    keeper: Keeper,
    assembler: Option<Assembler>,
    wants_usage: bool,
}

impl Passing {
    pub(super) fn new(call: &Call, meter: Meter, keeper: Keeper) -> Self {
        let assembler = keeper.is_wanted().then(|| Assembler::new(keeper.max_answer_bytes));
        Self { meter, keeper, assembler, wants_usage: call.request.include_usage }
    }

    /// The event for the client; `None` where the chunk was only meant for us.
    fn pass(&mut self, item: &StreamItem, data: &Bytes) -> Option<Bytes> {
        let cost = self.meter.see(item);
        if let Some(assembler) = &mut self.assembler {
            assembler.push(std::str::from_utf8(data).unwrap_or(""));
        }
        chunk_for_client(data, self.wants_usage, cost).map(|chunk| frame(&chunk))
    }

    fn finish(self) -> Bytes {
        let entry = self.meter.post(Outcome::Ok);
        if let Some(body) = self.assembler.and_then(Assembler::finish) {
            self.keeper.keep(body, &entry);
        }
        Bytes::from_static(DONE)
    }

    fn fail(self, failure: UpstreamError) -> Bytes {
        let is_cut = matches!(failure, UpstreamError::Truncated { .. });
        let outcome = if is_cut { Outcome::Truncated } else { Outcome::UpstreamError };
        let entry = self.meter.post(outcome);
        if let Some(upstream) = &entry.upstream {
            report(upstream, &failure);
        }
        frame(Error::from(failure).object().to_string().as_bytes())
    }
}

/// One server-sent event; JSON that stands on several lines takes as many `data:` lines.
pub(super) fn frame(data: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(data.len() + 8);
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        event.put_slice(b"data: ");
        event.put_slice(line);
        event.put_u8(b'\n');
    }
    event.put_u8(b'\n');
    event.freeze()
}

pub(super) fn pass_on(passing: Passing, items: AnswerStream) -> Pin<Box<dyn Stream<Item = Bytes> + Send>> {
    Box::pin(unfold(State::Passing(Box::new(passing), items), |state| async {
        match state {
            State::Passing(passing, items) => Some(pass_next(passing, items).await),
            State::Complete(mut items) => {
                // Read to its very end, the connection can be used again.
                while items.next().await.is_some() {}
                None
            }
            State::Failed => None,
        }
    }))
}

enum State {
    Passing(Box<Passing>, AnswerStream),
    /// The answer was passed on and posted.
    Complete(AnswerStream),
    Failed,
}

/// The next event for the client, and what comes after it.
async fn pass_next(mut passing: Box<Passing>, mut items: AnswerStream) -> (Bytes, State) {
    loop {
        match items.next().await {
            Some(Ok(StreamItem::Done)) | None => return (passing.finish(), State::Complete(items)),
            Some(Ok(item)) => {
                let StreamItem::Chunk { data, .. } = &item else { continue };
                if let Some(event) = passing.pass(&item, data) {
                    return (event, State::Passing(passing, items));
                }
            }
            Some(Err(failure)) => return (passing.fail(failure), State::Failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_at_its_empty_line_and_not_before() {
        assert_eq!(frame(b"[DONE]"), DONE);
        assert_eq!(frame(b"{\"a\":\n1}"), "data: {\"a\":\ndata: 1}\n\n");
        assert_eq!(frame(b"{\n\n}"), "data: {\ndata: \ndata: }\n\n");
        assert_eq!(frame(b"{\r}"), "data: {\ndata: }\n\n");
    }
}
