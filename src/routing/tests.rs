//! Decisions as tables: facts in, plan out.

use std::collections::BTreeMap;

use super::*;
use crate::pricing::PriceConfig;

const CONFIG: &str = r#"
[direct]
upstreams = ["big", "small"]
[auto]
baseline = "big"
ladder = [
    { tier = "small", up_to = 0.35, upstreams = ["small", "small-2"] },
    { tier = "large", up_to = 1.0, upstreams = ["big"] },
]
[strict]
fall_back = "up"
ladder = [
    { tier = "small", up_to = 0.35, upstreams = ["small"] },
    { tier = "large", up_to = 1.0, upstreams = ["big"] },
]
"#;

fn catalog_with(change: impl Fn(&str, &mut UpstreamFacts)) -> Catalog {
    let routes: BTreeMap<String, RouteConfig> = toml::from_str(CONFIG).unwrap();
    let upstreams = ["small", "small-2", "big"].map(|name| {
        let mut facts =
            UpstreamFacts { model: name.to_owned(), vision: true, tools: true, ..UpstreamFacts::default() };
        change(name, &mut facts);
        (UpstreamName::from(name), facts)
    });
    Catalog::try_new(&routes, upstreams.into()).unwrap()
}

fn prices() -> PriceBook {
    let entry = |model: &str, usd: f64| -> PriceConfig {
        let text = format!(
            "model='{model}'\nfrom='2025-01-01'\ninput={usd}\noutput={}\nmax_output_tokens=1000",
            usd * 8.0
        );
        toml::from_str(&text).unwrap()
    };
    PriceBook::try_new(&[entry("small", 0.1), entry("small-2", 0.2), entry("big", 1.0)]).unwrap()
}

struct Case {
    catalog: Catalog,
    prices: PriceBook,
    own_prices: BTreeMap<UpstreamName, Price>,
    tripped: BTreeSet<UpstreamName>,
    score: f32,
    min_tier: Option<TierName>,
    has_media: bool,
    max_output_tokens: Option<u64>,
    max_cost: Option<NanoUsd>,
    n_prompts: u64,
    unknown_price: UnknownPrice,
    only_local: bool,
}

impl Case {
    fn new() -> Self {
        Self {
            catalog: catalog_with(|_, _| {}),
            prices: prices(),
            own_prices: BTreeMap::new(),
            tripped: BTreeSet::new(),
            score: 0.1,
            min_tier: None,
            has_media: false,
            max_output_tokens: None,
            max_cost: None,
            n_prompts: 1,
            unknown_price: UnknownPrice::Refuse,
            only_local: false,
        }
    }

    fn decide(&self, route: &str) -> Result<Plan, NoPlan> {
        let facts = Facts {
            endpoint: Endpoint::Chat,
            score: self.score,
            min_tier: self.min_tier.as_ref(),
            has_media: self.has_media,
            has_tools: false,
            most_input_tokens: 100,
            max_output_tokens: self.max_output_tokens,
            n_prompts: self.n_prompts,
            n_answers: self.n_prompts,
            may_be_audio: false,
            max_cost: self.max_cost,
            tripped: &self.tripped,
            prices: &self.prices,
            own_prices: &self.own_prices,
            unknown_price: self.unknown_price,
            only_local: self.only_local,
            now_ms: 1_800_000_000_000,
        };
        decide(&self.catalog, self.catalog.find(&RouteName::from(route))?, &facts)
    }

    fn order(&self, route: &str) -> Vec<String> {
        self.decide(route).unwrap().attempts().map(|attempt| attempt.upstream.to_string()).collect()
    }
}

#[test]
fn a_score_picks_its_rung_on_both_sides_of_the_limit() {
    let mut case = Case::new();

    assert_eq!(case.order("auto"), ["small", "small-2", "big"]);
    case.score = 0.35;
    assert_eq!(case.order("auto"), ["small", "small-2", "big"]);
    case.score = 0.350_001;
    assert_eq!(case.order("auto"), ["big", "small", "small-2"]);
    case.score = 1.0;
    assert_eq!(case.order("auto"), ["big", "small", "small-2"]);
}

#[test]
fn a_route_without_a_ladder_ignores_the_score() {
    let plan = Case::new().decide("direct").unwrap();

    assert_eq!((plan.first.upstream.as_str(), plan.first.tier.as_ref()), ("big", None));
    assert_eq!(plan.reason, Reason::Direct);
}

#[test]
fn a_strict_route_never_falls_to_a_cheaper_rung() {
    let mut case = Case::new();
    case.score = 0.9;

    assert_eq!(case.order("strict"), ["big"]);
}

#[test]
fn a_min_tier_raises_and_never_lowers() {
    let mut case = Case::new();
    case.min_tier = Some(TierName::from("large"));
    assert_eq!(case.order("auto")[0], "big");
    case.min_tier = Some(TierName::from("small"));
    case.score = 0.9;
    assert_eq!(case.order("auto")[0], "big");

    case.min_tier = Some(TierName::from("huge"));
    let error = case.decide("auto").unwrap_err();
    assert!(error.to_string().contains("it has `small`, `large`"), "{error}");
}

#[test]
fn a_tripped_rung_is_left_out_and_the_reason_says_so() {
    let mut case = Case::new();
    case.tripped = [UpstreamName::from("small")].into();
    assert_eq!(case.order("auto"), ["small-2", "big"]);

    case.tripped.insert(UpstreamName::from("small-2"));
    let plan = case.decide("auto").unwrap();
    assert_eq!(plan.first.upstream.as_str(), "big");
    assert_eq!(plan.reason, Reason::FellThrough { meant: TierName::from("small"), why: Unfit::Tripped });

    case.tripped.insert(UpstreamName::from("big"));
    assert!(matches!(case.decide("auto"), Err(NoPlan::NoneFit { left_out, .. }) if left_out.len() == 3));
}

#[test]
fn an_upstream_that_cannot_read_images_is_left_out_for_images_only() {
    let mut case = Case::new();
    case.catalog = catalog_with(|name, facts| facts.vision = name == "big");
    assert_eq!(case.order("auto")[0], "small");

    case.has_media = true;
    assert_eq!(case.order("auto"), ["big"]);
}

#[test]
fn a_model_without_a_price_is_refused_or_metered_by_policy() {
    let mut case = Case::new();
    case.catalog = catalog_with(|name, facts| {
        if name == "big" {
            facts.model = "new-model".to_owned();
        }
    });
    let without_big = ["small", "small-2"];
    assert_eq!(case.order("auto"), without_big);
    assert_eq!(case.order("direct"), ["small"]);

    case.unknown_price = UnknownPrice::Meter;
    let plan = case.decide("direct").unwrap();
    assert_eq!((plan.first.upstream.as_str(), plan.first.ceiling), ("big", None));
}

#[test]
fn the_ceiling_covers_the_dearest_attempt_at_the_asked_or_the_model_s_limit() {
    let mut case = Case::new();
    // 100 input tokens at $1 and 1,000 output tokens at $8 a million.
    assert_eq!(case.decide("auto").unwrap().ceiling, NanoUsd::new(100_000 + 8_000_000));

    case.max_output_tokens = Some(10);
    assert_eq!(case.decide("auto").unwrap().ceiling, NanoUsd::new(100_000 + 80_000));

    case.max_output_tokens = Some(1_000_000);
    assert_eq!(case.decide("auto").unwrap().ceiling, NanoUsd::new(100_000 + 8_000_000));
}

#[test]
fn each_prompt_of_a_batch_is_held_for() {
    let mut case = Case::new();
    case.max_output_tokens = Some(10);
    case.n_prompts = 1_000;

    // 100 input tokens in all, and 10 output tokens a prompt at $8 a million.
    assert_eq!(case.decide("auto").unwrap().ceiling, NanoUsd::new(100_000 + 80_000_000));
}

#[test]
fn what_could_cost_more_than_allowed_is_left_out_to_the_nano_dollar() {
    let mut case = Case::new();
    case.max_output_tokens = Some(10);
    // `big` can cost 100,000 + 80,000 nano-dollars, the small ones a tenth and a fifth of it.
    case.max_cost = Some(NanoUsd::new(180_000));
    assert_eq!(case.order("auto"), ["small", "small-2", "big"]);
    case.max_cost = Some(NanoUsd::new(179_999));
    assert_eq!(case.order("auto"), ["small", "small-2"]);
    case.max_cost = Some(NanoUsd::new(17_999));
    let error = case.decide("auto").unwrap_err();
    assert!(error.to_string().contains("above the $0.000017999 allowed"), "{error}");
}

#[test]
fn what_our_own_machine_costs_now_beats_the_price_list() {
    let mut case = Case::new();
    case.max_output_tokens = Some(10);
    let (input, output) = (Rate::per_million(1_000_000), Rate::per_million(2_000_000));
    case.own_prices.insert(UpstreamName::from("big"), Price::of_own(input, output));

    let attempt = case.decide("direct").unwrap().first;

    assert_eq!((attempt.upstream.as_str(), attempt.ceiling), ("big", Some(NanoUsd::new(100 + 20))));
    assert_eq!(attempt.price, case.own_prices.values().next().cloned());
}

#[test]
fn an_unknown_route_is_named() {
    let error = Case::new().decide("gpt-9").unwrap_err();

    assert!(error.to_string().contains("`gpt-9`"), "{error}");
}

#[test]
fn every_mistake_of_a_ladder_is_reported() {
    let routes: BTreeMap<String, RouteConfig> = toml::from_str(
        r#"
        [both]
        upstreams = ["a"]
        ladder = [{ tier = "t", up_to = 1.0, upstreams = ["a"] }]
        [neither]
        [order]
        ladder = [{ tier = "t", up_to = 0.9, upstreams = ["a"] }, { tier = "t", up_to = 0.5, upstreams = ["ghost"] }]
        "#,
    )
    .unwrap();
    let upstreams = BTreeMap::from([(UpstreamName::from("a"), UpstreamFacts::default())]);

    let mistakes = Catalog::try_new(&routes, upstreams).unwrap_err();

    let keys: Vec<&str> = mistakes.iter().map(|(key, _)| key.as_str()).collect();
    let order = [
        "routes.order.ladder[1].tier",
        "routes.order.ladder[1].up_to",
        "routes.order.ladder[1].up_to",
        "routes.order",
    ];
    assert_eq!(keys, [&["routes.both", "routes.neither"][..], &order[..]].concat());
}
