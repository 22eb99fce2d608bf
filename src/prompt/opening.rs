//! What a conversation keeps from its first turn to its last: how it began.
//!
//! A client that holds a conversation sends it whole each time, so its beginning is the one name that every turn
//! carries. Knows no other: where turns are cut off at the front, or a system prompt tells the time, each turn
//! looks like a conversation of its own.
//!
//! Invariants: pure; what comes after the first user message does not count, nor do white space at line ends,
//! key order and Unicode form.

use super::canonical_json::hash_bytes;
use super::normalize::{finish, hash_message};
use crate::chat::{Endpoint, Fingerprint, Request, Role};

/// Of everything up to the first user message; `None` for what is no chat or has no such message. `who` keeps
/// apart those who begin alike.
pub fn opening(request: &Request, who: &[&str]) -> Option<Fingerprint> {
    let first_user = request.messages.iter().position(|message| message.role == Role::User)?;
    if request.endpoint != Endpoint::Chat {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    who.iter().for_each(|part| hash_bytes(&mut hasher, b'w', part.as_bytes()));
    request.messages[..=first_user].iter().for_each(|message| hash_message(&mut hasher, message));
    Some(finish(&hasher))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(messages: &str) -> Option<Fingerprint> {
        let body = format!(r#"{{"model":"m","temperature":0.1,"messages":[{messages}]}}"#);
        opening(&Request::parse(Endpoint::Chat, body.as_bytes()).unwrap(), &["team", "ada"])
    }

    const SYSTEM: &str = r#"{"role":"system","content":"Be brief."}"#;
    const FIRST: &str = r#"{"role":"user","content":"Hello"}"#;
    const REST: &str = r#"{"role":"assistant","content":"Hi"},{"role":"user","content":"And now?"}"#;

    #[test]
    fn every_turn_of_a_conversation_has_the_same_opening() {
        let first = of(&format!("{SYSTEM},{FIRST}"));

        assert!(first.is_some());
        assert_eq!(of(&format!("{SYSTEM},{FIRST},{REST}")), first);
        assert_eq!(of(&format!(r#"{SYSTEM},{{"content":"Hello ","role":"user"}},{REST}"#)), first);
    }

    #[test]
    fn who_begins_otherwise_holds_another_conversation() {
        let first = of(&format!("{SYSTEM},{FIRST}"));

        assert_ne!(of(FIRST), first);
        assert_ne!(of(&format!(r#"{SYSTEM},{{"role":"user","content":"Hullo"}}"#)), first);
        let body = format!(r#"{{"model":"m","messages":[{SYSTEM},{FIRST}]}}"#);
        let request = Request::parse(Endpoint::Chat, body.as_bytes()).unwrap();
        assert_ne!(opening(&request, &["team", "bob"]), first);
        assert_ne!(opening(&request, &["tea", "mada"]), first);
    }

    #[test]
    fn without_a_user_message_or_a_chat_there_is_none() {
        assert_eq!(of(SYSTEM), None);
        let prompt = Request::parse(Endpoint::Completions, br#"{"model":"m","prompt":"Hello"}"#).unwrap();
        assert_eq!(opening(&prompt, &[]), None);
    }
}
