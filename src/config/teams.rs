//! `[teams.NAME]` and `[[keys]]`: who may ask for what, and what they may spend.
//!
//! Reads no other section; routes come in to be compared with.
//!
//! Invariants: a key's own budgets are budgets of that key.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::Reader;
use super::read::join;
use crate::admission::{KeyBudgets, KeyConfig, Team, TeamConfig};
use crate::ledger::budget::{Budget, Of};
use crate::routing::RouteConfig;
use crate::team::{KeyHash, KeyId, KeyRecord, RouteName, TeamName, Term};

impl Reader<'_> {
    pub(super) fn teams(
        &mut self,
        teams: BTreeMap<String, TeamConfig>,
        routes: &BTreeMap<String, RouteConfig>,
    ) -> BTreeMap<TeamName, Arc<Team>> {
        let routes = names(routes);
        let mut built = BTreeMap::new();
        for (name, config) in teams {
            let at = format!("teams.{}", name.escape_debug());
            if let Some(fault) = TeamName::fault(&name) {
                self.mistake(&at, format!("the team's name {fault}"));
            }
            let name = TeamName::from(&name);
            let team = self.team((&name, Term::ALWAYS), config, &at, &routes);
            built.insert(name, Arc::new(team));
        }
        built
    }

    /// A team whose section stands at `at`.
    pub(super) fn team(
        &mut self,
        (name, term): (&TeamName, Term),
        config: TeamConfig,
        at: &str,
        routes: &[&str],
    ) -> Team {
        let TeamConfig { routes: named, budgets, webhook, limits, text } = config;
        let named = self.known_routes(named, &join(at, "routes"), routes);
        let webhook = webhook.filter(|url| !url.expose_secret().is_empty());
        self.check_webhook(webhook.as_ref(), &join(at, "webhook"));
        for (what, limit) in limits.given().filter(|(_, limit)| *limit == 0) {
            let problem = format!("is {limit}, which would refuse every call; leave it out for no limit");
            self.mistake(&join(at, &format!("limits.{what}")), problem);
        }
        for (what, problem) in text.mistakes() {
            self.mistake(&join(at, &format!("text.{what}")), problem);
        }
        let routes = named.map(|routes| routes.into_iter().collect());
        let (name, budgets, text) = (name.clone(), budgets.into(), text.kept());
        Team { name, routes, budgets, limits, webhook, text, term, is_unreadable: false }
    }

    pub(super) fn keys(
        &mut self,
        keys: Vec<KeyConfig>,
        teams: &BTreeMap<TeamName, Arc<Team>>,
        routes: &BTreeMap<String, RouteConfig>,
    ) -> Vec<KeyRecord> {
        let routes = names(routes);
        let mut built: Vec<KeyRecord> = Vec::new();
        for (idx, config) in keys.into_iter().enumerate() {
            let at = format!("keys[{idx}]");
            let (id, team) = (KeyId::from(&config.id), TeamName::from(&config.team));
            if built.iter().any(|known| known.id == id) {
                self.mistake(&format!("{at}.id"), format!("`{id}` is used twice; keep one"));
            }
            if !teams.contains_key(&team) {
                self.mistake(
                    &format!("{at}.team"),
                    format!("`{team}` is not configured; add `[teams.{team}]`"),
                );
            }
            let routes = self.known_routes(config.routes, &format!("{at}.routes"), &routes);
            match KeyHash::from_hex(&config.hash) {
                Some(hash) => built.push(KeyRecord {
                    name: format!("{at} of {}", self.origin),
                    id,
                    hash,
                    team,
                    routes,
                    created_ms: 0,
                    expires_ms: None,
                    revoked_ms: None,
                    budgets: None,
                }),
                None => self.mistake(
                    &format!("{at}.hash"),
                    "is not 64 hexadecimal digits; `stiver keys create --toml` prints it",
                ),
            }
        }
        built
    }

    /// What a key may spend is its own, whatever word for that is left out.
    pub(super) fn key_budgets(&mut self, keys: &mut [KeyConfig]) -> KeyBudgets {
        let mut own = KeyBudgets::new();
        for (idx, config) in keys.iter_mut().enumerate().filter(|(_, config)| !config.budgets.is_empty()) {
            let budgets = std::mem::take(&mut config.budgets);
            let budgets = self.budgets_of_key(budgets, &format!("keys[{idx}].budgets"));
            own.insert(KeyId::from(&config.id), budgets);
        }
        own
    }

    pub(super) fn budgets_of_key(&mut self, mut budgets: Vec<Budget>, at: &str) -> Vec<Budget> {
        for (nth, budget) in budgets.iter_mut().enumerate() {
            if budget.of == Of::EachUser {
                let problem = "is `each_user`; a key's budgets are the key's, give users theirs at the team";
                self.mistake(&format!("{at}[{nth}].of"), problem);
            }
            budget.of = Of::EachKey;
        }
        budgets
    }

    pub(super) fn check_webhook(&mut self, webhook: Option<&SecretString>, at: &str) {
        let is_http = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        if webhook.is_some_and(|url| !is_http(url.expose_secret())) {
            self.mistake(at, "is no http(s) address");
        }
    }

    pub(super) fn known_routes(
        &mut self,
        named: Option<Vec<String>>,
        at: &str,
        routes: &[&str],
    ) -> Option<Vec<RouteName>> {
        let named = named?;
        for unknown in named.iter().filter(|name| !routes.contains(&name.as_str())) {
            let known = routes.join(", ");
            self.mistake(at, format!("names route `{unknown}`, which is not configured; there are: {known}"));
        }
        Some(named.iter().map(RouteName::from).collect())
    }
}

pub(super) fn names(routes: &BTreeMap<String, RouteConfig>) -> Vec<&str> {
    routes.keys().map(String::as_str).collect()
}
