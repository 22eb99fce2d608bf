//! What can be asked for and who can answer it: routes with their ladders, and facts about upstreams.
//!
//! Holds no connection and no health.
//!
//! Invariants: every route has at least one rung and every rung at least one upstream; rungs rise
//! in `up_to` and the last reaches 1; every upstream a route names exists.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::NoPlan;
use crate::team::{RouteName, TierName, UpstreamName};

/// One `[routes.NAME]`. Give either `upstreams` or `ladder`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// Upstreams in the order they are tried: a route without a ladder.
    pub upstreams: Vec<String>,
    /// Rungs from cheap to dear; a call goes to the first whose `up_to` is not below its score.
    pub ladder: Vec<TierConfig>,
    /// The upstream that savings are measured against. Default: the first upstream of the last rung.
    pub baseline: Option<String>,
    /// Where a call may go when its own rung cannot answer: `up` (dearer rungs only) or `any`. Default: `any`.
    pub fall_back: FallBack,
}

/// One rung of a ladder.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierConfig {
    pub tier: String,
    /// The highest score this rung takes, in [0, 1]; the last rung's is 1.
    pub up_to: f32,
    /// Upstreams in the order they are tried.
    pub upstreams: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallBack {
    Up,
    #[default]
    Any,
}

/// A validated route.
#[derive(Debug, Clone)]
pub struct Route {
    pub name: RouteName,
    pub rungs: Vec<Rung>,
    pub baseline: Option<UpstreamName>,
    pub fall_back: FallBack,
}

impl Route {
    /// More than one rung: a score decides.
    pub fn has_ladder(&self) -> bool {
        self.rungs.len() > 1
    }
}

#[derive(Debug, Clone)]
pub struct Rung {
    pub tier: TierName,
    pub up_to: f32,
    pub upstreams: Vec<UpstreamName>,
}

/// What routing needs to know of an upstream.
#[derive(Debug, Clone, Default)]
pub struct UpstreamFacts {
    pub model: String,
    /// Why it is off, such as a missing key.
    pub off: Option<String>,
    /// Its calls cost nothing that is metered per token.
    pub free: bool,
    /// It answers on the house's own machine.
    pub is_local: bool,
    pub embeddings_only: bool,
    pub vision: bool,
    pub tools: bool,
    pub context_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
}

/// Problems found while building a catalog: the key at fault, and what is wrong with it.
pub type Mistakes = Vec<(String, String)>;

#[derive(Debug, Clone, Default)]
pub struct Catalog {
    routes: BTreeMap<RouteName, Route>,
    upstreams: BTreeMap<UpstreamName, UpstreamFacts>,
}

impl Catalog {
    pub fn try_new(
        routes: &BTreeMap<String, RouteConfig>,
        upstreams: BTreeMap<UpstreamName, UpstreamFacts>,
    ) -> Result<Self, Mistakes> {
        let mut mistakes = Mistakes::new();
        let mut built = BTreeMap::new();
        for (name, config) in routes {
            let mut found = Mistakes::new();
            let route = read_route(name, config, &mut found);
            for upstream in named_upstreams(&route) {
                if !upstreams.contains_key(upstream) {
                    let known = upstreams.keys().map(UpstreamName::as_str).collect::<Vec<_>>().join(", ");
                    found.push((
                        String::new(),
                        format!("names upstream `{upstream}`, which is not configured; there are: {known}"),
                    ));
                }
            }
            mistakes.extend(found.into_iter().map(|(key, problem)| (format!("routes.{name}{key}"), problem)));
            built.insert(route.name.clone(), route);
        }
        if mistakes.is_empty() { Ok(Self { routes: built, upstreams }) } else { Err(mistakes) }
    }

    /// A model that was opened knows its own context; a configured one beyond it is its own.
    pub fn set_context(&mut self, name: &UpstreamName, tokens: u64) {
        if let Some(upstream) = self.upstreams.get_mut(name) {
            upstream.context_tokens = Some(tokens);
            upstream.max_output_tokens = Some(upstream.max_output_tokens.unwrap_or(tokens).min(tokens));
        }
    }

    /// From now on plans leave this upstream out, and say why.
    pub fn switch_off(&mut self, name: &UpstreamName, why: &str) {
        if let Some(upstream) = self.upstreams.get_mut(name) {
            upstream.off = Some(why.to_owned());
        }
    }

    pub fn route(&self, name: &RouteName) -> Option<&Route> {
        self.routes.get(name)
    }

    /// The route, or the refusal that names it.
    pub fn find(&self, name: &RouteName) -> Result<&Route, NoPlan> {
        self.route(name).ok_or_else(|| NoPlan::UnknownRoute { route: name.clone() })
    }

    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values()
    }

    pub fn has_upstream(&self, name: &UpstreamName) -> bool {
        self.upstreams.contains_key(name)
    }

    pub fn upstream_names(&self) -> impl Iterator<Item = &UpstreamName> {
        self.upstreams.keys()
    }

    /// The facts of an upstream that a route of this catalog, or an arm's view of one, names.
    pub fn upstream(&self, name: &UpstreamName) -> &UpstreamFacts {
        self.upstreams.get(name).expect("a catalog is only built when every named upstream exists")
    }
}

fn named_upstreams(route: &Route) -> BTreeSet<&UpstreamName> {
    route.rungs.iter().flat_map(|rung| &rung.upstreams).chain(&route.baseline).collect()
}

fn read_route(name: &str, config: &RouteConfig, mistakes: &mut Mistakes) -> Route {
    let mut mistake = |key: &str, problem: &str| mistakes.push((key.to_owned(), problem.to_owned()));
    match (config.upstreams.is_empty(), config.ladder.is_empty()) {
        (true, true) => mistake("", "has neither `upstreams` nor `ladder`; give one"),
        (false, false) => mistake("", "has both `upstreams` and `ladder`; give one"),
        (true, false) | (false, true) => {}
    }
    let rungs: Vec<Rung> = if config.ladder.is_empty() {
        vec![Rung { tier: TierName::from("direct"), up_to: 1.0, upstreams: names(&config.upstreams) }]
    } else {
        config.ladder.iter().map(read_rung).collect()
    };
    check_rungs(&rungs, &mut |rung_idx, field, problem| {
        mistake(&format!(".ladder[{rung_idx}].{field}"), problem);
    });
    let dearest = rungs.last().and_then(|rung| rung.upstreams.first()).cloned();
    let baseline = config.baseline.as_ref().map(UpstreamName::from).or(dearest);
    Route { name: RouteName::from(name), rungs, baseline, fall_back: config.fall_back }
}

fn read_rung(config: &TierConfig) -> Rung {
    Rung { tier: TierName::from(&config.tier), up_to: config.up_to, upstreams: names(&config.upstreams) }
}

fn names(upstreams: &[String]) -> Vec<UpstreamName> {
    upstreams.iter().map(UpstreamName::from).collect()
}

/// Tells what is wrong with the order of rungs: which rung, which of its fields, and what.
pub(super) fn check_rungs(rungs: &[Rung], mistake: &mut impl FnMut(usize, &str, &str)) {
    for (idx, rung) in rungs.iter().enumerate() {
        if rung.upstreams.is_empty() && rungs.len() > 1 {
            mistake(idx, "upstreams", "is empty; name at least one upstream");
        }
        if !(0.0..=1.0).contains(&rung.up_to) {
            mistake(idx, "up_to", &format!("is {}; it must be from 0 to 1", rung.up_to));
        }
        if rungs[..idx].iter().any(|earlier| earlier.tier == rung.tier) {
            mistake(idx, "tier", &format!("`{}` is used twice; name each tier once", rung.tier));
        }
        if idx > 0 && rungs[idx - 1].up_to >= rung.up_to {
            mistake(idx, "up_to", "must be above the rung before it; order rungs from cheap to dear");
        }
    }
    if rungs.last().is_some_and(|last| last.up_to < 1.0) {
        let problem = "must be 1 on the last rung, or the hardest calls would have nowhere to go";
        mistake(rungs.len() - 1, "up_to", problem);
    }
}
