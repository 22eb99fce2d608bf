//! What a local model cannot do, said as a remote upstream would say it: a status, a code and a body.
//!
//! Decides nothing: `outcome::judge` reads these like any other refusal, and so a full queue sends the
//! call to the next upstream, a prompt too long to a larger one, and a mistake back to the caller.

use bytes::Bytes;
use local_engine::chat::ChatError;
use local_engine::grammar::GrammarError;
use local_engine::request::SubmitError;
use local_engine::tokenizer::TokenizerError;
use serde_json::json;

use super::ask::BadField;
use crate::upstream::error::{Refusal, UpstreamError};
use crate::upstream::openai::Report;

pub(super) fn bad_field(bad: &BadField) -> UpstreamError {
    refused(400, None, Some(bad.param), &bad.message)
}

/// The model cannot, and another one may.
pub(super) fn unsupported(message: &str) -> UpstreamError {
    refused(501, Some("unsupported_by_model"), None, message)
}

pub(super) fn chat(error: &ChatError) -> UpstreamError {
    let message = error.to_string();
    match error {
        ChatError::Invalid { field, .. } => refused(400, None, Some(field), &message),
        ChatError::Read { .. } | ChatError::Parse { .. } | ChatError::NoTemplate { .. } => {
            unsupported(&message)
        }
        ChatError::Template(_) | ChatError::Tokenizer(_) => refused(400, None, Some("messages"), &message),
    }
}

pub(super) fn text(error: &TokenizerError) -> UpstreamError {
    refused(400, None, Some("prompt"), &error.to_string())
}

pub(super) fn grammar(error: &GrammarError) -> UpstreamError {
    let message = format!("the schema or grammar cannot be obeyed: {error}");
    refused(400, None, Some("response_format"), &message)
}

pub(super) fn submit(error: &SubmitError) -> UpstreamError {
    let message = error.to_string();
    match error {
        SubmitError::QueueFull { .. } => UpstreamError::Busy { reason: message },
        SubmitError::PromptTooLong { .. } => {
            refused(400, Some("context_length_exceeded"), Some("messages"), &message)
        }
        SubmitError::EmptyPrompt | SubmitError::Invalid(_) => refused(400, None, None, &message),
        SubmitError::Closed => UpstreamError::Broken { detail: message },
    }
}

fn refused(status: u16, code: Option<&str>, param: Option<&str>, message: &str) -> UpstreamError {
    const KIND: &str = "invalid_request_error";
    let body = json!({ "error": { "message": message, "type": KIND, "param": param, "code": code } });
    UpstreamError::Refused(Box::new(Refusal {
        status,
        report: Report {
            code: code.map(str::to_owned),
            kind: Some(KIND.to_owned()),
            message: message.to_owned(),
            status: None,
        },
        retry_after: None,
        should_retry: None,
        content_type: Some("application/json".to_owned()),
        body: Bytes::from(body.to_string()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::outcome::{Blame, Retry};

    fn check(error: &UpstreamError, blame: Blame, retry: Retry, counts: bool) {
        let verdict = error.verdict();
        assert_eq!((verdict.blame, verdict.retry), (blame, retry), "{error:?}");
        assert_eq!(verdict.counts_against_breaker, counts, "{error:?}");
    }

    #[test]
    fn each_refusal_sends_the_call_where_it_belongs() {
        check(&submit(&SubmitError::QueueFull { n_waiting: 9 }), Blame::Upstream, Retry::Next, false);
        let too_long = SubmitError::PromptTooLong { n_prompt: 9, context: 8 };
        check(&submit(&too_long), Blame::Caller, Retry::Larger, false);
        check(&submit(&SubmitError::EmptyPrompt), Blame::Caller, Retry::Never, false);
        check(&unsupported("no tools"), Blame::Caller, Retry::Next, false);
        let bad = BadField { param: "stop", message: "`stop` must be text".to_owned() };
        check(&bad_field(&bad), Blame::Caller, Retry::Never, false);
    }

    #[test]
    fn a_caller_s_mistake_is_told_in_openai_s_shape() {
        let error = bad_field(&BadField { param: "stop", message: "`stop` must be text".to_owned() });

        let (status, content_type, body) = error.for_caller().unwrap();

        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!((status, content_type), (400, Some("application/json")));
        assert_eq!(body["error"]["param"], "stop");
        assert_eq!(body["error"]["message"], "`stop` must be text");
    }
}
