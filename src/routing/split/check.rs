//! From what was written to splits that can be relied on, or every mistake in them.
//!
//! Invariant: a split that is built names a route, tiers and upstreams that exist.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::config::{ArmCache, ArmConfig, Guardrail, SplitConfig, UpstreamsOverride};
use super::layout::{Owners, WHOLE};
use super::{Arm, Split};
use crate::routing::catalog::{Catalog, Mistakes, Route, Rung, check_rungs};
use crate::team::{ArmName, RouteName, SplitName, UpstreamName};

/// Arms are labels of metrics, and more of them than this would each wait for years.
const MAX_ARMS: usize = 16;
const MAX_NAME_BYTES: usize = 64;

/// A `[[split]]` that was read.
#[derive(Debug, Clone)]
pub struct Given {
    /// Its key, such as `split[0]`.
    pub at: String,
    pub config: SplitConfig,
    /// Nothing in it had to be left out; else what is counted over the arms would be wrong.
    pub is_whole: bool,
}

pub(super) fn read_all(
    given: &[Given],
    catalog: Option<&Catalog>,
    min_similarity: f32,
) -> Result<BTreeMap<RouteName, Arc<Split>>, Mistakes> {
    let mut mistakes = Mistakes::new();
    let mut built = BTreeMap::new();
    for (idx, one) in given.iter().enumerate() {
        let config = &one.config;
        let mut check = Check { at: &one.at, mistakes: &mut mistakes };
        check.name("name", &config.name);
        check.beside(config, &given[..idx]);
        check.arms(config, one.is_whole);
        check.guardrails(&config.guardrails);
        let control_idx = check.control(config);
        let base = catalog.and_then(|catalog| Some((catalog, check.route(catalog, config)?)));
        let arms = config.arms.iter().enumerate().map(|(idx, arm)| {
            let mut check = Check { at: &format!("{}.arms[{idx}]", one.at), mistakes: check.mistakes };
            check.arm(arm, &config.arms[..idx], min_similarity);
            base.map(|(catalog, route)| check.seen(arm, catalog, route))
        });
        let arms: Option<Vec<Arm>> = arms.collect::<Vec<_>>().into_iter().collect();
        if let Some(arms) = arms.filter(|_| one.is_whole && mistakes.is_empty()) {
            let split = split(config, arms, control_idx);
            built.insert(split.route.clone(), Arc::new(split));
        }
    }
    if mistakes.is_empty() { Ok(built) } else { Err(mistakes) }
}

fn split(config: &SplitConfig, arms: Vec<Arm>, control_idx: usize) -> Split {
    let shares: Vec<u32> = arms.iter().map(|arm| arm.share).collect();
    Split {
        name: SplitName::from(&config.name),
        route: RouteName::from(&config.route),
        unit: config.unit.clone(),
        owners: Owners::of(&shares, control_idx),
        arms,
        control_idx,
        primary: config.primary,
        guardrails: config.guardrails.clone(),
    }
}

/// Notes what is wrong with what stands at a key.
struct Check<'a> {
    at: &'a str,
    mistakes: &'a mut Mistakes,
}

impl Check<'_> {
    fn mistake(&mut self, key: &str, problem: impl Into<String>) {
        self.mistakes.push((format!("{}.{key}", self.at), problem.into()));
    }

    fn name(&mut self, key: &str, name: &str) {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_plain) {
            let rule = format!("1 to {MAX_NAME_BYTES} letters, digits, `.`, `_` or `-`");
            self.mistake(key, format!("is `{name}`; it stands in a header, so use {rule}"));
        }
    }

    /// What two splits must not have in common.
    fn beside(&mut self, config: &SplitConfig, earlier: &[Given]) {
        if earlier.iter().any(|other| other.config.name == config.name) {
            let problem =
                format!("`{}` is used twice; the name is the salt, so give each its own", config.name);
            self.mistake("name", problem);
        }
        if let Some(other) = earlier.iter().find(|other| other.config.route == config.route) {
            let name = &other.config.name;
            let problem =
                format!("`{}` is divided by split `{name}` already; one split a route", config.route);
            self.mistake("route", problem);
        }
    }

    fn arms(&mut self, config: &SplitConfig, is_whole: bool) {
        let sum: u64 = config.arms.iter().map(|arm| u64::from(arm.share)).sum();
        if is_whole && sum != u64::from(WHOLE) {
            self.mistake("arms", format!("shares sum to {sum} basis points, need {WHOLE}"));
        }
        if config.arms.len() > MAX_ARMS {
            self.mistake("arms", format!("are {}; at most {MAX_ARMS} fit in a split", config.arms.len()));
        }
    }

    fn control(&mut self, config: &SplitConfig) -> usize {
        let Some(name) = &config.control else { return 0 };
        let found = config.arms.iter().position(|arm| arm.name == *name);
        if found.is_none() {
            let known = listed(config.arms.iter().map(|arm| &arm.name));
            self.mistake("control", format!("names arm `{name}`, which is not there; there are: {known}"));
        }
        found.unwrap_or(0)
    }

    fn guardrails(&mut self, guardrails: &[Guardrail]) {
        for (idx, guardrail) in guardrails.iter().enumerate() {
            let key = format!("guardrails[{idx}]");
            match (guardrail.max_drop, guardrail.max_rise) {
                (Some(limit), None) | (None, Some(limit)) if limit >= 0.0 && limit.is_finite() => {}
                (Some(_), None) | (None, Some(_)) => self.mistake(&key, "has a limit below zero"),
                (Some(_), Some(_)) => self.mistake(&key, "has both `max_drop` and `max_rise`; give one"),
                (None, None) => self.mistake(&key, "has neither `max_drop` nor `max_rise`; give one"),
            }
        }
    }

    fn route<'c>(&mut self, catalog: &'c Catalog, config: &SplitConfig) -> Option<&'c Route> {
        let found = catalog.route(&RouteName::from(&config.route));
        if found.is_none() {
            let known = listed(catalog.routes().map(|route| route.name.as_str()));
            let problem =
                format!("names route `{}`, which is not configured; there are: {known}", config.route);
            self.mistake("route", problem);
        }
        found
    }

    fn arm(&mut self, arm: &ArmConfig, earlier: &[ArmConfig], min_similarity: f32) {
        self.name("name", &arm.name);
        if earlier.iter().any(|other| other.name == arm.name) {
            self.mistake("name", format!("`{}` is used twice; give each arm its own", arm.name));
        }
        if arm.compression.is_some() {
            self.mistake(
                "compression",
                "cannot be changed by an arm: prompts are not compressed yet; leave it out",
            );
        }
        match arm.cache {
            ArmCache::On | ArmCache::Off | ArmCache::Exact => {}
            ArmCache::Stricter(bar) if (min_similarity..=1.0).contains(&bar) => {}
            ArmCache::Stricter(bar) => {
                let problem = format!(
                    "is {bar}; an arm may only raise cache.semantic.min_similarity, from {min_similarity} to 1"
                );
                self.mistake("cache.min_similarity", problem);
            }
        }
    }

    /// The arm, with its route as it sees it.
    fn seen(&mut self, arm: &ArmConfig, catalog: &Catalog, base: &Route) -> Arm {
        let mut route = base.clone();
        self.change_limits(&mut route, arm);
        match &arm.upstreams {
            None => {}
            Some(UpstreamsOverride::Route(names)) if base.has_ladder() => {
                let tier = &base.rungs[0].tier;
                let problem = format!(
                    "is a list, but route `{}` has a ladder; say for which tier: {{ {tier} = {names:?} }}",
                    base.name
                );
                self.mistake("upstreams", problem);
            }
            Some(UpstreamsOverride::Route(names)) => {
                route.rungs[0].upstreams = self.upstreams("upstreams", names, catalog);
            }
            Some(UpstreamsOverride::Rungs(_)) if !base.has_ladder() => {
                let problem = format!("names tiers, but route `{}` has no ladder; give a list", base.name);
                self.mistake("upstreams", problem);
            }
            Some(UpstreamsOverride::Rungs(by_tier)) => {
                for (tier, names) in by_tier {
                    let key = format!("upstreams.{tier}");
                    let upstreams = self.upstreams(&key, names, catalog);
                    if let Some(rung) = self.rung(&mut route, &key, tier) {
                        rung.upstreams = upstreams;
                    }
                }
            }
        }
        let changes = changes(arm);
        Arm { name: ArmName::from(&arm.name), share: arm.share, route, cache: arm.cache, changes }
    }

    fn change_limits(&mut self, route: &mut Route, arm: &ArmConfig) {
        if arm.ladder.is_empty() {
            return;
        }
        if !route.has_ladder() {
            let problem = format!("changes tiers, but route `{}` has no ladder; leave it out", route.name);
            return self.mistake("ladder", problem);
        }
        for (tier, up_to) in &arm.ladder {
            if let Some(rung) = self.rung(route, &format!("ladder.{tier}"), tier) {
                rung.up_to = *up_to;
            }
        }
        check_rungs(&route.rungs, &mut |rung_idx, _, problem| {
            self.mistake(&format!("ladder.{}", route.rungs[rung_idx].tier), problem);
        });
    }

    fn rung<'r>(&mut self, route: &'r mut Route, key: &str, tier: &str) -> Option<&'r mut Rung> {
        let found = route.rungs.iter().position(|rung| rung.tier.as_str() == tier);
        if found.is_none() {
            let known = listed(route.rungs.iter().map(|rung| rung.tier.as_str()));
            self.mistake(key, format!("is no tier of route `{}`; it has: {known}", route.name));
        }
        found.map(|idx| &mut route.rungs[idx])
    }

    fn upstreams(&mut self, key: &str, names: &[String], catalog: &Catalog) -> Vec<UpstreamName> {
        if names.is_empty() {
            self.mistake(key, "is empty; name at least one upstream");
        }
        let names: Vec<UpstreamName> = names.iter().map(UpstreamName::from).collect();
        for unknown in names.iter().filter(|name| !catalog.has_upstream(name)) {
            let known = listed(catalog.upstream_names().map(UpstreamName::as_str));
            self.mistake(
                key,
                format!("names upstream `{unknown}`, which is not configured; there are: {known}"),
            );
        }
        names
    }
}

fn listed(names: impl Iterator<Item = impl AsRef<str>>) -> String {
    names.map(|name| name.as_ref().to_owned()).collect::<Vec<_>>().join(", ")
}

/// What an arm changes, in few words.
fn changes(arm: &ArmConfig) -> String {
    let limits = arm.ladder.iter().map(|(tier, up_to)| format!("{tier} up to {up_to}"));
    let upstreams = match &arm.upstreams {
        None => Vec::new(),
        Some(UpstreamsOverride::Route(names)) => vec![format!("upstreams {}", names.join(", "))],
        Some(UpstreamsOverride::Rungs(by_tier)) => {
            by_tier.iter().map(|(tier, names)| format!("{tier} from {}", names.join(", "))).collect()
        }
    };
    let cache = match arm.cache {
        ArmCache::On => None,
        ArmCache::Off => Some("cache off".to_owned()),
        ArmCache::Exact => Some("cache exact only".to_owned()),
        ArmCache::Stricter(bar) => Some(format!("similarity at least {bar}")),
    };
    limits.chain(upstreams).chain(cache).collect::<Vec<_>>().join(", ")
}
