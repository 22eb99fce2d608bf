//! An answer as it is kept, and the bytes it is kept as.
//!
//! The bytes are a line of JSON and then the body as it came, so that reading one back copies
//! nothing but the line, and so that they are text wherever the body is.
//!
//! Invariants: what [`StoredAnswer::encode`] wrote, [`StoredAnswer::decode`] reads back equal.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::chat::Usage;
use crate::money::NanoUsd;
use crate::team::{CallId, RouteName, TeamName};

/// A whole answer: a chat completion, a completion or a list of embeddings, as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    pub body: Bytes,
    pub model: String,
    /// The upstream that gave it.
    pub upstream: String,
    pub usage: Usage,
    /// What it cost then; `None` where the price was unknown.
    pub cost: Option<NanoUsd>,
    pub stored_at_ms: i64,
    /// `None` in answers that an earlier version stored.
    pub origin: Option<Origin>,
}

/// The call that an answer was given to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    #[serde(rename = "i")]
    pub call: CallId,
    #[serde(rename = "t")]
    pub team: TeamName,
    #[serde(rename = "r")]
    pub route: RouteName,
}

#[derive(Serialize, Deserialize)]
struct Head<'a> {
    #[serde(rename = "m", borrow)]
    model: std::borrow::Cow<'a, str>,
    #[serde(rename = "u", borrow)]
    upstream: std::borrow::Cow<'a, str>,
    #[serde(rename = "t")]
    usage: Usage,
    #[serde(rename = "c")]
    cost: Option<NanoUsd>,
    #[serde(rename = "s")]
    stored_at_ms: i64,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

#[derive(Debug, thiserror::Error)]
#[error("a stored answer is not in this version's format; it is passed over")]
pub struct UnreadableAnswer;

impl StoredAnswer {
    pub fn encode(&self) -> Bytes {
        let head = Head {
            model: self.model.as_str().into(),
            upstream: self.upstream.as_str().into(),
            usage: self.usage,
            cost: self.cost,
            stored_at_ms: self.stored_at_ms,
            origin: self.origin.clone(),
        };
        let head = serde_json::to_vec(&head).expect("strings and numbers are JSON");
        let mut bytes = BytesMut::with_capacity(head.len() + 1 + self.body.len());
        bytes.put_slice(&head);
        bytes.put_u8(b'\n');
        bytes.put_slice(&self.body);
        bytes.freeze()
    }

    pub fn decode(bytes: &Bytes) -> Result<Self, UnreadableAnswer> {
        // JSON on one line holds no line feed: within strings it is escaped.
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(UnreadableAnswer)?;
        let head: Head<'_> = serde_json::from_slice(&bytes[..end]).map_err(|_| UnreadableAnswer)?;
        Ok(Self {
            model: head.model.into_owned(),
            upstream: head.upstream.into_owned(),
            usage: head.usage,
            cost: head.cost,
            stored_at_ms: head.stored_at_ms,
            origin: head.origin,
            body: bytes.slice(end + 1..),
        })
    }

    /// Seconds since it was stored, 0 where clocks disagree.
    pub fn age_s(&self, now_ms: i64) -> u64 {
        u64::try_from(now_ms.saturating_sub(self.stored_at_ms) / 1_000).unwrap_or(0)
    }

    /// Whether it has lived `ttl_s` or longer.
    pub(super) fn is_expired(&self, now_ms: i64, ttl_s: u64) -> bool {
        let ttl_ms = i64::try_from(ttl_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
        now_ms.saturating_sub(self.stored_at_ms) >= ttl_ms
    }
}

#[cfg(test)]
pub(super) fn sample_answer(body: &str, stored_at_ms: i64) -> StoredAnswer {
    StoredAnswer {
        body: Bytes::copy_from_slice(body.as_bytes()),
        model: "small\nmodel".to_owned(),
        upstream: "house".to_owned(),
        usage: Usage { input: 12, output: 34, ..Usage::default() },
        cost: Some(NanoUsd::new(5_600)),
        stored_at_ms,
        origin: Some(Origin {
            call: CallId::new(stored_at_ms, [3; 10]),
            team: TeamName::from("team a"),
            route: RouteName::from("auto"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back_equal() {
        let answer = sample_answer("{\"a\":\n1}", 1_700_000_000_123);

        assert_eq!(StoredAnswer::decode(&answer.encode()).unwrap(), answer);
    }

    #[test]
    fn an_answer_of_an_earlier_version_is_read_and_has_no_origin() {
        let answer = StoredAnswer { origin: None, ..sample_answer("{}", 5) };

        assert_eq!(StoredAnswer::decode(&answer.encode()).unwrap(), answer);
        assert!(!answer.encode().starts_with(b"{\"o\""));
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b""[..], b"{}", b"{}\n{}", b"\xff\n", b"[1]\n2"] {
            assert!(StoredAnswer::decode(&Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn an_answer_lives_until_its_last_millisecond() {
        let answer = sample_answer("{}", 1_000);

        assert!(!answer.is_expired(10_999, 10));
        assert!(answer.is_expired(11_000, 10));
        assert_eq!(answer.age_s(10_999), 9);
        assert_eq!(answer.age_s(0), 0);
    }
}
