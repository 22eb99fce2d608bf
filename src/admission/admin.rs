//! The operator's key: who may see every team, make keys and read the whole book.
//!
//! Belongs to no team and answers no calls.
//!
//! Invariants: only a hash of it is kept; it is compared in constant time; where none is set, nothing opens.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::team::KeyHash;

/// Shorter keys could be guessed, because whoever writes one by hand does not draw it at random.
const MIN_CHARS: usize = 24;

/// The `[admin]` section.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// The key that opens `/admin/v1` and the whole dashboard, at least 24 characters; empty: none does.
    pub key: Option<SecretString>,
}

/// What is kept of the operator's key.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdminKey(Option<KeyHash>);

impl AdminKey {
    /// The error is a sentence about `admin.key`.
    pub fn try_new(config: &AdminConfig) -> Result<Self, String> {
        let key = config.key.as_ref().map_or("", |key| key.expose_secret());
        match key.chars().count() {
            0 => Ok(Self(None)),
            n if n < MIN_CHARS => Err(format!(
                "has {n} characters, at least {MIN_CHARS} are needed; make one with `openssl rand -hex 32`"
            )),
            _ => Ok(Self(Some(KeyHash::of(key)))),
        }
    }

    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    pub fn opens(&self, presented: &str) -> bool {
        // Hashed either way, so that the time tells nothing of the key.
        let presented = KeyHash::of(presented);
        self.0.is_some_and(|hash| hash == presented)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<AdminKey, String> {
        AdminKey::try_new(&AdminConfig { key: Some(SecretString::from(text)) })
    }

    #[test]
    fn only_the_whole_key_opens() {
        let good = "0123456789abcdef01234567";
        let admin = key(good).unwrap();

        assert!(admin.is_set() && admin.opens(good));
        assert!(!admin.opens(&good[..23]) && !admin.opens("") && !admin.opens(&good.to_uppercase()));
    }

    #[test]
    fn a_short_key_is_refused_and_an_empty_one_opens_nothing() {
        assert!(key(&"x".repeat(MIN_CHARS - 1)).unwrap_err().contains("23 characters"));
        assert!(key(&"x".repeat(MIN_CHARS)).is_ok());
        let none = key("").unwrap();
        assert!(!none.is_set() && !none.opens(""));
    }
}
