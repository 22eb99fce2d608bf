//! What a client asks of the cache in its headers: fresh answers, no traces, a higher bar.
//!
//! Pure. Does not read headers itself: the server passes their values.
//!
//! Invariants: a client can only make the cache more careful, never less.

use super::answer::StoredAnswer;

/// A client's wishes for one call.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Control {
    /// Serve nothing that was stored before.
    pub no_cache: bool,
    /// Leave nothing behind.
    pub no_store: bool,
    /// Serve nothing older.
    pub max_age_s: Option<u64>,
    /// May only raise the configured bar.
    pub min_similarity: Option<f32>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("`cache-control: {directive}` is not understood; `max-age` takes a whole number of seconds")]
    MaxAge { directive: String },
    #[error("`x-stiver-min-similarity: {given}` is not a number from 0 to 1")]
    MinSimilarity { given: String },
}

impl Control {
    /// Reads `cache-control` (empty when absent) and `x-stiver-min-similarity`. Directives that
    /// concern responses or other caches are passed over, as HTTP asks.
    pub fn parse(cache_control: &str, min_similarity: Option<&str>) -> Result<Self, ControlError> {
        let mut control = Self::default();
        for directive in cache_control.split(',').map(str::trim) {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "no-cache" => control.no_cache = true,
                "no-store" => control.no_store = true,
                "max-age" => control.max_age_s = Some(seconds(directive, value)?),
                _ => {}
            }
        }
        control.min_similarity = min_similarity.map(similarity).transpose()?;
        Ok(control)
    }

    /// Whether an answer is young enough for the client.
    pub(super) fn allows_age_of(&self, answer: &StoredAnswer, now_ms: i64) -> bool {
        let age_ms = u64::try_from(now_ms.saturating_sub(answer.stored_at_ms)).unwrap_or(0);
        self.max_age_s.is_none_or(|max_age_s| age_ms <= max_age_s.saturating_mul(1_000))
    }
}

fn seconds(directive: &str, value: &str) -> Result<u64, ControlError> {
    let digits = value.trim().trim_matches('"');
    digits.parse().map_err(|_| ControlError::MaxAge { directive: directive.to_owned() })
}

fn similarity(given: &str) -> Result<f32, ControlError> {
    let read = given.trim().parse::<f32>().ok();
    read.filter(|similarity| (0.0..=1.0).contains(similarity))
        .ok_or_else(|| ControlError::MinSimilarity { given: given.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_headers_ask_for_nothing() {
        assert_eq!(Control::parse("", None).unwrap(), Control::default());
    }

    #[test]
    fn directives_are_read_whatever_their_case_and_others_passed_over() {
        let control =
            Control::parse("No-Cache, no-store ,max-age=60, private, stale-if-error=3", None).unwrap();

        let expected = Control { no_cache: true, no_store: true, max_age_s: Some(60), min_similarity: None };
        assert_eq!(control, expected);
    }

    #[test]
    fn a_max_age_that_is_no_number_is_refused_by_name() {
        for directive in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=soon"] {
            let error = Control::parse(directive, None).unwrap_err();
            assert!(error.to_string().contains(directive), "{error}");
        }
    }

    #[test]
    fn an_answer_as_old_as_asked_for_is_allowed_and_one_older_is_not() {
        let answer = super::super::answer::sample_answer("{}", 1_000);
        let control = Control { max_age_s: Some(10), ..Control::default() };

        assert!(control.allows_age_of(&answer, 11_000));
        assert!(!control.allows_age_of(&answer, 11_001));
        assert!(Control::default().allows_age_of(&answer, i64::MAX));
    }

    #[test]
    fn a_similarity_is_read_from_zero_to_one_and_refused_outside() {
        for (given, read) in [("0", Some(0.0)), (" 0.95 ", Some(0.95)), ("1", Some(1.0))] {
            assert_eq!(Control::parse("", Some(given)).unwrap().min_similarity, read);
        }
        for given in ["-0.1", "1.01", "NaN", "high", ""] {
            assert!(Control::parse("", Some(given)).is_err(), "{given}");
        }
    }
}
