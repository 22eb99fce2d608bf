//! API keys, `sk-stiver-<id>-<secret>`: how one is presented, and what is kept of it.
//!
//! Makes none and keeps no list. A secret has 200 bits of entropy, so one fast hash is enough: there
//! is nothing to guess, and a slow hash would only slow down every call.
//!
//! Invariants: a secret is hashed, never copied or shown by `Debug`; hashes are compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq;

use super::{Document, KeyId, RouteName, State, TeamName};

/// How every key begins.
pub const PREFIX: &str = "sk-stiver-";
/// Bounds the work a stranger can cause with a header.
const MAX_LEN: usize = 256;

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    pub id: KeyId,
    pub hash: KeyHash,
    pub name: String,
    pub team: TeamName,
    /// The routes it may ask for; `None` for all of the team's.
    pub routes: Option<Vec<RouteName>>,
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
    pub revoked_ms: Option<i64>,
    /// What it may spend besides its team, as the database has it; a key of the file has none here.
    pub budgets: Option<Document>,
}

impl KeyRecord {
    pub fn state(&self, now_ms: i64) -> State {
        State::at(now_ms, self.expires_ms, self.revoked_ms)
    }
}

/// A key as a client sent it: the public id, and the hash of the whole.
#[derive(Clone, Copy)]
pub struct PresentedKey<'a> {
    pub id: &'a str,
    pub hash: KeyHash,
}

impl<'a> PresentedKey<'a> {
    /// Reads `sk-stiver-<id>-<secret>`; `None` for any other form.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('-')?;
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_key = text.len() <= MAX_LEN && plain(id) && plain(secret);
        is_key.then(|| Self { id, hash: KeyHash::of(text) })
    }
}

impl fmt::Debug for PresentedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// BLAKE3 over a whole key. Shown by `Debug` as its type only.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    pub fn of(key: &str) -> Self {
        Self(*blake3::hash(key.as_bytes()).as_bytes())
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| Self(*hash.as_bytes()))
    }

    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }
}

/// Takes the same time wherever the two differ.
impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl std::hash::Hash for KeyHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_by_its_parts_and_named_by_its_hash() {
        let key = PresentedKey::parse("sk-stiver-abc-secret").unwrap();

        assert_eq!(key.id, "abc");
        assert_eq!(KeyHash::from_hex(&key.hash.to_hex()), Some(key.hash));
        assert_ne!(key.hash, KeyHash::of("sk-stiver-abc-secreT"));
    }

    #[test]
    fn hashes_are_compared_in_their_full_width() {
        let hash = KeyHash::of("sk-stiver-abc-secret");

        for bit in 0..256 {
            let mut other = hash;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash, other, "bit {bit}");
        }
    }

    /// All that is left of a secret is its hash, so nothing can compare the secret itself.
    #[test]
    fn a_presented_key_is_its_id_and_a_hash_of_the_whole() {
        let PresentedKey { id, hash } = PresentedKey::parse("sk-stiver-abc-secret").unwrap();

        assert_eq!((id, hash), ("abc", KeyHash::of("sk-stiver-abc-secret")));
        assert_ne!(hash, KeyHash::of("secret"));
    }

    #[test]
    fn other_texts_are_not_keys() {
        let long = format!("sk-stiver-a-{}", "b".repeat(245));
        assert!(PresentedKey::parse(&long[..256]).is_some());
        for text in [
            "",
            "sk-stiver-",
            "sk-stiver-a",
            "sk-stiver--b",
            "sk-stiver-a-",
            "sk-proj-a-b",
            "sk-stiver-a-b c",
            &long,
        ] {
            assert!(PresentedKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = PresentedKey::parse("sk-stiver-abc-topsecret").unwrap();

        let shown = format!("{key:?} {:?}", key.hash);

        assert!(shown.contains("abc"), "{shown}");
        assert!(!shown.contains("topsecret") && !shown.contains(&key.hash.to_hex()[..8]), "{shown}");
    }
}
