//! Teams and budgets that came as JSON, over HTTP or from the database, read as the file's are.
//!
//! Stores nothing. Names from the environment are filled in files only.
//!
//! Invariants: file and document take the very same words and tell the very same mistakes, because one type
//! and one check read both.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use toml::{Table, Value};

use super::read::{self, Mistake};
use super::{Config, Reader};
use crate::admission::{Team, TeamConfig};
use crate::ledger::budget::Budget;
use crate::team::{Document, RouteName, TeamName, Term};

/// A team is a page of text; what is longer is something else, and every call would walk through it.
const MAX_DOCUMENT_BYTES: usize = 64 << 10;

/// What was given, as it is to be kept, and what it says.
pub type Checked<T> = Result<(Document, T), Vec<Mistake>>;

impl Config {
    /// Reads what `[teams.NAME]` would hold.
    pub fn read_team(&self, name: &TeamName, given: &Json, term: Term) -> Checked<Team> {
        let mut reader = Reader { origin: "the team", mistakes: Vec::new() };
        let config: Option<TeamConfig> = reader.document(given, "");
        let routes: Vec<&str> = self.catalog.routes().map(|route| route.name.as_str()).collect();
        let team = config.map(|config| reader.team((name, term), config, "", &routes));
        reader.checked(given, team)
    }

    /// Reads what `budgets` of one `[[keys]]` would hold.
    pub fn read_key_budgets(&self, given: &Json) -> Checked<Vec<Budget>> {
        let mut reader = Reader { origin: "the key", mistakes: Vec::new() };
        let budgets: Option<Vec<Budget>> = reader.document(given, "budgets");
        let budgets = budgets.map(|budgets| reader.budgets_of_key(budgets, "budgets"));
        reader.checked(given, budgets)
    }

    /// Reads a team that was checked before it was kept. A route that is gone is no mistake then, because nobody
    /// can ask for it; and a word of a newer version is left out, because both run at once during an update.
    pub(super) fn read_kept_team(&self, name: &TeamName, kept: &Document, term: Term) -> Kept<Team> {
        let mut reader = Reader { origin: "the database", mistakes: Vec::new() };
        let config: Option<TeamConfig> = reader.kept(kept, "");
        let team = config.map(|mut config| {
            let named = config.routes.take();
            let routes = named.map(|named| named.iter().map(RouteName::from).collect());
            Team { routes, ..reader.team((name, term), config, "", &[]) }
        });
        reader.forgiven(team)
    }

    /// As [`Config::read_kept_team`], for the budgets of a key.
    pub(super) fn read_kept_budgets(&self, kept: &Document) -> Kept<Vec<Budget>> {
        let mut reader = Reader { origin: "the database", mistakes: Vec::new() };
        let budgets: Option<Vec<Budget>> = reader.kept(kept, "budgets");
        let budgets = budgets.map(|budgets| reader.budgets_of_key(budgets, "budgets"));
        reader.forgiven(budgets)
    }
}

/// What was kept, `None` where it cannot be trusted to say what was meant; and what is wrong with it.
pub(super) struct Kept<T> {
    pub(super) value: Option<T>,
    pub(super) mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn document<T: DeserializeOwned>(&mut self, given: &Json, at: &str) -> Option<T> {
        // Serde would take a list for the fields of a section, one after the other.
        if at.is_empty() && !given.is_object() {
            self.mistake(at, "is no object with the words of `[teams.NAME]`");
            return None;
        }
        let places =
            "has `${`; names are filled in from the environment in files only, so write what is meant";
        let value = to_toml(given, at, &mut |key, problem| self.mistake(&key, problem))?;
        let found = place_in(&value, at);
        if let Some(key) = found {
            self.mistake(&key, places);
        }
        read::section(value, at, &mut |key, problem| self.mistake(&key, problem))
    }

    fn kept<T: DeserializeOwned>(&mut self, kept: &Document, at: &str) -> Option<T> {
        match serde_json::from_str(kept.as_str()) {
            Ok(json) => self.document(&json, at),
            Err(error) => {
                self.mistake(at, format!("is not JSON: {error}"));
                None
            }
        }
    }

    fn checked<T>(mut self, given: &Json, value: Option<T>) -> Checked<T> {
        let text = without_nulls(given).to_string();
        if text.len() > MAX_DOCUMENT_BYTES {
            let n_bytes = text.len();
            self.mistake(
                "",
                format!("has {n_bytes} bytes, at most {MAX_DOCUMENT_BYTES} are taken; shorten it"),
            );
        }
        match value {
            Some(value) if self.mistakes.is_empty() => Ok((Document::from(text), value)),
            Some(_) | None => Err(self.mistakes),
        }
    }

    fn forgiven<T>(self, value: Option<T>) -> Kept<T> {
        let is_trusted = self.mistakes.iter().all(Mistake::is_unknown_field);
        Kept { value: value.filter(|_| is_trusted), mistakes: self.mistakes }
    }
}

/// What is `null` is left out, as in a file.
fn to_toml(json: &Json, at: &str, mistake: &mut impl FnMut(String, String)) -> Option<Value> {
    Some(match json {
        Json::Null => {
            mistake(at.to_owned(), "is null; leave it out".to_owned());
            return None;
        }
        Json::Bool(is) => Value::Boolean(*is),
        Json::String(text) => Value::String(text.clone()),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Integer(whole),
            (None, fraction) => Value::Float(fraction?),
        },
        Json::Array(items) => {
            let items = items.iter().enumerate();
            let read = items.map(|(idx, item)| to_toml(item, &format!("{at}[{idx}]"), mistake));
            Value::Array(read.collect::<Option<Vec<_>>>()?)
        }
        Json::Object(fields) => {
            let mut table = Table::new();
            for (name, field) in fields.iter().filter(|(_, field)| !field.is_null()) {
                table.insert(name.clone(), to_toml(field, &read::join(at, name), mistake)?);
            }
            Value::Table(table)
        }
    })
}

fn without_nulls(json: &Json) -> Json {
    match json {
        Json::Array(items) => items.iter().map(without_nulls).collect(),
        Json::Object(fields) => {
            let given = fields.iter().filter(|(_, field)| !field.is_null());
            given.map(|(name, field)| (name.clone(), without_nulls(field))).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => json.clone(),
    }
}

/// Where something is to be filled in from the environment.
fn place_in(value: &Value, at: &str) -> Option<String> {
    match value {
        Value::String(text) => text.contains("${").then(|| at.to_owned()),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(idx, item)| place_in(item, &format!("{at}[{idx}]")))
        }
        Value::Table(table) => table.iter().find_map(|(name, item)| place_in(item, &read::join(at, name))),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => None,
    }
}

#[cfg(test)]
mod tests;
