//! Fills a ledger with synthetic calls, so that reports and the dashboard can be looked at and timed on a large one.
//!
//! Needs no gateway and calls no upstream. The calls look like a company's: a few large teams and many small ones,
//! quiet nights and weekends, a price list, cache hits, a cheap tier, errors now and then. The same arguments make
//! the same calls. Run it as
//!
//!     cargo run --release --example ledger_fill -- DATABASE [N_CALLS] [N_TEAMS] [N_DAYS]
//!
//! where DATABASE is a SQLite file or a postgres:// address.
//!
//! Invariants: ids rise with time; costs follow from tokens and prices, so that sums can be checked.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use secrecy::SecretString;
use stiver::chat::Usage;
use stiver::clock::Clock;
use stiver::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome, Stages};
use stiver::ledger::{Keeper, LedgerConfig};
use stiver::money::NanoUsd;
use stiver::team::{CallId, KeyId, RouteName, TeamName, TierName, UpstreamName};

type Failure = Box<dyn Error + Send + Sync>;

const SEED: u64 = 11;
const MS_PER_DAY: i64 = 86_400_000;
const BATCH: usize = 2_000;
const TEAMS: [&str; 20] = [
    "search", "support", "billing", "growth", "docs", "mobile", "risk", "legal", "data", "platform",
    "research", "sales", "hr", "finance", "security", "partners", "video", "maps", "ads", "ops",
];

/// A model, its upstream and tier, and its prices in nano-dollars a token.
struct Model {
    name: &'static str,
    upstream: &'static str,
    tier: &'static str,
    input: i64,
    output: i64,
}

const MODELS: [Model; 3] = [
    Model { name: "support-assistant", upstream: "house", tier: "small", input: 20, output: 60 },
    Model { name: "gpt-5-mini", upstream: "openai-small", tier: "small", input: 250, output: 2_000 },
    Model { name: "gpt-5", upstream: "openai-large", tier: "large", input: 1_250, output: 10_000 },
];

struct Arguments {
    config: LedgerConfig,
    n_calls: u64,
    n_teams: usize,
    n_days: i64,
}

impl Arguments {
    fn read() -> Result<Self, Failure> {
        let mut given = std::env::args().skip(1);
        let database = given.next().ok_or("ledger_fill DATABASE [N_CALLS] [N_TEAMS] [N_DAYS]")?;
        let mut number = |default: u64| given.next().map_or(Ok(default), |text| text.parse());
        let (n_calls, n_teams, n_days) = (number(1_000_000)?, number(20)?, number(90)?);
        let is_postgres = database.contains("://");
        let url = is_postgres.then(|| SecretString::from(database.clone()));
        let config = LedgerConfig { path: PathBuf::from(database), url, ..LedgerConfig::default() };
        let n_teams = usize::try_from(n_teams)?.clamp(1, TEAMS.len());
        Ok(Self { config, n_calls, n_teams, n_days: i64::try_from(n_days)?.max(1) })
    }
}

/// When in a day calls come: more by day than by night.
fn moment(rng: &mut StdRng, first_ms: i64, n_days: i64) -> i64 {
    loop {
        let at_ms = first_ms + rng.random_range(0..n_days * MS_PER_DAY);
        let (hour, day) = (at_ms.rem_euclid(MS_PER_DAY) / 3_600_000, at_ms.div_euclid(MS_PER_DAY));
        let by_hour = if (8..19).contains(&hour) { 1.0 } else { 0.25 };
        // 1970-01-01 was a Thursday.
        let by_day = if matches!((day + 3).rem_euclid(7), 5 | 6) { 0.35 } else { 1.0 };
        if rng.random_bool(by_hour * by_day) {
            return at_ms;
        }
    }
}

fn call(rng: &mut StdRng, nth: u64, at_ms: i64, n_teams: usize) -> Entry {
    let team = (rng.random::<f64>().powi(2) * n_teams as f64) as usize;
    let mut entropy = [0; 10];
    entropy[2..].copy_from_slice(&nth.to_be_bytes());
    let name = TeamName::from(TEAMS[team.min(n_teams - 1)]);
    let route = if rng.random_bool(0.8) { "auto" } else { "gpt-5" };
    let score: f32 = rng.random::<f32>().powi(2);
    let model = &MODELS[if route == "gpt-5" || score > 0.35 { 2 } else { usize::from(rng.random_bool(0.6)) }];
    let input = rng.random_range(50..4_000u64);
    let usage = Usage {
        input,
        cached_read: if rng.random_bool(0.3) { input / 2 } else { 0 },
        output: rng.random_range(10..900),
        ..Usage::default()
    };
    let user = rng.random_range(0..60);
    let arm = ["control", "lower-bar"][usize::from(user % 10 == 0)];
    let mut entry = Entry {
        key: Some(KeyId::from(&format!("key{team:02}{}", user % 3))),
        user: Some(format!("user-{team}-{user}")),
        tags: if rng.random_bool(0.2) { vec!["batch".to_owned()] } else { Vec::new() },
        tier: (route == "auto").then(|| TierName::from(model.tier)),
        score: (route == "auto").then_some(score),
        score_source: (route == "auto").then(|| "classifier".to_owned()),
        reason: format!("score {score:.3} decided"),
        split: (route == "auto").then(|| "cheap-first".to_owned()),
        arm: (route == "auto").then(|| arm.to_owned()),
        upstream: Some(UpstreamName::from(model.upstream)),
        model: Some(model.name.to_owned()),
        attempts: 1,
        usage,
        estimated: rng.random_bool(0.01),
        status: 200,
        outcome: Outcome::Ok,
        ..Entry::draft(
            CallId::new(at_ms, entropy),
            at_ms,
            name,
            "/v1/chat/completions",
            RouteName::from(route),
        )
    };
    end(rng, &mut entry, model);
    entry
}

/// How the call went: a hit, an answer or a failure, its money and its times.
fn end(rng: &mut StdRng, entry: &mut Entry, model: &Model) {
    let cost = |model: &Model, usage: &Usage| {
        let uncached = usage.input - usage.cached_read;
        let nanos = model.input * uncached as i64 + model.input * usage.cached_read as i64 / 10;
        NanoUsd::new(nanos + model.output * usage.output as i64)
    };
    entry.baseline = Some(cost(&MODELS[2], &entry.usage));
    entry.cost = Some(cost(model, &entry.usage));
    entry.path = if model.upstream == "house" { AnswerPath::Local } else { AnswerPath::Upstream };
    entry.cache = CacheOutcome::Miss;
    entry.overhead_us = rng.random_range(250..900);
    let wait = rng.random_range(200..1_200) as f64 * (1.0 - rng.random::<f64>()).powf(-0.5);
    let chance: f64 = rng.random();
    if chance < 0.18 {
        (entry.path, entry.cache) = (AnswerPath::Exact, CacheOutcome::HitExact);
    } else if chance < 0.26 {
        (entry.path, entry.cache) = (AnswerPath::Semantic, CacheOutcome::HitSemantic);
        entry.similarity = Some(rng.random_range(0.92..1.0));
    } else if chance < 0.27 {
        (entry.path, entry.outcome, entry.status) = (AnswerPath::None, Outcome::UpstreamError, 502);
        (entry.cost, entry.baseline) = (Some(NanoUsd::ZERO), None);
    } else if chance < 0.275 {
        entry.outcome = Outcome::ClientGone;
    }
    let is_hit = matches!(entry.path, AnswerPath::Exact | AnswerPath::Semantic);
    if is_hit {
        entry.cost = Some(NanoUsd::ZERO);
    }
    entry.total_ms = if is_hit { rng.random_range(1..12) } else { wait as u64 };
    entry.first_byte_ms = Some(entry.total_ms / 3);
    entry.stages = Stages {
        admitted_us: Some(entry.overhead_us / 6),
        looked_up_us: Some(entry.overhead_us / 2),
        planned_us: (!is_hit).then_some(entry.overhead_us * 2 / 3),
        held_us: (!is_hit).then_some(entry.overhead_us * 3 / 4),
        sent_us: (!is_hit).then_some(entry.overhead_us),
        ended_us: Some(entry.total_ms * 1_000),
        ..Stages::default()
    };
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let Arguments { config, n_calls, n_teams, n_days } = Arguments::read()?;
    let keeper = Keeper::open(&config).await?;
    let mut rng = StdRng::seed_from_u64(SEED);
    let now_ms = Clock::system().now_ms();
    // Whole days up to yesterday, and today so far.
    let first_ms = now_ms - n_days * MS_PER_DAY;
    let mut moments: Vec<i64> = (0..n_calls).map(|_| moment(&mut rng, first_ms, n_days)).collect();
    moments.sort_unstable();
    let (begun, mut out) = (Instant::now(), std::io::stdout().lock());
    let mut nth = 0;
    for chunk in moments.chunks(BATCH) {
        let mut batch = Vec::with_capacity(chunk.len());
        for at_ms in chunk {
            batch.push(call(&mut rng, nth, *at_ms, n_teams));
            nth += 1;
        }
        keeper.insert(&batch).await?;
        if nth % 50_000 < BATCH as u64 {
            writeln!(out, "{nth} calls, {:.0} a second", nth as f64 / begun.elapsed().as_secs_f64())?;
        }
    }
    writeln!(out, "{nth} calls in {:.1} s", begun.elapsed().as_secs_f64())?;
    Ok(())
}
