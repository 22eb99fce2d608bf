//! Stage 6: asks the upstreams of a plan in order until one answers.
//!
//! Does not choose them and does not read answers; `upstream` judges failures and knows an answer that
//! only says that the question is not its own. Such an answer is kept, and given if nobody has a better.
//!
//! Invariants: every attempt is journalled before its first byte is sent; after the first byte of an
//! answer no other upstream is asked; when all fail, the hold ends at what broken answers cost, else at
//! nothing.

use std::time::{Duration, Instant};

use super::admit::Admitted;
use super::call::Call;
use super::hold::Held;
use super::local;
use super::meter::emit_ended;
use super::plan::Planned;
use super::reply::arm_of;
use crate::chat::{Request, Usage};
use crate::config::EMBEDDER;
use crate::error::{Blame, Error, Result};
use crate::gateway::Gateway;
use crate::ledger::Hold;
use crate::ledger::entry::{Outcome, Tried};
use crate::money::NanoUsd;
use crate::prompt::estimate_tokens;
use crate::routing::Attempt;
use crate::team::{TeamName, UpstreamName};
use crate::telemetry::events::AttemptFailed;
use crate::upstream::outcome::Retry;
use crate::upstream::{Answer, Ask, Upstream, UpstreamError, breaker, outcome};

/// How much of an upstream's own words goes into a log line.
const MAX_DETAIL_CHARS: usize = 200;

/// An answer that has begun, and who gives it.
pub(super) struct Answered {
    pub held: Held,
    pub answer: Answer,
    pub attempt: Attempt,
    pub is_local: bool,
    /// When the attempt that answers was sent; what came before is our own time.
    pub sent_at: Instant,
    pub first_byte_at: Instant,
    /// What earlier attempts cost that broke after they had begun to answer, or declined; estimated.
    pub wasted: NanoUsd,
    /// The attempts before this one.
    pub tried: Vec<Tried>,
}

pub(super) async fn dispatch(
    gateway: &Gateway,
    admitted: &Admitted,
    call: &Call,
    planned: &Planned,
    held: Held,
) -> Result<Answered> {
    let mut sending = Sending {
        gateway,
        call,
        team: &admitted.caller.team.name,
        hold: held.hold,
        n_attempts: 0,
        tried: Vec::new(),
        failed: Vec::new(),
        needs_context: None,
        wasted: NanoUsd::ZERO,
    };
    let mut failed: Option<Error> = None;
    let mut declined: Option<(Beginning, &Attempt)> = None;
    let mut attempts = planned.plan.attempts().peekable();
    while let Some(attempt) = attempts.next() {
        let attempted = if attempt.upstream.as_str() == EMBEDDER {
            sending.embed().await
        } else {
            let upstream = admitted.live.upstream(&attempt.upstream);
            if sending.lacks_context(attempt) {
                continue;
            }
            let may_pass_on = attempts.peek().is_some() || declined.is_some();
            sending.attempt(upstream, attempt, may_pass_on).await
        };
        match attempted {
            Attempted::Answered(beginning) if beginning.answer.is_declined() => {
                if let Some((passed, declining)) = declined.replace((beginning, attempt)) {
                    sending.pass_over(&passed, declining);
                }
            }
            Attempted::Answered(beginning) => {
                if let Some((passed, declining)) = declined {
                    sending.pass_over(&passed, declining);
                }
                return Ok(sending.answered(beginning, attempt));
            }
            Attempted::Next(error) => failed = Some(error),
            Attempted::Stop(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    if let Some((beginning, attempt)) = declined {
        return Ok(sending.answered(beginning, attempt));
    }
    let error = failed.unwrap_or_else(|| Error::internal("a plan without an attempt was dispatched"));
    Err(sending.give_up(error))
}

/// The state of a call while upstreams are asked.
struct Sending<'a> {
    gateway: &'a Gateway,
    call: &'a Call,
    team: &'a TeamName,
    hold: Hold,
    n_attempts: u32,
    /// Each upstream asked so far, once.
    tried: Vec<UpstreamName>,
    /// Each attempt that failed, for the row.
    failed: Vec<Tried>,
    /// The prompt was too long for an upstream with this much context.
    needs_context: Option<u64>,
    wasted: NanoUsd,
}

enum Attempted {
    Answered(Beginning),
    Next(Error),
    Stop(Error),
}

struct Beginning {
    answer: Answer,
    is_local: bool,
    sent_at: Instant,
    first_byte_at: Instant,
}

impl Sending<'_> {
    /// Whether the prompt was too long already for an upstream that takes no less.
    fn lacks_context(&self, attempt: &Attempt) -> bool {
        self.needs_context.zip(attempt.context_tokens).is_some_and(|(above, context)| context <= above)
    }

    /// Asks one upstream, again as often as its configuration and its failures allow.
    async fn attempt(&mut self, upstream: &Upstream, attempt: &Attempt, may_pass_on: bool) -> Attempted {
        let mut n_failed = 0;
        loop {
            let Ok(permit) = self.gateway.breakers.permit(&upstream.name, &upstream.breaker, Instant::now())
            else {
                return Attempted::Next(tripped(attempt));
            };
            let attempt_no = self.n_attempts + 1;
            if let Err(refused) = self.hold.sent(&attempt.upstream, &attempt.model, attempt_no) {
                return Attempted::Stop(Error::of_hold(&refused, self.gateway.clock.now_ms()));
            }
            self.n_attempts = attempt_no;
            if n_failed == 0 {
                self.tried.push(attempt.upstream.clone());
            }
            let sent_at = Instant::now();
            let failure = match self.send(upstream, may_pass_on).await {
                Ok(answer) => {
                    permit.record(breaker::Outcome::Success, Instant::now());
                    return Attempted::Answered(Beginning {
                        answer,
                        is_local: upstream.is_local(),
                        sent_at,
                        first_byte_at: Instant::now(),
                    });
                }
                Err(failure) => failure,
            };
            let verdict = failure.verdict();
            let outcome = if verdict.counts_against_breaker {
                breaker::Outcome::Failure
            } else {
                breaker::Outcome::Success
            };
            permit.record(outcome, Instant::now());
            report(&attempt.upstream, &failure);
            self.note(attempt, failure.reason(), sent_at.elapsed());
            if failure.had_begun() {
                self.waste(attempt);
            }
            n_failed += 1;
            match verdict.retry {
                Retry::Same if n_failed <= upstream.max_retries => {
                    let wait = upstream.backoff.wait(n_failed, rand::random(), verdict.retry_after);
                    tokio::time::sleep(wait).await;
                }
                Retry::Same | Retry::Next => return Attempted::Next(failure.into()),
                Retry::Larger => {
                    self.needs_context = attempt.context_tokens;
                    return Attempted::Next(failure.into());
                }
                Retry::Never => return Attempted::Stop(failure.into()),
            }
        }
    }

    async fn send(
        &self,
        upstream: &Upstream,
        may_pass_on: bool,
    ) -> std::result::Result<Answer, UpstreamError> {
        let Request { endpoint, fields, stream, .. } = &self.call.request;
        let ask = Ask {
            endpoint: *endpoint,
            fields,
            stream: *stream,
            call_id: self.call.id,
            team: self.team,
            scope: self.call.options.cache_scope.as_deref(),
            may_pass_on,
        };
        upstream.send(&ask).await
    }

    async fn embed(&mut self) -> Attempted {
        self.n_attempts += 1;
        let sent_at = Instant::now();
        match local::embed(self.gateway, &self.call.request).await {
            Ok(whole) => {
                let answer = Answer::Whole(Box::new(whole));
                let first_byte_at = Instant::now();
                Attempted::Answered(Beginning { answer, is_local: true, sent_at, first_byte_at })
            }
            Err(error) if error.blame == Blame::Caller => Attempted::Stop(error),
            Err(error) => Attempted::Next(error),
        }
    }

    fn answered(self, beginning: Beginning, attempt: &Attempt) -> Answered {
        let Beginning { answer, is_local, sent_at, first_byte_at } = beginning;
        let (held, attempt) = (Held { hold: self.hold }, attempt.clone());
        let (wasted, tried) = (self.wasted, self.failed);
        Answered { held, answer, attempt, is_local, sent_at, first_byte_at, wasted, tried }
    }

    /// Books an answer that only declined, because somebody else gives one.
    fn pass_over(&mut self, passed: &Beginning, declining: &Attempt) {
        self.note(declining, "declined", passed.first_byte_at.duration_since(passed.sent_at));
        self.waste(declining);
    }

    fn note(&mut self, attempt: &Attempt, reason: &str, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.failed.push(Tried { upstream: attempt.upstream.clone(), reason: reason.to_owned(), took_ms });
    }

    /// Books what an attempt cost whose answer is not given.
    fn waste(&mut self, attempt: &Attempt) {
        self.wasted += self.input_cost(attempt);
        if self.wasted > NanoUsd::ZERO {
            self.hold.progress(self.input_usage(), self.wasted);
        }
    }

    /// The least that a broken attempt is billed: its prompt.
    fn input_cost(&self, attempt: &Attempt) -> NanoUsd {
        let price = attempt.price.as_ref();
        price.and_then(|price| price.cost(&self.input_usage()).ok()).unwrap_or(NanoUsd::ZERO)
    }

    fn input_usage(&self) -> Usage {
        Usage { input: estimate_tokens(self.call.request.n_chars()), ..Usage::default() }
    }

    /// Nothing was answered: the money is released but for what broken attempts cost, and the row
    /// says how the call ended.
    fn give_up(self, mut error: Error) -> Error {
        error.n_attempts = self.n_attempts;
        if !self.tried.is_empty() {
            let tried = self.tried.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            error.message = format!("{}; tried {tried}", error.message).into();
        }
        let mut entry = self.hold.draft().clone();
        error.split = arm_of(&entry).map(String::into_boxed_str);
        if self.n_attempts > 0 {
            entry.outcome = Outcome::UpstreamError;
            entry.status = error.status;
            entry.total_ms = u64::try_from(self.call.age().as_millis()).unwrap_or(u64::MAX);
            entry.cost = Some(self.wasted);
            entry.stages = self.call.stages();
            entry.tried = self.failed.clone();
            entry.estimated = self.wasted > NanoUsd::ZERO;
            if entry.estimated {
                entry.usage = self.input_usage();
                emit_ended(&entry, self.call.age());
                self.hold.post(entry);
            } else {
                emit_ended(&entry, self.call.age());
                self.hold.void(entry);
            }
        }
        error
    }
}

fn tripped(attempt: &Attempt) -> Error {
    let message =
        format!("upstream `{}` failed repeatedly and is being left alone for a moment", attempt.upstream);
    let mut error = Error::new(Blame::Upstream, 503, "server_error", message).with_code("no_upstream");
    error.retry_after_ms = Some(1_000);
    error
}

/// Tells the operator of a failure, before an answer or in the middle of one.
pub(super) fn report(upstream: &UpstreamName, failure: &UpstreamError) {
    // What an upstream says of a caller's mistake may quote the caller.
    let may_tell = failure.verdict().blame != outcome::Blame::Caller;
    let detail = match failure.detail().filter(|_| may_tell) {
        Some(detail) => format!("{failure}: {}", detail.chars().take(MAX_DETAIL_CHARS).collect::<String>()),
        None => failure.to_string(),
    };
    AttemptFailed { upstream: upstream.as_str(), reason: failure.reason(), detail: &detail }.emit();
}
