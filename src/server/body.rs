//! Reads a request's body within its bounds, and gives every answer its `x-request-id`.
//!
//! Does not parse.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::header::HeaderName;
use http_body_util::{BodyExt, Limited};

use super::respond::write_call_id;
use crate::config::ServerConfig;
use crate::error::{Error, Result};
use crate::team::CallId;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The whole body, or why it is not read.
pub(super) async fn read(body: Body, config: &ServerConfig) -> Result<Bytes> {
    let whole = Limited::new(body, config.max_body_bytes).collect();
    let timeout = Duration::from_millis(config.body_timeout_ms);
    match tokio::time::timeout(timeout, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!(
                "the body is larger than {} bytes; send less, or raise server.max_body_bytes",
                config.max_body_bytes
            );
            Err(refusal(413, message, "body_too_large"))
        }
        Ok(Err(_)) => {
            Err(refusal(400, "the body ended before it was complete".to_owned(), "incomplete_body"))
        }
        Err(_) => {
            let message = format!("the body did not arrive within {} ms", config.body_timeout_ms);
            Err(refusal(408, message, "body_timeout"))
        }
    }
}

fn refusal(status: u16, message: String, code: &'static str) -> Error {
    let mut error = Error::invalid(message).with_code(code);
    error.status = status;
    error
}

/// Answers that no call made (refusals at the edge, health) get an id too, so that a client can name them.
pub(super) async fn ensure_request_id(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if !response.headers().contains_key(&REQUEST_ID) {
        let id = CallId::new(crate::clock::Clock::system().now_ms(), rand::random());
        write_call_id(response.headers_mut(), id);
    }
    response
}
