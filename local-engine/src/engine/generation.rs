//! The caller's end of a generation.
//!
//! Computes nothing and decides nothing; it hears.
//!
//! Invariants: the last thing heard is `Finished`, even if the engine's thread dies; dropping it ends the
//! generation before the next step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_channel::{Receiver, TryRecvError};

use crate::request::{Event, Finish, FinishReason, Usage};

/// An answer that is being written.
#[derive(Debug)]
pub struct Generation {
    events: Receiver<Event>,
    is_aborted: Arc<AtomicBool>,
    is_over: bool,
}

impl Generation {
    pub(super) fn new(events: Receiver<Event>, is_aborted: Arc<AtomicBool>) -> Self {
        Self { events, is_aborted, is_over: false }
    }

    /// The next event; none after [`Event::Finished`]. May be dropped and called again without loss.
    pub async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.hear(event.ok()))
    }

    /// The same, on a thread that may wait.
    pub fn next_blocking(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        let event = self.events.recv_blocking();
        Some(self.hear(event.ok()))
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        match self.events.try_recv() {
            Ok(event) => Some(self.hear(Some(event))),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Closed) => Some(self.hear(None)),
        }
    }

    /// Asks for the end; `Finished` follows, with what the generation took.
    pub fn abort(&self) {
        self.is_aborted.store(true, Ordering::Release);
    }

    fn hear(&mut self, event: Option<Event>) -> Event {
        let event = event.unwrap_or_else(|| {
            let reason = FinishReason::Failed("the engine broke down".into());
            Event::Finished(Finish { reason, usage: Usage::default() })
        });
        self.is_over = matches!(event, Event::Finished(_));
        event
    }
}
