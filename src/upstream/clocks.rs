//! The time limits of one attempt, all of which run from its start.
//!
//! Does not connect: the limit on connecting is kept where connections are made.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::error::UpstreamError;
use super::outcome::Phase;

#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    pub(super) idle: Duration,
    pub(super) total: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    timeouts: Timeouts,
    began: Instant,
}

impl Clocks {
    pub(super) fn start(timeouts: Timeouts) -> Self {
        Self { timeouts, began: Instant::now() }
    }

    /// Waits for `future` no longer than the phase and the whole attempt allow.
    pub(super) async fn within<F: Future>(
        &self,
        phase: Phase,
        future: F,
    ) -> Result<F::Output, UpstreamError> {
        let (limit, deadline) = match phase {
            Phase::Connect => (self.timeouts.connect, self.began + self.timeouts.connect),
            Phase::FirstByte => (self.timeouts.first_byte, self.began + self.timeouts.first_byte),
            Phase::Idle => (self.timeouts.idle, Instant::now() + self.timeouts.idle),
            Phase::Total => (self.timeouts.total, self.began + self.timeouts.total),
        };
        let total = self.began + self.timeouts.total;
        timeout_at(deadline.min(total), future).await.map_err(|_| match total < deadline {
            true => UpstreamError::timeout(Phase::Total, self.timeouts.total),
            false => UpstreamError::timeout(phase, limit),
        })
    }
}
