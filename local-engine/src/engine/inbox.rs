//! Where callers and the engine's thread meet.
//!
//! Holds arrivals and whether the engine is still open; knows nothing of steps.
//!
//! Invariants: whatever was taken in is handed over or dropped, and dropping a sequence tells its caller;
//! nothing is taken in after the door is shut.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::sequence::Sequence;

//   Open ──drain──▶ Draining ──────▶ Shut
//     └── the last handle is dropped ──▲   (the thread is gone when it is Shut and `is_gone`)
/// Whether the engine takes and finishes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    /// Nothing new; what is there is finished, until then at most.
    Draining(Option<Instant>),
    /// What is there is ended.
    Shut,
}

#[derive(Debug)]
struct Inside {
    arrivals: Vec<Sequence>,
    door: Door,
    is_gone: bool,
}

/// The meeting place.
#[derive(Debug)]
pub(super) struct Inbox {
    inside: Mutex<Inside>,
    /// The thread has something to do.
    wake: Condvar,
    /// The thread is gone.
    gone: Condvar,
}

impl Inbox {
    pub(super) fn new() -> Self {
        let inside = Inside { arrivals: Vec::new(), door: Door::Open, is_gone: false };
        Self { inside: Mutex::new(inside), wake: Condvar::new(), gone: Condvar::new() }
    }

    /// Takes a sequence in, if the door is open and `admit` finds room.
    pub(super) fn post<E>(
        &self,
        mut sequence: Sequence,
        admit: impl FnOnce(&mut Sequence) -> Result<(), E>,
        closed: E,
    ) -> Result<(), E> {
        let mut inside = self.inside.lock();
        if inside.door != Door::Open {
            return Err(closed);
        }
        admit(&mut sequence)?;
        inside.arrivals.push(sequence);
        self.wake.notify_one();
        Ok(())
    }

    /// What came since, and whether to go on. Waits if there is nothing to do.
    pub(super) fn collect(&self, is_idle: bool) -> (Vec<Sequence>, Door) {
        let mut inside = self.inside.lock();
        while is_idle && inside.arrivals.is_empty() && inside.door == Door::Open {
            self.wake.wait(&mut inside);
        }
        (std::mem::take(&mut inside.arrivals), inside.door)
    }

    /// Shuts the door further; it never opens again.
    pub(super) fn shut(&self, door: Door) {
        let mut inside = self.inside.lock();
        match (inside.door, door) {
            (Door::Shut, _) | (_, Door::Open) => {}
            (Door::Open | Door::Draining(_), Door::Draining(_) | Door::Shut) => inside.door = door,
        }
        self.wake.notify_one();
    }

    /// The thread takes nothing any more.
    pub(super) fn leave(&self) {
        let mut inside = self.inside.lock();
        inside.door = Door::Shut;
        inside.arrivals.clear();
        inside.is_gone = true;
        self.gone.notify_all();
    }

    pub(super) fn wait_until_gone(&self) {
        let mut inside = self.inside.lock();
        while !inside.is_gone {
            self.gone.wait(&mut inside);
        }
    }
}
