//! From a request to its fingerprints: which requests are the same question, and which questions
//! may be compared by meaning.
//!
//! Knows nothing of caches. Leaves out only what cannot change an answer (how it is delivered, who
//! is told about it); a field nobody knows is taken to matter.
//!
//! Invariants: pure; equal requests up to white space, key order and Unicode form have equal
//! fingerprints; two requests that differ in team, route, arm, earlier turns, tools or any sampling
//! field never share `scope`.

use serde_json::value::RawValue;

use super::canonical_json::{hash_bytes, hash_json};
use super::canonical_text::canonical_text;
use crate::chat::{Endpoint, Fields, Fingerprint, Message, Request, Role};

/// Fields that change how an answer travels, not what it says.
const DELIVERY: [&str; 8] = [
    "stream",
    "stream_options",
    "user",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "safety_identifier",
];

/// A request in canonical form.
#[derive(Debug, Clone)]
pub struct Canonical {
    /// Everything that may change the answer.
    pub exact: Fingerprint,
    /// Everything but the last user text.
    pub scope: Fingerprint,
    /// The last user text, when the request ends with it and it is nothing but text.
    pub question: Option<String>,
}

/// `share` names who may share answers: the team, and what else keeps callers apart.
pub fn normalize(request: &Request, share: &[&str]) -> Canonical {
    let mut scope = blake3::Hasher::new();
    hash_bytes(&mut scope, b'v', b"1");
    for part in share {
        hash_bytes(&mut scope, b'w', part.as_bytes());
    }
    hash_bytes(&mut scope, b'e', request.endpoint.as_str().as_bytes());
    hash_fields(&mut scope, &request.fields);
    let question = request.messages.last().filter(|last| is_question(request.endpoint, last));
    // What prompts and inputs say stands in their field, which is hashed already.
    if request.endpoint == Endpoint::Chat {
        let n_context = request.messages.len() - usize::from(question.is_some());
        request.messages[..n_context].iter().for_each(|message| hash_message(&mut scope, message));
    }
    let question = question.map(|message| canonical_text(&message.text).into_owned());
    let mut exact = scope.clone();
    if let Some(text) = &question {
        hash_bytes(&mut exact, b'q', text.as_bytes());
    }
    Canonical { exact: finish(&exact), scope: finish(&scope), question }
}

fn is_question(endpoint: Endpoint, last: &Message) -> bool {
    endpoint == Endpoint::Chat
        && last.role == Role::User
        && !last.has_media()
        && only_role_and_content(&last.raw)
}

/// A `name` on a message may change the answer, so such a message is not compared by text alone.
fn only_role_and_content(raw: &RawValue) -> bool {
    Fields::parse(raw.get().as_bytes())
        .is_ok_and(|fields| fields.iter().all(|(key, _)| matches!(key, "role" | "content")))
}

fn hash_fields(hasher: &mut blake3::Hasher, fields: &Fields) {
    let mut sorted: Vec<_> =
        fields.iter().filter(|(key, _)| *key != "messages" && !DELIVERY.contains(key)).collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in sorted {
        hash_bytes(hasher, b'f', key.as_bytes());
        hash_json(hasher, value);
    }
}

pub(super) fn hash_message(hasher: &mut blake3::Hasher, message: &Message) {
    hash_bytes(hasher, b'm', &[]);
    let Ok(fields) = Fields::parse(message.raw.get().as_bytes()) else {
        return hash_json(hasher, &message.raw);
    };
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in sorted {
        hash_bytes(hasher, b'f', key.as_bytes());
        if key == "content" && !message.has_media() {
            hash_bytes(hasher, b't', canonical_text(&message.text).as_bytes());
        } else {
            hash_json(hasher, value);
        }
    }
}

pub(super) fn finish(hasher: &blake3::Hasher) -> Fingerprint {
    Fingerprint::new(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chat(body: &str) -> Canonical {
        normalize(&Request::parse(Endpoint::Chat, body.as_bytes()).unwrap(), &["team"])
    }

    const BASE: &str = r#"{"model":"m","temperature":0.5,"messages":[{"role":"system","content":"s"},{"role":"user","content":"q"}]}"#;

    #[test]
    fn form_and_delivery_do_not_count() {
        let other = r#"{ "messages":[{"content":"s  ","role":"system"},{"role":"user","content":[{"type":"text","text":"q\r\n"}]}],
            "stream":true,"stream_options":{"include_usage":true},"user":"u","temperature":0.5,"model":"m"}"#;

        assert_eq!(chat(BASE).exact, chat(other).exact);
        assert_eq!(chat(BASE).scope, chat(other).scope);
    }

    #[test]
    fn another_question_shares_the_scope_only() {
        let other = BASE.replace("\"q\"", "\"q?\"");

        assert_ne!(chat(BASE).exact, chat(&other).exact);
        assert_eq!(chat(BASE).scope, chat(&other).scope);
        assert_eq!(chat(&other).question.as_deref(), Some("q?"));
    }

    #[test]
    fn whatever_may_change_the_answer_changes_both() {
        let base = chat(BASE);
        for (from, to) in [
            (r#""m""#, r#""n""#),
            ("0.5", "0.6"),
            (r#""s""#, r#""t""#),
            (r#"system"#, "developer"),
            (r#""temperature""#, r#""x_unknown""#),
            (r#"{"model""#, r#"{"tools":[],"model""#),
        ] {
            let other = chat(&BASE.replacen(from, to, 1));
            assert_ne!(base.scope, other.scope, "{from}");
            assert_ne!(base.exact, other.exact, "{from}");
        }
        let request = Request::parse(Endpoint::Chat, BASE.as_bytes()).unwrap();
        assert_ne!(base.scope, normalize(&request, &["other team"]).scope);
        assert_ne!(normalize(&request, &["a", "b"]).scope, normalize(&request, &["ab"]).scope);
    }

    #[test]
    fn only_a_closing_plain_user_text_is_a_question() {
        for messages in [
            r#"[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#,
            r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]"#,
            r#"[{"role":"user","name":"bob","content":"q"}]"#,
        ] {
            let canonical = chat(&format!(r#"{{"model":"m","messages":{messages}}}"#));
            assert_eq!(canonical.question, None, "{messages}");
            assert_eq!(canonical.exact, canonical.scope, "{messages}");
        }
    }

    #[test]
    fn inputs_of_another_text_or_form_are_other_questions() {
        let embed = |input: &str| {
            let body = format!(r#"{{"model":"m","input":{input}}}"#);
            normalize(&Request::parse(Endpoint::Embeddings, body.as_bytes()).unwrap(), &["team"]).exact
        };
        let all = [r#""1 2""#, "[1,2]", "[[1,2]]", r#"["1","2"]"#, r#""1  2""#];
        for (idx, one) in all.iter().enumerate() {
            assert_eq!(embed(one), embed(one));
            for other in &all[idx + 1..] {
                assert_ne!(embed(one), embed(other), "{one} {other}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_canonical_question_is_its_own_canonical_form(text in "\\PC{0,60}") {
            let body = |text: &str| serde_json::json!({"model":"m","messages":[{"role":"user","content":text}]}).to_string();
            let once = chat(&body(&text));
            let twice = chat(&body(once.question.as_deref().unwrap()));
            prop_assert_eq!(once.exact, twice.exact);
        }
    }
}
