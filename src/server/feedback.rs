//! `POST /v1/feedback`: a client says that an answer was wrong, or right.
//!
//! Reads HTTP; the pipeline takes the answer out of the cache.

use std::sync::Arc;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body;
use super::calls::{read_options, refuse};
use super::models::check_key;
use super::respond::json_response;
use crate::cache::EntryId;
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::pipeline::{About, Rating, take_feedback};
use crate::team::CallId;

/// One answer, by the call that it was given to or by its own name, and what is said of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeedbackBody {
    call_id: Option<String>,
    cache_entry: Option<String>,
    rating: Rating,
    /// Taken, so that a form for people can be sent as it is, and not kept: it is text of a caller.
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
}

pub(super) async fn take(State(gateway): State<Arc<Gateway>>, request: HttpRequest) -> Response {
    match answer(&gateway, request).await {
        Ok(body) => json_response(StatusCode::OK, body.to_string()),
        Err(error) => refuse(&error),
    }
}

async fn answer(gateway: &Gateway, request: HttpRequest) -> Result<Value> {
    let (head, body) = request.into_parts();
    let live = gateway.live();
    let caller = check_key(&live, &read_options(&head.headers)?, gateway.clock.now_ms())?;
    let body = body::read(body, &live.config.server).await?;
    let body: FeedbackBody = serde_json::from_slice(&body)
        .map_err(|error| Error::invalid(format!("the body is not as expected: {error}")))?;
    let rating = body.rating;
    let gone = take_feedback(gateway, &caller, about(body)?, rating).await?;
    Ok(json!({
        "object": "feedback",
        "rating": rating.as_str(),
        "removed": gone.n_exact + gone.n_semantic,
        "n_exact": gone.n_exact,
        "n_semantic": gone.n_semantic,
    }))
}

fn about(body: FeedbackBody) -> Result<About> {
    match (body.call_id, body.cache_entry) {
        (Some(id), None) => CallId::parse(&id).map(About::Call).ok_or_else(|| {
            let problem = "`call_id` is no id of a call, such as `x-request-id` says";
            Error::invalid(problem).with_param("call_id")
        }),
        (None, Some(name)) => EntryId::parse(&name).map(About::Entry).ok_or_else(|| {
            let problem = "`cache_entry` is no name of a cached answer, such as `x-stiver-cache-entry` says";
            Error::invalid(problem).with_param("cache_entry")
        }),
        (None, None) => Err(Error::invalid("say what is meant: give `call_id` or `cache_entry`")),
        (Some(_), Some(_)) => Err(Error::invalid("give `call_id` or `cache_entry`, not both")),
    }
}
