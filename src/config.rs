//! Reads the configuration once: TOML and environment in, validated sections out, or every mistake at once.
//!
//! Section structs stand in the modules they configure; this file only assembles them and checks
//! what spans two sections. It opens nothing and connects to nothing.
//!
//! Invariants: a [`Config`] that exists is whole and consistent; a secret is never part of a mistake.

mod documents;
pub mod environment;
mod read;
mod roster;
mod server;
mod sources;
mod splits;
mod teams;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret;
use toml::{Table, Value};

pub use documents::Checked;
pub use environment::Environment;
pub use read::Mistake;
pub use roster::both;
pub use server::{FloodConfig, ServerConfig};

use crate::admission::{AdminConfig, AdminKey, KeyBudgets, KeyConfig, Team, TeamConfig};
use crate::cache::CacheConfig;
use crate::complexity::ComplexityConfig;
use crate::ledger::LedgerConfig;
use crate::onnx::OnnxConfig;
use crate::pricing::{PriceBook, PriceConfig, PricingConfig};
use crate::routing::split::Splits;
use crate::routing::{Catalog, RouteConfig, UpstreamFacts};
use crate::shared::SharedConfig;
use crate::team::{KeyRecord, TeamName, UpstreamName};
use crate::upstream::{LocalConfig, RemoteConfig, UpstreamConfig};
use sources::{Source, Sources};
use teams::names;

/// The configuration compiled in: used when no file is given and none is found.
const EMBEDDED: &str = include_str!("../config/stiver.toml");
const EMBEDDED_PRICES: &str = include_str!("../config/prices.toml");

/// Where a file is looked for when none is named.
const DEFAULT_FILE: &str = "config/stiver.toml";

/// The upstream that is always there: embeddings from the model the semantic cache uses.
pub const EMBEDDER: &str = "embedder";

/// The whole configuration, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was read from, for people.
    pub origin: String,
    /// The files to watch for changes; empty for the embedded default.
    pub files: Vec<PathBuf>,
    pub server: ServerConfig,
    /// The address that the command line gave; it outlives what the file says.
    pub listen_given: Option<SocketAddr>,
    pub onnx: OnnxConfig,
    pub pricing: PricingConfig,
    pub prices: Arc<PriceBook>,
    pub upstreams: BTreeMap<UpstreamName, UpstreamConfig>,
    pub catalog: Catalog,
    pub splits: Splits,
    pub cache: CacheConfig,
    pub complexity: ComplexityConfig,
    pub ledger: LedgerConfig,
    pub shared: SharedConfig,
    pub teams: BTreeMap<TeamName, Arc<Team>>,
    pub keys: Vec<KeyRecord>,
    /// Budgets of single keys, by the key's id.
    pub key_budgets: KeyBudgets,
    pub admin: AdminKey,
}

impl Config {
    /// Reads the file named, or the default one, or what is compiled in.
    pub fn load(file: Option<&Path>, env: &Environment) -> Result<Self, Vec<Mistake>> {
        let found = file
            .map(Path::to_path_buf)
            .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()));
        let Some(path) = found else {
            return Self::parse("the embedded default", EMBEDDED, EMBEDDED_PRICES, env);
        };
        let sources = Sources::read(&path)?;
        let mut config = Self::parse_sources(&sources, env)?;
        config.files = sources.files;
        Ok(config)
    }

    /// Listens on `given`, where there is one, instead of the configured address.
    pub fn listen_on(&mut self, given: Option<SocketAddr>) {
        self.server.listen = given.unwrap_or(self.server.listen);
        self.listen_given = given;
    }

    /// Reads configuration and prices from text, without any split; `origin` names them in mistakes.
    pub fn parse(origin: &str, text: &str, prices: &str, env: &Environment) -> Result<Self, Vec<Mistake>> {
        Self::parse_sources(&Sources::of_texts(origin, text, prices), env)
    }

    fn parse_sources(sources: &Sources, env: &Environment) -> Result<Self, Vec<Mistake>> {
        let mut reader = Reader { origin: &sources.main.origin, mistakes: Vec::new() };
        let config = reader.config(sources, env);
        match config {
            Some(config) if reader.mistakes.is_empty() => Ok(config),
            Some(_) | None => Err(reader.mistakes),
        }
    }
}

/// Reads section after section and keeps every mistake.
struct Reader<'a> {
    origin: &'a str,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    fn config(&mut self, sources: &Sources, env: &Environment) -> Option<Config> {
        let prices = self.prices(&sources.prices);
        let mut table = self.table(&sources.main)?;
        let mut whole = Value::Table(std::mem::take(&mut table));
        env.fill(&mut whole, "", &mut |key, problem| self.mistake(&key, problem));
        let Value::Table(mut table) = whole else { return None };
        for key in sources::KEYS {
            if table.remove(key).is_some_and(|named| !named.is_str()) {
                self.mistake(key, "is not text; give the path of a file, relative to this one");
            }
        }
        let server = self.section_or_default(&mut table, "server");
        let onnx = self.section_or_default(&mut table, "onnx");
        let pricing = self.section_or_default(&mut table, "pricing");
        let cache: Option<CacheConfig> = self.section_or_default(&mut table, "cache");
        let complexity = self.section_or_default(&mut table, "complexity");
        let ledger = self.ledger(&mut table);
        let shared = self.section_or_default(&mut table, "shared");
        let admin = self.admin(&mut table);
        let upstreams = self.upstreams(&mut table);
        let routes = self.named::<RouteConfig>(&mut table, "routes");
        let teams = self.named::<TeamConfig>(&mut table, "teams");
        let keys: Option<Vec<KeyConfig>> = self.section(&mut table, "keys", Value::Array(Vec::new()));
        for unknown in table.keys() {
            let sections = "prices_file, splits_file, server, onnx, pricing, cache, complexity, ledger, shared, admin, upstreams, routes, teams, keys";
            self.mistake(unknown, format!("is not a section; there are: {sections}"));
        }
        let upstreams: BTreeMap<_, _> =
            upstreams.into_iter().map(|(name, config)| (UpstreamName::from(&name), config)).collect();
        let catalog = self.catalog(&routes, &upstreams);
        let min_similarity = cache.as_ref().map_or(0.0, |cache| cache.semantic.bar());
        let splits = self.splits(&sources.splits, catalog.as_ref(), min_similarity);
        self.check_judge(cache.as_ref(), &routes);
        let teams = self.teams(teams, &routes);
        let mut keys = keys.unwrap_or_default();
        let key_budgets = self.key_budgets(&mut keys);
        let keys = self.keys(keys, &teams, &routes);
        Some(Config {
            origin: self.origin.to_owned(),
            files: Vec::new(),
            server: server?,
            listen_given: None,
            onnx: onnx?,
            pricing: pricing?,
            prices: Arc::new(prices?),
            upstreams,
            catalog: catalog?,
            splits: splits?,
            cache: cache?,
            complexity: complexity?,
            ledger: ledger?,
            shared: shared?,
            teams,
            keys,
            key_budgets,
            admin,
        })
    }

    fn check_judge(&mut self, cache: Option<&CacheConfig>, routes: &BTreeMap<String, RouteConfig>) {
        let Some(route) = cache.and_then(|cache| cache.semantic.judge_route.as_ref()) else { return };
        self.known_routes(Some(vec![route.to_string()]), "cache.semantic.judge_route", &names(routes));
    }

    fn admin(&mut self, table: &mut Table) -> AdminKey {
        let config: AdminConfig = self.section_or_default(table, "admin").unwrap_or_default();
        AdminKey::try_new(&config).unwrap_or_else(|problem| {
            self.mistake("admin.key", problem);
            AdminKey::default()
        })
    }

    fn ledger(&mut self, table: &mut Table) -> Option<LedgerConfig> {
        let mut ledger: LedgerConfig = self.section_or_default(table, "ledger")?;
        ledger.webhook = ledger.webhook.filter(|url| !url.expose_secret().is_empty());
        self.check_webhook(ledger.webhook.as_ref(), "ledger.webhook");
        Some(ledger)
    }

    fn mistake(&mut self, key: &str, problem: impl Into<String>) {
        let (file, key, problem) = (self.origin.to_owned(), key.to_owned(), problem.into());
        self.mistakes.push(Mistake { file, key, problem });
    }

    fn table(&mut self, source: &Source) -> Option<Table> {
        let parsed = source.text.parse::<Table>();
        parsed
            .map_err(|error| {
                let problem = format!("is not TOML: {}", error.to_string().trim().replace('\n', " "));
                let file = source.origin.clone();
                self.mistakes.push(Mistake { file, key: String::new(), problem });
            })
            .ok()
    }

    fn section<T: serde::de::DeserializeOwned>(
        &mut self,
        table: &mut Table,
        key: &str,
        default: Value,
    ) -> Option<T> {
        let value = table.remove(key).unwrap_or(default);
        read::section(value, key, &mut |key, problem| self.mistake(&key, problem))
    }

    fn section_or_default<T: serde::de::DeserializeOwned>(
        &mut self,
        table: &mut Table,
        key: &str,
    ) -> Option<T> {
        self.section(table, key, Value::Table(Table::new()))
    }

    /// A table of sections of one kind; a bad one is left out after its mistakes are noted.
    fn named<T: serde::de::DeserializeOwned>(&mut self, table: &mut Table, key: &str) -> BTreeMap<String, T> {
        let entries: Table = self.section_or_default(table, key).unwrap_or_default();
        let mut read = BTreeMap::new();
        for (name, value) in entries {
            let at = format!("{key}.{name}");
            if let Some(section) = read::section(value, &at, &mut |key, problem| self.mistake(&key, problem))
            {
                read.insert(name, section);
            }
        }
        read
    }

    /// A section's keys depend on its dialect, so that is looked at first.
    fn upstreams(&mut self, table: &mut Table) -> BTreeMap<String, UpstreamConfig> {
        let entries: Table = self.section_or_default(table, "upstreams").unwrap_or_default();
        let mut read = BTreeMap::new();
        for (name, value) in entries {
            let at = format!("upstreams.{name}");
            let mut note = |key: String, problem: String| self.mistake(&key, problem);
            let is_local = value.get("dialect").and_then(Value::as_str) == Some("local");
            let section = if is_local {
                read::section::<LocalConfig>(value, &at, &mut note).map(UpstreamConfig::Local)
            } else {
                read::section::<RemoteConfig>(value, &at, &mut note).map(UpstreamConfig::Remote)
            };
            read.extend(section.map(|section| (name, section)));
        }
        read
    }

    fn prices(&mut self, source: &Source) -> Option<PriceBook> {
        let mut table = self.table(source)?;
        let entries = table.remove("price").unwrap_or(Value::Array(Vec::new()));
        let mut found: Vec<(String, String)> = Vec::new();
        found.extend(
            table
                .keys()
                .map(|key| (key.clone(), "is not known here; prices are `[[price]]` tables".to_owned())),
        );
        let entries: Option<Vec<PriceConfig>> =
            read::section(entries, "price", &mut |key, problem| found.push((key, problem)));
        let book = entries
            .and_then(|entries| PriceBook::try_new(&entries).map_err(|mistakes| found.extend(mistakes)).ok());
        self.mistakes_in(source, found);
        book
    }

    /// Notes what is wrong in a file beside the configuration.
    fn mistakes_in(&mut self, source: &Source, found: impl IntoIterator<Item = (String, String)>) {
        let file = |(key, problem)| Mistake { file: source.origin.clone(), key, problem };
        self.mistakes.extend(found.into_iter().map(file));
    }

    fn catalog(
        &mut self,
        routes: &BTreeMap<String, RouteConfig>,
        upstreams: &BTreeMap<UpstreamName, UpstreamConfig>,
    ) -> Option<Catalog> {
        let mut facts: BTreeMap<_, _> =
            upstreams.iter().map(|(name, config)| (name.clone(), facts_of(config))).collect();
        let model = "all-MiniLM-L6-v2".to_owned();
        let embedder = UpstreamFacts {
            model,
            free: true,
            is_local: true,
            embeddings_only: true,
            ..UpstreamFacts::default()
        };
        if facts.insert(UpstreamName::from(EMBEDDER), embedder).is_some() {
            self.mistake("upstreams.embedder", "is the name of the built-in embedder; choose another");
        }
        for (name, config) in upstreams {
            if !config.is_off() {
                config
                    .mistakes()
                    .into_iter()
                    .for_each(|problem| self.mistake(&format!("upstreams.{name}"), problem));
            }
        }
        let built = Catalog::try_new(routes, facts);
        built
            .map_err(|mistakes| mistakes.into_iter().for_each(|(key, problem)| self.mistake(&key, problem)))
            .ok()
    }
}

fn facts_of(config: &UpstreamConfig) -> UpstreamFacts {
    let why_off = "its `api_key` is empty; set the environment variable it names, such as OPENAI_API_KEY";
    let supports = config.supports();
    UpstreamFacts {
        model: config.model().to_owned(),
        off: config.is_off().then(|| why_off.to_owned()),
        free: false,
        is_local: config.is_local(),
        embeddings_only: false,
        vision: supports.vision,
        tools: supports.tools,
        context_tokens: config.context_tokens(),
        max_output_tokens: config.max_output_tokens(),
    }
}

#[cfg(test)]
mod tests;
