//! Who is signed in: random tokens in memory, each standing for a key that is checked again every time.
//!
//! Survives no restart and is shared with no replica: who meets another one signs in again.
//!
//! Invariants: a cookie holds a token and never a key; a token is looked up by its hash, so that the time
//! it takes tells nothing of the tokens there are; a key that is revoked ends its sessions at once,
//! because a session only remembers what to ask the key ring.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use secrecy::SecretString;

/// A working day and a bit.
pub(super) const LIFE_MS: i64 = 12 * 3_600_000;
/// Beyond this the session that ends first makes room: whoever has a key must not fill the memory.
const MOST_SESSIONS: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

#[derive(Debug)]
struct Session {
    key: SecretString,
    expires_ms: i64,
}

impl Sessions {
    /// Begins a session and gives its token.
    pub(super) fn begin(&self, key: SecretString, now_ms: i64) -> String {
        let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let mut sessions = self.0.lock();
        sessions.retain(|_, session| session.expires_ms > now_ms);
        if sessions.len() >= MOST_SESSIONS {
            let first = sessions.iter().min_by_key(|(_, session)| session.expires_ms).map(|(hash, _)| *hash);
            first.and_then(|hash| sessions.remove(&hash));
        }
        sessions.insert(hash(&token), Session { key, expires_ms: now_ms + LIFE_MS });
        token
    }

    /// The key that a session was begun with.
    pub(super) fn key(&self, token: &str, now_ms: i64) -> Option<SecretString> {
        let sessions = self.0.lock();
        let session = sessions.get(&hash(token)).filter(|session| session.expires_ms > now_ms)?;
        Some(session.key.clone())
    }

    pub(super) fn end(&self, token: &str) {
        self.0.lock().remove(&hash(token));
    }
}

fn hash(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn key_of(sessions: &Sessions, token: &str, now_ms: i64) -> Option<String> {
        sessions.key(token, now_ms).map(|key| key.expose_secret().to_owned())
    }

    #[test]
    fn a_session_lasts_its_time_and_not_longer() {
        let sessions = Sessions::default();
        let token = sessions.begin(SecretString::from("sk-1"), 1_000);

        assert_eq!(key_of(&sessions, &token, 1_000 + LIFE_MS - 1).as_deref(), Some("sk-1"));
        assert_eq!(key_of(&sessions, &token, 1_000 + LIFE_MS), None);
    }

    #[test]
    fn a_session_that_was_ended_is_gone_and_others_stay() {
        let sessions = Sessions::default();
        let (first, second) =
            (sessions.begin(SecretString::from("sk-1"), 0), sessions.begin(SecretString::from("sk-2"), 0));
        sessions.end(&first);

        assert_eq!(key_of(&sessions, &first, 0), None);
        assert_eq!(key_of(&sessions, &second, 0).as_deref(), Some("sk-2"));
        assert_eq!(key_of(&sessions, "made-up", 0), None);
        assert_ne!(first, second);
    }

    #[test]
    fn the_oldest_session_makes_room_when_there_are_too_many() {
        let sessions = Sessions::default();
        let oldest = sessions.begin(SecretString::from("oldest"), 0);
        let second = sessions.begin(SecretString::from("second"), 1);
        for _ in 2..=MOST_SESSIONS {
            sessions.begin(SecretString::from("more"), 2);
        }

        assert_eq!(key_of(&sessions, &oldest, 2), None);
        assert_eq!(key_of(&sessions, &second, 2).as_deref(), Some("second"));
    }

    #[test]
    fn nothing_shows_a_key() {
        let sessions = Sessions::default();
        let token = sessions.begin(SecretString::from("sk-topsecret"), 0);

        assert!(!format!("{sessions:?}").contains("topsecret"));
        assert!(!token.contains("topsecret") && token.len() == 43);
    }
}
