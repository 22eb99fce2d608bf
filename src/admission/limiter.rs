//! Requests a minute, tokens a minute and concurrency, by team.
//!
//! Does not know keys or routes. With a shared store a limit holds for all replicas together; without one, or
//! while it is away, for each replica alone.
//!
//! Invariants: a [`Pass`] gives its slot back exactly once, when it is dropped; no call is refused because the
//! shared store is away.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::{counter, gauge};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bucket::Bucket;
use super::shared_limits::{self, Admitted, SharedLimits, SharedPass};
use crate::clock::Clock;
use crate::shared::SharedStore;
use crate::team::TeamName;

/// What a limit is of, in the words callers are told.
pub(super) const CONCURRENT: &str = "concurrent calls";
pub(super) const REQUESTS: &str = "requests a minute";
pub(super) const TOKENS: &str = "tokens a minute";

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
    shared: Option<SharedLimits>,
    closing: CancellationToken,
}

#[derive(Debug, Default)]
struct Meter {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    in_flight: u64,
    /// Calls of this replica that the shared store counts, too.
    in_flight_shared: u64,
}

/// Leave to make one call.
#[derive(Debug)]
pub struct Pass {
    limiter: Arc<Limiter>,
    team: TeamName,
    taken_tokens: u64,
    is_settled: bool,
    /// Whether it took anything that is to be given back.
    is_counted: bool,
    /// What the shared store has to be told at the end: tokens taken there, and the limit they are under.
    shared: Option<SharedPass>,
    pub requests: Option<RateState>,
    pub tokens: Option<RateState>,
}

impl Limiter {
    /// Limits of this replica alone.
    pub fn new(clock: Clock) -> Arc<Self> {
        Self::open(clock, None)
    }

    /// Limits of all replicas that share a store.
    pub fn open(clock: Clock, shared: Option<Arc<SharedStore>>) -> Arc<Self> {
        let (shared, closing) = (shared.map(SharedLimits::new), CancellationToken::new());
        Arc::new(Self { clock, teams: Mutex::default(), shared, closing })
    }

    /// Starts what tells the shared store of calls that have ended.
    pub fn start(self: &Arc<Self>, tracker: &TaskTracker) {
        if self.shared.is_some() {
            tracker.spawn(shared_limits::tell(Arc::clone(self), self.closing.clone()));
        }
    }

    /// Ends what runs in the background.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Lets a call of about `n_tokens` through, or says which limit it would break and when to come back.
    ///
    /// Waits only where the limits are shared.
    pub async fn admit(
        self: &Arc<Self>,
        team: &TeamName,
        limits: &Limits,
        n_tokens: u64,
    ) -> Result<Pass, LimitHit> {
        if let Some(shared) = self.shared.as_ref().filter(|_| limits.given().next().is_some()) {
            match shared.admit(team, limits, n_tokens).await {
                Ok(Admitted::Yes { requests, tokens, pass }) => {
                    return Ok(self.pass(team, n_tokens, (requests, tokens), Some(pass)));
                }
                Ok(Admitted::No(hit)) => return Err(hit),
                Err(_) => counter!("stiver_limits_counted_locally_total").increment(1),
            }
        }
        self.admit_here(team, limits, n_tokens)
    }

    fn admit_here(
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
            return Err(hit(CONCURRENT, limit, 1_000));
        }
        if let Some(bucket) = &mut meter.requests {
            bucket.take(1, now_ms).map_err(|wait_ms| hit(REQUESTS, bucket.per_minute(), wait_ms))?;
        }
        if let Some(bucket) = &mut meter.tokens
            && let Err(wait_ms) = bucket.take(n_tokens, now_ms)
        {
            if let Some(requests) = &mut meter.requests {
                requests.adjust(-1, now_ms);
            }
            return Err(hit(TOKENS, bucket.per_minute(), wait_ms));
        }
        let states = (meter.requests.as_ref().map(state), meter.tokens.as_ref().map(state));
        drop(teams);
        Ok(self.pass(team, n_tokens, states, None))
    }

    fn pass(
        self: &Arc<Self>,
        team: &TeamName,
        taken_tokens: u64,
        (requests, tokens): (Option<RateState>, Option<RateState>),
        shared: Option<SharedPass>,
    ) -> Pass {
        let mut teams = self.teams.lock();
        let meter = teams.entry(team.clone()).or_default();
        meter.in_flight += 1;
        meter.in_flight_shared += u64::from(shared.is_some());
        gauge!("stiver_calls_in_flight").increment(1.0);
        let (limiter, team) = (Arc::clone(self), team.clone());
        Pass { limiter, team, taken_tokens, is_settled: false, is_counted: true, shared, requests, tokens }
    }

    /// Leave for a call of our own, which takes nothing of a team's limits.
    pub fn uncounted(self: &Arc<Self>, team: &TeamName) -> Pass {
        Pass {
            limiter: Arc::clone(self),
            team: team.clone(),
            taken_tokens: 0,
            is_settled: true,
            is_counted: false,
            shared: None,
            requests: None,
            tokens: None,
        }
    }

    /// Every team, with its calls that the shared store counts.
    pub(super) fn shared_slots(&self) -> Vec<(TeamName, u64)> {
        let teams = self.teams.lock();
        teams.iter().map(|(team, meter)| (team.clone(), meter.in_flight_shared)).collect()
    }

    pub(super) fn shared(&self) -> Option<&SharedLimits> {
        self.shared.as_ref()
    }

    pub fn in_flight(&self, team: &TeamName) -> u64 {
        self.teams.lock().get(team).map_or(0, |meter| meter.in_flight)
    }
}

impl Pass {
    /// Says how many tokens the call really took.
    pub fn settle(&mut self, n_tokens: u64) {
        if !self.is_counted {
            return;
        }
        let now_ms = self.limiter.clock.now_ms();
        let more = n_tokens as i64 - self.taken_tokens as i64;
        self.taken_tokens = n_tokens;
        self.is_settled = true;
        if let Some(pass) = &mut self.shared {
            pass.more_tokens += more;
            return;
        }
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
        if !self.is_counted {
            return;
        }
        if let Some(meter) = self.limiter.teams.lock().get_mut(&self.team) {
            meter.in_flight -= 1;
            meter.in_flight_shared -= u64::from(self.shared.is_some());
            gauge!("stiver_calls_in_flight").decrement(1.0);
        }
        if let Some((shared, pass)) = self.limiter.shared.as_ref().zip(self.shared.take()) {
            shared.end(&self.team, pass);
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
    use futures_util::FutureExt;

    use super::*;

    fn admit(
        limiter: &Arc<Limiter>,
        team: &TeamName,
        limits: &Limits,
        n_tokens: u64,
    ) -> Result<Pass, LimitHit> {
        limiter.admit(team, limits, n_tokens).now_or_never().expect("limits of one replica do not wait")
    }

    fn limiter() -> (Arc<Limiter>, Clock, TeamName) {
        let clock = Clock::standing_at(0);
        (Limiter::new(clock.clone()), clock, TeamName::from("search"))
    }

    #[test]
    fn concurrency_is_given_back_when_a_pass_is_dropped() {
        let (limiter, _, team) = limiter();
        let limits = Limits { concurrency: Some(2), ..Limits::default() };

        let first = admit(&limiter, &team, &limits, 1).unwrap();
        let second = admit(&limiter, &team, &limits, 1).unwrap();
        let refused = admit(&limiter, &team, &limits, 1).unwrap_err();
        drop(first);
        let third = admit(&limiter, &team, &limits, 1);

        assert_eq!(refused.what, "concurrent calls");
        assert!(third.is_ok());
        drop((second, third));
        assert_eq!(limiter.in_flight(&team), 0);
    }

    #[test]
    fn a_call_of_our_own_takes_nothing_of_a_teams_limits() {
        let (limiter, _, team) = limiter();
        let limits =
            Limits { requests_per_minute: Some(1), tokens_per_minute: Some(10), concurrency: Some(1) };

        let mut own = limiter.uncounted(&team);
        own.settle(1_000);
        assert_eq!(limiter.in_flight(&team), 0);
        drop(own);
        let clients = admit(&limiter, &team, &limits, 10).unwrap();

        assert_eq!(clients.tokens.map(|state| state.remaining), Some(0));
        assert_eq!(limiter.in_flight(&team), 1);
    }

    #[test]
    fn a_call_refused_for_its_tokens_costs_no_request() {
        let (limiter, _, team) = limiter();
        let limits = Limits { requests_per_minute: Some(2), tokens_per_minute: Some(100), concurrency: None };

        let first = admit(&limiter, &team, &limits, 100).unwrap();
        let refused = admit(&limiter, &team, &limits, 10).unwrap_err();

        assert_eq!((refused.what, refused.limit), ("tokens a minute", 100));
        assert_eq!(first.requests.unwrap().remaining, 1);
        let unlimited_tokens = Limits { tokens_per_minute: None, ..limits };
        assert!(admit(&limiter, &team, &unlimited_tokens, 10).is_ok());
    }

    #[test]
    fn settling_gives_back_what_was_estimated_too_high() {
        let (limiter, _, team) = limiter();
        let limits = Limits { tokens_per_minute: Some(100), ..Limits::default() };

        let mut pass = admit(&limiter, &team, &limits, 100).unwrap();
        pass.settle(40);

        assert_eq!(admit(&limiter, &team, &limits, 60).unwrap().tokens.unwrap().remaining, 0);
    }

    #[test]
    fn a_call_that_came_to_nothing_gives_its_tokens_back() {
        let (limiter, _, team) = limiter();
        let limits = Limits { tokens_per_minute: Some(100), ..Limits::default() };

        drop(admit(&limiter, &team, &limits, 100).unwrap());

        assert_eq!(admit(&limiter, &team, &limits, 1).unwrap().tokens.unwrap().remaining, 99);
    }

    #[test]
    fn a_limit_that_changes_applies_at_once() {
        let (limiter, clock, team) = limiter();
        let limits = |n| Limits { requests_per_minute: Some(n), ..Limits::default() };
        admit(&limiter, &team, &limits(1), 1).unwrap();
        assert!(admit(&limiter, &team, &limits(1), 1).is_err());

        assert!(admit(&limiter, &team, &limits(2), 1).is_ok());
        assert!(admit(&limiter, &team, &limits(2), 1).is_err());
        clock.advance(30_000);
        assert!(admit(&limiter, &team, &limits(2), 1).is_ok());
    }

    #[test]
    fn teams_do_not_share_limits() {
        let (limiter, _, team) = limiter();
        let limits = Limits { requests_per_minute: Some(1), ..Limits::default() };
        admit(&limiter, &team, &limits, 1).unwrap();

        assert!(admit(&limiter, &TeamName::from("other"), &limits, 1).is_ok());
    }
}
