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

/// The word by which `outcome::judge` knows that another model may do what this one cannot.
const UNSUPPORTED: &str = "unsupported_by_model";

pub(super) fn bad_field(bad: &BadField) -> UpstreamError {
    match bad.is_unsupported {
        true => refused(501, Some(UNSUPPORTED), Some(bad.param), &bad.message),
        false => refused(400, None, Some(bad.param), &bad.message),
    }
}

/// More answers than could ever wait at once.
pub(super) fn too_many(n_choices: usize, capacity: usize) -> UpstreamError {
    let message =
        format!("the call asks for {n_choices} answers, and the local model takes {capacity} at once");
    refused(501, Some(UNSUPPORTED), Some("n"), &message)
}

pub(super) fn context_length(n_prompt: usize, wanted: usize, context: usize) -> UpstreamError {
    let message = format!(
        "the prompt has {n_prompt} tokens and the answer may have {wanted}, and the maximum context length is {context}"
    );
    refused(400, Some("context_length_exceeded"), Some("max_tokens"), &message)
}

/// The model cannot, and another one may.
pub(super) fn unsupported(message: &str) -> UpstreamError {
    refused(501, Some(UNSUPPORTED), None, message)
}

pub(super) fn chat(error: &ChatError) -> UpstreamError {
    let message = error.to_string();
    match error {
        ChatError::Invalid { field, .. } => refused(400, None, Some(field), &message),
        ChatError::Read { .. } | ChatError::Parse { .. } | ChatError::NoTemplate { .. } => {
            unsupported(&message)
        }
        // Another model's template may take what this one's does not.
        ChatError::Template(_) => refused(501, Some(UNSUPPORTED), Some("messages"), &message),
        ChatError::Tokenizer(_) => refused(400, None, Some("messages"), &message),
    }
}

pub(super) fn text(error: &TokenizerError) -> UpstreamError {
    refused(400, None, Some("prompt"), &error.to_string())
}

pub(super) fn grammar(error: &GrammarError) -> UpstreamError {
    let message = format!("the schema or grammar cannot be obeyed: {error}");
    refused(501, Some(UNSUPPORTED), Some("response_format"), &message)
}

/// The model met no end that the grammar allows: nothing that says it is ill.
pub(super) fn unmet(why: &str) -> UpstreamError {
    let message = format!("the schema or grammar could not be obeyed to the end: {why}");
    refused(501, Some(UNSUPPORTED), Some("response_format"), &message)
}

pub(super) fn submit(error: &SubmitError) -> UpstreamError {
    let message = error.to_string();
    match error {
        SubmitError::QueueFull { .. } => UpstreamError::Busy { reason: message },
        SubmitError::PromptTooLong { .. } => {
            refused(400, Some("context_length_exceeded"), Some("messages"), &message)
        }
        // Token ids of another vocabulary, mostly.
        SubmitError::Invalid(_) => refused(501, Some(UNSUPPORTED), None, &message),
        SubmitError::EmptyPrompt => refused(400, None, None, &message),
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
        // The SDKs would take a 501 for something that passes.
        should_retry: (status >= 500).then_some(false),
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
        check(&unmet("no token is allowed"), Blame::Caller, Retry::Next, false);
        let bad =
            BadField { param: "stop", message: "`stop` must be text".to_owned(), is_unsupported: false };
        let unsupported = BadField { is_unsupported: true, ..bad.clone() };
        check(&bad_field(&unsupported), Blame::Caller, Retry::Next, false);
        check(&context_length(9, 9, 16), Blame::Caller, Retry::Larger, false);
        check(&bad_field(&bad), Blame::Caller, Retry::Never, false);
    }

    #[test]
    fn a_caller_s_mistake_is_told_in_openai_s_shape() {
        let error = bad_field(&BadField {
            param: "stop",
            message: "`stop` must be text".to_owned(),
            is_unsupported: false,
        });

        let (status, content_type, body) = error.for_caller().unwrap();

        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        assert_eq!((status, content_type), (400, Some("application/json")));
        assert_eq!(body["error"]["param"], "stop");
        assert_eq!(body["error"]["message"], "`stop` must be text");
    }
}
