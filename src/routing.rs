//! Decides where a call goes: which tier, which upstreams in which order, and why.
//!
//! Pure: no clock, no randomness, no I/O. Health, score and time come in through [`Facts`].
//!
//! Invariants: a [`Plan`] has at least one attempt; attempts never repeat an upstream; the ceiling
//! covers the dearest attempt.

mod catalog;
mod ladder;
pub mod split;

pub use catalog::{Catalog, FallBack, Mistakes, Route, RouteConfig, Rung, TierConfig, UpstreamFacts};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::chat::Endpoint;
use crate::money::{NanoUsd, Rate};
use crate::pricing::{Price, PriceBook, UnknownPrice};
use crate::team::{RouteName, TierName, UpstreamName};

/// An output limit nobody stated: no model on the market writes more in one answer.
const MOST_OUTPUT_TOKENS: u64 = 131_072;

/// What a decision is made from.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    pub endpoint: Endpoint,
    /// Complexity in [0, 1]; ignored by a route with one rung.
    pub score: f32,
    pub min_tier: Option<&'a TierName>,
    pub has_media: bool,
    pub has_tools: bool,
    /// An upper bound on the input, in tokens.
    pub most_input_tokens: u64,
    pub max_output_tokens: Option<u64>,
    /// Prompts that each have a context window of their own.
    pub n_prompts: u64,
    /// Answers that are billed.
    pub n_answers: u64,
    /// Input or output may be billed as audio.
    pub may_be_audio: bool,
    /// The most that the caller wants this call to cost.
    pub max_cost: Option<NanoUsd>,
    /// Upstreams whose breaker is open now.
    pub tripped: &'a BTreeSet<UpstreamName>,
    pub prices: &'a PriceBook,
    /// What our own machines cost now, by upstream; they are in no price list.
    pub own_prices: &'a BTreeMap<UpstreamName, Price>,
    pub unknown_price: UnknownPrice,
    /// A budget is spent that leaves only answers of the house's own.
    pub only_local: bool,
    pub now_ms: i64,
}

/// Where a call goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub route: RouteName,
    pub first: Attempt,
    pub rest: Vec<Attempt>,
    pub reason: Reason,
    /// What the dearest attempt can cost at most.
    pub ceiling: NanoUsd,
    /// The upstream that savings are measured against.
    pub baseline: Option<UpstreamName>,
}

impl Plan {
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

/// One upstream to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub upstream: UpstreamName,
    pub model: String,
    pub tier: Option<TierName>,
    /// What its tokens cost in this call; `None`: it has no price, and the policy is to meter it as null.
    pub price: Option<Price>,
    /// The most it can cost; `None` where it has no price.
    pub ceiling: Option<NanoUsd>,
    /// The model's context window, where known.
    pub context_tokens: Option<u64>,
}

/// Why the first attempt comes first.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// The route has one rung.
    Direct,
    /// The score fell on this rung.
    Score { score: f32, up_to: f32 },
    /// The client asked for no less than this tier.
    MinTier { asked: TierName },
    /// The rung that was meant has no upstream that can answer now.
    FellThrough { meant: TierName, why: Unfit },
    /// A budget is spent that leaves only local answers.
    OnlyLocal { why: String },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => write!(f, "the route has one rung"),
            Self::Score { score, up_to } => write!(f, "score {score:.3} is at most {up_to}"),
            Self::MinTier { asked } => write!(f, "the client asked for tier `{asked}` or above"),
            Self::OnlyLocal { why } => write!(f, "only local answers are left: {why}"),
            Self::FellThrough { meant, why } => write!(f, "tier `{meant}` was meant, but its upstream {why}"),
        }
    }
}

/// Why an upstream was left out of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    Off(String),
    Tripped,
    /// It costs, and the budget for that is spent.
    NotLocal,
    NoVision,
    NoTools,
    Unpriced {
        model: String,
    },
    WrongEndpoint,
    /// It could cost more than the caller allows.
    TooDear {
        ceiling: NanoUsd,
        max_cost: NanoUsd,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off(why) => write!(f, "is off: {why}"),
            Self::Tripped => write!(f, "failed repeatedly and is being left alone for a moment"),
            Self::NotLocal => write!(f, "is not local, and the budget leaves only local answers"),
            Self::NoVision => write!(f, "does not read images or audio"),
            Self::NoTools => write!(f, "does not call tools"),
            Self::Unpriced { model } => write!(f, "serves `{model}`, which has no price in prices.toml"),
            Self::WrongEndpoint => write!(f, "does not serve this endpoint"),
            Self::TooDear { ceiling, max_cost } => write!(
                f,
                "could cost up to ${ceiling}, above the ${max_cost} allowed; lower `max_tokens` or raise the limit"
            ),
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    #[error("there is no route `{route}`; `GET /v1/models` lists the routes")]
    UnknownRoute { route: RouteName },
    #[error("route `{route}` has no tier `{tier}`; it has {known}")]
    UnknownTier { route: RouteName, tier: TierName, known: String },
    #[error("no upstream of route `{route}` can answer: {}", list(left_out))]
    NoneFit { route: RouteName, left_out: Vec<(UpstreamName, Unfit)> },
}

fn list(left_out: &[(UpstreamName, Unfit)]) -> String {
    let one = |(name, why): &(UpstreamName, Unfit)| format!("`{name}` {why}");
    left_out.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Decides where a call goes that asks for `route`: a route of the catalog, or an arm's view of one.
pub fn decide(catalog: &Catalog, route: &Route, facts: &Facts<'_>) -> Result<Plan, NoPlan> {
    let choice = ladder::choose(route, facts.score, facts.min_tier)?;
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut left_out: Vec<(UpstreamName, Unfit)> = Vec::new();
    for (tier, upstream) in ladder::in_order(route, choice.rung_idx) {
        if attempts.iter().any(|known| known.upstream == *upstream) {
            continue;
        }
        match fit(catalog, upstream, facts) {
            Ok(fit) => attempts.push(Attempt {
                upstream: upstream.clone(),
                model: fit.model.to_owned(),
                tier: route.has_ladder().then(|| tier.clone()),
                price: fit.price,
                ceiling: fit.ceiling,
                context_tokens: context_tokens(catalog.upstream(upstream), facts),
            }),
            Err(why) => left_out.push((upstream.clone(), why)),
        }
    }
    let mut attempts = attempts.into_iter();
    let Some(first) = attempts.next() else {
        return Err(NoPlan::NoneFit { route: route.name.clone(), left_out });
    };
    let meant = &route.rungs[choice.rung_idx].tier;
    let fell_through = first.tier.as_ref().is_some_and(|tier| tier != meant);
    let reason = match left_out.into_iter().next() {
        Some((_, why)) if fell_through => Reason::FellThrough { meant: meant.clone(), why },
        Some(_) | None => choice.reason,
    };
    let rest: Vec<Attempt> = attempts.collect();
    let ceilings = std::iter::once(&first).chain(&rest).filter_map(|attempt| attempt.ceiling);
    let ceiling = ceilings.max().unwrap_or(NanoUsd::ZERO);
    Ok(Plan { route: route.name.clone(), first, rest, reason, ceiling, baseline: route.baseline.clone() })
}

/// An upstream that can answer.
struct Fit<'a> {
    model: &'a str,
    price: Option<Price>,
    ceiling: Option<NanoUsd>,
}

/// What an upstream would answer with and cost, or why it cannot.
fn fit<'a>(catalog: &'a Catalog, name: &UpstreamName, facts: &Facts<'_>) -> Result<Fit<'a>, Unfit> {
    let upstream = catalog.upstream(name);
    if let Some(why) = &upstream.off {
        return Err(Unfit::Off(why.clone()));
    }
    if upstream.embeddings_only && facts.endpoint != Endpoint::Embeddings {
        return Err(Unfit::WrongEndpoint);
    }
    if facts.only_local && !upstream.is_local {
        return Err(Unfit::NotLocal);
    }
    if facts.tripped.contains(name) {
        return Err(Unfit::Tripped);
    }
    if facts.endpoint == Endpoint::Chat && facts.has_media && !upstream.vision {
        return Err(Unfit::NoVision);
    }
    if facts.has_tools && !upstream.tools {
        return Err(Unfit::NoTools);
    }
    let model = upstream.model.as_str();
    let price = price(name, upstream, facts);
    let ceiling = price.as_ref().map(|price| ceiling(upstream, price, facts));
    match (ceiling, facts.unknown_price, facts.max_cost) {
        (None, UnknownPrice::Refuse, _) => Err(Unfit::Unpriced { model: model.to_owned() }),
        // What has no price cannot be promised to stay below one.
        (None, UnknownPrice::Meter, Some(_)) => Err(Unfit::Unpriced { model: model.to_owned() }),
        (Some(ceiling), _, Some(max_cost)) if ceiling > max_cost => Err(Unfit::TooDear { ceiling, max_cost }),
        (ceiling, _, _) => Ok(Fit { model, price, ceiling }),
    }
}

/// The configuration's word on the context window beats the price list's.
fn context_tokens(upstream: &UpstreamFacts, facts: &Facts<'_>) -> Option<u64> {
    let listed = || facts.prices.price(&upstream.model, facts.now_ms)?.context_tokens;
    upstream.context_tokens.or_else(listed)
}

fn price(name: &UpstreamName, upstream: &UpstreamFacts, facts: &Facts<'_>) -> Option<Price> {
    if upstream.free {
        return Some(Price::of_own(Rate::default(), Rate::default()));
    }
    let own = facts.own_prices.get(name);
    own.or_else(|| facts.prices.price(&upstream.model, facts.now_ms)).cloned()
}

/// The most a call can cost at this upstream.
fn ceiling(upstream: &UpstreamFacts, price: &Price, facts: &Facts<'_>) -> NanoUsd {
    let context = context_tokens(upstream, facts).unwrap_or(u64::MAX);
    let model_limit = upstream.max_output_tokens.or(price.max_output_tokens).unwrap_or(MOST_OUTPUT_TOKENS);
    let per_answer = match facts.endpoint {
        Endpoint::Embeddings => 0,
        Endpoint::Chat | Endpoint::Completions => {
            facts.max_output_tokens.unwrap_or(model_limit).min(model_limit)
        }
    };
    let n_output = per_answer.saturating_mul(facts.n_answers);
    let n_input = facts.most_input_tokens.min(context.saturating_mul(facts.n_prompts));
    price.worst_cost(n_input, n_output, facts.may_be_audio)
}

#[cfg(test)]
mod tests;
