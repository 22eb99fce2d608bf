//! Made-up calls for the dashboard's tests: some weeks of eight teams, in the book through the ledger's own door.
//!
//! Always the same for the same moment: chance comes from a seed. Names of one team, route, user, tag, model and
//! upstream are attacks on a page that would take them for markup.
//!
//! Invariants: every row is one the gateway could have written; none begins after `now_ms`.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use stiver::chat::usage::Usage;
use stiver::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome, Stages, Tried};
use stiver::money::NanoUsd;
use stiver::team::{CallId, KeyId, RouteName, TeamName, TierName, UpstreamName};

const DAY_MS: i64 = 86_400_000;
const N_DAYS: i64 = 45;
/// What every page must show as text.
pub(super) const EVIL: &str = "<script>alert('stored')</script><img src=x onerror=alert(1)>\"'&";
pub(super) const EVIL_TEAM: &str = "<b onmouseover=alert(1)>evil & sons</b>";

/// A team's name, how many of a hundred calls are its, and the dearest model it uses.
const TEAMS: [(&str, u32); 8] = [
    ("search", 27),
    ("support", 22),
    ("growth", 15),
    ("research", 12),
    ("mobile", 9),
    ("data-platform", 8),
    (EVIL_TEAM, 4),
    ("sandbox", 3),
];

/// Nano-dollars a token of input and of output.
struct Model {
    name: &'static str,
    upstream: &'static str,
    tier: &'static str,
    rates: (i64, i64),
}

const LARGE: Model =
    Model { name: "gpt-5.2", upstream: "openai-large", tier: "large", rates: (1_750, 14_000) };
const SMALL: Model =
    Model { name: "gpt-5-mini", upstream: "openai-small", tier: "medium", rates: (250, 2_000) };
const LOCAL: Model = Model { name: "qwen3-4b-awq", upstream: "house", tier: "small", rates: (18, 70) };
const EVIL_MODEL: Model = Model { name: EVIL, upstream: EVIL, tier: "large", rates: (900, 4_000) };

/// `n_rows` calls of the last [`N_DAYS`] days, the oldest first, made one by one.
pub(super) fn rows(n_rows: usize, now_ms: i64) -> impl Iterator<Item = Entry> {
    let mut chance = StdRng::seed_from_u64(4);
    let mut moments: Vec<i64> = (0..n_rows).map(|_| moment(&mut chance, now_ms)).collect();
    moments.sort_unstable();
    moments.into_iter().map(move |ts_ms| row(&mut chance, ts_ms))
}

/// Working hours have most calls, weekends few, and there are more from week to week.
fn moment(chance: &mut StdRng, now_ms: i64) -> i64 {
    loop {
        let ts_ms = now_ms - chance.random_range(1_000..N_DAYS * DAY_MS);
        let hour = (ts_ms.rem_euclid(DAY_MS) / 3_600_000) as f64;
        let is_weekend = (ts_ms.div_euclid(DAY_MS) + 3).rem_euclid(7) >= 5;
        let of_day = 0.15 + 0.85 * (-(hour - 13.5).powi(2) / 18.0).exp();
        let of_week = if is_weekend { 0.35 } else { 1.0 };
        let growth = 1.0 - 0.6 * (now_ms - ts_ms) as f64 / (N_DAYS * DAY_MS) as f64;
        if chance.random_bool(of_day * of_week * growth) {
            return ts_ms;
        }
    }
}

fn row(chance: &mut StdRng, ts_ms: i64) -> Entry {
    let (team, _) = TEAMS.choose_weighted(chance, |(_, weight)| *weight).expect("weights are above zero");
    let route = *["auto", "auto", "auto", "chat", "gpt-5.2"].choose(chance).expect("there are routes");
    let route = if *team == EVIL_TEAM && chance.random_bool(0.3) { EVIL } else { route };
    let id = CallId::new(ts_ms, chance.random());
    let mut entry =
        Entry::draft(id, ts_ms, TeamName::from(*team), "/v1/chat/completions", RouteName::from(route));
    entry.key = Some(KeyId::from(&format!("k{}", team.len())));
    entry.user = chance.random_bool(0.8).then(|| user(chance, team));
    entry.tags = if chance.random_bool(0.3) { vec!["batch".to_owned()] } else { Vec::new() };
    if *team == EVIL_TEAM {
        entry.tags.push(EVIL.to_owned());
    }
    entry.estimated = chance.random_bool(0.02);
    entry.status = 200;
    entry.outcome = Outcome::Ok;
    entry.usage = usage(chance);
    entry.baseline = Some(cost(&LARGE, &entry.usage));
    if route == "auto" {
        entry.split = Some("cheap-first".to_owned());
        entry.arm = Some(if chance.random_bool(0.25) { "lower-bar" } else { "control" }.to_owned());
    }
    answer(chance, &mut entry);
    times(chance, &mut entry);
    entry
}

fn user(chance: &mut StdRng, team: &str) -> String {
    if team == EVIL_TEAM && chance.random_bool(0.5) {
        return EVIL.to_owned();
    }
    // Few users make most calls.
    let idx = (chance.random::<f64>().powi(3) * 40.0) as usize;
    format!("{team}-user-{idx}", team = if team == EVIL_TEAM { "evil" } else { team })
}

fn usage(chance: &mut StdRng) -> Usage {
    let input = (200.0 * (chance.random::<f64>() * 3.4).exp()) as u64;
    let output = (60.0 * (chance.random::<f64>() * 2.8).exp()) as u64;
    let cached_read = if chance.random_bool(0.4) { input * 6 / 10 } else { 0 };
    Usage { input, cached_read, output, reasoning: output / 5, ..Usage::default() }
}

fn cost(model: &Model, usage: &Usage) -> NanoUsd {
    let tokens = |n: u64| i64::try_from(n).expect("tokens are few");
    // Thirty times the price, so that a few thousand rows look like a company's.
    NanoUsd::new((tokens(usage.input) * model.rates.0 + tokens(usage.output) * model.rates.1) * 30)
}

fn answer(chance: &mut StdRng, entry: &mut Entry) {
    let roll: f64 = chance.random();
    if roll < 0.14 {
        (entry.path, entry.cache) = (AnswerPath::Exact, CacheOutcome::HitExact);
        (entry.cost, entry.model) = (Some(NanoUsd::ZERO), Some(LARGE.name.to_owned()));
        return;
    }
    if roll < 0.22 {
        (entry.path, entry.cache) = (AnswerPath::Semantic, CacheOutcome::HitSemantic);
        (entry.cost, entry.model) = (Some(NanoUsd::ZERO), Some(LARGE.name.to_owned()));
        entry.similarity = Some(1.0 - 0.06 * chance.random::<f32>().powi(2));
        entry.aside.own_cost = NanoUsd::new(20_000);
        return;
    }
    entry.cache = if chance.random_bool(0.9) { CacheOutcome::Miss } else { CacheOutcome::Bypass };
    let score: f32 = chance.random::<f32>().powf(1.4);
    entry.score = Some(score);
    entry.score_source = Some(if chance.random_bool(0.97) { "classifier" } else { "heuristic" }.to_owned());
    let bar = if entry.arm.as_deref() == Some("lower-bar") { 0.5 } else { 0.35 };
    let is_evil = entry.team.as_str() == EVIL_TEAM && chance.random_bool(0.3);
    let model = match score {
        _ if is_evil => &EVIL_MODEL,
        _ if entry.route.as_str() == "gpt-5.2" => &LARGE,
        _ if score < bar => &LOCAL,
        _ if score < 0.6 => &SMALL,
        _ => &LARGE,
    };
    let up_to = [("small", bar), ("medium", 0.6)]
        .iter()
        .find(|(tier, _)| *tier == model.tier)
        .map_or(1.0, |found| found.1);
    entry.reason = format!("score {score:.3} is at most {up_to}");
    entry.tier = Some(TierName::from(model.tier));
    entry.upstream = Some(UpstreamName::from(model.upstream));
    entry.model = Some(model.name.to_owned());
    entry.path = if model.upstream == "house" { AnswerPath::Local } else { AnswerPath::Upstream };
    entry.cost = Some(cost(model, &entry.usage));
    entry.attempts = 1;
    entry.aside.prefix_saved = NanoUsd::new(i64::try_from(entry.usage.cached_read).unwrap_or(0) * 900);
    end(chance, entry);
}

/// A few calls do not end well.
fn end(chance: &mut StdRng, entry: &mut Entry) {
    let roll: f64 = chance.random();
    match roll {
        _ if roll < 0.012 => {
            (entry.outcome, entry.status) = (Outcome::UpstreamError, 502);
            (entry.cost, entry.path, entry.attempts) = (Some(NanoUsd::ZERO), AnswerPath::None, 3);
        }
        _ if roll < 0.018 => entry.outcome = Outcome::Truncated,
        _ if roll < 0.030 => entry.outcome = Outcome::ClientGone,
        _ if roll < 0.034 => (entry.cost, entry.model) = (None, Some("unlisted-model".to_owned())),
        _ if roll < 0.060 => {
            entry.attempts = 2;
            let upstream = UpstreamName::from("openai-backup");
            entry.tried = vec![Tried { upstream, reason: "timeout".to_owned(), took_ms: 1_500 }];
        }
        _ => {}
    }
}

fn times(chance: &mut StdRng, entry: &mut Entry) {
    let wait_ms = match entry.path {
        AnswerPath::Exact => 0.0,
        AnswerPath::Semantic => 4.0,
        AnswerPath::Local => 120.0,
        AnswerPath::Upstream | AnswerPath::Audit | AnswerPath::None => 380.0,
    };
    let wait_ms = wait_ms * (0.5 + 1.6 * chance.random::<f64>().powi(2)) + 0.8;
    let stream_ms = entry.usage.output as f64 * if wait_ms < 50.0 { 0.0 } else { 7.0 };
    let us = |ms: f64| Some((ms * 1_000.0) as u64);
    entry.overhead_us = 700 + chance.random_range(0..900);
    entry.first_byte_ms = Some((wait_ms + 1.5) as u64);
    entry.total_ms = (wait_ms + stream_ms + 1.5) as u64;
    let sent = entry.upstream.is_some();
    entry.stages = Stages {
        admitted_us: us(0.12),
        looked_up_us: us(0.45),
        scored_us: entry.score.and(us(0.9)),
        planned_us: sent.then_some(950),
        held_us: sent.then_some(1_010),
        sent_us: sent.then_some(1_200),
        first_byte_us: us(wait_ms + 1.5),
        ended_us: us(wait_ms + stream_ms + 1.5),
    };
}
