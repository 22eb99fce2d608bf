//! From the key a client presents to the caller it stands for, or to a refusal.
//!
//! Reads no database: it is built from keys already loaded, and replaced as a whole when they change.
//!
//! Invariants: whoever does not know a key's secret learns nothing about the key, not even whether
//! it exists: keys are found by the hash of the whole, so that a wrong secret and an unknown id are the same
//! miss; once one key or team is configured, nobody enters without a key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use secrecy::SecretString;
use serde::Deserialize;

use super::kept_text::{KeepText, TextConfig};
use super::limiter::Limits;
use crate::ledger::budget::Budget;
use crate::team::{KeyHash, KeyId, KeyRecord, PresentedKey, RouteName, TeamName};

/// One `[teams.NAME]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TeamConfig {
    /// Routes the team may ask for. Default: all.
    pub routes: Option<Vec<String>>,
    /// What the team, each of its keys and each of its users may spend.
    pub budgets: Vec<Budget>,
    /// Where a warning goes when a soft budget is passed, instead of `ledger.webhook`; an http(s) address.
    pub webhook: Option<SecretString>,
    /// How much the team may ask for.
    pub limits: Limits,
    /// Whether the text of its calls is kept. Default: no.
    pub text: TextConfig,
}

/// One `[[keys]]`: a key made elsewhere, known by its hash (`stiver keys create --toml` prints one).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The part of the key between `sk-stiver-` and the next dash.
    pub id: String,
    /// BLAKE3 of the whole key, 64 hexadecimal digits.
    pub hash: String,
    pub team: String,
    /// Routes this key may ask for. Default: the team's.
    #[serde(default)]
    pub routes: Option<Vec<String>>,
    /// What this key may spend, besides what its team may.
    #[serde(default)]
    pub budgets: Vec<Budget>,
}

/// Budgets that single keys have besides their team's.
pub type KeyBudgets = BTreeMap<KeyId, Vec<Budget>>;

/// A validated team.
#[derive(Debug, Clone)]
pub struct Team {
    pub name: TeamName,
    pub routes: Option<BTreeSet<RouteName>>,
    pub budgets: Arc<[Budget]>,
    pub limits: Limits,
    pub webhook: Option<SecretString>,
    /// `None` where the text of its calls is not kept.
    pub text: Option<KeepText>,
}

/// Who a call is made for.
#[derive(Debug, Clone)]
pub struct Caller {
    pub team: Arc<Team>,
    pub key: Option<KeyId>,
    /// The team's budgets, and the key's own.
    pub budgets: Arc<[Budget]>,
    routes: Option<Vec<RouteName>>,
}

impl Caller {
    pub fn may_ask(&self, route: &RouteName) -> bool {
        self.team.routes.as_ref().is_none_or(|routes| routes.contains(route))
            && self.routes.as_ref().is_none_or(|routes| routes.contains(route))
    }
}

/// Why a key does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    #[error("no API key was sent; send it as `Authorization: Bearer sk-stiver-…`")]
    Missing,
    #[error("the API key is not one of ours; they start with `sk-stiver-`")]
    Malformed,
    #[error("the API key is wrong; check it, or have a new one made with `stiver keys create`")]
    Wrong,
    #[error("the API key `sk-stiver-{0}-…` was revoked; have a new one made with `stiver keys create`")]
    Revoked(KeyId),
    #[error(
        "the API key's team `{0}` is not configured; add `[teams.{0}]`, or have a key made for another team"
    )]
    NoTeam(TeamName),
    #[error("the API key `sk-stiver-{0}-…` has expired; have a new one made with `stiver keys create`")]
    Expired(KeyId),
}

/// All keys and teams.
#[derive(Debug, Clone)]
pub struct KeyRing {
    /// By the hash of the whole key; more than one only where a file repeats a hash under a wrong id.
    keys: HashMap<KeyHash, Vec<KeyRecord>>,
    teams: BTreeMap<TeamName, Arc<Team>>,
    /// The budgets of keys that have their own, their team's among them.
    key_budgets: HashMap<KeyId, Arc<[Budget]>>,
    /// The team of everybody, while no key and no team is configured.
    open_to_all: Option<Arc<Team>>,
}

impl KeyRing {
    pub fn new(teams: BTreeMap<TeamName, Arc<Team>>, keys: impl IntoIterator<Item = KeyRecord>) -> Self {
        let by_id: HashMap<KeyId, KeyRecord> = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        let mut keys: HashMap<KeyHash, Vec<KeyRecord>> = HashMap::new();
        for key in by_id.into_values() {
            keys.entry(key.hash).or_default().push(key);
        }
        let everybody = || {
            let name = TeamName::from("default");
            Arc::new(Team::unlimited(&name))
        };
        let open_to_all = (keys.is_empty() && teams.is_empty()).then(everybody);
        Self { keys, teams, key_budgets: HashMap::new(), open_to_all }
    }

    /// Gives keys budgets of their own.
    pub fn with_key_budgets(mut self, own: &KeyBudgets) -> Self {
        let team_of: HashMap<&KeyId, &TeamName> =
            self.keys.values().flatten().map(|key| (&key.id, &key.team)).collect();
        for (id, budgets) in own {
            let team = team_of.get(id).and_then(|team| self.teams.get(*team));
            let of_team = team.map_or_else(Vec::new, |team| team.budgets.to_vec());
            let all = of_team.into_iter().chain(budgets.iter().cloned()).collect();
            self.key_budgets.insert(id.clone(), all);
        }
        self
    }

    /// Every team, that of everybody while there is no other.
    pub fn teams(&self) -> impl Iterator<Item = &Arc<Team>> {
        self.teams.values().chain(&self.open_to_all)
    }

    /// No key and no team is configured, so any key is taken.
    pub fn is_open(&self) -> bool {
        self.open_to_all.is_some()
    }

    pub fn admit(&self, presented: Option<&str>, now_ms: i64) -> Result<Caller, KeyRefused> {
        if let Some(team) = &self.open_to_all {
            let (team, budgets) = (Arc::clone(team), Arc::clone(&team.budgets));
            return Ok(Caller { team, key: None, budgets, routes: None });
        }
        let presented = presented.ok_or(KeyRefused::Missing)?;
        let presented = PresentedKey::parse(presented).ok_or(KeyRefused::Malformed)?;
        let mut with_this_hash = self.keys.get(&presented.hash).into_iter().flatten();
        let key = with_this_hash.find(|key| key.id.as_str() == presented.id);
        let key = key.ok_or(KeyRefused::Wrong)?;
        if key.revoked_ms.is_some_and(|revoked_ms| revoked_ms <= now_ms) {
            return Err(KeyRefused::Revoked(key.id.clone()));
        }
        if key.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
            return Err(KeyRefused::Expired(key.id.clone()));
        }
        let team = match self.teams.get(&key.team) {
            Some(team) => Arc::clone(team),
            None if self.teams.is_empty() => Arc::new(Team::unlimited(&key.team)),
            // A name written wrong must not be a team without limits.
            None => return Err(KeyRefused::NoTeam(key.team.clone())),
        };
        let budgets = Arc::clone(self.key_budgets.get(&key.id).unwrap_or(&team.budgets));
        Ok(Caller { team, key: Some(key.id.clone()), budgets, routes: key.routes.clone() })
    }
}

impl Team {
    /// A team that only keys name: no budget, no limit, every route.
    fn unlimited(name: &TeamName) -> Self {
        let (budgets, limits) = (Arc::new([]), Limits::default());
        Self { name: name.clone(), routes: None, budgets, limits, webhook: None, text: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "sk-stiver-abc-secret";

    fn key() -> KeyRecord {
        let hash = PresentedKey::parse(TEXT).unwrap().hash;
        KeyRecord {
            id: KeyId::from("abc"),
            hash,
            name: "ci".to_owned(),
            team: TeamName::from("search"),
            routes: None,
            created_ms: 0,
            expires_ms: None,
            revoked_ms: None,
        }
    }

    fn other_key() -> KeyRecord {
        KeyRecord { id: KeyId::from("xyz"), hash: KeyHash::of("sk-stiver-xyz-other"), ..key() }
    }

    fn ring(key: KeyRecord) -> KeyRing {
        KeyRing::new(BTreeMap::new(), [key])
    }

    fn refusal(ring: &KeyRing, presented: Option<&str>, now_ms: i64) -> KeyRefused {
        ring.admit(presented, now_ms).map(|_| ()).unwrap_err()
    }

    #[test]
    fn the_right_key_opens_and_every_other_is_refused() {
        let ring = ring(key());

        assert_eq!(ring.admit(Some(TEXT), 0).unwrap().team.name.as_str(), "search");
        assert_eq!(refusal(&ring, None, 0), KeyRefused::Missing);
        assert_eq!(refusal(&ring, Some("sk-other"), 0), KeyRefused::Malformed);
        assert_eq!(refusal(&ring, Some("sk-stiver-abc-secreT"), 0), KeyRefused::Wrong);
        assert_eq!(refusal(&ring, Some("sk-stiver-xyz-secret"), 0), KeyRefused::Wrong);
    }

    #[test]
    fn a_wrong_secret_and_an_unknown_id_are_refused_in_the_same_words() {
        let ended = KeyRecord { revoked_ms: Some(0), expires_ms: Some(0), ..key() };
        let rings = [ring(key()), ring(ended), KeyRing::new(BTreeMap::new(), [key(), other_key()])];

        for ring in rings {
            let told =
                ["abc-Xecret", "abc-seXret", "abc-secreX", "abc-other", "xyz-secret", "zzz-secret", "a-s"]
                    .map(|rest| refusal(&ring, Some(&format!("sk-stiver-{rest}")), 0));

            assert!(told.iter().all(|one| *one == KeyRefused::Wrong), "{told:?}");
            assert!(told.iter().all(|one| one.to_string() == told[0].to_string()));
        }
    }

    #[test]
    fn a_key_opens_under_its_own_id_alone() {
        // As a hash in the file can stand beside the wrong id.
        let misnamed = KeyRecord { id: KeyId::from("xyz"), ..key() };

        assert_eq!(refusal(&ring(misnamed.clone()), Some(TEXT), 0), KeyRefused::Wrong);
        assert!(KeyRing::new(BTreeMap::new(), [key(), misnamed]).admit(Some(TEXT), 0).is_ok());
    }

    #[test]
    fn of_two_keys_with_one_id_the_later_opens() {
        let changed = KeyRecord { hash: KeyHash::of("sk-stiver-abc-changed"), ..key() };
        let ring = KeyRing::new(BTreeMap::new(), [key(), changed]);

        assert!(ring.admit(Some("sk-stiver-abc-changed"), 0).is_ok());
        assert_eq!(refusal(&ring, Some(TEXT), 0), KeyRefused::Wrong);
    }

    #[test]
    fn a_revoked_or_expired_key_is_named_only_to_who_knows_its_secret() {
        let revoked = ring(KeyRecord { revoked_ms: Some(10), ..key() });
        let expired = ring(KeyRecord { expires_ms: Some(10), ..key() });

        assert!(revoked.admit(Some(TEXT), 9).is_ok());
        assert_eq!(refusal(&revoked, Some(TEXT), 10), KeyRefused::Revoked(KeyId::from("abc")));
        assert!(expired.admit(Some(TEXT), 9).is_ok());
        assert_eq!(refusal(&expired, Some(TEXT), 10), KeyRefused::Expired(KeyId::from("abc")));
        assert_eq!(refusal(&revoked, Some("sk-stiver-abc-guess"), 10), KeyRefused::Wrong);
    }

    #[test]
    fn once_teams_are_configured_a_key_of_another_is_refused() {
        let team = Arc::new(Team::unlimited(&TeamName::from("serach")));
        let ring = KeyRing::new([(team.name.clone(), team)].into(), [key()]);

        assert_eq!(refusal(&ring, Some(TEXT), 0), KeyRefused::NoTeam(TeamName::from("search")));
    }

    #[test]
    fn without_any_key_or_team_anybody_may_call() {
        let open = KeyRing::new(BTreeMap::new(), []);
        let team = Arc::new(Team::unlimited(&TeamName::from("t")));
        let with_team = KeyRing::new([(team.name.clone(), team)].into(), []);

        assert!(open.admit(None, 0).is_ok() && open.admit(Some("anything"), 0).is_ok());
        assert_eq!(refusal(&with_team, Some("anything"), 0), KeyRefused::Malformed);
    }

    #[test]
    fn a_route_must_be_open_to_the_team_and_to_the_key() {
        let names = |names: [&str; 2]| names.map(RouteName::from);
        let team =
            Team { routes: Some(names(["a", "b"]).into()), ..Team::unlimited(&TeamName::from("search")) };
        let ring = KeyRing::new(
            [(team.name.clone(), Arc::new(team))].into(),
            [KeyRecord { routes: Some(names(["b", "c"]).into()), ..key() }],
        );

        let caller = ring.admit(Some(TEXT), 0).unwrap();

        let asked = ["a", "b", "c"].map(|route| caller.may_ask(&RouteName::from(route)));
        assert_eq!(asked, [false, true, false]);
    }
}
