//! `stiver keys`: makes, lists and revokes API keys, beside a gateway that may be running.
//!
//! A secret is printed once, when it is made, and stored nowhere.

use clap::Subcommand;
use secrecy::ExposeSecret;

use super::Done;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::keys::{self, NewKey};
use crate::team::{KeyId, KeyRecord, RouteName, TeamName};

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
            Self::Create { team, name, routes, expires, toml } => {
                let is_unknown =
                    |route: &&String| config.catalog.route(&RouteName::from(route.as_str())).is_none();
                if let Some(unknown) = routes.iter().flatten().find(is_unknown) {
                    return Err(format!("there is no route `{unknown}`; `stiver check` lists the routes"));
                }
                let routes = routes.map(|routes| routes.iter().map(RouteName::from).collect());
                let expires_ms = expires.map(|days| now_ms + i64::from(days) * MS_PER_DAY);
                let new = NewKey { name, team: TeamName::from(&team), routes, expires_ms };
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

fn print_toml(new: NewKey, now_ms: i64) -> Done {
    let (key, secret) = keys::make(new, now_ms).map_err(|error| error.to_string())?;
    println!("[[keys]]\nid = \"{}\"\nhash = \"{}\"\nteam = \"{}\"", key.id, key.hash.to_hex(), key.team);
    if let Some(routes) = &key.routes {
        println!("routes = {:?}", routes.iter().map(RouteName::as_str).collect::<Vec<_>>());
    }
    eprintln!("the key, shown only now: {}", secret.expose_secret());
    Ok(())
}

async fn create(config: &Config, new: NewKey, now_ms: i64) -> Done {
    if !config.teams.is_empty() && !config.teams.contains_key(&new.team) {
        let known = config.teams.keys().map(TeamName::as_str).collect::<Vec<_>>().join(", ");
        return Err(format!("there is no team `{}`; there are: {known}", new.team));
    }
    let created = open(config).await?.create(new, now_ms).await;
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
        println!("{id:<14} {team:<16} {:<20} {:<12} {routes}", key.name, state(key, now_ms));
    }
    Ok(())
}

fn state(key: &KeyRecord, now_ms: i64) -> &'static str {
    if key.revoked_ms.is_some() {
        "revoked"
    } else if key.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) {
        "expired"
    } else {
        "good"
    }
}

async fn revoke(keys: &keys::Keys, id: &str, now_ms: i64) -> Done {
    let revoked = keys.revoke(&KeyId::from(id), now_ms).await.map_err(|error| error.to_string())?;
    if !revoked {
        return Err(format!("there is no key `{id}` that could be revoked; `stiver keys list` shows them"));
    }
    println!("revoked {id}");
    Ok(())
}
