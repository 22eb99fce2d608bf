//! How many sequences there are, in whatever state.
//!
//! Invariants: a sequence is counted from before it is queued until it is finished or gone, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts one for as long as it lives.
#[derive(Debug)]
pub struct Presence(Arc<AtomicUsize>);

impl Presence {
    pub fn new(n_present: Arc<AtomicUsize>) -> Self {
        n_present.fetch_add(1, Ordering::AcqRel);
        Self(n_present)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
