//! What a reload replaces as a whole: the configuration, the upstreams it names and the keys.
//!
//! Invariants: every upstream that is on has been built, but for local models that are named as missing; a reload never leaves half of the old with
//! half of the new.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::admission::{AdminKey, KeyRing};
use crate::config::{Config, EMBEDDER};
use crate::pricing::Price;
use crate::team::{KeyRecord, RouteName, UpstreamName};
use crate::upstream::{Client, Upstream};

#[derive(Debug)]
pub struct Live {
    pub config: Config,
    upstreams: BTreeMap<UpstreamName, Upstream>,
    /// Local models that are not there, and why.
    not_loaded: BTreeMap<UpstreamName, String>,
    /// Keys made by the command line appear while the configuration stays.
    key_ring: ArcSwap<KeyRing>,
}

impl Live {
    pub async fn build(mut config: Config, client: &Client, stored: Vec<KeyRecord>) -> Result<Self, String> {
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
        let key_ring = ArcSwap::from_pointee(ring(&config, stored));
        Ok(Self { config, upstreams, not_loaded, key_ring })
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
        self.key_ring.load_full()
    }

    /// Takes the keys as they stand in the database now; `false` where that would let everybody in
    /// and `may_open` forbids it.
    pub fn set_stored_keys(&self, stored: Vec<KeyRecord>, may_open: bool) -> bool {
        let ring = ring(&self.config, stored);
        let is_allowed = may_open || !ring.is_open();
        if is_allowed {
            self.key_ring.store(Arc::new(ring));
        }
        is_allowed
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

/// Keys of the file and of the database; the file's win, because it is the operator's last word.
fn ring(config: &Config, stored: Vec<KeyRecord>) -> KeyRing {
    KeyRing::new(config.teams.clone(), stored.into_iter().chain(config.keys.iter().cloned()))
        .with_key_budgets(&config.key_budgets)
}
