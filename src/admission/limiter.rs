//! Requests a minute, tokens a minute and concurrency, by team, on this replica.
//!
//! Does not know keys or routes. State is local: N replicas allow N times a limit until limits are shared.
//!
//! Invariants: a [`Pass`] gives its slot back exactly once, when it is dropped.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::gauge;
use parking_lot::Mutex;
use serde::Deserialize;

use super::bucket::Bucket;
use crate::clock::Clock;
use crate::team::TeamName;

/// A team's `limits`. Absent means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls a minute.
    pub requests_per_minute: Option<u64>,
    /// Input and output tokens a minute, estimated at admission and corrected when the call has ended.
    pub tokens_per_minute: Option<u64>,
    /// Calls in flight at once.
    pub concurrency: Option<u64>,
}

impl Limits {
    /// The limits that are set, by the name of their key.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("concurrency", self.concurrency),
        ];
        all.into_iter().filter_map(|(name, limit)| limit.map(|limit| (name, limit)))
    }
}

/// Why a call must wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("team `{team}` is over its limit of {limit} {what}; try again in {:.1} s", *retry_after_ms as f64 / 1_000.0)]
pub struct LimitHit {
    pub team: TeamName,
    pub what: &'static str,
    pub limit: u64,
    pub retry_after_ms: u64,
}

/// A limit as the `x-ratelimit-*` headers tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateState {
    pub limit: u64,
    pub remaining: u64,
    pub reset_ms: u64,
}

/// Counts what teams do.
#[derive(Debug)]
pub struct Limiter {
    clock: Clock,
    teams: Mutex<HashMap<TeamName, Meter>>,
}

#[derive(Debug, Default)]
struct Meter {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    in_flight: u64,
}

/// Leave to make one call.
#[derive(Debug)]
pub struct Pass {
    limiter: Arc<Limiter>,
    team: TeamName,
    taken_tokens: u64,
    is_settled: bool,
    pub requests: Option<RateState>,
    pub tokens: Option<RateState>,
}

impl Limiter {
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, teams: Mutex::default() })
    }

    /// Lets a call of about `n_tokens` through, or says which limit it would break and when to come back.
    pub fn admit(
        self: &Arc<Self>,
        team: &TeamName,
        limits: &Limits,
        n_tokens: u64,
    ) -> Result<Pass, LimitHit> {
        let now_ms = self.clock.now_ms();
        let hit = |what, limit, retry_after_ms| LimitHit { team: team.clone(), what, limit, retry_after_ms };
        let mut teams = self.teams.lock();
        let meter = teams.entry(team.clone()).or_default();
        fit(&mut meter.requests, limits.requests_per_minute, now_ms);
        fit(&mut meter.tokens, limits.tokens_per_minute, now_ms);
        if let Some(limit) = limits.concurrency.filter(|limit| meter.in_flight >= *limit) {
            return Err(hit("concurrent calls", limit, 1_000));
        }
        if let Some(bucket) = &mut meter.requests {
            bucket
                .take(1, now_ms)
                .map_err(|wait_ms| hit("requests a minute", bucket.per_minute(), wait_ms))?;
        }
        if let Some(bucket) = &mut meter.tokens
            && let Err(wait_ms) = bucket.take(n_tokens, now_ms)
        {
            if let Some(requests) = &mut meter.requests {
                requests.adjust(-1, now_ms);
            }
            return Err(hit("tokens a minute", bucket.per_minute(), wait_ms));
        }
        meter.in_flight += 1;
        gauge!("stiver_calls_in_flight").increment(1.0);
        Ok(Pass {
            limiter: Arc::clone(self),
            team: team.clone(),
            taken_tokens: n_tokens,
            is_settled: false,
            requests: meter.requests.as_ref().map(state),
            tokens: meter.tokens.as_ref().map(state),
        })
    }

    pub fn in_flight(&self, team: &TeamName) -> u64 {
        self.teams.lock().get(team).map_or(0, |meter| meter.in_flight)
    }
}

impl Pass {
    /// Says how many tokens the call really took.
    pub fn settle(&mut self, n_tokens: u64) {
        let now_ms = self.limiter.clock.now_ms();
        let more = n_tokens as i64 - self.taken_tokens as i64;
        self.taken_tokens = n_tokens;
        self.is_settled = true;
        let mut teams = self.limiter.teams.lock();
        if let Some(bucket) = teams.get_mut(&self.team).and_then(|meter| meter.tokens.as_mut()) {
            bucket.adjust(more, now_ms);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // A call that came to nothing took no tokens.
        if !self.is_settled {
            self.settle(0);
        }
        if let Some(meter) = self.limiter.teams.lock().get_mut(&self.team) {
            meter.in_flight -= 1;
            gauge!("stiver_calls_in_flight").decrement(1.0);
        }
    }
}

fn state(bucket: &Bucket) -> RateState {
    RateState { limit: bucket.per_minute(), remaining: bucket.remaining(), reset_ms: bucket.reset_ms() }
}

/// Makes the bucket follow the limit that holds now.
fn fit(bucket: &mut Option<Bucket>, per_minute: Option<u64>, now_ms: i64) {
    match (per_minute, bucket.as_mut()) {
        (None, _) => *bucket = None,
        (Some(limit), None) => *bucket = Some(Bucket::new(limit, now_ms)),
        (Some(limit), Some(bucket)) if bucket.per_minute() != limit => bucket.resize(limit),
        (Some(_), Some(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> (Arc<Limiter>, Clock, TeamName) {
        let clock = Clock::standing_at(0);
        (Limiter::new(clock.clone()), clock, TeamName::from("search"))
    }

    #[test]
    fn concurrency_is_given_back_when_a_pass_is_dropped() {
        let (limiter, _, team) = limiter();
        let limits = Limits { concurrency: Some(2), ..Limits::default() };

        let first = limiter.admit(&team, &limits, 1).unwrap();
        let second = limiter.admit(&team, &limits, 1).unwrap();
        let refused = limiter.admit(&team, &limits, 1).unwrap_err();
        drop(first);
        let third = limiter.admit(&team, &limits, 1);

        assert_eq!(refused.what, "concurrent calls");
        assert!(third.is_ok());
        drop((second, third));
        assert_eq!(limiter.in_flight(&team), 0);
    }

    #[test]
    fn a_call_refused_for_its_tokens_costs_no_request() {
        let (limiter, _, team) = limiter();
        let limits = Limits { requests_per_minute: Some(2), tokens_per_minute: Some(100), concurrency: None };

        let first = limiter.admit(&team, &limits, 100).unwrap();
        let refused = limiter.admit(&team, &limits, 10).unwrap_err();

        assert_eq!((refused.what, refused.limit), ("tokens a minute", 100));
        assert_eq!(first.requests.unwrap().remaining, 1);
        let unlimited_tokens = Limits { tokens_per_minute: None, ..limits };
        assert!(limiter.admit(&team, &unlimited_tokens, 10).is_ok());
    }

    #[test]
    fn settling_gives_back_what_was_estimated_too_high() {
        let (limiter, _, team) = limiter();
        let limits = Limits { tokens_per_minute: Some(100), ..Limits::default() };

        let mut pass = limiter.admit(&team, &limits, 100).unwrap();
        pass.settle(40);

        assert_eq!(limiter.admit(&team, &limits, 60).unwrap().tokens.unwrap().remaining, 0);
    }

    #[test]
    fn a_call_that_came_to_nothing_gives_its_tokens_back() {
        let (limiter, _, team) = limiter();
        let limits = Limits { tokens_per_minute: Some(100), ..Limits::default() };

        drop(limiter.admit(&team, &limits, 100).unwrap());

        assert_eq!(limiter.admit(&team, &limits, 1).unwrap().tokens.unwrap().remaining, 99);
    }

    #[test]
    fn a_limit_that_changes_applies_at_once() {
        let (limiter, clock, team) = limiter();
        let limits = |n| Limits { requests_per_minute: Some(n), ..Limits::default() };
        limiter.admit(&team, &limits(1), 1).unwrap();
        assert!(limiter.admit(&team, &limits(1), 1).is_err());

        assert!(limiter.admit(&team, &limits(2), 1).is_ok());
        assert!(limiter.admit(&team, &limits(2), 1).is_err());
        clock.advance(30_000);
        assert!(limiter.admit(&team, &limits(2), 1).is_ok());
    }

    #[test]
    fn teams_do_not_share_limits() {
        let (limiter, _, team) = limiter();
        let limits = Limits { requests_per_minute: Some(1), ..Limits::default() };
        limiter.admit(&team, &limits, 1).unwrap();

        assert!(limiter.admit(&TeamName::from("other"), &limits, 1).is_ok());
    }
}
