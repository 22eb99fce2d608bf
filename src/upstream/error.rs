//! Why an upstream gave no answer, in words for the caller and in detail for the operator.
//!
//! Does not decide what to do about it; [`outcome::judge`] does, from the facts given here.
//!
//! Invariants: no text in here holds a key, a header we sent or an address with credentials.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;

use super::openai::{Report, Unreadable};
use super::outcome::{self, Failure, Phase, StatusFacts, Verdict};

/// The error's `Display` is fit for the caller; [`UpstreamError::detail`] is for the operator.
#[derive(Debug, Clone, thiserror::Error)]
pub enum UpstreamError {
    #[error("the upstream cannot be reached")]
    Connect { detail: String },
    #[error("the upstream took longer than {after_ms} ms ({})", .phase.as_str())]
    Timeout { phase: Phase, after_ms: u64 },
    #[error("the connection to the upstream broke before it answered")]
    Broken { detail: String },
    #[error("the upstream refused the call with status {}", .0.status)]
    Refused(Box<Refusal>),
    #[error("the upstream reported an error in place of an answer")]
    Reported { report: Box<Report>, body: Bytes },
    #[error("the upstream answered with content type {found}, not {expected}")]
    ContentType { expected: &'static str, found: String },
    #[error("the upstream's answer is empty")]
    Empty,
    #[error("the upstream's answer ended before it was complete")]
    Truncated { detail: String },
    #[error("the upstream's answer is not one that can be read")]
    Malformed { detail: String },
    #[error("the upstream's answer is longer than {limit_bytes} bytes")]
    TooLong { limit_bytes: usize },
    /// A model in this process has no room for another call.
    #[error("the local model is busy: {reason}")]
    Busy { reason: String },
}

/// An answer whose status is no success, kept to be passed on where the fault is the caller's.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: u16,
    pub report: Report,
    pub retry_after: Option<Duration>,
    pub should_retry: Option<bool>,
    pub content_type: Option<String>,
    /// As it came, up to [`super::MAX_ERROR_BYTES`].
    pub body: Bytes,
}

impl UpstreamError {
    pub fn verdict(&self) -> Verdict {
        outcome::judge(&self.failure())
    }

    pub fn failure(&self) -> Failure<'_> {
        match self {
            Self::Connect { .. } => Failure::Connect,
            Self::Timeout { phase, .. } => Failure::Timeout(*phase),
            Self::Broken { .. } | Self::Truncated { .. } | Self::Empty => Failure::Broken,
            Self::Refused(refusal) => Failure::Status(StatusFacts {
                status: refusal.status,
                code: refusal.report.code.as_deref(),
                message: &refusal.report.message,
                retry_after: refusal.retry_after,
                should_retry: refusal.should_retry,
            }),
            Self::Reported { report, .. } => Failure::Reported {
                status: report.status,
                code: report.code.as_deref(),
                kind: report.kind.as_deref(),
                message: &report.message,
            },
            Self::ContentType { .. } | Self::Malformed { .. } => Failure::Garbled,
            Self::TooLong { .. } => Failure::TooLong,
            Self::Busy { .. } => Failure::Busy,
        }
    }

    /// One word for metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Timeout { phase, .. } => phase.as_str(),
            Self::Broken { .. } => "broken",
            Self::Refused(_) => "status",
            Self::Reported { .. } => "reported",
            Self::ContentType { .. } => "content_type",
            Self::Empty => "empty",
            Self::Truncated { .. } => "truncated",
            Self::Malformed { .. } => "malformed",
            Self::TooLong { .. } => "too_long",
            Self::Busy { .. } => "busy",
        }
    }

    /// Whether the upstream had begun to answer, so that it will bill for what the caller never got.
    pub const fn had_begun(&self) -> bool {
        match self {
            Self::Truncated { .. } | Self::Malformed { .. } | Self::TooLong { .. } => true,
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::Refused(_)
            | Self::Reported { .. }
            | Self::ContentType { .. }
            | Self::Busy { .. }
            | Self::Empty => false,
        }
    }

    /// What the operator needs beyond the message. Never for callers: it may name hosts.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Connect { detail }
            | Self::Broken { detail }
            | Self::Truncated { detail }
            | Self::Malformed { detail } => Some(detail),
            Self::Refused(refusal) => Some(&refusal.report.message),
            Self::Reported { report, .. } => Some(&report.message),
            Self::Busy { reason } => Some(reason),
            Self::Timeout { .. } | Self::ContentType { .. } | Self::Empty | Self::TooLong { .. } => None,
        }
    }

    /// Status, content type and body to pass on, if the fault is the caller's and the upstream said it.
    pub fn for_caller(&self) -> Option<(u16, Option<&str>, &Bytes)> {
        if self.verdict().blame != outcome::Blame::Caller {
            return None;
        }
        match self {
            Self::Refused(refusal) => Some((refusal.status, refusal.content_type.as_deref(), &refusal.body)),
            Self::Reported { report, body } => {
                Some((report.status.unwrap_or(400), Some("application/json"), body))
            }
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::ContentType { .. }
            | Self::Empty
            | Self::Truncated { .. }
            | Self::Malformed { .. }
            | Self::Busy { .. }
            | Self::TooLong { .. } => None,
        }
    }

    pub(super) fn of_request(error: reqwest::Error, connect_timeout: Duration) -> Self {
        let is_timeout = error.is_timeout();
        if error.is_connect() && is_timeout {
            return Self::timeout(Phase::Connect, connect_timeout);
        }
        let is_connect = error.is_connect();
        let detail = causes(error);
        if is_connect { Self::Connect { detail } } else { Self::Broken { detail } }
    }

    /// The connection broke after the head and before the first byte of the answer.
    pub(super) fn of_head(error: reqwest::Error) -> Self {
        Self::Broken { detail: causes(error) }
    }

    pub(super) fn of_body(error: reqwest::Error) -> Self {
        Self::Truncated { detail: causes(error) }
    }

    pub(super) fn of_unreadable(unreadable: Unreadable, body: &Bytes) -> Self {
        match unreadable {
            Unreadable::CutOff => Self::Truncated { detail: "its JSON is cut off".to_owned() },
            Unreadable::NotJson(detail) => Self::Malformed { detail },
            Unreadable::Reported(report) => Self::Reported { report: Box::new(report), body: body.clone() },
        }
    }

    pub(super) fn timeout(phase: Phase, after: Duration) -> Self {
        Self::Timeout { phase, after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// The chain of causes without the address, whose query or user part may hold a secret.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
