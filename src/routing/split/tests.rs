//! Promises about assignment, kept over many units and many splits; and the mistakes, each on both sides.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::routing::{RouteConfig, UpstreamFacts};
use crate::team::UpstreamName;

const ROUTES: &str = r#"
[auto]
ladder = [
    { tier = "small", up_to = 0.35, upstreams = ["little"] },
    { tier = "large", up_to = 1.0, upstreams = ["big"] },
]
[plain]
upstreams = ["big"]
"#;

const N_UNITS: usize = 100_000;

fn catalog() -> Catalog {
    let routes: BTreeMap<String, RouteConfig> = toml::from_str(ROUTES).unwrap();
    let upstreams =
        ["little", "big", "other"].map(|name| (UpstreamName::from(name), UpstreamFacts::default()));
    Catalog::try_new(&routes, upstreams.into()).unwrap()
}

#[derive(serde::Deserialize)]
struct File {
    split: Vec<SplitConfig>,
}

fn read(text: &str) -> Result<Splits, Mistakes> {
    let file: File = toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let given = |(idx, config)| Given { at: format!("split[{idx}]"), config, is_whole: true };
    let given: Vec<Given> = file.split.into_iter().enumerate().map(given).collect();
    Splits::try_new(&given, Some(&catalog()), 0.92)
}

/// A split of `auto` with these lines in place of arms.
fn text(arms: &str) -> String {
    format!("[[split]]\nname = 'cheap-first'\nroute = 'auto'\nunit = 'user'\n{arms}\n")
}

/// A split whose arms are `arm-0`, `arm-1`, … with these shares.
fn of_shares(name: &str, shares: &[u32]) -> Arc<Split> {
    let arm = |(idx, share): (usize, &u32)| format!("{{ name = 'arm-{idx}', share = {share} }}");
    let arms = shares.iter().enumerate().map(arm).collect::<Vec<_>>().join(", ");
    let text = text(&format!("arms = [{arms}]")).replace("cheap-first", name);
    Arc::clone(read(&text).unwrap().0.values().next().unwrap())
}

fn unit(nth: usize) -> String {
    format!("user-{nth}")
}

/// Of each unit, the arm.
fn arms_of(split: &Split) -> Vec<usize> {
    (0..N_UNITS).map(|nth| split.arm_idx(&unit(nth))).collect()
}

/// Owners of all places, which stand for all units.
fn owners(shares: &[u32], control_idx: usize) -> Vec<usize> {
    let owners = Owners::of(shares, control_idx);
    let position = |place: u64| ((u128::from(place) << 64) / u128::from(WHOLE) + (1 << 40)) as u64;
    (0..u64::from(WHOLE)).map(|place| owners.at(position(place))).collect()
}

/// Shares of `n` arms that sum to the whole; some of them are 0.
fn shares(n: usize) -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(0..=WHOLE, n - 1).prop_map(|mut cuts| {
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([WHOLE]);
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        ends.zip(starts).map(|(end, start)| end - start).collect()
    })
}

/// Checks that from one layout to the other whoever moves moves into `grown`, and that nobody leaves it.
fn check_moves_only_into(grown: usize, before: &[usize], after: &[usize]) {
    for (place, (was, is)) in before.iter().zip(after).enumerate() {
        assert!(was == is || *is == grown, "place {place} moved from arm {was} to arm {is}");
    }
}

#[test]
fn the_same_unit_has_the_same_arm_in_every_process() {
    let split = of_shares("cheap-first", &[5_000, 5_000]);
    let again = of_shares("cheap-first", &[5_000, 5_000]);

    assert_eq!(arms_of(&split), arms_of(&again));
    // Replicas of different builds must agree, so these are for ever.
    let known: Vec<&str> = (0..8).map(|nth| split.arm_of(&unit(nth)).name.as_str()).collect();
    let expected = KNOWN.map(|idx| format!("arm-{idx}"));
    assert_eq!(known, expected);
}

const KNOWN: [usize; 8] = [0, 1, 1, 0, 1, 1, 1, 0];

#[test]
fn shares_are_kept_over_many_units() {
    for shares in [&[9_000, 1_000][..], &[5_000, 3_000, 2_000], &[1, 9_999], &[2_500, 2_500, 2_500, 2_500]] {
        let split = of_shares("shares", shares);
        let arms = arms_of(&split);
        for (idx, share) in shares.iter().enumerate() {
            let n = arms.iter().filter(|arm| **arm == idx).count() as f64;
            let p = f64::from(*share) / f64::from(WHOLE);
            let expected = p * N_UNITS as f64;
            // Four standard deviations of a binomial count, and one unit for the smallest.
            let tolerance = 4.0 * (expected * (1.0 - p)).sqrt() + 1.0;
            assert!((n - expected).abs() <= tolerance, "{shares:?}: arm {idx} has {n} of {expected}");
        }
    }
}

#[test]
fn an_arm_without_a_share_is_never_chosen() {
    for shares in [&[10_000, 0][..], &[0, 10_000], &[0, 5_000, 0, 5_000, 0]] {
        let arms = arms_of(&of_shares("zero", shares));

        assert!(arms.iter().all(|arm| shares[*arm] > 0), "{shares:?}");
    }
}

#[test]
fn the_ends_of_the_interval_have_an_owner() {
    let owners = Owners::of(&[1, 9_998, 1], 1);

    let at = |place: u128, more: i128| owners.at(((((place << 64) / 10_000) as i128) + more) as u64);
    assert_eq!((owners.at(0), owners.at(u64::MAX)), (0, 2));
    assert_eq!((at(1, -1), at(1, 2), at(9_999, -2), at(9_999, 2)), (0, 1, 1, 2));
}

#[test]
fn an_arm_that_grows_at_the_controls_expense_takes_units_from_it_alone() {
    let [before, after] =
        [[9_000, 1_000], [7_500, 2_500]].map(|shares| arms_of(&of_shares("grows", &shares)));

    let moved = before.iter().zip(&after).filter(|(was, is)| was != is);
    let n_moved = moved.inspect(|(was, is)| assert_eq!((**was, **is), (0, 1))).count();
    assert!((14_000..16_000).contains(&n_moved), "{n_moved}");
}

#[test]
fn two_splits_are_independent() {
    let one = arms_of(&of_shares("one", &[7_000, 3_000]));
    let two = arms_of(&of_shares("two", &[5_000, 5_000]));

    let mut counts = [[0.0f64; 2]; 2];
    one.iter().zip(&two).for_each(|(one, two)| counts[*one][*two] += 1.0);

    let chi2: f64 = [(0, 0.7), (1, 0.3)]
        .into_iter()
        .flat_map(|(arm, share)| counts[arm].map(|n| (n, share * 0.5 * N_UNITS as f64)))
        .map(|(n, expected)| (n - expected).powi(2) / expected)
        .sum();
    // Three degrees of freedom: one draw in a thousand is above, and these two are fixed.
    assert!(chi2 < 16.27, "{chi2}: {counts:?}");
}

#[test]
fn a_split_of_another_name_is_another_draw() {
    let one = arms_of(&of_shares("v1", &[5_000, 5_000]));
    let two = arms_of(&of_shares("v2", &[5_000, 5_000]));

    let n_same = one.iter().zip(&two).filter(|(one, two)| one == two).count();
    assert!((49_000..51_000).contains(&n_same), "{n_same}");
}

proptest! {
    #[test]
    fn every_arm_owns_as_many_places_as_its_share(shares in (2..=16usize).prop_flat_map(shares), control in 0..16usize) {
        let control = control % shares.len();

        let owners = owners(&shares, control);

        let counted: Vec<u32> = (0..shares.len())
            .map(|arm| owners.iter().filter(|owner| **owner == arm).count() as u32)
            .collect();
        prop_assert_eq!(counted, shares);
    }

    #[test]
    fn of_two_or_three_arms_the_one_that_grows_takes_from_the_control_alone(
        shares in (2..=3usize).prop_flat_map(shares), control in 0..3usize, grown in 0..3usize, by in 0..=WHOLE,
    ) {
        let (control, grown) = (control % shares.len(), grown % shares.len());
        let mut after = shares.clone();
        let by = by.min(shares[control]);
        after[control] -= by;
        after[grown] += by;

        check_moves_only_into(grown, &owners(&shares, control), &owners(&after, control));
    }

    #[test]
    fn of_two_arms_either_grows_alone(before in 0..=WHOLE, after in 0..=WHOLE) {
        let grown = usize::from(after < before);
        let layout = |first: u32| owners(&[first, WHOLE - first], 0);

        check_moves_only_into(grown, &layout(before), &layout(after));
    }

    #[test]
    fn of_many_small_arms_each_grows_alone_and_keeps_its_units_whatever_the_others_do(
        before in proptest::collection::vec(0..=1_250u32, 7), after in proptest::collection::vec(0..=1_250u32, 7),
    ) {
        let whole = |others: &[u32]| [&[WHOLE - others.iter().sum::<u32>()], others].concat();
        let (first, last) = (owners(&whole(&before), 0), owners(&whole(&after), 0));

        for (was, is) in first.iter().zip(&last).filter(|(was, is)| was != is) {
            prop_assert!(*was == 0 || *is == 0, "a unit went from arm {} straight to arm {}", was, is);
            prop_assert!(*was == 0 || after[was - 1] < before[was - 1], "arm {} lost a unit and did not shrink", was);
            prop_assert!(*is == 0 || after[is - 1] > before[is - 1], "arm {} got a unit and did not grow", is);
        }
    }

    #[test]
    fn an_arm_added_at_the_end_takes_from_the_control_alone(shares in (2..=9usize).prop_flat_map(shares), by in 0..=WHOLE) {
        let by = by.min(shares[0]);
        let mut after = shares.clone();
        after[0] -= by;
        after.push(by);

        check_moves_only_into(shares.len(), &owners(&shares, 0), &owners(&after, 0));
    }

    #[test]
    fn a_unit_is_kept_whatever_its_text(salt in "[a-z0-9._-]{1,20}", unit in "\\PC{0,80}") {
        let split = of_shares(&salt, &[3_333, 3_333, 3_334]);

        prop_assert_eq!(split.arm_idx(&unit), split.arm_idx(&unit.clone()));
        prop_assert_eq!(split.arm_idx(&unit), split.owners.at(position(&SplitName::from(&salt), &unit)));
    }
}

#[test]
fn an_arm_sees_its_own_limits_and_upstreams_and_the_others_the_route_as_it_is() {
    let splits = read(&text(
        "arms = [{ name = 'control', share = 8000 },
                 { name = 'bar', share = 1000, ladder = { small = 0.5 }, cache = 'off' },
                 { name = 'up', share = 1000, upstreams = { small = ['other', 'little'] }, cache = { min_similarity = 0.95 } }]",
    ))
    .unwrap();
    let split = splits.iter().next().unwrap();
    let small: Vec<(f32, Vec<&str>, ArmCache)> = split
        .arms()
        .iter()
        .map(|arm| {
            let rung = &arm.route.rungs[0];
            (rung.up_to, rung.upstreams.iter().map(UpstreamName::as_str).collect(), arm.cache)
        })
        .collect();

    let expected = [
        (0.35, vec!["little"], ArmCache::On),
        (0.5, vec!["little"], ArmCache::Off),
        (0.35, vec!["other", "little"], ArmCache::Stricter(0.95)),
    ];
    assert_eq!(small, expected);
    assert!(split.arms().iter().all(|arm| arm.route.baseline == Some(UpstreamName::from("big"))));
    assert_eq!(
        split.to_string(),
        "cheap-first: route auto by user: control (80 %, the control) | bar (10 %): small up to 0.5, cache off | \
         up (10 %): small from other, little, similarity at least 0.95"
    );
}

#[test]
fn a_route_without_a_ladder_has_its_upstreams_replaced_and_its_baseline_kept() {
    let arms = "arms = [{ name = 'a', share = 5000 }, { name = 'b', share = 5000, upstreams = ['other'] }]";
    let splits = read(&text(arms).replace("'auto'", "'plain'")).unwrap();

    let other = &splits.iter().next().unwrap().arms()[1].route;

    assert_eq!(other.rungs[0].upstreams, [UpstreamName::from("other")]);
    assert_eq!(other.baseline, Some(UpstreamName::from("big")));
}

#[test]
fn a_call_is_assigned_by_its_unit_or_told_to_have_none() {
    let arms = "control = 'b'\narms = [{ name = 'a', share = 0 }, { name = 'b', share = 10000 }]";
    let splits = read(&text(arms).replace("'user'", "'header:X-Session'")).unwrap();
    let route = RouteName::from("auto");

    let in_arm = splits.assign(&route, |unit| {
        assert_eq!(*unit, Unit::Header("x-session".to_owned()));
        Some("s1".into())
    });
    let without = splits.assign(&route, |_| None);
    let elsewhere = splits.assign(&RouteName::from("plain"), |_| Some("s1".into()));

    assert_eq!(in_arm.arm().unwrap().arm().name.as_str(), "b");
    assert!(matches!(&without, Assignment::NoUnit(split) if split.control().name.as_str() == "b"));
    assert!(matches!(elsewhere, Assignment::NoSplit));
    assert_eq!(splits.headers().collect::<Vec<_>>(), ["x-session"]);
}

#[test]
fn units_are_read_and_others_refused() {
    for (word, expected) in [
        ("user", Ok(Unit::User)),
        ("conversation", Ok(Unit::Conversation)),
        ("key", Ok(Unit::Key)),
        ("header:X-Tenant", Ok(Unit::Header("x-tenant".to_owned()))),
        ("header:", Err("names no header")),
        ("header:x y", Err("names no header")),
        ("header:Authorization", Err("say `key`")),
        ("team", Err("say user, conversation, key or header:NAME")),
    ] {
        let read = Unit::try_from(word.to_owned());
        match expected {
            Ok(unit) => assert_eq!(read, Ok(unit)),
            Err(part) => assert!(read.unwrap_err().contains(part), "{word}"),
        }
    }
}

/// Reads a split with these arms (and more lines); its one mistake has this key and says this, or there is none.
fn check(lines: &str, expected: Option<(&str, &str)>) {
    let read = read(&text(lines));

    match (read, expected) {
        (Ok(_), None) => {}
        (Ok(_), Some(expected)) => panic!("{lines}: nothing was wrong, not even {expected:?}"),
        (Err(mistakes), None) => panic!("{lines}: {mistakes:?}"),
        (Err(mistakes), Some((key, part))) => {
            assert_eq!(mistakes.len(), 1, "{lines}: {mistakes:?}");
            assert_eq!(mistakes[0].0, format!("split[0].{key}"), "{lines}");
            assert!(mistakes[0].1.contains(part), "{lines}: {mistakes:?}");
        }
    }
}

#[test]
fn shares_have_to_sum_to_the_whole() {
    let arms =
        |a: u32, b: u32| format!("arms = [{{ name = 'a', share = {a} }}, {{ name = 'b', share = {b} }}]");

    check(&arms(9_000, 1_000), None);
    check(&arms(10_000, 0), None);
    check(&arms(9_000, 999), Some(("arms", "shares sum to 9999 basis points, need 10000")));
    check(&arms(9_000, 1_001), Some(("arms", "sum to 10001")));
    check(&arms(u32::MAX, u32::MAX), Some(("arms", "need 10000")));
    check("arms = []", Some(("arms", "sum to 0")));
    check("arms = [{ name = 'all', share = 10000, cache = 'off' }]", None);
}

#[test]
fn sixteen_arms_are_taken_and_seventeen_are_not() {
    let arms = |n: usize| {
        let share = |idx| if idx == 0 { 10_000 } else { 0 };
        let arm = |idx| format!("{{ name = 'a{idx}', share = {} }}", share(idx));
        format!("arms = [{}]", (0..n).map(arm).collect::<Vec<_>>().join(", "))
    };

    check(&arms(16), None);
    check(&arms(17), Some(("arms", "at most 16")));
}

#[test]
fn names_have_to_stand_in_a_header() {
    let named = |name: &str| format!("arms = [{{ name = '{name}', share = 10000 }}]");

    check(&named(&"x".repeat(64)), None);
    check(&named(&"x".repeat(65)), Some(("arms[0].name", "1 to 64 letters")));
    check(&named("A.b_c-9"), None);
    for bad in ["", "a=b", "a b", "a,b", "ä"] {
        check(&named(bad), Some(("arms[0].name", "stands in a header")));
    }
    let twice = "arms = [{ name = 'a', share = 5000 }, { name = 'a', share = 5000 }]";
    check(twice, Some(("arms[1].name", "`a` is used twice")));
}

#[test]
fn what_an_arm_changes_has_to_be_there() {
    for (change, expected) in [
        ("ladder = { small = 0.99 }", None),
        ("ladder = { small = 1.0 }", Some(("arms[0].ladder.large", "must be above the rung before it"))),
        ("ladder = { small = -0.1 }", Some(("arms[0].ladder.small", "from 0 to 1"))),
        ("ladder = { large = 0.9 }", Some(("arms[0].ladder.large", "must be 1 on the last rung"))),
        ("ladder = { huge = 0.5 }", Some(("arms[0].ladder.huge", "it has: small, large"))),
        ("upstreams = { small = ['other'] }", None),
        ("upstreams = { huge = ['other'] }", Some(("arms[0].upstreams.huge", "it has: small, large"))),
        (
            "upstreams = { small = ['ghost'] }",
            Some(("arms[0].upstreams.small", "there are: big, little, other")),
        ),
        ("upstreams = { small = [] }", Some(("arms[0].upstreams.small", "is empty"))),
        ("upstreams = ['other']", Some(("arms[0].upstreams", "say for which tier"))),
        ("cache = 'exact'", None),
        ("cache = { min_similarity = 0.92 }", None),
        ("cache = { min_similarity = 1.0 }", None),
        ("cache = { min_similarity = 0.91 }", Some(("arms[0].cache.min_similarity", "may only raise"))),
        ("cache = { min_similarity = 1.01 }", Some(("arms[0].cache.min_similarity", "from 0.92 to 1"))),
        ("compression = { enabled = true }", Some(("arms[0].compression", "not compressed yet"))),
    ] {
        check(&format!("arms = [{{ name = 'a', share = 10000, {change} }}]"), expected);
    }
}

#[test]
fn a_route_without_a_ladder_has_no_tiers_to_change() {
    for (change, key) in [
        ("ladder = { small = 0.5 }", "split[0].arms[0].ladder"),
        ("upstreams = { small = ['other'] }", "split[0].arms[0].upstreams"),
    ] {
        let arms = format!("arms = [{{ name = 'a', share = 10000, {change} }}]");
        let mistakes = read(&text(&arms).replace("'auto'", "'plain'")).unwrap_err();

        assert_eq!(mistakes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), [key]);
        assert!(mistakes[0].1.contains("has no ladder"), "{mistakes:?}");
    }
}

#[test]
fn primary_and_guardrails_are_kept_and_a_control_has_to_be_an_arm() {
    let arms = "arms = [{ name = 'a', share = 10000 }]";
    let kept = read(&text(&format!(
        "primary = 'cost_per_success'\nguardrails = [{{ metric = 'quality', max_drop = 0.02 }}]\n{arms}"
    )))
    .unwrap();

    let split = kept.iter().next().unwrap();
    assert_eq!((split.primary, split.guardrails[0].max_drop), (Some(Metric::CostPerSuccess), Some(0.02)));
    let guardrail = |limits: &str| format!("guardrails = [{{ metric = 'error_rate'{limits} }}]\n{arms}");
    check(&guardrail(", max_rise = 0.0"), None);
    check(&guardrail(", max_rise = -0.01"), Some(("guardrails[0]", "below zero")));
    check(&guardrail(""), Some(("guardrails[0]", "has neither")));
    check(&guardrail(", max_rise = 0.1, max_drop = 0.1"), Some(("guardrails[0]", "has both")));
    check(&format!("control = 'a'\n{arms}"), None);
    check(&format!("control = 'b'\n{arms}"), Some(("control", "there are: a")));
}

#[test]
fn names_and_routes_belong_to_one_split_each() {
    let arms = "arms = [{ name = 'a', share = 10000 }]";
    let other = |name: &str, route: &str| {
        text(arms) + &text(arms).replace("'cheap-first'", name).replace("'auto'", route)
    };

    assert!(read(&other("'b'", "'plain'")).is_ok());
    for (name, route, key, part) in [
        ("'cheap-first'", "'plain'", "split[1].name", "the name is the salt"),
        ("'b'", "'auto'", "split[1].route", "divided by split `cheap-first` already"),
        ("'b'", "'nowhere'", "split[1].route", "there are: auto, plain"),
    ] {
        let mistakes = read(&other(name, route)).unwrap_err();

        assert_eq!(mistakes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), [key]);
        assert!(mistakes[0].1.contains(part), "{mistakes:?}");
    }
}
