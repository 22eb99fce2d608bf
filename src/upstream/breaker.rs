//! Keeps calls away from an upstream that keeps failing, and finds out when it is well again.
//!
//! Decides from outcomes and the instants handed in; reads no clock and asks nobody.
//! Does not decide what counts as a failure: a verdict does.
//!
//! Invariants: while half open, one probe is under way at most; a probe that never reports
//! does not keep the breaker half open for longer than one open period.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde::Deserialize;

use crate::team::UpstreamName;

/// `[upstreams.NAME.breaker]`: when to stop asking an upstream, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Failures in a row that trip it. Default 5.
    pub failures: u32,
    /// The share of failures within a window that trips it, above 0 and up to 1. Default 0.5.
    pub error_share: f64,
    /// Calls that a window must hold before the share counts. Default 20.
    pub min_calls: u32,
    /// The length of a window, in milliseconds. Default 10000.
    pub window_ms: u64,
    /// How long it stays open before a probe, in milliseconds. Default 10000.
    pub open_ms: u64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { failures: 5, error_share: 0.5, min_calls: 20, window_ms: 10_000, open_ms: 10_000 }
    }
}

impl BreakerConfig {
    /// Every mistake, each naming its key.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for (key, value) in [
            ("failures", u64::from(self.failures)),
            ("min_calls", u64::from(self.min_calls)),
            ("window_ms", self.window_ms),
            ("open_ms", self.open_ms),
        ] {
            if value == 0 {
                mistakes.push(format!("`breaker.{key}` is 0; it must be at least 1"));
            }
        }
        if !(self.error_share > 0.0 && self.error_share <= 1.0) {
            let share = self.error_share;
            mistakes.push(format!("`breaker.error_share` is {share}; it must be above 0 and at most 1"));
        }
        mistakes
    }
}

//            `failures` in a row, or `error_share` of a window
//   Closed ────────────────────────────────────────────────► Open
//     ▲                                                      │  ▲
//     │ the probe succeeded                 `open_ms` passed │  │ the probe failed
//     │                                                      ▼  │
//     └──────────────────────────────────────────────────── HalfOpen ──┐
//                                                              ▲       │ the probe was let go, or is
//                                                              └───────┘ overdue: the next call probes
#[derive(Debug, Clone, Copy)]
enum State {
    Closed { n_failed_in_row: u32, window: Window },
    Open { until: Instant },
    HalfOpen { probe: Option<Probe> },
}

#[derive(Debug, Clone, Copy)]
struct Probe {
    id: u64,
    overdue_at: Instant,
}

/// The last two windows: the full one and the one being filled, so that a burst across a border counts.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    current: Tally,
    previous: Tally,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    n_calls: u32,
    n_failed: u32,
}

/// Whether a call may go to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Pass,
    /// The one call that finds out; its outcome decides.
    Probe(u64),
    /// Not before this long from now.
    Tripped(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// Says nothing about the upstream: the caller's mistake, or a call that was given up.
    Neither,
}

/// The breaker of one upstream.
#[derive(Debug, Clone)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    n_probes: u64,
}

impl Breaker {
    pub fn new(config: BreakerConfig, now: Instant) -> Self {
        Self { config, state: closed(now), n_probes: 0 }
    }

    /// Whether calls are kept away at `now`; changes nothing.
    pub fn is_tripped(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { until } => now < until,
            State::HalfOpen { probe } => probe.is_some_and(|probe| now < probe.overdue_at),
        }
    }

    pub fn admit(&mut self, now: Instant) -> Admission {
        let barred_until = match self.state {
            State::Closed { .. } => return Admission::Pass,
            State::Open { until } => Some(until),
            State::HalfOpen { probe } => probe.map(|probe| probe.overdue_at),
        };
        if let Some(until) = barred_until.filter(|until| now < *until) {
            return Admission::Tripped(until - now);
        }
        self.n_probes += 1;
        let probe = Probe { id: self.n_probes, overdue_at: now + self.open_for() };
        self.state = State::HalfOpen { probe: Some(probe) };
        Admission::Probe(probe.id)
    }

    /// Takes in how a call ended that was admitted as `admission`.
    pub fn record(&mut self, admission: Admission, outcome: Outcome, now: Instant) {
        match (self.state, admission) {
            (State::Closed { n_failed_in_row, window }, Admission::Pass) => {
                self.state = self.after_call(n_failed_in_row, window, outcome, now);
            }
            (State::HalfOpen { probe: Some(probe) }, Admission::Probe(id)) if probe.id == id => {
                self.state = match outcome {
                    Outcome::Success => closed(now),
                    Outcome::Failure => State::Open { until: now + self.open_for() },
                    Outcome::Neither => State::HalfOpen { probe: None },
                };
            }
            // Calls from before it tripped, and probes that came too late, decide nothing.
            (State::Closed { .. } | State::Open { .. } | State::HalfOpen { .. }, _) => {}
        }
    }

    fn after_call(&self, n_failed_in_row: u32, window: Window, outcome: Outcome, now: Instant) -> State {
        let failed = match outcome {
            Outcome::Neither => return self.state,
            Outcome::Success => false,
            Outcome::Failure => true,
        };
        let window = window.with_call(failed, now, Duration::from_millis(self.config.window_ms));
        let n_failed_in_row = if failed { n_failed_in_row.saturating_add(1) } else { 0 };
        let trips = n_failed_in_row >= self.config.failures || self.is_share_reached(&window);
        match failed && trips {
            true => State::Open { until: now + self.open_for() },
            false => State::Closed { n_failed_in_row, window },
        }
    }

    fn is_share_reached(&self, window: &Window) -> bool {
        let n_calls = window.current.n_calls.saturating_add(window.previous.n_calls);
        let n_failed = window.current.n_failed.saturating_add(window.previous.n_failed);
        n_calls >= self.config.min_calls
            && f64::from(n_failed) >= self.config.error_share * f64::from(n_calls)
    }

    fn open_for(&self) -> Duration {
        Duration::from_millis(self.config.open_ms)
    }
}

fn closed(now: Instant) -> State {
    let window = Window { began: now, current: Tally::default(), previous: Tally::default() };
    State::Closed { n_failed_in_row: 0, window }
}

impl Window {
    fn with_call(mut self, failed: bool, now: Instant, length: Duration) -> Self {
        let passed = now.saturating_duration_since(self.began);
        if passed >= length {
            let is_next = passed < length * 2;
            self.previous = if is_next { self.current } else { Tally::default() };
            self.current = Tally::default();
            self.began = if is_next { self.began + length } else { now };
        }
        self.current.n_calls = self.current.n_calls.saturating_add(1);
        self.current.n_failed = self.current.n_failed.saturating_add(u32::from(failed));
        self
    }
}

/// The breakers of all upstreams, by name, so that they outlive a reload of the configuration.
#[derive(Debug, Clone, Default)]
pub struct Breakers(Arc<RwLock<HashMap<UpstreamName, Arc<Mutex<Breaker>>>>>);

impl Breakers {
    /// Asks to call an upstream; the permit must hear how it went. An error says how long to stay away.
    pub fn permit(
        &self,
        name: &UpstreamName,
        config: &BreakerConfig,
        now: Instant,
    ) -> Result<Permit, Duration> {
        let breaker = self.breaker(name, config, now);
        let admission = breaker.lock().admit(now);
        match admission {
            Admission::Tripped(wait) => Err(wait),
            Admission::Pass | Admission::Probe(_) => Ok(Permit { breaker, admission, is_used: false }),
        }
    }

    /// Whether calls to the upstream are kept away at `now`; an unknown one is well.
    pub fn is_tripped(&self, name: &UpstreamName, now: Instant) -> bool {
        self.0.read().get(name).is_some_and(|breaker| breaker.lock().is_tripped(now))
    }

    fn breaker(&self, name: &UpstreamName, config: &BreakerConfig, now: Instant) -> Arc<Mutex<Breaker>> {
        if let Some(known) = self.0.read().get(name).filter(|known| known.lock().config == *config) {
            return Arc::clone(known);
        }
        let fresh = Arc::new(Mutex::new(Breaker::new(*config, now)));
        let mut by_name = self.0.write();
        let kept = by_name.entry(name.clone()).or_insert_with(|| Arc::clone(&fresh));
        if kept.lock().config != *config {
            *kept = fresh;
        }
        Arc::clone(kept)
    }
}

/// Leave for one call. Dropped without a word it frees its probe and counts for nothing.
#[derive(Debug)]
#[must_use = "the breaker learns from how the call ends"]
pub struct Permit {
    breaker: Arc<Mutex<Breaker>>,
    admission: Admission,
    is_used: bool,
}

impl Permit {
    pub fn record(mut self, outcome: Outcome, now: Instant) {
        self.is_used = true;
        self.breaker.lock().record(self.admission, outcome, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_used || self.admission == Admission::Pass {
            return;
        }
        let mut breaker = self.breaker.lock();
        if let State::HalfOpen { probe: Some(probe) } = breaker.state
            && self.admission == Admission::Probe(probe.id)
        {
            breaker.state = State::HalfOpen { probe: None };
        }
    }
}

#[cfg(test)]
mod tests;
