//! Each knob on both sides, draws against their distribution, and what stays the same.

use proptest::prelude::*;

use super::*;

fn row(logits: &[f32]) -> Vec<f32> {
    logits.to_vec()
}

/// A softmax of logits at a temperature, in doubles; tokens that are not kept have no part.
fn softmax_of(logits: &[f32], temperature: f32, keep: impl Fn(usize) -> bool) -> Vec<f64> {
    let weight = |(token, logit): (usize, &f32)| {
        if keep(token) { (f64::from(*logit) / f64::from(temperature)).exp() } else { 0.0 }
    };
    let weights: Vec<f64> = logits.iter().enumerate().map(weight).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

fn draws(params: &SamplingParams, logits: &[f32], n: usize) -> Vec<usize> {
    let sampler = Sampler::new(params.clone(), &[]);
    let mut counts = vec![0; logits.len()];
    for position in 0..n {
        counts[sampler.choose(&mut row(logits), position, None, None).token as usize] += 1;
    }
    counts
}

/// The chi-square statistic is below what 1 in 10,000 fair samples exceed (Wilson and Hilferty's cube).
fn assert_fits(counts: &[usize], probabilities: &[f64], what: &str) {
    let n: usize = counts.iter().sum();
    let mut chi_square = 0.0;
    let mut n_cells = 0.0;
    for (count, probability) in counts.iter().zip(probabilities) {
        if *probability == 0.0 {
            assert_eq!(*count, 0, "{what}: a token of no probability was drawn");
            continue;
        }
        let want = probability * n as f64;
        chi_square += (*count as f64 - want).powi(2) / want;
        n_cells += 1.0;
    }
    let freedom: f64 = n_cells - 1.0;
    if freedom == 0.0 {
        return;
    }
    let spread = 2.0 / (9.0 * freedom);
    let limit = freedom * (1.0 - spread + 3.72 * spread.sqrt()).powi(3);
    assert!(chi_square < limit, "{what}: chi-square {chi_square:.1}, limit {limit:.1}");
}

fn logits_of_200() -> Vec<f32> {
    (0..200).map(|token| ((token * 37) % 101) as f32 * 0.03).collect()
}

fn hot() -> SamplingParams {
    SamplingParams { temperature: 1.0, ..SamplingParams::default() }
}

#[test]
fn draws_fit_the_softmax_at_any_temperature_and_seed() {
    for temperature in [0.5, 1.0, 1.7] {
        for seed in [0, 1, u64::MAX] {
            let params = SamplingParams { temperature, seed, ..hot() };

            let counts = draws(&params, &logits_of_200(), 60_000);

            let want = softmax_of(&logits_of_200(), temperature, |_| true);
            assert_fits(&counts, &want, &format!("temperature {temperature}, seed {seed}"));
        }
    }
}

#[test]
fn draws_over_seeds_at_one_position_fit_the_softmax() {
    let logits = logits_of_200();
    let mut counts = vec![0; logits.len()];

    for seed in 0..60_000 {
        let sampler = Sampler::new(SamplingParams { seed, ..hot() }, &[]);
        counts[sampler.choose(&mut row(&logits), 5, None, None).token as usize] += 1;
    }

    assert_fits(&counts, &softmax_of(&logits, 1.0, |_| true), "over seeds");
}

#[test]
fn top_k_keeps_exactly_k_and_the_lower_of_equal_tokens() {
    let logits = [1.0, 3.0, 2.0, 2.0, 2.0, 0.0];
    let params = SamplingParams { top_k: 3, ..hot() };

    let counts = draws(&params, &logits, 20_000);

    assert_fits(&counts, &softmax_of(&logits, 1.0, |token| [1, 2, 3].contains(&token)), "top-k");
    for all in [0, 6, 7] {
        let counts = draws(&SamplingParams { top_k: all, ..hot() }, &logits, 20_000);
        assert_fits(&counts, &softmax_of(&logits, 1.0, |_| true), "top-k of all");
    }
}

#[test]
fn top_p_keeps_the_fewest_that_reach_it() {
    // Probabilities of 1/2, 1/4, 1/8, 1/8.
    let logits = [2.0f32, 1.0, 0.0, 0.0].map(|power| power * std::f32::consts::LN_2);

    for (top_p, kept) in [(0.01, 1), (0.499, 1), (0.501, 2), (0.749, 2), (0.751, 3), (0.88, 4), (1.0, 4)] {
        let counts = draws(&SamplingParams { top_p, ..hot() }, &logits, 20_000);

        assert_fits(&counts, &softmax_of(&logits, 1.0, |token| token < kept), &format!("top-p {top_p}"));
    }
}

#[test]
fn top_p_is_of_what_top_k_leaves() {
    // Of the first two, the first has two thirds: 0.6 is reached by it alone, which it would not be of all.
    let logits = [2.0f32, 1.0, 0.0, 0.0].map(|power| power * std::f32::consts::LN_2);

    let alone = draws(&SamplingParams { top_p: 0.6, top_k: 2, ..hot() }, &logits, 2_000);
    let both = draws(&SamplingParams { top_p: 0.6, ..hot() }, &logits, 2_000);

    assert_eq!(alone[0], 2_000);
    assert!(both[1] > 0);
}

#[test]
fn top_p_and_min_p_see_the_scaled_logits() {
    let logits = [2.0f32, 1.0, 0.0, 0.0].map(|power| power * std::f32::consts::LN_2);

    // At temperature 0.5 the probabilities are 16/22, 4/22, 1/22, 1/22.
    let cold = SamplingParams { temperature: 0.5, ..hot() };
    let top_p = draws(&SamplingParams { top_p: 0.7, ..cold.clone() }, &logits, 2_000);
    let min_p = draws(&SamplingParams { min_p: 0.3, ..cold }, &logits, 2_000);

    assert_eq!((top_p[0], min_p[0]), (2_000, 2_000));
}

#[test]
fn min_p_keeps_those_at_least_so_likely_beside_the_likeliest() {
    let logits = [2.0f32, 1.0, 0.0, 0.0].map(|power| power * std::f32::consts::LN_2);

    for (min_p, kept) in [(1.0, 1), (0.51, 1), (0.49, 2), (0.26, 2), (0.24, 4), (0.0, 4)] {
        let counts = draws(&SamplingParams { min_p, ..hot() }, &logits, 20_000);
        assert_fits(&counts, &softmax_of(&logits, 1.0, |token| token < kept), &format!("min-p {min_p}"));

        let with_top_k = draws(&SamplingParams { min_p, top_k: 3, ..hot() }, &logits, 20_000);
        let want = softmax_of(&logits, 1.0, |token| token < kept.min(3));
        assert_fits(&with_top_k, &want, &format!("min-p {min_p} with top-k"));
    }
}

#[test]
fn no_temperature_or_hardly_any_takes_the_likeliest() {
    let logits = [0.0, 2.0, 2.0, 1.999_999];
    for temperature in [0.0, LEAST_TEMPERATURE * 0.99] {
        let counts = draws(&SamplingParams { temperature, ..hot() }, &logits, 50);
        assert_eq!(counts[1], 50);
    }
    let counts = draws(&SamplingParams { temperature: LEAST_TEMPERATURE, ..hot() }, &logits, 50);
    assert!(counts[1] > 0 && counts[2] > 0 && counts[1] + counts[2] + counts[3] == 50);
}

#[test]
fn penalties_and_bias_are_those_computed_by_hand() {
    let params = SamplingParams {
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: BTreeMap::from([(0, 1.0), (4, -3.0)]),
        ..SamplingParams::default()
    };
    let mut history = History::new(&params, &[0, 1, 9]);
    for token in [1, 2, 2] {
        history.push(&params, token);
    }
    let mut found = row(&[4.0, -4.0, 4.0, 4.0, 4.0]);

    history.adjust(&params, &mut found);

    // 0: in the prompt: 4 / 2 + 1. 1: prompt and answer: -4 * 2 - 0.5 - 0.25. 2: twice in the answer:
    // 4 / 2 - 0.5 - 2 * 0.25. 3: never. 4: never: 4 - 3. 9 is no token of this row.
    assert_eq!(found, [3.0, -8.75, 1.0, 4.0, 1.0]);
}

#[test]
fn neutral_penalties_remember_nothing() {
    let mut sampler = Sampler::new(hot(), &[1, 2, 3]);
    sampler.push(4);
    assert_eq!(sampler.history.adjust(&sampler.params, &mut row(&[0.0; 8])), []);
}

#[test]
fn a_penalty_grows_with_what_is_pushed() {
    let params = SamplingParams { frequency_penalty: 1.0, ..SamplingParams::default() };
    let mut sampler = Sampler::new(params, &[0, 0, 0]);
    let mut chosen = Vec::new();

    for position in 0..6 {
        let token = sampler.choose(&mut row(&[2.5, 1.0, 0.0]), position, None, None).token;
        sampler.push(token);
        chosen.push(token);
    }

    assert_eq!(chosen, [0, 0, 1, 0, 1, 2]);
}

#[test]
fn what_a_mask_forbids_is_never_chosen() {
    let logits: Vec<f32> = (0..100).map(|token| token as f32 * 0.1).collect();
    // Allows multiples of 3 below 96; says nothing of the last four.
    let words =
        (0..3).map(|word| (0..32).filter(|bit| (word * 32 + bit) % 3 == 0).fold(0, |w, bit| w | 1 << bit));
    let mask = TokenMask::from_words(words.collect());
    let choose = |params: SamplingParams, position| {
        Sampler::new(params, &[]).choose(&mut row(&logits), position, Some(&mask), None).token
    };

    assert_eq!(choose(SamplingParams::default(), 0), 93);
    for params in [
        hot(),
        SamplingParams { top_k: 4, ..hot() },
        SamplingParams { top_p: 0.8, ..hot() },
        SamplingParams { min_p: 0.01, temperature: 3.0, ..hot() },
        SamplingParams { logit_bias: BTreeMap::from([(95, 100.0)]), ..hot() },
    ] {
        for position in 0..500 {
            let token = choose(params.clone(), position);
            assert!(token % 3 == 0 && token < 96, "{token}");
        }
    }
    let counts = (0..60_000).fold(vec![0; 100], |mut counts, position| {
        counts[choose(hot(), position) as usize] += 1;
        counts
    });
    assert_fits(&counts, &softmax_of(&logits, 1.0, |token| token % 3 == 0 && token < 96), "masked");
}

#[test]
fn without_a_token_to_choose_the_first_allowed_one_is_chosen() {
    let mask = TokenMask::from_words(vec![0b1100]);
    for params in
        [SamplingParams::default(), hot(), SamplingParams { top_k: 2, top_p: 0.5, min_p: 0.1, ..hot() }]
    {
        let sampler = Sampler::new(params, &[]);
        for nothing in [f32::NAN, f32::NEG_INFINITY] {
            assert_eq!(sampler.choose(&mut [nothing; 40], 0, Some(&mask), Some(2)).token, 2);
            assert_eq!(sampler.choose(&mut [nothing; 40], 0, None, None).token, 0);
        }
        let nothing_allowed = TokenMask::from_words(vec![0, 0]);
        assert_eq!(sampler.choose(&mut [1.0; 40], 0, Some(&nothing_allowed), None).token, 0);
        assert_eq!(sampler.choose(&mut [], 0, None, None).token, 0);
    }
}

#[test]
fn not_a_number_is_never_chosen_and_infinity_always() {
    let mut broken = vec![f32::NAN; 300];
    broken[77] = -5.0;
    let mut endless = vec![1.0; 300];
    endless[123] = f32::INFINITY;
    for params in [
        SamplingParams::default(),
        hot(),
        SamplingParams { top_k: 9, ..hot() },
        SamplingParams { top_p: 0.9, ..hot() },
    ] {
        let sampler = Sampler::new(params, &[]);
        for position in 0..50 {
            let choice = sampler.choose(&mut row(&broken), position, None, Some(3));
            assert_eq!((choice.token, choice.logprob, choice.top), (77, Some(0.0), vec![(77, 0.0)]));
            assert_eq!(sampler.choose(&mut row(&endless), position, None, Some(1)).token, 123);
        }
    }
}

#[test]
fn log_probabilities_are_of_the_model_before_all_options() {
    let logits: Vec<f32> = (0..1000).map(|token| ((token * 7919) % 613) as f32 * 0.01).collect();
    let params = SamplingParams {
        temperature: 0.3,
        top_k: 5,
        presence_penalty: 2.0,
        logit_bias: BTreeMap::from([(17, 100.0)]),
        ..SamplingParams::default()
    };
    let mut sampler = Sampler::new(params, &[]);
    sampler.push(17);
    let mask = TokenMask::from_words(vec![1 << 17]);

    let choice = sampler.choose(&mut row(&logits), 0, Some(&mask), Some(4));

    let want = softmax_of(&logits, 1.0, |_| true);
    assert_eq!(choice.token, 17);
    assert!((f64::from(choice.logprob.unwrap()) - want[17].ln()).abs() < 1e-5);
    let mut order: Vec<usize> = (0..1000).collect();
    order.sort_by(|left, right| logits[*right].total_cmp(&logits[*left]).then(left.cmp(right)));
    assert_eq!(choice.top.iter().map(|top| top.0 as usize).collect::<Vec<_>>(), order[..4]);
    assert!(
        choice.top.iter().all(|(token, found)| (f64::from(*found) - want[*token as usize].ln()).abs() < 1e-5)
    );
    let chosen_only = sampler.choose(&mut row(&logits), 0, None, Some(0));
    assert!(chosen_only.logprob.is_some() && chosen_only.top.is_empty());
    assert_eq!(sampler.choose(&mut row(&logits), 0, None, None).logprob, None);
}

#[test]
fn two_models_of_one_seed_choose_alike_more_often_than_chance() {
    let target = logits_of_200();
    let draft: Vec<f32> =
        target.iter().enumerate().map(|(token, logit)| logit + (token % 5) as f32 * 0.02).collect();
    let agreement = |seed_of_draft| {
        let ours = Sampler::new(SamplingParams { seed: 5, ..hot() }, &[]);
        let theirs = Sampler::new(SamplingParams { seed: seed_of_draft, ..hot() }, &[]);
        let alike = |position: &usize| {
            ours.choose(&mut row(&target), *position, None, None).token
                == theirs.choose(&mut row(&draft), *position, None, None).token
        };
        (0..2000).filter(alike).count()
    };

    assert!(agreement(5) > 1800, "{}", agreement(5));
    assert!(agreement(6) < 100, "{}", agreement(6));
}

#[test]
fn every_mistake_is_named_with_its_range() {
    let wrong = SamplingParams {
        temperature: -0.1,
        top_k: 0,
        top_p: 0.0,
        min_p: 1.1,
        repetition_penalty: 0.0,
        presence_penalty: -2.1,
        frequency_penalty: f32::NAN,
        logit_bias: BTreeMap::from([(9, 1.0), (10, 101.0)]),
        seed: 0,
    };

    let found = wrong.check(10);

    assert_eq!(
        found,
        [
            "`temperature` is -0.1; it must be between 0 and 100",
            "`top_p` is 0; it must be above 0 and at most 1",
            "`min_p` is 1.1; it must be between 0 and 1",
            "`repetition_penalty` is 0; it must be above 0 and at most 10",
            "`presence_penalty` is -2.1; it must be between -2 and 2",
            "`frequency_penalty` is NaN; it must be between -2 and 2",
            "`logit_bias` names token 10; it must be below 10",
            "`logit_bias` of token 10 is 101; it must be between -100 and 100",
        ]
    );
    let edges = SamplingParams {
        temperature: 100.0,
        top_p: f32::MIN_POSITIVE,
        min_p: 1.0,
        repetition_penalty: 10.0,
        presence_penalty: 2.0,
        frequency_penalty: -2.0,
        logit_bias: BTreeMap::from([(9, -100.0)]),
        ..SamplingParams::default()
    };
    assert!(edges.check(10).is_empty() && SamplingParams::default().check(0).is_empty());
}

fn any_params() -> impl Strategy<Value = SamplingParams> {
    let shape = (
        0.05f32..3.0,
        0usize..40,
        prop_oneof![Just(1.0f32), 0.01f32..1.0],
        prop_oneof![Just(0.0f32), 0.0f32..1.0],
    );
    (shape, any::<u64>()).prop_map(|((temperature, top_k, top_p, min_p), seed)| SamplingParams {
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        ..SamplingParams::default()
    })
}

/// What the options leave, by a full sort in doubles.
fn kept_by_sorting(params: &SamplingParams, logits: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|left, right| logits[*right].total_cmp(&logits[*left]).then(left.cmp(right)));
    if params.top_k > 0 {
        order.truncate(params.top_k);
    }
    let left = order.clone();
    let probabilities = softmax_of(logits, params.temperature, |token| left.contains(&token));
    let mut before = 0.0;
    order.retain(|token| {
        let kept = before < f64::from(params.top_p) || params.top_p == 1.0;
        before += probabilities[*token];
        kept
    });
    let max = probabilities[order[0]];
    order.retain(|token| probabilities[*token] >= f64::from(params.min_p) * max * (1.0 - 1e-6));
    order
}

proptest! {
    #[test]
    fn a_choice_is_the_best_score_of_what_sorting_keeps(
        params in any_params(),
        logits in prop::collection::vec(-8.0f32..8.0, 1..700),
        position in 0usize..1_000_000,
    ) {
        let found = Sampler::new(params.clone(), &[]).choose(&mut row(&logits), position, None, None).token;

        let kept = kept_by_sorting(&params, &logits);
        let noise = Noise::at(params.seed, position);
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let score = |token: usize| (logits[token] - max) * (1.0 / params.temperature) + noise.gumbel(token as u32);
        let best = kept.iter().copied().max_by(|left, right| score(*left).total_cmp(&score(*right))).unwrap();
        // At the edge of a nucleus rounding may decide; then the score still is what counts.
        prop_assert!(found as usize == best || score(found as usize) >= score(best) - 1e-4, "{found}, not {best}");
    }

    #[test]
    fn no_row_is_too_strange(
        params in any_params(),
        row in prop::collection::vec(prop_oneof![any::<f32>(), Just(f32::NAN), Just(f32::INFINITY)], 0..200),
        words in prop::option::of(prop::collection::vec(any::<u32>(), 0..8)),
        n_top in prop::option::of(0usize..300),
    ) {
        let mask = words.map(TokenMask::from_words);
        let choice = Sampler::new(params, &[]).choose(&mut row.clone(), 3, mask.as_ref(), n_top);
        prop_assert!((choice.token as usize) < row.len().max(1));
        prop_assert!(!choice.logprob.is_some_and(f32::is_nan) && choice.top.iter().all(|top| !top.1.is_nan()));
    }
}
