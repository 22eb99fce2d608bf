//! The end of a call that the cache answered: the stored answer, in the form that was asked for, and
//! its row in the book.
//!
//! Invariant: a hit costs nothing, and its row says what it saved.

use bytes::Bytes;
use futures_util::stream;

use super::admit::Admitted;
use super::call::Call;
use super::hold::{draft, payer};
use super::meter::{baseline_cost, emit_ended};
use super::reply::{Facts, Reply, ReplyBody};
use super::stream::frame;
use super::text::replayed;
use crate::cache::{Hit, HitKind};
use crate::chat::replay::chunks;
use crate::chat::rewrite::whole_with_cost;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome, Stages};
use crate::money::NanoUsd;
use crate::team::UpstreamName;

pub(super) fn replay(gateway: &Gateway, mut admitted: Admitted, call: &Call, hit: &Hit) -> Result<Reply> {
    let body = if call.request.stream { stream_body(call, hit)? } else { whole_body(hit) };
    let entry = row(&admitted, call, hit);
    gateway
        .ledger
        .record_with(entry.clone(), replayed(&admitted, call, &hit.answer.body))
        .map_err(|refused| Error::of_hold(&refused, gateway.clock.now_ms()))?;
    admitted.pass.settle(0);
    emit_ended(&entry, call.age());
    let mut facts = Facts::of(&entry);
    facts.age_s = Some(hit.age_s);
    facts.tell_budgets(&gateway.ledger, &payer(&admitted, call), &admitted.caller.budgets);
    facts.requests = admitted.pass.requests;
    facts.tokens = admitted.pass.tokens;
    Ok(Reply { facts, body })
}

fn whole_body(hit: &Hit) -> ReplyBody {
    ReplyBody::Whole(whole_with_cost(&hit.answer.body, Some(NanoUsd::ZERO)))
}

fn stream_body(call: &Call, hit: &Hit) -> Result<ReplyBody> {
    let with_cost = whole_with_cost(&hit.answer.body, Some(NanoUsd::ZERO));
    let (id, created) = (format!("chatcmpl-{}", call.id), call.ts_ms / 1_000);
    let chunks = chunks(&with_cost, call.request.include_usage, &id, created)
        .map_err(|error| Error::internal(format!("a stored answer cannot be streamed: {error}")))?;
    let events: Vec<Bytes> = chunks.iter().map(|chunk| frame(chunk)).collect();
    Ok(ReplyBody::Stream(Box::pin(stream::iter(events))))
}

fn row(admitted: &Admitted, call: &Call, hit: &Hit) -> Entry {
    let mut entry = draft(admitted, call);
    let (path, cache, similarity) = match hit.kind {
        HitKind::Exact | HitKind::Coalesced => (AnswerPath::Exact, CacheOutcome::HitExact, None),
        HitKind::Semantic { similarity, .. } => {
            (AnswerPath::Semantic, CacheOutcome::HitSemantic, Some(similarity))
        }
    };
    entry.path = path;
    entry.cache = cache;
    entry.similarity = similarity;
    entry.cache_entry = Some(match hit.kind {
        HitKind::Semantic { entry, .. } => entry.to_string(),
        HitKind::Exact | HitKind::Coalesced => admitted.canonical.exact.to_hex(),
    });
    entry.reason = match &hit.answer.origin {
        Some(origin) => format!("an earlier answer, given to call {}", origin.call),
        None => "an earlier answer".to_owned(),
    };
    entry.upstream = Some(UpstreamName::from(&hit.answer.upstream));
    entry.model = Some(hit.answer.model.clone());
    entry.usage = hit.answer.usage;
    entry.cost = Some(NanoUsd::ZERO);
    entry.baseline = baseline_cost(&admitted.live, call, &hit.answer.usage);
    entry.estimated = false;
    entry.outcome = Outcome::Ok;
    entry.status = 200;
    let age = call.age();
    entry.overhead_us = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
    entry.total_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    entry.stages = Stages { ended_us: Some(entry.overhead_us), ..call.stages() };
    entry
}
