//! Forces the journal to disk at a steady beat, on a thread of its own.
//!
//! Nothing waits for it: a record is safe from `kill -9` before, and from a power cut after, its turn.
//!
//! Invariants: the last beat comes after the stop, so that nothing appended before is left behind.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Journal;

/// Stops its thread when dropped.
#[derive(Debug)]
pub(in crate::ledger) struct Syncer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(in crate::ledger) fn start(journal: Arc<Journal>, interval: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = channel::<()>();
        let thread = thread::Builder::new().name("stiver-journal-sync".to_owned()).spawn(move || {
            loop {
                let wait = stopped.recv_timeout(interval);
                if let Err(error) = journal.sync() {
                    metrics::counter!("stiver_ledger_sync_errors_total").increment(1);
                    tracing::error!(%error, "the journal could not be forced to disk; trying again");
                }
                if wait != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Stops the thread and waits for its last beat.
    pub(in crate::ledger) fn stop(mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that forces the journal to disk had panicked");
        }
    }
}
