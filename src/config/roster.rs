//! Teams and keys of the file and of the database, made one key ring.
//!
//! Reads no database; what it holds comes in.
//!
//! Invariants: where a name stands in both, the file's holds, because it is the operator's last word; a team or
//! a key that cannot be read is shut out, never let in without its limits.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::Config;
use super::documents::Kept;
use crate::admission::{KeyRing, Team};
use crate::team::{KeyId, Roster, TeamName, TeamRecord};

impl Config {
    /// The key ring, and what an operator should be told of what it was made of.
    pub fn key_ring(&self, roster: &Roster) -> (KeyRing, Vec<String>) {
        let mut news = Vec::new();
        let mut teams: BTreeMap<TeamName, Arc<Team>> = BTreeMap::new();
        for record in &roster.teams {
            if self.teams.contains_key(&record.name) {
                news.push(both(&record.name));
                continue;
            }
            teams.insert(record.name.clone(), Arc::new(self.team_of_database(record, &mut news)));
        }
        teams.extend(self.teams.iter().map(|(name, team)| (name.clone(), Arc::clone(team))));
        let (mut own, mut unreadable) = (self.key_budgets.clone(), HashSet::new());
        let of_file: BTreeSet<&KeyId> = self.keys.iter().map(|key| &key.id).collect();
        for key in roster.keys.iter().filter(|key| !of_file.contains(&key.id)) {
            let Some(kept) = &key.budgets else { continue };
            let Kept { value, mistakes } = self.read_kept_budgets(kept);
            news.extend(mistakes.iter().map(|mistake| format!("key `{}`: {mistake}", key.id)));
            match value {
                Some(budgets) => drop(own.insert(key.id.clone(), budgets)),
                None => drop(unreadable.insert(key.id.clone())),
            }
        }
        let ring = KeyRing::new(teams, roster.keys.iter().chain(&self.keys).cloned());
        (ring.with_key_budgets(own).without(unreadable), news)
    }

    fn team_of_database(&self, record: &TeamRecord, news: &mut Vec<String>) -> Team {
        let Kept { value, mistakes } = self.read_kept_team(&record.name, &record.config, record.term);
        news.extend(mistakes.iter().map(|mistake| format!("team `{}`: {mistake}", record.name)));
        let team = value.unwrap_or_else(|| Team::unreadable(&record.name, record.term));
        let gone = team.routes.iter().flatten().filter(|route| self.catalog.route(route).is_none());
        news.extend(gone.map(|route| {
            format!("team `{}` may ask for route `{route}`, which is not configured any more", record.name)
        }));
        team
    }

    /// Whether a team stands in the file, and so hides one of that name in the database.
    pub fn has_team(&self, name: &TeamName) -> bool {
        self.teams.contains_key(name)
    }
}

/// What is told of a team that stands in the file and in the database.
pub fn both(name: &TeamName) -> String {
    format!("team `{name}` stands in the configuration file and in the database; the file's holds")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::KeyRefused;
    use crate::config::Environment;
    use crate::team::{Document, KeyHash, KeyRecord, Term};

    const KEY: &str = "sk-stiver-abc-secret";

    fn config(text: &str) -> Config {
        Config::parse("test.toml", text, "", &Environment::default()).unwrap()
    }

    fn roster(team: &str, document: &str, budgets: Option<&str>) -> Roster {
        let config = Document::from(document.to_owned());
        let (name, term) = (TeamName::from(team), Term::from(0, None));
        let teams = vec![TeamRecord { name: name.clone(), config, changed_ms: 0, term }];
        let key = KeyRecord {
            id: KeyId::from("abc"),
            hash: KeyHash::of(KEY),
            name: String::new(),
            team: name,
            routes: None,
            created_ms: 0,
            expires_ms: None,
            revoked_ms: None,
            budgets: budgets.map(|budgets| Document::from(budgets.to_owned())),
        };
        Roster { teams, keys: vec![key] }
    }

    #[test]
    fn a_team_of_the_database_counts_as_one_of_the_file_would() {
        let document = r#"{"budgets":[{"usd":"5","per":"day"}],"limits":{"concurrency":3}}"#;
        let roster = roster("search", document, Some(r#"[{"usd":1,"per":"week"}]"#));

        let (ring, news) = config("").key_ring(&roster);

        let caller = ring.admit(Some(KEY), 5).unwrap();
        let amounts: Vec<String> = caller.budgets.iter().map(|budget| budget.usd.to_string()).collect();
        assert_eq!((amounts, caller.team.limits.concurrency), (vec!["5.00".into(), "1.00".into()], Some(3)));
        assert_eq!(ring.budgets()[0].1.len(), 2);
        assert_eq!(news, Vec::<String>::new());
    }

    #[test]
    fn the_file_wins_and_that_is_told() {
        let roster = roster("search", r#"{"limits":{"concurrency":3}}"#, None);

        let (ring, news) = config("[teams.search]\nlimits = { concurrency = 7 }").key_ring(&roster);

        assert_eq!(ring.admit(Some(KEY), 5).unwrap().team.limits.concurrency, Some(7));
        assert_eq!(news, [both(&TeamName::from("search"))]);
    }

    #[test]
    fn a_word_of_a_newer_version_is_left_out_and_anything_else_shuts_the_team_out() {
        for (document, is_open) in [
            (r#"{"colour":1,"budgets":[]}"#, true),
            (r#"{"routes":["gone"]}"#, true),
            (r#"{"budgets":[{"usd":5,"per":"year"}]}"#, false),
            (r#"{"budgets":[{"usd":-5,"per":"day"}]}"#, false),
            (r#"{"limits":{"concurrency":0}}"#, false),
            ("[]", false),
            ("null", false),
            ("{", false),
        ] {
            let (ring, news) = config("").key_ring(&roster("search", document, None));

            let said = ring.admit(Some(KEY), 5).map(|_| ());
            assert_eq!(said.is_ok(), is_open, "{document}: {said:?}");
            let refused = KeyRefused::Unreadable(TeamName::from("search"));
            assert!(is_open || said == Err(refused), "{document}");
            assert!(!news.is_empty() && news[0].contains("team `search`"), "{document}: {news:?}");
        }
    }

    #[test]
    fn a_key_whose_budgets_cannot_be_read_is_shut_out() {
        let (ring, news) = config("").key_ring(&roster("search", "{}", Some(r#"[{"usd":1}]"#)));

        assert_eq!(
            ring.admit(Some(KEY), 5).map(|_| ()),
            Err(KeyRefused::Unreadable(TeamName::from("search")))
        );
        assert!(news[0].contains("key `abc`: the database: budgets[0]"), "{news:?}");
    }
}
