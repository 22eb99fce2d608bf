//! The engine: requests in, events out, and one thread that steps for as long as there is something to do.
//!
//! Knows no model and no text; a backend computes and a vocabulary speaks. Needs no runtime: events come
//! over a channel that may be awaited or waited for.
//!
//! Invariants: every accepted request ends with one `Finished`, whatever a device, a grammar or a caller
//! does; with nothing to do the thread sleeps.

mod audit;
mod build;
mod commit;
mod config;
mod generation;
mod inbox;
mod intake;
mod reading;
mod stats;
mod step;

pub use config::{EngineConfig, KvDemand};
pub use generation::Generation;
pub use intake::Intake;
pub use stats::{HistogramStats, Meters, Stats};
pub use step::{Clock, Core, Rules};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::backend::{Backend, BackendError};
use crate::request::{GenerateRequest, SubmitError, TokenId};
use crate::tokenizer::Vocabulary;
use inbox::{Door, Inbox};

/// What an engine is made of.
pub struct EngineParts {
    pub backend: Box<dyn Backend>,
    pub vocabulary: Arc<Vocabulary>,
    /// Tokens by which the model ends a text.
    pub stop_ids: Vec<TokenId>,
    /// A smaller model with the same vocabulary, for `speculation.kind = "draft"`.
    pub draft: Option<Box<dyn Backend>>,
}

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{}", .0.join("; "))]
    Config(Vec<String>),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("the engine's thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// A running engine; clones are the same one. When the last is dropped, what is unfinished is ended.
#[derive(Debug, Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    inbox: Arc<Inbox>,
    intake: Intake,
    meters: Arc<Meters>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    pub fn start(parts: EngineParts, config: EngineConfig) -> Result<Self, EngineError> {
        let (core, intake) = Core::build(parts, &config, Box::new(Instant::now))?;
        let inbox = Arc::new(Inbox::new());
        let meters = Arc::clone(core.meters());
        let thread = {
            let inbox = Arc::clone(&inbox);
            std::thread::Builder::new().name("local-engine".into()).spawn(move || serve(core, &inbox))?
        };
        let handle = Handle { inbox, intake, meters, thread: Mutex::new(Some(thread)) };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Takes a request, or says why not. Never waits.
    pub fn submit(&self, request: GenerateRequest) -> Result<Generation, SubmitError> {
        let Handle { inbox, intake, .. } = &*self.handle;
        let (sequence, generation) = intake.sequence(request, Instant::now())?;
        inbox.post(sequence, |sequence| intake.register(sequence), SubmitError::Closed)?;
        Ok(generation)
    }

    /// The greatest number of positions of a sequence.
    pub fn max_len(&self) -> usize {
        self.handle.intake.max_len()
    }

    pub fn stats(&self) -> Stats {
        self.handle.meters.stats()
    }

    /// Refuses new requests, finishes those that are there, and returns when the thread is gone.
    pub fn close(&self) {
        self.close_by(Door::Draining(None));
    }

    /// The same, but ends what is unfinished after this time.
    pub fn drain(&self, patience: Duration) {
        self.close_by(Door::Draining(Instant::now().checked_add(patience)));
    }

    fn close_by(&self, door: Door) {
        self.handle.inbox.shut(door);
        self.handle.inbox.wait_until_gone();
        let thread = self.handle.thread.lock().take();
        if let Some(thread) = thread {
            // It catches panics in steps; should it have died of another, everybody was told.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Does not wait: a step may take long, and this may be on a thread that must not.
        self.inbox.shut(Door::Shut);
    }
}

/// The thread: collect, step, and sleep when there is nothing to do.
fn serve(mut core: Core, inbox: &Inbox) {
    let _leave = Leave(inbox);
    loop {
        let (arrivals, door) = inbox.collect(core.is_idle());
        arrivals.into_iter().for_each(|sequence| core.enqueue(sequence));
        match door {
            Door::Shut => return core.fail_all("the engine was shut down"),
            Door::Draining(Some(until)) if until <= Instant::now() => {
                return core.fail_all("the engine was shut down before the answer was complete");
            }
            Door::Draining(_) if core.is_idle() => return,
            Door::Open | Door::Draining(_) => {}
        }
        if catch_unwind(AssertUnwindSafe(|| core.step())).is_err() {
            core.break_down("the engine met a fault of its own");
        }
    }
}

/// Says that the thread is gone, however it went.
struct Leave<'a>(&'a Inbox);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests;
