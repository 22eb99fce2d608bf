//! Errors in OpenAI's shape, and answers that are not answers.
//!
//! Decides nothing: [`super::sse`] and [`super::server`] ask for what a [`Fault`](super::behaviour::Fault) needs.
//!
//! Invariants: an error body has all four keys `message`, `type`, `param`, `code`.

use serde_json::{Value, json};

pub const WEB_PAGE: &str = "<html><head><title>502 Bad Gateway</title></head><body>cloud edge</body></html>";

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub status: u16,
    pub message: String,
    pub kind: &'static str,
    pub param: Option<String>,
    pub code: Option<&'static str>,
}

impl ApiError {
    /// The error OpenAI sends under this status.
    pub fn of_status(status: u16, message: Option<&str>) -> Self {
        let (kind, code, said) = match status {
            400 => ("invalid_request_error", None, "Invalid request."),
            401 => ("invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided."),
            403 => {
                ("invalid_request_error", Some("unsupported_country_region_territory"), "Not supported here.")
            }
            404 => ("invalid_request_error", Some("model_not_found"), "The model does not exist."),
            408 => ("timeout_error", None, "Request timed out."),
            409 => ("conflict_error", None, "The request conflicts with another one."),
            413 => ("invalid_request_error", Some("request_too_large"), "Request too large."),
            422 => ("invalid_request_error", None, "Unprocessable entity."),
            429 => ("requests", Some("rate_limit_exceeded"), "Rate limit reached for requests."),
            503 => ("server_error", Some("overloaded"), "The engine is currently overloaded."),
            _ => ("server_error", None, "The server had an error while processing your request."),
        };
        Self { status, message: message.unwrap_or(said).to_owned(), kind, param: None, code }
    }

    pub fn bad_request(message: String) -> Self {
        Self::of_status(400, Some(&message))
    }

    pub fn invalid(message: String, param: &str) -> Self {
        Self { param: Some(param.to_owned()), code: Some("invalid_value"), ..Self::bad_request(message) }
    }

    pub fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self { code: Some("missing_required_parameter"), ..Self::invalid(message, param) }
    }

    pub fn body(&self) -> Value {
        json!({ "error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        } })
    }
}

/// What an upstream sends when it fails in the middle of an answer.
pub fn mid_stream_error(message: Option<&str>) -> Value {
    ApiError::of_status(500, message.or(Some("The upstream failed in the middle of the answer."))).body()
}
