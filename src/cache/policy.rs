//! Decides which tiers of the cache may serve a request, and which answers may be kept.
//!
//! Pure: no clock, no I/O. Does not look anything up and knows no fingerprints.
//!
//! Invariants: whatever the semantic tier may do the exact tier may do too; an answer that was
//! cut short, failed or calls a tool is never kept.

use crate::chat::Request;

/// What the policy needs to know of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestFacts {
    pub temperature: Option<f64>,
    pub n_choices: u64,
    pub has_tools: bool,
    pub has_media: bool,
    pub wants_logprobs: bool,
    /// The request ends in a user's text, which can be compared with another by meaning.
    pub ends_with_user_text: bool,
}

impl RequestFacts {
    pub fn of(request: &Request) -> Self {
        let last = request.messages.last();
        Self {
            temperature: request.temperature,
            n_choices: request.n_choices,
            has_tools: request.has_tools,
            has_media: request.has_media(),
            wants_logprobs: request.wants_logprobs,
            ends_with_user_text: last.is_some_and(|message| {
                message.role == crate::chat::Role::User && !message.text.trim().is_empty()
            }),
        }
    }
}

/// Where a request may look for an answer and leave one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eligibility {
    pub exact: Result<(), Ineligible>,
    pub semantic: Result<(), Ineligible>,
}

/// Why a tier is closed to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Ineligible {
    #[error("the temperature asks for a fresh answer")]
    Temperature,
    #[error("the request offers tools")]
    Tools,
    #[error("the request holds images, audio, files or token ids")]
    Media,
    #[error("the request asks for several choices")]
    Choices,
    #[error("the request asks for log-probabilities")]
    Logprobs,
    #[error("the request does not end in a user's text")]
    NoUserText,
}

/// Whoever asks for more randomness than `max_temperature` wants a new answer each time. What is
/// equal byte for byte may share an answer otherwise; what is only alike must be plain text.
pub fn eligibility(facts: &RequestFacts, max_temperature: f64) -> Eligibility {
    // OpenAI's default is 1.
    if facts.temperature.unwrap_or(1.0) > max_temperature {
        return Eligibility { exact: Err(Ineligible::Temperature), semantic: Err(Ineligible::Temperature) };
    }
    Eligibility { exact: Ok(()), semantic: plain_text(facts) }
}

fn plain_text(facts: &RequestFacts) -> Result<(), Ineligible> {
    if facts.has_tools {
        return Err(Ineligible::Tools);
    }
    if facts.has_media {
        return Err(Ineligible::Media);
    }
    if facts.n_choices > 1 {
        return Err(Ineligible::Choices);
    }
    if facts.wants_logprobs {
        return Err(Ineligible::Logprobs);
    }
    if !facts.ends_with_user_text {
        return Err(Ineligible::NoUserText);
    }
    Ok(())
}

/// What the policy needs to know of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerFacts<'a> {
    pub status: u16,
    /// One a choice; `None` where a choice ended without saying why. Empty for embeddings.
    pub finish_reasons: &'a [Option<&'a str>],
    pub has_tool_calls: bool,
    /// The upstream's stream ended before its end was announced.
    pub truncated: bool,
    pub has_error: bool,
    pub size_bytes: usize,
}

/// Whether an answer is whole and good to give to somebody else.
pub fn storable(facts: &AnswerFacts<'_>, max_answer_bytes: usize) -> bool {
    facts.status == 200
        && !facts.has_tool_calls
        && !facts.truncated
        && !facts.has_error
        && facts.size_bytes <= max_answer_bytes
        && facts.finish_reasons.iter().all(|reason| *reason == Some("stop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> RequestFacts {
        RequestFacts {
            temperature: Some(0.0),
            n_choices: 1,
            has_tools: false,
            has_media: false,
            wants_logprobs: false,
            ends_with_user_text: true,
        }
    }

    fn whole() -> AnswerFacts<'static> {
        AnswerFacts {
            status: 200,
            finish_reasons: &[Some("stop")],
            has_tool_calls: false,
            truncated: false,
            has_error: false,
            size_bytes: 100,
        }
    }

    #[test]
    fn a_plain_text_request_may_use_both_tiers() {
        assert_eq!(eligibility(&plain(), 1.0), Eligibility { exact: Ok(()), semantic: Ok(()) });
    }

    #[test]
    fn a_temperature_above_the_limit_closes_both_tiers_and_one_at_the_limit_none() {
        let at = |temperature| eligibility(&RequestFacts { temperature, ..plain() }, 1.0);

        assert_eq!(at(Some(1.0)).semantic, Ok(()));
        assert_eq!(at(None).exact, Ok(()));
        assert_eq!(at(Some(1.01)).exact, Err(Ineligible::Temperature));
        assert_eq!(at(Some(1.01)).semantic, Err(Ineligible::Temperature));
    }

    #[test]
    fn an_unset_temperature_counts_as_one() {
        let unset = RequestFacts { temperature: None, ..plain() };

        assert_eq!(eligibility(&unset, 0.9).exact, Err(Ineligible::Temperature));
    }

    #[test]
    fn what_is_more_than_text_is_never_shared_by_meaning() {
        let cases = [
            (RequestFacts { has_tools: true, ..plain() }, Ineligible::Tools),
            (RequestFacts { has_media: true, ..plain() }, Ineligible::Media),
            (RequestFacts { n_choices: 2, ..plain() }, Ineligible::Choices),
            (RequestFacts { wants_logprobs: true, ..plain() }, Ineligible::Logprobs),
            (RequestFacts { ends_with_user_text: false, ..plain() }, Ineligible::NoUserText),
        ];
        for (facts, why) in cases {
            assert_eq!(eligibility(&facts, 1.0), Eligibility { exact: Ok(()), semantic: Err(why) });
        }
    }

    #[test]
    fn facts_are_read_off_a_request() {
        let body = br#"{"model":"m","temperature":0.5,"tools":[{"type":"function"}],
            "messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}"#;
        let request = Request::parse(crate::chat::Endpoint::Chat, body).unwrap();

        let facts = RequestFacts::of(&request);

        let expected =
            RequestFacts { temperature: Some(0.5), has_tools: true, ends_with_user_text: false, ..plain() };
        assert_eq!(facts, expected);
    }

    #[test]
    fn only_a_whole_answer_is_kept() {
        let cases = [
            (whole(), true),
            (AnswerFacts { finish_reasons: &[Some("stop"), Some("length")], ..whole() }, false),
            (AnswerFacts { finish_reasons: &[None], ..whole() }, false),
            (AnswerFacts { finish_reasons: &[Some("tool_calls")], ..whole() }, false),
            (AnswerFacts { finish_reasons: &[], ..whole() }, true),
            (AnswerFacts { status: 206, ..whole() }, false),
            (AnswerFacts { has_tool_calls: true, ..whole() }, false),
            (AnswerFacts { truncated: true, ..whole() }, false),
            (AnswerFacts { has_error: true, ..whole() }, false),
        ];
        for (facts, kept) in cases {
            assert_eq!(storable(&facts, 1_000), kept, "{facts:?}");
        }
    }

    #[test]
    fn an_answer_of_the_largest_size_is_kept_and_one_byte_more_is_not() {
        assert!(storable(&AnswerFacts { size_bytes: 1_000, ..whole() }, 1_000));
        assert!(!storable(&AnswerFacts { size_bytes: 1_001, ..whole() }, 1_000));
    }
}
