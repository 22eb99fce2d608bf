//! What a failed attempt means: whose fault it is, and whether to ask again, and whom.
//!
//! Pure: takes facts about the failure and returns a [`Verdict`]. It neither waits nor retries.
//!
//! Invariants: a caller's mistake is never retried as it stands and never counts against an upstream.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// The longest that a call waits because an upstream asked it to; beyond it another one is asked.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Who has to change something for the call to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Caller,
    Upstream,
    /// Our own configuration: a wrong key, address or model name.
    Gateway,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same upstream, while retries are left; then the next one.
    Same,
    /// The next upstream at once.
    Next,
    /// The next upstream that takes a longer prompt, if there is one.
    Larger,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub blame: Blame,
    pub retry: Retry,
    /// How long the upstream asked us to wait, at most [`MAX_WAIT`].
    pub retry_after: Option<Duration>,
    pub counts_against_breaker: bool,
}

/// Which clock ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Connect,
    FirstByte,
    Idle,
    Total,
}

impl Phase {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstByte => "first_byte",
            Self::Idle => "idle",
            Self::Total => "total",
        }
    }
}

/// The facts about a failure that a verdict depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure<'a> {
    Status(StatusFacts<'a>),
    /// An error object where an answer should be: in a 200, or in the middle of a stream.
    Reported {
        status: Option<u16>,
        code: Option<&'a str>,
        kind: Option<&'a str>,
        message: &'a str,
    },
    Connect,
    Timeout(Phase),
    /// The connection broke, or the answer ended before it was whole.
    Broken,
    /// The answer is whole and is not one: another content type, or not JSON.
    Garbled,
    TooLong,
    /// No room for another call; it has not been looked at.
    Busy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatusFacts<'a> {
    pub status: u16,
    pub code: Option<&'a str>,
    pub message: &'a str,
    pub retry_after: Option<Duration>,
    /// What the upstream's `x-should-retry` says.
    pub should_retry: Option<bool>,
}

pub fn judge(failure: &Failure<'_>) -> Verdict {
    match *failure {
        Failure::Status(facts) => judge_status(&facts),
        Failure::Reported { status, code, kind, message } => {
            let status = status.unwrap_or(match kind {
                Some("invalid_request_error") => 400,
                Some("rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota") => 429,
                Some(_) | None => 500,
            });
            judge_status(&StatusFacts { status, code, message, ..StatusFacts::default() })
        }
        Failure::Connect | Failure::Timeout(Phase::Connect | Phase::FirstByte | Phase::Idle) => {
            verdict(Blame::Upstream, Retry::Next, true)
        }
        // The caller has waited as long as a call may last; a second attempt would double that.
        Failure::Timeout(Phase::Total) => verdict(Blame::Upstream, Retry::Never, true),
        Failure::Broken => verdict(Blame::Upstream, Retry::Same, true),
        Failure::Garbled => verdict(Blame::Upstream, Retry::Next, true),
        Failure::TooLong => verdict(Blame::Upstream, Retry::Never, false),
        // A full queue is not emptied by asking again at once, and being busy is not being ill.
        Failure::Busy => verdict(Blame::Upstream, Retry::Next, false),
    }
}

fn judge_status(facts: &StatusFacts<'_>) -> Verdict {
    let mut judged = match facts.status {
        // What one model cannot do at all, another may; neither is ill.
        501 if facts.code == Some("unsupported_by_model") => verdict(Blame::Caller, Retry::Next, false),
        400 | 413 | 422 if is_context_length(facts.code, facts.message) => {
            verdict(Blame::Caller, Retry::Larger, false)
        }
        // The model name is ours, not the caller's: a route names it.
        404 if facts.code == Some("model_not_found") => verdict(Blame::Gateway, Retry::Next, true),
        300..=399 | 401 | 402 | 407 => verdict(Blame::Gateway, Retry::Next, true),
        403 => verdict(Blame::Gateway, Retry::Next, false),
        429 if facts.code == Some("insufficient_quota") => verdict(Blame::Gateway, Retry::Next, true),
        // Being limited is not being ill: a breaker would turn a slower upstream into none.
        409 | 429 => verdict(Blame::Upstream, Retry::Same, false),
        408 | 425 => verdict(Blame::Upstream, Retry::Same, true),
        400..=499 => verdict(Blame::Caller, Retry::Never, false),
        501 | 505 => verdict(Blame::Upstream, Retry::Next, true),
        _ => verdict(Blame::Upstream, Retry::Same, true),
    };
    if judged.blame == Blame::Upstream {
        judged.retry = match (judged.retry, facts.should_retry) {
            (Retry::Same, Some(false)) => Retry::Next,
            (Retry::Next, Some(true)) => Retry::Same,
            (retry, _) => retry,
        };
    }
    if let Some(asked) = facts.retry_after {
        judged.retry_after = Some(asked.min(MAX_WAIT));
        if asked > MAX_WAIT && judged.retry == Retry::Same {
            judged.retry = Retry::Next;
        }
    }
    judged
}

const fn verdict(blame: Blame, retry: Retry, counts_against_breaker: bool) -> Verdict {
    Verdict { blame, retry, retry_after: None, counts_against_breaker }
}

/// Whether the prompt did not fit. OpenAI has a code for it; most compatible servers say it in words.
fn is_context_length(code: Option<&str>, message: &str) -> bool {
    const WORDS: [&str; 5] = [
        "maximum context length",
        "context length exceeded",
        "context window",
        "maximum model length",
        "prompt is too long",
    ];
    code == Some("context_length_exceeded") || WORDS.iter().any(|words| message.contains(words))
}

/// How long an answer's headers ask us to wait: `retry-after-ms`, or else `retry-after` in seconds or
/// as a date, which is taken relative to `now_ms`.
pub fn retry_after(headers: &HeaderMap, now_ms: i64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(wait) = text("retry-after-ms").and_then(|ms| span(ms, 1_000.0)) {
        return Some(wait);
    }
    let asked = text("retry-after")?;
    span(asked, 1.0).or_else(|| {
        let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(asked).ok()?;
        let ahead_ms = at.as_millisecond().saturating_sub(now_ms).max(0);
        Some(Duration::from_millis(ahead_ms.unsigned_abs()))
    })
}

fn span(text: &str, per_second: f64) -> Option<Duration> {
    let seconds = text.parse::<f64>().ok()? / per_second;
    Duration::try_from_secs_f64(seconds).ok()
}

/// What the upstream itself thinks of asking again.
pub fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.as_bytes() {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

pub const fn is_success(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200..=299)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> StatusFacts<'static> {
        StatusFacts { status, ..StatusFacts::default() }
    }

    #[test]
    fn each_status_has_its_blame_and_its_retry() {
        use Blame::{Caller, Gateway, Upstream};
        use Retry::{Never, Next, Same};
        for (code, blame, retry, counts) in [
            (302, Gateway, Next, true),
            (400, Caller, Never, false),
            (401, Gateway, Next, true),
            (402, Gateway, Next, true),
            (403, Gateway, Next, false),
            (404, Caller, Never, false),
            (408, Upstream, Same, true),
            (409, Upstream, Same, false),
            (413, Caller, Never, false),
            (415, Caller, Never, false),
            (422, Caller, Never, false),
            (429, Upstream, Same, false),
            (499, Caller, Never, false),
            (500, Upstream, Same, true),
            (501, Upstream, Next, true),
            (503, Upstream, Same, true),
            (529, Upstream, Same, true),
        ] {
            assert_eq!(judge(&Failure::Status(status(code))), verdict(blame, retry, counts), "{code}");
        }
    }

    #[test]
    fn codes_refine_what_a_status_means() {
        let with =
            |status, code| judge(&Failure::Status(StatusFacts { code: Some(code), ..self::status(status) }));

        assert_eq!(with(400, "context_length_exceeded").retry, Retry::Larger);
        assert_eq!(with(400, "invalid_value").retry, Retry::Never);
        assert_eq!(with(404, "model_not_found"), verdict(Blame::Gateway, Retry::Next, true));
        assert_eq!(with(429, "insufficient_quota"), verdict(Blame::Gateway, Retry::Next, true));
        assert_eq!(with(429, "rate_limit_exceeded").retry, Retry::Same);
        // The code alone does not make a server's failure the caller's.
        assert_eq!(with(500, "context_length_exceeded").blame, Blame::Upstream);
    }

    #[test]
    fn a_prompt_that_is_too_long_is_also_known_by_its_words() {
        let message = "This model's maximum context length is 4096 tokens. However, you requested 5000.";

        let judged = judge(&Failure::Status(StatusFacts { message, ..status(400) }));

        assert_eq!(judged, verdict(Blame::Caller, Retry::Larger, false));
    }

    #[test]
    fn failures_without_a_status_are_judged_by_kind() {
        for (failure, retry, counts) in [
            (Failure::Connect, Retry::Next, true),
            (Failure::Timeout(Phase::Connect), Retry::Next, true),
            (Failure::Timeout(Phase::FirstByte), Retry::Next, true),
            (Failure::Timeout(Phase::Idle), Retry::Next, true),
            (Failure::Timeout(Phase::Total), Retry::Never, true),
            (Failure::Broken, Retry::Same, true),
            (Failure::Garbled, Retry::Next, true),
            (Failure::TooLong, Retry::Never, false),
        ] {
            assert_eq!(judge(&failure), verdict(Blame::Upstream, retry, counts), "{failure:?}");
        }
    }

    #[test]
    fn a_reported_error_is_judged_by_its_status_or_else_its_type() {
        let reported = |status, kind| judge(&Failure::Reported { status, code: None, kind, message: "" });

        assert_eq!(reported(Some(400), Some("server_error")), verdict(Blame::Caller, Retry::Never, false));
        assert_eq!(reported(None, Some("invalid_request_error")).blame, Blame::Caller);
        assert_eq!(reported(None, Some("rate_limit_error")), verdict(Blame::Upstream, Retry::Same, false));
        assert_eq!(reported(None, None), verdict(Blame::Upstream, Retry::Same, true));
    }

    #[test]
    fn the_upstream_may_say_whether_to_ask_again() {
        let says = |code, should| {
            judge(&Failure::Status(StatusFacts { should_retry: Some(should), ..status(code) }))
        };

        assert_eq!(says(503, false).retry, Retry::Next);
        assert_eq!(says(501, true).retry, Retry::Same);
        assert_eq!(says(400, true).retry, Retry::Never);
    }

    #[test]
    fn a_wait_up_to_the_longest_is_kept_and_a_longer_one_goes_elsewhere() {
        let after = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            let judged = judge(&Failure::Status(StatusFacts { retry_after, ..status(429) }));
            (judged.retry, judged.retry_after)
        };

        assert_eq!(after(60), (Retry::Same, Some(MAX_WAIT)));
        assert_eq!(after(61), (Retry::Next, Some(MAX_WAIT)));
    }

    #[test]
    fn each_form_of_retry_after_is_read() {
        let now_ms = 1_700_000_000_000; // Tue, 14 Nov 2023 22:13:20 GMT
        for (headers, expected_ms) in [
            (vec![("retry-after-ms", "250")], Some(250)),
            (vec![("retry-after-ms", "1.5")], Some(1)),
            (vec![("retry-after", "7"), ("retry-after-ms", "250")], Some(250)),
            (vec![("retry-after", "7"), ("retry-after-ms", "soon")], Some(7_000)),
            (vec![("retry-after", " 0.5 ")], Some(500)),
            (vec![("retry-after", "0")], Some(0)),
            (vec![("retry-after", "Tue, 14 Nov 2023 22:13:50 GMT")], Some(30_000)),
            (vec![("retry-after", "Tue, 14 Nov 2023 22:00:00 GMT")], Some(0)),
            (vec![("retry-after", "-3")], None),
            (vec![("retry-after", "later")], None),
            (vec![("retry-after", "inf")], None),
            (vec![], None),
        ] {
            let map: HeaderMap =
                headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
            let found = retry_after(&map, now_ms).map(|wait| wait.as_millis());
            assert_eq!(found, expected_ms, "{headers:?}");
        }
    }

    #[test]
    fn should_retry_is_read_only_when_it_is_clear() {
        for (value, expected) in [("true", Some(true)), ("false", Some(false)), ("maybe", None)] {
            let mut headers = HeaderMap::new();
            headers.insert("x-should-retry", value.parse().unwrap());
            assert_eq!(should_retry(&headers), expected);
        }
        assert_eq!(should_retry(&HeaderMap::new()), None);
    }
}
