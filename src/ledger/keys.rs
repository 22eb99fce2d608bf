//! API keys: made once, shown once, kept as hashes.
//!
//! Admits nobody and counts nothing; `admission` does, from the records kept here.
//!
//! Invariants: the secret is never stored, logged or shown by `Debug`.

use rand::TryRngCore;
use rand::rngs::OsRng;
use secrecy::{ExposeSecret, SecretString};

use super::LedgerConfig;
use super::store::{Store, StoreError};
use super::teams::Teams;
use crate::team::key::PREFIX;
use crate::team::{Document, KeyHash, KeyId, KeyRecord, Roster, RouteName, TeamName};

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
    /// What it may spend besides its team, checked.
    pub budgets: Option<Document>,
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

    /// Opens the table in the ledger's database, beside a gateway that may be running.
    pub async fn open(config: &LedgerConfig) -> Result<Self, KeyError> {
        Ok(Self::new(Store::open(config).await?))
    }

    /// Makes a key. The secret is in the second half of the answer and nowhere else.
    pub async fn create(&self, new: NewKey, now_ms: i64) -> Result<(KeyRecord, SecretString), KeyError> {
        let (key, shown) = make(new, now_ms)?;
        self.store.insert_key(&key).await?;
        Ok((key, shown))
    }

    /// Makes a key in place of `old`, which opens until `until_ms` at the latest. The new one is stored first:
    /// a failure in between leaves two keys that open, never none.
    pub async fn rotate(
        &self,
        old: &KeyRecord,
        until_ms: i64,
        now_ms: i64,
    ) -> Result<(KeyRecord, SecretString), KeyError> {
        let new = NewKey {
            name: old.name.clone(),
            team: old.team.clone(),
            routes: old.routes.clone(),
            expires_ms: old.expires_ms.filter(|expires_ms| *expires_ms > now_ms),
            budgets: old.budgets.clone(),
        };
        let made = self.create(new, now_ms).await?;
        self.store.expire_key(&old.id, until_ms).await?;
        Ok(made)
    }

    /// Lets a key end at `at_ms`; `false` where it was revoked, ends before that anyway, or is not there.
    pub async fn expire(&self, id: &KeyId, at_ms: i64) -> Result<bool, KeyError> {
        Ok(self.store.expire_key(id, at_ms).await?)
    }

    /// Gives a key other budgets of its own; `false` where it was revoked or is not there.
    pub async fn set_budgets(&self, id: &KeyId, budgets: Option<&Document>) -> Result<bool, KeyError> {
        Ok(self.store.set_key_budgets(id, budgets).await?)
    }

    /// The teams in the same database.
    pub fn teams(&self) -> Teams {
        Teams::new(self.store.clone())
    }

    /// All keys and all teams. The keys are read first, so that a new key never comes without its new team.
    pub async fn load_roster(&self) -> Result<Roster, KeyError> {
        let keys = self.store.keys().await?;
        Ok(Roster { keys, teams: self.store.teams().await? })
    }

    /// All keys, the oldest first, revoked and expired ones too.
    pub async fn load_all(&self) -> Result<Vec<KeyRecord>, KeyError> {
        Ok(self.store.keys().await?)
    }

    /// Returns whether there was such a key, not revoked before.
    pub async fn revoke(&self, id: &KeyId, now_ms: i64) -> Result<bool, KeyError> {
        Ok(self.store.revoke_key(id, now_ms).await?)
    }
}

/// Makes a key and stores it nowhere.
pub fn make(new: NewKey, now_ms: i64) -> Result<(KeyRecord, SecretString), KeyError> {
    let id = random_text::<N_ID_CHARS>()?;
    let secret = random_text::<N_SECRET_CHARS>()?;
    let shown = SecretString::from(format!("{PREFIX}{id}-{secret}"));
    let key = KeyRecord {
        id: KeyId::from(&id),
        hash: KeyHash::of(shown.expose_secret()),
        name: new.name,
        team: new.team,
        routes: new.routes,
        created_ms: now_ms,
        expires_ms: new.expires_ms,
        revoked_ms: None,
        budgets: new.budgets,
    };
    Ok((key, shown))
}

fn random_text<const N: usize>() -> Result<String, KeyError> {
    let mut bytes = [0; N];
    OsRng.try_fill_bytes(&mut bytes).map_err(KeyError::NoEntropy)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}
