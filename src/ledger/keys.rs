//! API keys: made once, shown once, kept as hashes.
//!
//! Counts no requests and knows no limits; a key only says whose call it is.
//!
//! Invariants: the secret is never stored, logged or shown by `Debug`; hashes are compared in constant
//! time; a key that is expired or revoked admits nothing.

use std::fmt;
use std::path::Path;

use rand::TryRngCore;
use rand::rngs::OsRng;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::store::{Store, StoreError};
use crate::team::{KeyId, RouteName, TeamName};

const PREFIX: &str = "sk-stiver-";
const N_ID_CHARS: usize = 12;
/// 40 characters of 5 bits: 200 bits, so that a plain fast hash is enough.
const N_SECRET_CHARS: usize = 40;
/// 32 characters, so that a byte's low five bits choose evenly; no dash, which parts id and secret.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the operating system gives no random bytes for a key: {0}")]
    NoEntropy(rand::rand_core::OsError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a new key is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    pub name: String,
    pub team: TeamName,
    /// The routes it may ask for; `None` for all of the team's.
    pub routes: Option<Vec<RouteName>>,
    pub expires_ms: Option<i64>,
}

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: KeyId,
    pub hash: KeyHash,
    pub name: String,
    pub team: TeamName,
    pub routes: Option<Vec<RouteName>>,
    pub created_ms: i64,
    pub expires_ms: Option<i64>,
    pub revoked_ms: Option<i64>,
}

/// Why a key that exists does not admit a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    #[error("the key is wrong")]
    Wrong,
    #[error("the key is revoked")]
    Revoked,
    #[error("the key has expired")]
    Expired,
}

impl ApiKey {
    /// Whether `presented` is this key and still good at `now_ms`. A wrong secret learns nothing else.
    pub fn admits(&self, presented: &ParsedKey<'_>, now_ms: i64) -> Result<(), KeyRefusal> {
        if !self.hash.is_same(&presented.hash) {
            return Err(KeyRefusal::Wrong);
        }
        if self.revoked_ms.is_some() {
            return Err(KeyRefusal::Revoked);
        }
        if self.expires_ms.is_some_and(|expires_ms| now_ms >= expires_ms) {
            return Err(KeyRefusal::Expired);
        }
        Ok(())
    }
}

/// BLAKE3 over a whole key. Shown by `Debug` as its type only.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    fn of(key: &str) -> Self {
        Self(*blake3::hash(key.as_bytes()).as_bytes())
    }

    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    pub fn from_hex(hex: &str) -> Option<Self> {
        blake3::Hash::from_hex(hex).ok().map(|hash| Self(*hash.as_bytes()))
    }

    /// Takes the same time wherever the two differ.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other)
    }
}

impl Eq for KeyHash {}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// A key as a client sent it: the public id, and the hash of the whole.
#[derive(Clone, Copy)]
pub struct ParsedKey<'a> {
    id: &'a str,
    hash: KeyHash,
}

impl<'a> ParsedKey<'a> {
    /// Reads `sk-stiver-<id>-<secret>`; `None` for any other form. The secret is hashed, never copied.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('-')?;
        let is_form = id.len() == N_ID_CHARS
            && secret.len() == N_SECRET_CHARS
            && id.bytes().chain(secret.bytes()).all(|byte| byte.is_ascii_alphanumeric());
        is_form.then(|| Self { id, hash: KeyHash::of(text) })
    }

    /// The public half, to find the [`ApiKey`] by.
    pub fn id(&self) -> &'a str {
        self.id
    }
}

impl fmt::Debug for ParsedKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParsedKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The table of keys. The gateway reads it again from time to time; the command line writes it meanwhile.
#[derive(Debug, Clone)]
pub struct Keys {
    store: Store,
}

impl Keys {
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Opens the table in the SQLite file at `path`, beside a gateway that may be running.
    pub async fn open(path: &Path) -> Result<Self, KeyError> {
        Ok(Self::new(Store::open(path).await?))
    }

    /// Makes a key. The secret is in the second half of the answer and nowhere else.
    pub async fn create(&self, new: NewKey, now_ms: i64) -> Result<(ApiKey, SecretString), KeyError> {
        let id = random_text::<N_ID_CHARS>()?;
        let secret = random_text::<N_SECRET_CHARS>()?;
        let shown = SecretString::from(format!("{PREFIX}{id}-{secret}"));
        let key = ApiKey {
            id: KeyId::from(&id),
            hash: KeyHash::of(shown.expose_secret()),
            name: new.name,
            team: new.team,
            routes: new.routes,
            created_ms: now_ms,
            expires_ms: new.expires_ms,
            revoked_ms: None,
        };
        self.store.insert_key(&key).await?;
        Ok((key, shown))
    }

    /// All keys, the oldest first, revoked and expired ones too.
    pub async fn load_all(&self) -> Result<Vec<ApiKey>, KeyError> {
        Ok(self.store.keys().await?)
    }

    /// Returns whether there was such a key, not revoked before.
    pub async fn revoke(&self, id: &KeyId, now_ms: i64) -> Result<bool, KeyError> {
        Ok(self.store.revoke_key(id, now_ms).await?)
    }
}

fn random_text<const N: usize>() -> Result<String, KeyError> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(KeyError::NoEntropy)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}
