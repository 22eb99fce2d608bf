//! Every way a call can be refused or fail, as the caller sees it: who is at fault, the status, and
//! OpenAI's error body.
//!
//! Adapters have their own errors; they are mapped here once. Nothing secret is ever put in: keys,
//! prompts and addresses of upstreams stay inside.
//!
//! Invariant: the body has all four of OpenAI's keys.

use bytes::Bytes;
use serde_json::json;

use crate::admission::{KeyRefused, LimitHit};
use crate::cache::CacheError;
use crate::chat::InvalidRequest;
use crate::ledger::HoldError;
use crate::routing::{NoPlan, Unfit};
use crate::team::RouteName;
use crate::upstream::{UpstreamError, outcome};

/// Who has to do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Caller,
    Policy,
    Upstream,
    Gateway,
}

impl Blame {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Policy => "policy",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// A call that ends without an answer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub blame: Blame,
    pub status: u16,
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub message: Box<str>,
    pub param: Option<Box<str>>,
    pub retry_after_ms: Option<u64>,
    /// What the official SDKs obey above all: `x-should-retry`.
    pub should_retry: Option<bool>,
    /// An upstream's own error body, which the caller shall see as it is.
    pub passed_through: Option<Box<Bytes>>,
    /// How many attempts were made before giving up.
    pub n_attempts: u32,
    /// The split and the arm, as `split=arm`, of a call that upstreams were asked for.
    pub split: Option<Box<str>>,
}

impl Error {
    pub fn new(blame: Blame, status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            blame,
            status,
            kind,
            code: None,
            message: message.into().into_boxed_str(),
            param: None,
            retry_after_ms: None,
            should_retry: None,
            passed_through: None,
            n_attempts: 0,
            split: None,
        }
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Blame::Caller, 400, "invalid_request_error", message)
    }

    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub fn with_param(mut self, param: &str) -> Self {
        self.param = Some(param.into());
        self
    }

    pub fn route_not_allowed(route: &RouteName) -> Self {
        let message = format!(
            "this key may not ask for route `{route}`; `GET /v1/models` lists the routes it may ask for"
        );
        Self::new(Blame::Policy, 403, "permission_error", message)
            .with_code("route_not_allowed")
            .with_param("model")
    }

    pub fn unknown_call(id: &str) -> Self {
        let mut error = Self::invalid(format!("there is no call `{id}`")).with_code("unknown_call");
        error.status = 404;
        error
    }

    /// The book cannot be read now.
    pub fn ledger_away(why: &dyn std::error::Error) -> Self {
        tracing::error!("the ledger cannot be read: {why}");
        let message = "the ledger's database does not answer; calls go on and are kept in the journal";
        let mut error = Self::new(Blame::Gateway, 503, "server_error", message).with_code("ledger_away");
        error.retry_after_ms = Some(2_000);
        error
    }

    /// Something of ours broke; the caller is told no more than that.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Blame::Gateway, 500, "server_error", message).with_code("internal_error")
    }

    /// The whole JSON body.
    pub fn body(&self) -> Bytes {
        match &self.passed_through {
            Some(body) => Bytes::clone(body),
            None => Bytes::from(self.object().to_string()),
        }
    }

    /// The error object, as it also stands in a stream that broke.
    pub fn object(&self) -> serde_json::Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }
}

impl From<CacheError> for Error {
    fn from(why: CacheError) -> Self {
        tracing::error!("cached answers cannot be reached: {why}");
        let message = "a store of the cache does not answer, so some of it may still be there; ask again";
        let mut error = Self::new(Blame::Gateway, 503, "server_error", message).with_code("cache_away");
        error.retry_after_ms = Some(2_000);
        error
    }
}

impl From<InvalidRequest> for Error {
    fn from(invalid: InvalidRequest) -> Self {
        let mut error = Self::invalid(invalid.message);
        error.param = invalid.param.map(String::into_boxed_str);
        error
    }
}

impl From<KeyRefused> for Error {
    fn from(refused: KeyRefused) -> Self {
        if let KeyRefused::Unreadable(_) = refused {
            let mut error = Self::new(Blame::Gateway, 503, "server_error", refused.to_string());
            error.should_retry = Some(false);
            return error.with_code("team_unreadable");
        }
        Self::new(Blame::Caller, 401, "authentication_error", refused.to_string())
            .with_code("invalid_api_key")
    }
}

impl From<LimitHit> for Error {
    fn from(hit: LimitHit) -> Self {
        let mut error = Self::new(Blame::Policy, 429, "rate_limit_error", hit.to_string())
            .with_code("rate_limit_exceeded");
        error.retry_after_ms = Some(hit.retry_after_ms.max(1));
        error
    }
}

impl From<NoPlan> for Error {
    fn from(no_plan: NoPlan) -> Self {
        let message = no_plan.to_string();
        match no_plan {
            NoPlan::UnknownRoute { .. } => {
                let mut error = Self::invalid(message).with_code("model_not_found").with_param("model");
                error.status = 404;
                error
            }
            NoPlan::UnknownTier { .. } => Self::invalid(message).with_code("unknown_tier"),
            NoPlan::NoneFit { left_out, .. } => none_fit(message, left_out.iter().map(|(_, why)| why)),
        }
    }
}

/// Blames the caller only when every upstream was left out for what the caller sent.
fn none_fit<'a>(message: String, mut whys: impl Iterator<Item = &'a Unfit> + Clone) -> Error {
    if whys.clone().any(|why| matches!(why, Unfit::TooDear { .. })) {
        return Error::invalid(message).with_code("max_cost_exceeded");
    }
    let for_the_request =
        |why: &Unfit| matches!(why, Unfit::NoVision | Unfit::NoTools | Unfit::WrongEndpoint);
    if whys.clone().all(for_the_request) {
        return Error::invalid(message).with_code("unsupported");
    }
    let mut error = Error::new(Blame::Gateway, 503, "server_error", message).with_code("no_upstream");
    if whys.any(|why| *why == Unfit::Tripped) {
        error.retry_after_ms = Some(1_000);
    } else {
        error.should_retry = Some(false);
    }
    error
}

impl Error {
    /// `now_ms` tells how long it is until the budget's next window.
    pub fn of_hold(refused: &HoldError, now_ms: i64) -> Self {
        let message = refused.to_string();
        match refused {
            HoldError::BudgetExceeded { resets_at_ms, .. } => {
                let mut error =
                    Self::new(Blame::Policy, 429, "insufficient_quota", message).with_code("budget_exceeded");
                error.retry_after_ms = u64::try_from(resets_at_ms - now_ms).ok();
                error.should_retry = Some(false);
                error
            }
            HoldError::SharedAway { .. } => {
                // What is inside is for the operator: it names the store.
                let told = "the budgets of this team cannot be asked now; try again in a moment";
                let mut error =
                    Self::new(Blame::Gateway, 503, "server_error", told).with_code("budgets_unavailable");
                error.retry_after_ms = Some(1_000);
                error
            }
            HoldError::JournalFull { .. } | HoldError::JournalFailed(_) => {
                Self::new(Blame::Gateway, 503, "server_error", message).with_code("ledger_unavailable")
            }
        }
    }
}

impl From<UpstreamError> for Error {
    fn from(failed: UpstreamError) -> Self {
        let verdict = failed.verdict();
        if let Some((status, _, body)) = failed.for_caller() {
            let mut error = Self::invalid(failed.to_string()).with_code("upstream_refused");
            error.status = status;
            // The official SDKs take a status of the server's for something that passes.
            error.should_retry = (status >= 500).then_some(false);
            // Only an error object is passed on: the SDKs read nothing else.
            error.passed_through =
                serde_json::from_slice::<crate::chat::Fields>(body).is_ok().then(|| Box::new(body.clone()));
            return error;
        }
        let blame = match verdict.blame {
            outcome::Blame::Caller => Blame::Caller,
            outcome::Blame::Upstream => Blame::Upstream,
            outcome::Blame::Gateway => Blame::Gateway,
        };
        let (status, kind) = status_of(&failed, blame);
        let code =
            if matches!(failed, UpstreamError::Busy { .. }) { "queue_full" } else { "upstream_failed" };
        let mut error = Self::new(blame, status, kind, failed.to_string()).with_code(code);
        error.retry_after_ms =
            verdict.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1));
        error
    }
}

/// What an upstream's failure looks like from outside: its own status where the client can act on
/// it, a gateway's status otherwise.
fn status_of(failed: &UpstreamError, blame: Blame) -> (u16, &'static str) {
    match failed {
        UpstreamError::Busy { .. } => (429, "rate_limit_error"),
        UpstreamError::Refused(refusal) if refusal.status == 429 => (429, "rate_limit_error"),
        UpstreamError::Refused(refusal) if blame == Blame::Upstream => (refusal.status, "upstream_error"),
        UpstreamError::Timeout { .. } => (504, "upstream_timeout"),
        UpstreamError::Refused(_)
        | UpstreamError::Reported { .. }
        | UpstreamError::Connect { .. }
        | UpstreamError::Broken { .. }
        | UpstreamError::ContentType { .. }
        | UpstreamError::Empty
        | UpstreamError::Truncated { .. }
        | UpstreamError::Malformed { .. }
        | UpstreamError::TooLong { .. } => (502, "upstream_error"),
    }
}
