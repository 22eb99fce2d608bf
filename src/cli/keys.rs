//! `stiver keys`: makes, lists and revokes API keys, beside a gateway that may be running.
//!
//! A secret is printed once, when it is made, and stored nowhere.

use clap::Subcommand;
use secrecy::ExposeSecret;

use super::Done;
use super::teams::{mistaken, read_budget};
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::keys::{self, NewKey};
use crate::team::{Document, KeyId, RouteName, TeamName, text_fault};

const MS_PER_DAY: i64 = 86_400_000;

#[derive(Debug, Subcommand)]
pub(super) enum Keys {
    /// Make a key and print it, once
    Create {
        /// The team that pays
        #[arg(long)]
        team: String,
        /// A name to know it by
        #[arg(long, default_value = "")]
        name: String,
        /// Routes it may ask for, separated by commas [default: all of the team's]
        #[arg(long, value_delimiter = ',')]
        routes: Option<Vec<String>>,
        /// Days until it expires [default: never]
        #[arg(long, value_name = "DAYS", conflicts_with = "toml")]
        expires: Option<u32>,
        /// What it may spend besides its team, such as 5/day; may be given several times
        #[arg(long = "budget", value_name = "USD/WINDOW", value_parser = read_budget)]
        budgets: Vec<serde_json::Value>,
        /// Store nothing; print the lines for the configuration file instead
        #[arg(long)]
        toml: bool,
    },
    /// List the keys in the database
    List,
    /// Revoke a key for good; a running gateway heeds it within seconds
    Revoke {
        /// The part of the key between `sk-stiver-` and the next dash
        id: String,
    },
}

impl Keys {
    pub(super) async fn run(self, config: &Config) -> Done {
        let now_ms = Clock::system().now_ms();
        match self {
            Self::Create { team, name, routes, expires, budgets, toml } => {
                let is_unknown =
                    |route: &&String| config.catalog.route(&RouteName::from(route.as_str())).is_none();
                if let Some(unknown) = routes.iter().flatten().find(is_unknown) {
                    return Err(format!("there is no route `{unknown}`; `stiver check` lists the routes"));
                }
                let routes = routes.map(|routes| routes.iter().map(RouteName::from).collect());
                let expires_ms = expires.map(|days| now_ms + i64::from(days) * MS_PER_DAY);
                let budgets = checked_budgets(config, budgets)?;
                let new = NewKey { name, team: TeamName::from(team.trim()), routes, expires_ms, budgets };
                if toml { print_toml(new, now_ms) } else { create(config, new, now_ms).await }
            }
            Self::List => list(&open(config).await?, now_ms).await,
            Self::Revoke { id } => revoke(&open(config).await?, &id, now_ms).await,
        }
    }
}

async fn open(config: &Config) -> Result<keys::Keys, String> {
    keys::Keys::open(&config.ledger).await.map_err(|error| error.to_string())
}

fn checked_budgets(config: &Config, given: Vec<serde_json::Value>) -> Result<Option<Document>, String> {
    if given.is_empty() {
        return Ok(None);
    }
    let (document, _) = config.read_key_budgets(&given.into()).map_err(mistaken)?;
    Ok(Some(document))
}

fn print_toml(new: NewKey, now_ms: i64) -> Done {
    let (key, secret) = keys::make(new, now_ms).map_err(|error| error.to_string())?;
    println!("[[keys]]\nid = \"{}\"\nhash = \"{}\"\nteam = \"{}\"", key.id, key.hash.to_hex(), key.team);
    if let Some(routes) = &key.routes {
        println!("routes = {:?}", routes.iter().map(RouteName::as_str).collect::<Vec<_>>());
    }
    if let Some(budgets) = &key.budgets {
        println!("budgets = {}", inline(budgets)?);
    }
    eprintln!("the key, shown only now: {}", secret.expose_secret());
    Ok(())
}

async fn create(config: &Config, new: NewKey, now_ms: i64) -> Done {
    if let Some(fault) = text_fault(&new.name) {
        return Err(format!("the key's name {fault}"));
    }
    let keys = open(config).await?;
    let roster = keys.load_roster().await.map_err(|error| error.to_string())?;
    let (ring, _) = config.key_ring(&roster);
    ring.may_have_keys(&new.team, now_ms)?;
    let created = keys.create(new, now_ms).await;
    let (key, secret) = created.map_err(|error| error.to_string())?;
    println!("{}", secret.expose_secret());
    eprintln!("key `{}` of team `{}`: keep it, it is shown only now", key.id, key.team);
    Ok(())
}

async fn list(keys: &keys::Keys, now_ms: i64) -> Done {
    let all = keys.load_all().await.map_err(|error| error.to_string())?;
    if all.is_empty() {
        eprintln!("no key yet; `stiver keys create --team NAME` makes one");
        return Ok(());
    }
    println!("{:<14} {:<16} {:<20} {:<12} routes", "id", "team", "name", "state");
    for key in &all {
        let routes = key.routes.as_ref().map_or_else(
            || "all".to_owned(),
            |routes| routes.iter().map(RouteName::as_str).collect::<Vec<_>>().join(","),
        );
        let (id, team) = (key.id.as_str(), key.team.as_str());
        println!("{id:<14} {team:<16} {:<20} {:<12} {routes}", key.name, key.state(now_ms).as_str());
    }
    Ok(())
}

/// A document as one line of TOML.
fn inline(document: &Document) -> Result<String, String> {
    let value: toml::Value = serde_json::from_str(document.as_str()).map_err(|error| error.to_string())?;
    Ok(value.to_string())
}

async fn revoke(keys: &keys::Keys, id: &str, now_ms: i64) -> Done {
    let revoked = keys.revoke(&KeyId::from(id), now_ms).await.map_err(|error| error.to_string())?;
    if !revoked {
        return Err(format!("there is no key `{id}` that could be revoked; `stiver keys list` shows them"));
    }
    println!("revoked {id}");
    Ok(())
}
