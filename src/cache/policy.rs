//! Decides which tiers of the cache may serve a request, and which answers may be kept.
//!
//! Pure: no clock, no I/O. Does not look anything up and knows no fingerprints.
//!
//! Invariants: whatever the semantic tier may do the exact tier may do too; an answer that was
//! cut short, failed or calls a tool is never kept; a closed tier has a word that says why.

pub mod personal;

pub use personal::PersonalData;

use crate::chat::{Endpoint, Request};

/// What the policy needs to know of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestFacts {
    pub is_chat: bool,
    pub temperature: Option<f64>,
    pub n_choices: u64,
    pub has_tools: bool,
    pub has_media: bool,
    pub wants_logprobs: bool,
    /// The request ends in a user's text, which can be compared with another by meaning.
    pub ends_with_user_text: bool,
    /// Bytes of that text.
    pub text_bytes: usize,
    pub has_personal_data: bool,
}

impl RequestFacts {
    /// Looks for personal data only where it matters.
    pub fn of(request: &Request, personal_data: PersonalData) -> Self {
        let last = request.messages.last();
        Self {
            is_chat: request.endpoint == Endpoint::Chat,
            temperature: request.temperature,
            n_choices: request.n_choices,
            has_tools: request.has_tools,
            has_media: request.has_media(),
            wants_logprobs: request.wants_logprobs,
            ends_with_user_text: last.is_some_and(|message| {
                message.role == crate::chat::Role::User && !message.text.trim().is_empty()
            }),
            text_bytes: last.map_or(0, |message| message.text.trim().len()),
            has_personal_data: match personal_data {
                PersonalData::Bypass | PersonalData::Exact => {
                    personal::found_among(&request.messages).is_some()
                }
                PersonalData::Allow => false,
            },
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
    #[error("both tiers are switched off")]
    Off,
    #[error("the client asked for a fresh answer and for no traces")]
    Client,
    #[error("the call's arm leaves it out")]
    Arm,
    #[error("the temperature asks for a fresh answer")]
    Temperature,
    #[error("the request holds personal data or a secret")]
    PersonalData,
    #[error("only chats are compared by meaning")]
    Endpoint,
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
    #[error("the text is longer than texts that are compared")]
    LongText,
}

impl Ineligible {
    pub const ALL: [Self; 12] = [
        Self::Off,
        Self::Client,
        Self::Arm,
        Self::Temperature,
        Self::PersonalData,
        Self::Endpoint,
        Self::Tools,
        Self::Media,
        Self::Choices,
        Self::Logprobs,
        Self::NoUserText,
        Self::LongText,
    ];

    /// The word in `x-stiver-cache` and in the row of the call.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Client => "client",
            Self::Arm => "arm",
            Self::Temperature => "temperature",
            Self::PersonalData => "personal-data",
            Self::Endpoint => "endpoint",
            Self::Tools => "tools",
            Self::Media => "media",
            Self::Choices => "choices",
            Self::Logprobs => "logprobs",
            Self::NoUserText => "no-user-text",
            Self::LongText => "long-text",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowed {
    /// Whoever asks for more randomness wants a new answer each time.
    pub max_temperature: f64,
    /// Bytes of the longest text that is compared by meaning.
    pub max_text_bytes: usize,
    pub personal_data: PersonalData,
}

/// What is equal byte for byte may share an answer; what is only alike must be plain text.
pub fn eligibility(facts: &RequestFacts, allowed: &Allowed) -> Eligibility {
    // OpenAI's default is 1.
    if facts.temperature.unwrap_or(1.0) > allowed.max_temperature {
        return Eligibility { exact: Err(Ineligible::Temperature), semantic: Err(Ineligible::Temperature) };
    }
    let personal = Err(Ineligible::PersonalData);
    match allowed.personal_data {
        PersonalData::Bypass if facts.has_personal_data => {
            Eligibility { exact: personal, semantic: personal }
        }
        PersonalData::Exact if facts.has_personal_data => Eligibility { exact: Ok(()), semantic: personal },
        PersonalData::Bypass | PersonalData::Exact | PersonalData::Allow => {
            Eligibility { exact: Ok(()), semantic: plain_text(facts, allowed.max_text_bytes) }
        }
    }
}

fn plain_text(facts: &RequestFacts, max_text_bytes: usize) -> Result<(), Ineligible> {
    if !facts.is_chat {
        return Err(Ineligible::Endpoint);
    }
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
    if facts.text_bytes > max_text_bytes {
        return Err(Ineligible::LongText);
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

    const ALLOWED: Allowed =
        Allowed { max_temperature: 1.0, max_text_bytes: 100, personal_data: PersonalData::Bypass };

    fn plain() -> RequestFacts {
        RequestFacts {
            is_chat: true,
            temperature: Some(0.0),
            n_choices: 1,
            has_tools: false,
            has_media: false,
            wants_logprobs: false,
            ends_with_user_text: true,
            text_bytes: 20,
            has_personal_data: false,
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
        assert_eq!(eligibility(&plain(), &ALLOWED), Eligibility { exact: Ok(()), semantic: Ok(()) });
    }

    #[test]
    fn a_temperature_above_the_limit_closes_both_tiers_and_one_at_the_limit_none() {
        let at = |temperature| eligibility(&RequestFacts { temperature, ..plain() }, &ALLOWED);

        assert_eq!(at(Some(1.0)).semantic, Ok(()));
        assert_eq!(at(None).exact, Ok(()));
        assert_eq!(at(Some(1.01)).exact, Err(Ineligible::Temperature));
        assert_eq!(at(Some(1.01)).semantic, Err(Ineligible::Temperature));
    }

    #[test]
    fn an_unset_temperature_counts_as_one() {
        let unset = RequestFacts { temperature: None, ..plain() };

        let allowed = Allowed { max_temperature: 0.9, ..ALLOWED };
        assert_eq!(eligibility(&unset, &allowed).exact, Err(Ineligible::Temperature));
    }

    #[test]
    fn what_is_more_than_text_is_never_shared_by_meaning() {
        let cases = [
            (RequestFacts { is_chat: false, ..plain() }, Ineligible::Endpoint),
            (RequestFacts { has_tools: true, ..plain() }, Ineligible::Tools),
            (RequestFacts { has_media: true, ..plain() }, Ineligible::Media),
            (RequestFacts { n_choices: 2, ..plain() }, Ineligible::Choices),
            (RequestFacts { wants_logprobs: true, ..plain() }, Ineligible::Logprobs),
            (RequestFacts { ends_with_user_text: false, ..plain() }, Ineligible::NoUserText),
            (RequestFacts { text_bytes: 101, ..plain() }, Ineligible::LongText),
        ];
        for (facts, why) in cases {
            assert_eq!(eligibility(&facts, &ALLOWED), Eligibility { exact: Ok(()), semantic: Err(why) });
        }
    }

    #[test]
    fn facts_are_read_off_a_request() {
        let body = br#"{"model":"m","temperature":0.5,"tools":[{"type":"function"}],
            "messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}"#;
        let request = Request::parse(crate::chat::Endpoint::Chat, body).unwrap();

        let facts = RequestFacts::of(&request, PersonalData::Bypass);

        let expected = RequestFacts {
            temperature: Some(0.5),
            has_tools: true,
            ends_with_user_text: false,
            text_bytes: 5,
            ..plain()
        };
        assert_eq!(facts, expected);
    }

    #[test]
    fn personal_data_shuts_as_much_as_the_operator_says() {
        let facts = RequestFacts { has_personal_data: true, ..plain() };
        let open = |personal_data| eligibility(&facts, &Allowed { personal_data, ..ALLOWED });
        let shut = Err(Ineligible::PersonalData);

        assert_eq!(open(PersonalData::Bypass), Eligibility { exact: shut, semantic: shut });
        assert_eq!(open(PersonalData::Exact), Eligibility { exact: Ok(()), semantic: shut });
        assert_eq!(open(PersonalData::Allow), Eligibility { exact: Ok(()), semantic: Ok(()) });
    }

    #[test]
    fn personal_data_is_looked_for_only_where_it_matters() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"I am ada@example.org"}]}"#;
        let request = Request::parse(crate::chat::Endpoint::Chat, body).unwrap();
        let has = |personal_data| RequestFacts::of(&request, personal_data).has_personal_data;

        assert!(has(PersonalData::Bypass) && has(PersonalData::Exact) && !has(PersonalData::Allow));
    }

    #[test]
    fn every_reason_has_a_word_of_its_own_that_a_header_can_hold() {
        for why in Ineligible::ALL {
            assert_eq!(Ineligible::parse(why.as_str()), Some(why));
            assert!(why.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{why:?}");
        }
        assert_eq!(Ineligible::parse("mood"), None);
    }

    #[test]
    fn a_text_of_the_greatest_length_is_compared() {
        let longest = RequestFacts { text_bytes: 100, ..plain() };

        assert_eq!(eligibility(&longest, &ALLOWED).semantic, Ok(()));
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
