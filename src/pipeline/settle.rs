//! Stage 7: passes the answer on, posts it once, and leaves it in the cache.
//!
//! Invariant: an answer is in the journal before the client has been told that it is complete.

use std::sync::Arc;

use bytes::Bytes;

use super::admit::Admitted;
use super::call::Call;
use super::dispatch::Answered;
use super::hold::payer;
use super::judge::Judge;
use super::lookup::Filling;
use super::meter::Meter;
use super::reply::{Facts, Reply, ReplyBody};
use super::stream::{Passing, pass_on};
use crate::cache::policy::{AnswerFacts, storable};
use crate::cache::{Cache, Fill, Origin, StoredAnswer};
use crate::chat::rewrite::whole_with_cost;
use crate::gateway::Gateway;
use crate::ledger::entry::{Entry, Outcome};
use crate::upstream::Answer;

pub(super) fn settle(
    gateway: &Arc<Gateway>,
    admitted: Admitted,
    call: Call,
    fill: Filling,
    answered: Answered,
) -> Reply {
    let (payer, budgets) = (payer(&admitted, &call), Arc::clone(&admitted.caller.budgets));
    let (requests, tokens) = (admitted.pass.requests, admitted.pass.tokens);
    // Whoever could not be asked now may be able to answer the next time.
    let fill = fill.into_fill().filter(|_| !answered.answer.is_declined());
    let fill = fill.map(|fill| judged(gateway, &admitted, &call, fill));
    let (answer, mut meter) = Meter::start(admitted, &call, answered);
    let keeper = Keeper { cache: gateway.cache.clone(), fill, max_answer_bytes: gateway.max_answer_bytes };
    let mut reply = match answer {
        Answer::Whole(whole) => {
            let cost = meter.read_whole(whole.usage, &whole.body);
            let body = whole_with_cost(&whole.body, cost);
            let entry = meter.post(Outcome::Ok);
            keeper.keep(whole.body, &entry);
            Reply { facts: Facts::of(&entry), body: ReplyBody::Whole(body) }
        }
        Answer::Stream(items) => {
            let facts = Facts::before_end(meter.entry());
            let passing = Passing::new(&call, meter, keeper);
            Reply { facts, body: ReplyBody::Stream(pass_on(passing, items)) }
        }
    };
    reply.facts.requests = requests;
    reply.facts.tokens = tokens;
    reply.facts.tell_budgets(&gateway.ledger, &payer, &budgets);
    reply
}

/// Where the answer will be compared and the operator names a judge, it is one of those who compare.
fn judged(gateway: &Arc<Gateway>, admitted: &Admitted, call: &Call, fill: Fill) -> Fill {
    if !fill.compares() {
        return fill;
    }
    match Judge::of(gateway, admitted, call) {
        Some(judge) => fill.judged_by(Arc::new(judge)),
        None => fill,
    }
}

/// Leaves a whole answer in the cache, where it may be left.
pub(super) struct Keeper {
    cache: Cache,
    fill: Option<Fill>,
    pub(super) max_answer_bytes: usize,
}

impl Keeper {
    pub(super) fn is_wanted(&self) -> bool {
        self.fill.is_some()
    }

    pub(super) fn keep(self, body: Bytes, entry: &Entry) {
        let Some(fill) = self.fill else { return };
        if !is_storable(&body, self.max_answer_bytes) {
            return;
        }
        let answer = StoredAnswer {
            body,
            model: entry.model.clone().unwrap_or_default(),
            upstream: entry.upstream.as_ref().map(ToString::to_string).unwrap_or_default(),
            usage: entry.usage,
            cost: entry.cost,
            stored_at_ms: entry.ts_ms,
            origin: Some(Origin { call: entry.id, team: entry.team.clone(), route: entry.route.clone() }),
        };
        fill.store(&self.cache, answer);
    }
}

#[derive(serde::Deserialize)]
struct WireAnswer<'a> {
    #[serde(borrow, default)]
    choices: Vec<WireChoice<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(serde::Deserialize)]
struct WireChoice<'a> {
    #[serde(default)]
    finish_reason: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<WireMessage<'a>>,
}

#[derive(serde::Deserialize)]
struct WireMessage<'a> {
    #[serde(borrow, default)]
    tool_calls: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default)]
    function_call: Option<&'a serde_json::value::RawValue>,
}

fn is_storable(body: &[u8], max_answer_bytes: usize) -> bool {
    let Ok(answer) = serde_json::from_slice::<WireAnswer<'_>>(body) else {
        return false;
    };
    let finish_reasons: Vec<Option<&str>> =
        answer.choices.iter().map(|choice| choice.finish_reason.as_deref()).collect();
    let calls_tools = |message: &WireMessage<'_>| {
        let is_call = |raw: Option<&serde_json::value::RawValue>| {
            raw.is_some_and(|raw| !matches!(raw.get(), "null" | "[]"))
        };
        is_call(message.tool_calls) || is_call(message.function_call)
    };
    let facts = AnswerFacts {
        status: 200,
        finish_reasons: &finish_reasons,
        has_tool_calls: answer.choices.iter().filter_map(|choice| choice.message.as_ref()).any(calls_tools),
        truncated: false,
        has_error: answer.error.is_some_and(|raw| raw.get() != "null"),
        size_bytes: body.len(),
    };
    storable(&facts, max_answer_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: bool) {
        assert_eq!(is_storable(body.as_bytes(), 1_000), expected, "{body}");
    }

    #[test]
    fn only_answers_that_ended_by_themselves_are_kept() {
        check(r#"{"choices":[{"finish_reason":"stop","message":{"content":"x","tool_calls":null}}]}"#, true);
        check(r#"{"object":"list","data":[]}"#, true);
        check(r#"{"choices":[{"finish_reason":"length","message":{"content":"x"}}]}"#, false);
        check(r#"{"choices":[{"finish_reason":null,"message":{"content":"x"}}]}"#, false);
        check(r#"{"choices":[{"finish_reason":"stop","message":{"tool_calls":[{"id":"a"}]}}]}"#, false);
        check(r#"{"choices":[{"finish_reason":"stop"}],"error":{"message":"x"}}"#, false);
        check("not json", false);
        check(&format!(r#"{{"choices":[],"pad":"{}"}}"#, "x".repeat(1_000)), false);
    }
}
