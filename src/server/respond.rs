//! From what a call came to, to an HTTP response: status, headers, body.
//!
//! Decides nothing. The headers are the ones the README documents.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use crate::admission::RateState;
use crate::error::Error;
use crate::pipeline::{Facts, Reply, ReplyBody};
use crate::team::CallId;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A whole JSON body.
pub(super) fn json_response(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

pub(super) fn error_response(error: &Error) -> Response {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, error.body());
    let headers = response.headers_mut();
    if let Some(wait_ms) = error.retry_after_ms {
        set(headers, RETRY_AFTER, wait_ms.div_ceil(1_000));
        set(headers, HeaderName::from_static("retry-after-ms"), wait_ms);
    }
    if let Some(should_retry) = error.should_retry {
        set(headers, HeaderName::from_static("x-should-retry"), should_retry);
    }
    if error.n_attempts > 0 {
        set(headers, HeaderName::from_static("x-stiver-attempts"), error.n_attempts);
    }
    if let Some(split) = &error.split {
        set(headers, HeaderName::from_static("x-stiver-split"), split);
    }
    response
}

/// The answer of a call.
pub(super) fn reply_response(reply: Reply) -> Response {
    let mut response = match reply.body {
        ReplyBody::Whole(body) => json_response(StatusCode::OK, body),
        ReplyBody::Stream(events) => stream_response(events),
    };
    write_facts(response.headers_mut(), &reply.facts);
    response
}

fn stream_response(events: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(events.map(Ok::<_, Infallible>)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx would otherwise collect the stream before passing it on.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

pub(super) fn write_call_id(headers: &mut HeaderMap, id: CallId) {
    set(headers, HeaderName::from_static("x-request-id"), id);
}

fn write_facts(headers: &mut HeaderMap, facts: &Facts) {
    let mut put = |name: &'static str, value: Option<String>| {
        if let Some(value) = value {
            set(headers, HeaderName::from_static(name), value);
        }
    };
    put("x-stiver-path", Some(facts.path.as_str().to_owned()));
    put("x-stiver-cache", Some(facts.cache_told()));
    put("x-stiver-model", facts.model.clone());
    put("x-stiver-tier", facts.tier.as_ref().map(ToString::to_string));
    put("x-stiver-score", facts.score.map(|score| format!("{score:.3}")));
    put("x-stiver-cost-usd", facts.cost.map(|cost| cost.to_string()));
    put("x-stiver-saved-usd", facts.saved.map(|saved| saved.to_string()));
    put("x-stiver-cache-similarity", facts.similarity.map(|similarity| format!("{similarity:.4}")));
    put("x-stiver-cache-entry", facts.cache_entry.clone());
    put("x-stiver-split", facts.split.clone());
    put("x-stiver-attempts", (facts.n_attempts > 0).then(|| facts.n_attempts.to_string()));
    put("x-stiver-overhead-ms", Some(format!("{:.3}", facts.overhead.as_secs_f64() * 1_000.0)));
    put("x-stiver-budget-remaining-usd", facts.budget_remaining.map(|left| left.to_string()));
    put("x-stiver-budget-warning", facts.budget_warning.clone());
    put("age", facts.age_s.map(|age_s| age_s.to_string()));
    for (what, state) in [("requests", facts.requests), ("tokens", facts.tokens)] {
        if let Some(state) = state {
            write_rate(headers, what, &state);
        }
    }
}

fn write_rate(headers: &mut HeaderMap, what: &str, state: &RateState) {
    let reset = format!("{:.3}s", state.reset_ms as f64 / 1_000.0);
    for (part, value) in
        [("limit", state.limit.to_string()), ("remaining", state.remaining.to_string()), ("reset", reset)]
    {
        if let Ok(name) = HeaderName::try_from(format!("x-ratelimit-{part}-{what}")) {
            set(headers, name, value);
        }
    }
}

/// Sets a header; a value that cannot stand in one (it came from a model's name) is left out.
fn set(headers: &mut HeaderMap, name: HeaderName, value: impl ToString) {
    if let Ok(value) = HeaderValue::try_from(value.to_string()) {
        headers.insert(name, value);
    }
}
