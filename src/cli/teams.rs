//! `stiver teams`: makes, lists, ends and revokes teams of the database, beside a gateway that may be running.
//!
//! Changes no team of the configuration file. What a team may do is checked as the file's is; budgets and limits of a
//! team that exists are changed over HTTP.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Done;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::keys::Keys;
use crate::team::{TeamName, TeamRecord, Term};

const MS_PER_DAY: i64 = 86_400_000;

#[derive(Debug, Subcommand)]
pub(super) enum Teams {
    /// Make a team in the database; a running gateway heeds it within seconds
    Create {
        name: String,
        /// A budget, such as 500/month or 20/day; may be given several times
        #[arg(long = "budget", value_name = "USD/WINDOW", value_parser = read_budget)]
        budgets: Vec<Value>,
        /// Routes it may ask for, separated by commas [default: all]
        #[arg(long, value_delimiter = ',')]
        routes: Option<Vec<String>>,
        /// A file with everything that `[teams.NAME]` may hold, without that line
        #[arg(long, value_name = "FILE", conflicts_with_all = ["budgets", "routes"])]
        toml_file: Option<PathBuf>,
        /// Days until it ends [default: never]
        #[arg(long, value_name = "DAYS")]
        expires: Option<u32>,
    },
    /// List the teams of the file and of the database
    List,
    /// Set when a team ends, sooner or later than it would have
    Expire {
        name: String,
        /// Days from now; 0 ends it now
        #[arg(long, value_name = "DAYS", required_unless_present = "never", conflicts_with = "never")]
        days: Option<u32>,
        /// Let it go on for ever
        #[arg(long)]
        never: bool,
    },
    /// Revoke a team for good: its keys open no more, and its name is not given again
    Revoke { name: String },
}

impl Teams {
    pub(super) async fn run(self, config: &Config) -> Done {
        let now_ms = Clock::system().now_ms();
        match self {
            Self::Create { name, budgets, routes, toml_file, expires } => {
                let given = match toml_file {
                    Some(file) => from_file(&file)?,
                    None => from_options(budgets, routes),
                };
                let expires_ms = expires.map(|days| now_ms + i64::from(days) * MS_PER_DAY);
                create(config, name.trim(), &given, Term::from(now_ms, expires_ms)).await
            }
            Self::List => list(config, now_ms).await,
            Self::Expire { name, days, never: _ } => {
                let at_ms = days.map(|days| now_ms + i64::from(days) * MS_PER_DAY);
                let teams = open(config).await?.teams();
                let done = teams.expire(&TeamName::from(&name), at_ms, now_ms).await;
                told(config, &name, done.map_err(|error| error.to_string())?, "its end is set")
            }
            Self::Revoke { name } => {
                let teams = open(config).await?.teams();
                let done = teams.revoke(&TeamName::from(&name), now_ms).await;
                told(config, &name, done.map_err(|error| error.to_string())?, "revoked")
            }
        }
    }
}

/// Reads `500/month`; whether that is a budget is checked with the rest of the team.
pub(super) fn read_budget(text: &str) -> Result<Value, String> {
    let (usd, per) = text.split_once('/').ok_or("write it like 500/month or 20/day")?;
    Ok(json!({"usd": usd.trim(), "per": per.trim()}))
}

/// All mistakes, a line each.
pub(super) fn mistaken(mistakes: Vec<crate::config::Mistake>) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}

async fn open(config: &Config) -> Result<Keys, String> {
    Keys::open(&config.ledger).await.map_err(|error| error.to_string())
}

fn from_file(file: &std::path::Path) -> Result<Value, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let table: toml::Table = text.parse().map_err(|error| format!("{shown} is not TOML: {error}"))?;
    serde_json::to_value(table).map_err(|error| format!("{shown}: {error}"))
}

fn from_options(budgets: Vec<Value>, routes: Option<Vec<String>>) -> Value {
    let mut given = Map::new();
    if !budgets.is_empty() {
        given.insert("budgets".to_owned(), Value::Array(budgets));
    }
    given.extend(routes.map(|routes| ("routes".to_owned(), json!(routes))));
    Value::Object(given)
}

async fn create(config: &Config, name: &str, given: &Value, term: Term) -> Done {
    if let Some(fault) = TeamName::fault(name) {
        return Err(format!("the team's name {fault}"));
    }
    let name = TeamName::from(name);
    if config.has_team(&name) {
        return Err(format!("team `{name}` stands in {}; change it there", config.origin));
    }
    let (document, _) = config.read_team(&name, given, term).map_err(mistaken)?;
    let record = TeamRecord { name: name.clone(), config: document, changed_ms: term.created_ms, term };
    let is_new = open(config).await?.teams().create(&record).await.map_err(|error| error.to_string())?;
    if !is_new {
        return Err(format!("there is a team `{name}` already, or there was one; choose another name"));
    }
    println!("made team {name}");
    eprintln!("`stiver keys create --team NAME` makes a key for it");
    Ok(())
}

async fn list(config: &Config, now_ms: i64) -> Done {
    let roster = open(config).await?.load_roster().await.map_err(|error| error.to_string())?;
    let (ring, news) = config.key_ring(&roster);
    if ring.is_open() || ring.teams().next().is_none() {
        eprintln!("no team yet; `stiver teams create NAME` makes one");
        return Ok(());
    }
    println!("{:<24} {:<9} {:<11} budgets", "name", "kept in", "state");
    for team in ring.teams() {
        let kept_in = if config.has_team(&team.name) { "file" } else { "database" };
        let state = if team.is_unreadable { "unreadable" } else { team.term.state(now_ms).as_str() };
        let budgets: Vec<String> =
            team.budgets.iter().map(|budget| format!("{}/{}", budget.usd, budget.per)).collect();
        let budgets = if budgets.is_empty() { "none".to_owned() } else { budgets.join(" ") };
        println!("{:<24} {kept_in:<9} {state:<11} {budgets}", team.name.as_str());
    }
    for told in news {
        eprintln!("note: {told}");
    }
    Ok(())
}

fn told(config: &Config, name: &str, is_done: bool, what: &str) -> Done {
    if is_done {
        println!("team {name}: {what}");
        return Ok(());
    }
    if config.has_team(&TeamName::from(name)) {
        return Err(format!("team `{name}` stands in {}; change it there", config.origin));
    }
    Err(format!(
        "there is no team `{name}` in the database that is not revoked; `stiver teams list` shows them"
    ))
}
