//! What stands in `splits.toml`, as it is written there.
//!
//! Checks words, not what they mean together; `check` does.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// One `[[split]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitConfig {
    /// Its name, and the salt of the hash: another name is another draw. Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The route it divides; one split a route.
    pub route: String,
    /// What is kept in one arm: `user`, `conversation`, `key` or `header:NAME`.
    pub unit: Unit,
    /// The variants; their shares sum to 10000.
    pub arms: Vec<ArmConfig>,
    /// The arm that the others take their units from. Default: the first.
    #[serde(default)]
    pub control: Option<String>,
    /// What the experiment is decided by. Default: nothing.
    #[serde(default)]
    pub primary: Option<Metric>,
    /// What an arm must not make worse. Default: none.
    #[serde(default)]
    pub guardrails: Vec<Guardrail>,
}

/// One variant, and what is different in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmConfig {
    pub name: String,
    /// Basis points of all units, 0 to 10000.
    pub share: u32,
    /// Other limits for tiers of the route's ladder: `{ small = 0.5 }`. Default: the route's.
    #[serde(default)]
    pub ladder: BTreeMap<String, f32>,
    /// Other upstreams: a list for a route without a ladder, `{ small = ["a"] }` for one with. Default: the route's.
    #[serde(default)]
    pub upstreams: Option<UpstreamsOverride>,
    /// `"on"`, `"off"`, `"exact"` (nothing by likeness) or `{ min_similarity = 0.97 }`. Default: `"on"`.
    #[serde(default)]
    pub cache: ArmCache,
    /// Refused: there is nothing yet that it could change.
    #[serde(default)]
    pub compression: Option<IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a list of upstreams, or a table of lists by tier such as { small = [\"a\"] }")]
pub enum UpstreamsOverride {
    /// Of a route without a ladder.
    Route(Vec<String>),
    /// By tier.
    Rungs(BTreeMap<String, Vec<String>>),
}

/// What an arm's calls get from the cache. They never share an answer with another arm's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(try_from = "CacheWire")]
pub enum ArmCache {
    /// As configured.
    #[default]
    On,
    /// Nothing is looked up and nothing kept.
    Off,
    /// Equal questions only.
    Exact,
    /// Alike ones must be at least this alike.
    Stricter(f32),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "\"on\", \"off\", \"exact\" or { min_similarity = 0.97 }")]
enum CacheWire {
    Word(String),
    Bar(Bar),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bar {
    min_similarity: f32,
}

impl TryFrom<CacheWire> for ArmCache {
    type Error = String;

    fn try_from(wire: CacheWire) -> Result<Self, String> {
        match wire {
            CacheWire::Bar(Bar { min_similarity }) => Ok(Self::Stricter(min_similarity)),
            CacheWire::Word(word) => match word.as_str() {
                "on" => Ok(Self::On),
                "off" => Ok(Self::Off),
                "exact" => Ok(Self::Exact),
                _ => Err(format!("`{word}` is not known; say on, off, exact or {{ min_similarity = 0.97 }}")),
            },
        }
    }
}

/// What is kept in one arm.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Unit {
    /// The header `x-stiver-user`, or the field `user`.
    User,
    /// Who asks, what stands before the first user message, and this.
    Conversation,
    /// The API key.
    Key,
    /// A header's value; the name is in lower case.
    Header(String),
}

impl TryFrom<String> for Unit {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let header = word.strip_prefix("header:").map(|name| name.trim().to_ascii_lowercase());
        match (word.as_str(), header) {
            ("user", _) => Ok(Self::User),
            ("conversation", _) => Ok(Self::Conversation),
            ("key", _) => Ok(Self::Key),
            (_, Some(name)) if matches!(name.as_str(), "authorization" | "api-key") => {
                Err(format!("`{name}` is the API key's header; say `key`"))
            }
            (_, Some(name)) if is_header_name(&name) => Ok(Self::Header(name)),
            (_, Some(_)) => Err(format!("`{word}` names no header; write it like `header:x-stiver-user`")),
            (_, None) => Err(format!("`{word}` is not known; say user, conversation, key or header:NAME")),
        }
    }
}

fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.len() <= 256 && name.bytes().all(is_token)
}

impl Unit {
    /// What a call lacks that cannot be put into an arm.
    pub fn why_absent(&self) -> String {
        match self {
            Self::User => "the call names no user (header `x-stiver-user` or field `user`)".to_owned(),
            Self::Conversation => "the call is no chat with a message of a user".to_owned(),
            Self::Key => "the call was made without an API key".to_owned(),
            Self::Header(name) => format!("the call has no header `{name}`"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Conversation => f.write_str("conversation"),
            Self::Key => f.write_str("key"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// What arms can be compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    CostPerSuccess,
    CostPerCall,
    ErrorRate,
    LatencyMs,
    Quality,
}

/// How much worse than in the control a metric may become. Give one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guardrail {
    pub metric: Metric,
    /// In the metric's own measure.
    #[serde(default)]
    pub max_drop: Option<f64>,
    /// In the metric's own measure.
    #[serde(default)]
    pub max_rise: Option<f64>,
}
