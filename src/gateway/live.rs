//! What a reload replaces as a whole: the configuration, the upstreams it names, the teams and the keys.
//!
//! Invariants: every upstream that is on has been built, but for local models that are named as missing; a reload never leaves half of the old with
//! half of the new.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::admission::{AdminKey, KeyRing};
use crate::config::{Config, EMBEDDER};
use crate::pricing::Price;
use crate::team::{Roster, RouteName, UpstreamName};
use crate::upstream::{Client, Upstream};

#[derive(Debug)]
pub struct Live {
    pub config: Config,
    upstreams: BTreeMap<UpstreamName, Upstream>,
    /// Local models that are not there, and why.
    not_loaded: BTreeMap<UpstreamName, String>,
    /// Teams and keys of the database come and go while the configuration stays.
    members: ArcSwap<Members>,
}

/// Who may call: as the database said when it was last read, and with the file's teams and keys among them.
#[derive(Debug, Clone)]
pub struct Members {
    pub roster: Arc<Roster>,
    pub ring: Arc<KeyRing>,
}

impl Members {
    /// The file's teams and keys beside those of `roster`; what is to be told of them is logged.
    pub fn new(config: &Config, roster: Roster) -> Self {
        let (ring, news) = config.key_ring(&roster);
        for told in news {
            tracing::warn!("{told}");
        }
        Self { roster: Arc::new(roster), ring: Arc::new(ring) }
    }
}

impl Live {
    /// Builds the upstreams; of teams and keys it knows those of the file until [`Live::set_members`].
    pub async fn build(mut config: Config, client: &Client) -> Result<Self, String> {
        let mut upstreams = BTreeMap::new();
        let mut not_loaded = BTreeMap::new();
        for (name, section) in config.upstreams.iter().filter(|(_, section)| !section.is_off()) {
            match Upstream::open(name.clone(), section, client).await {
                Ok(upstream) => drop(upstreams.insert(name.clone(), upstream)),
                // The others still answer.
                Err(problem) if section.is_local() => {
                    tracing::error!("{problem}; calls go to other upstreams");
                    not_loaded.insert(name.clone(), problem.mistakes.join("; "));
                }
                Err(problem) => return Err(problem.to_string()),
            }
        }
        for (name, upstream) in &upstreams {
            if let Some(tokens) = upstream.own_context_tokens() {
                config.catalog.set_context(name, tokens);
            }
        }
        for (name, why) in &not_loaded {
            config.catalog.switch_off(name, why);
        }
        let members = ArcSwap::from_pointee(Members::new(&config, Roster::default()));
        Ok(Self { config, upstreams, not_loaded, members })
    }

    /// An upstream of a plan. Plans name only what is on.
    pub fn upstream(&self, name: &UpstreamName) -> &Upstream {
        self.upstreams.get(name).expect("a plan names only upstreams that are on, and those are built")
    }

    /// Tells the metrics how busy the models in this process are.
    pub fn report_loads(&self) {
        self.upstreams.values().for_each(Upstream::report_load);
    }

    pub fn not_loaded(&self) -> impl Iterator<Item = (&UpstreamName, &String)> {
        self.not_loaded.iter()
    }

    pub fn upstreams(&self) -> impl Iterator<Item = &UpstreamName> {
        self.upstreams.keys()
    }

    /// What the upstreams in this process cost now.
    pub fn own_prices(&self) -> BTreeMap<UpstreamName, Price> {
        let own = |(name, upstream): (&UpstreamName, &Upstream)| Some((name.clone(), upstream.own_price()?));
        self.upstreams.iter().filter_map(own).collect()
    }

    /// The operator's key.
    pub fn admin(&self) -> &AdminKey {
        &self.config.admin
    }

    pub fn key_ring(&self) -> Arc<KeyRing> {
        Arc::clone(&self.members.load().ring)
    }

    pub fn members(&self) -> Arc<Members> {
        self.members.load_full()
    }

    /// Puts others in the place of the teams and keys in force.
    pub fn set_members(&self, members: Members) {
        self.members.store(Arc::new(members));
    }

    /// The model that savings of a route are measured against.
    pub fn baseline_model(&self, route: &RouteName) -> Option<&str> {
        let name = self.config.catalog.route(route)?.baseline.as_ref()?;
        if name.as_str() == EMBEDDER {
            return None;
        }
        Some(self.config.catalog.upstream(name).model.as_str())
    }
}
