//! Reading one field of a request: its type, its range, and the refusal that names it.
//!
//! Knows no endpoint and no particular field.

use serde::Deserialize;

use super::fields::Fields;

/// Why a request is not one: said to the caller with status 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidRequest {
    pub message: String,
    /// The field at fault, as OpenAI names it.
    pub param: Option<String>,
}

impl InvalidRequest {
    /// The body as a whole is at fault.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { message: message.into(), param: None }
    }

    pub fn of(param: &str, message: impl Into<String>) -> Self {
        Self { message: message.into(), param: Some(param.to_owned()) }
    }
}

pub(super) type Checked<T> = Result<T, InvalidRequest>;

pub(super) fn required<'a, T: Deserialize<'a>>(fields: &'a Fields, name: &str, expected: &str) -> Checked<T> {
    optional(fields, name, expected)?
        .ok_or_else(|| InvalidRequest::of(name, format!("`{name}` is missing; it must be {expected}")))
}

pub(super) fn optional<'a, T: Deserialize<'a>>(
    fields: &'a Fields,
    name: &str,
    expected: &str,
) -> Checked<Option<T>> {
    fields
        .read(name)
        .transpose()
        .map_err(|_| InvalidRequest::of(name, format!("`{name}` has the wrong type; it must be {expected}")))
}

pub(super) fn in_range(fields: &Fields, name: &str, low: u64, high: u64) -> Checked<Option<u64>> {
    let expected = match high {
        u64::MAX => format!("an integer of at least {low}"),
        _ => format!("an integer from {low} to {high}"),
    };
    let Some(given) = optional::<i128>(fields, name, &expected)? else {
        return Ok(None);
    };
    u64::try_from(given)
        .ok()
        .filter(|n| (low..=high).contains(n))
        .map(Some)
        .ok_or_else(|| InvalidRequest::of(name, format!("`{name}` is {given}; it must be {expected}")))
}

pub(super) fn number_in(fields: &Fields, name: &str, low: f64, high: f64) -> Checked<Option<f64>> {
    let expected = format!("a number from {low} to {high}");
    match optional::<f64>(fields, name, &expected)? {
        Some(given) if !(low..=high).contains(&given) => {
            Err(InvalidRequest::of(name, format!("`{name}` is {given}; it must be {expected}")))
        }
        given => Ok(given),
    }
}

/// A line and column inside a part would point into a document the caller never saw.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}
