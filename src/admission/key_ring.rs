//! From the key a client presents to the caller it stands for, or to a refusal.
//!
//! Reads no database: it is built from keys already loaded, and replaced as a whole when they change.
//!
//! Invariants: whoever does not know a key's secret learns nothing about the key, not even whether
//! it exists: keys are found by the hash of the whole, so that a wrong secret and an unknown id are the same
//! miss; once one key or team is configured, nobody enters without a key.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::kept_text::{KeepText, TextConfig};
use super::limiter::Limits;
use crate::ledger::budget::Budget;
use crate::team::{KeyHash, KeyId, KeyRecord, PresentedKey, RouteName, State, TeamName, Term};

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
    pub term: Term,
    /// What the database has of it cannot be read, so its keys open nothing.
    pub is_unreadable: bool,
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
    /// The same team for a call of our own: no key, no budget, and none of its text is kept.
    pub fn for_own_call(&self) -> Self {
        let budgets: Arc<[Budget]> = Arc::new([]);
        let team = Team { budgets: Arc::clone(&budgets), text: None, ..Team::clone(&self.team) };
        Self { team: Arc::new(team), key: None, budgets, routes: None }
    }

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
        "the API key's team `{0}` is not configured; make it with `stiver teams create`, add `[teams.{0}]`, \
         or have a key made for another team"
    )]
    NoTeam(TeamName),
    #[error("the API key's team `{0}` was revoked; have a key made for another team")]
    TeamRevoked(TeamName),
    #[error("the API key's team `{0}` has expired; have its end set anew with `stiver teams expire`")]
    TeamExpired(TeamName),
    #[error(
        "what is kept of team `{0}`, or of its key, cannot be read; whoever runs this gateway finds why in its log"
    )]
    Unreadable(TeamName),
    #[error("the API key `sk-stiver-{0}-…` has expired; have a new one made with `stiver keys create`")]
    Expired(KeyId),
}

/// All keys and teams.
#[derive(Debug, Clone)]
pub struct KeyRing {
    /// By the hash of the whole key; more than one only where a file repeats a hash under a wrong id.
    keys: HashMap<KeyHash, Vec<KeyRecord>>,
    teams: BTreeMap<TeamName, Arc<Team>>,
    own_budgets: KeyBudgets,
    /// The budgets of keys that have their own, their team's among them.
    key_budgets: HashMap<KeyId, Arc<[Budget]>>,
    /// Keys whose own budgets cannot be read.
    unreadable: HashSet<KeyId>,
    /// The team of everybody, while no key and no team is configured.
    open_to_all: Option<Arc<Team>>,
    /// When the oldest team was made; keys made by then may be of a team that is not configured.
    first_team_ms: i64,
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
        let first_team_ms = teams.values().map(|team| team.term.created_ms).min().unwrap_or(i64::MAX);
        let (own_budgets, key_budgets, unreadable) = Default::default();
        Self { keys, teams, own_budgets, key_budgets, unreadable, open_to_all, first_team_ms }
    }

    /// Gives keys budgets of their own.
    pub fn with_key_budgets(mut self, own: KeyBudgets) -> Self {
        let by_id: HashMap<&KeyId, &KeyRecord> =
            self.keys.values().flatten().map(|key| (&key.id, key)).collect();
        for (id, budgets) in &own {
            let team = by_id.get(id).and_then(|key| self.teams.get(&key.team));
            let of_team = team.map_or_else(Vec::new, |team| team.budgets.to_vec());
            let all = of_team.into_iter().chain(budgets.iter().cloned()).collect();
            self.key_budgets.insert(id.clone(), all);
        }
        self.own_budgets = own;
        self
    }

    /// Shuts out keys of whom it is not known what they may spend.
    pub fn without(mut self, unreadable: HashSet<KeyId>) -> Self {
        self.unreadable = unreadable;
        self
    }

    /// What a key may spend besides its team.
    pub fn own_budgets(&self, id: &KeyId) -> &[Budget] {
        self.own_budgets.get(id).map_or(&[], Vec::as_slice)
    }

    /// What teams and their keys may spend, team by team.
    pub fn budgets(&self) -> Vec<(TeamName, Vec<Budget>)> {
        let of_team = |(name, team): (&TeamName, &Arc<Team>)| (name.clone(), team.budgets.to_vec());
        let mut all: BTreeMap<TeamName, Vec<Budget>> = self.teams.iter().map(of_team).collect();
        for key in self.keys.values().flatten() {
            if let Some(own) = self.own_budgets.get(&key.id) {
                all.entry(key.team.clone()).or_default().extend_from_slice(own);
            }
        }
        all.into_iter().collect()
    }

    /// Whether a key may be made for a team; a sentence where it may not.
    pub fn may_have_keys(&self, name: &TeamName, now_ms: i64) -> Result<(), String> {
        match self.team(name) {
            Some(team) => match team.term.state(now_ms) {
                State::Good => Ok(()),
                State::Revoked => Err(KeyRefused::TeamRevoked(name.clone()).to_string()),
                State::Expired => Err(KeyRefused::TeamExpired(name.clone()).to_string()),
            },
            None if self.teams.is_empty() => TeamName::fault(name.as_str())
                .map_or(Ok(()), |fault| Err(format!("there is no team `{name}`: the name {fault}"))),
            None => {
                let good = self.teams.values().filter(|team| team.term.state(now_ms) == State::Good);
                let known = good.map(|team| team.name.as_str()).collect::<Vec<_>>().join(", ");
                Err(format!("there is no team `{name}`; there are: {known}"))
            }
        }
    }

    pub fn team(&self, name: &TeamName) -> Option<&Arc<Team>> {
        self.teams.get(name).or_else(|| self.open_to_all.as_ref().filter(|team| team.name == *name))
    }

    /// Teams that keys name and that are not configured, so that nothing limits them.
    pub fn unlimited_teams(&self, now_ms: i64) -> BTreeSet<&TeamName> {
        let is_unlimited = |key: &&KeyRecord| {
            key.state(now_ms) == State::Good
                && key.created_ms <= self.first_team_ms
                && !self.teams.contains_key(&key.team)
        };
        self.keys.values().flatten().filter(is_unlimited).map(|key| &key.team).collect()
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
        match key.state(now_ms) {
            State::Good => {}
            State::Revoked => return Err(KeyRefused::Revoked(key.id.clone())),
            State::Expired => return Err(KeyRefused::Expired(key.id.clone())),
        }
        let team = self.team_of(key, now_ms)?;
        if self.unreadable.contains(&key.id) {
            return Err(KeyRefused::Unreadable(team.name.clone()));
        }
        let budgets = Arc::clone(self.key_budgets.get(&key.id).unwrap_or(&team.budgets));
        Ok(Caller { team, key: Some(key.id.clone()), budgets, routes: key.routes.clone() })
    }

    fn team_of(&self, key: &KeyRecord, now_ms: i64) -> Result<Arc<Team>, KeyRefused> {
        let name = || key.team.clone();
        match self.teams.get(&key.team) {
            Some(team) => match team.term.state(now_ms) {
                State::Good if team.is_unreadable => Err(KeyRefused::Unreadable(name())),
                State::Good => Ok(Arc::clone(team)),
                State::Revoked => Err(KeyRefused::TeamRevoked(name())),
                State::Expired => Err(KeyRefused::TeamExpired(name())),
            },
            // Who made the first team must not shut out the keys that were good without any.
            None if key.created_ms <= self.first_team_ms => Ok(Arc::new(Team::unlimited(&key.team))),
            // A name written wrong must not be a team without limits.
            None => Err(KeyRefused::NoTeam(name())),
        }
    }
}

impl Team {
    /// A team that only keys name: no budget, no limit, every route.
    fn unlimited(name: &TeamName) -> Self {
        let (budgets, limits) = (Arc::new([]), Limits::default());
        let (routes, webhook, term) = (None, None, Term::ALWAYS);
        Self { name: name.clone(), routes, budgets, limits, webhook, text: None, term, is_unreadable: false }
    }

    /// A team of which no more is known than when it ends.
    pub fn unreadable(name: &TeamName, term: Term) -> Self {
        Self { term, is_unreadable: true, ..Self::unlimited(name) }
    }

    pub fn shown_webhook(&self) -> Option<String> {
        self.webhook.as_ref().map(|url| shown_webhook(url.expose_secret()))
    }
}

/// A webhook as people may see it: where it is, and none of what makes it a secret.
pub fn shown_webhook(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", ""));
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or("");
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}/…")
}

#[cfg(test)]
mod tests;
