//! The promise under made-up traffic: drifting, hostile, shifting at once; and a state that survives.
//!
//! Every stream has its own seed. `STIVER_RISK_STREAMS=1000 cargo test --release simulated` compiles
//! the simulation at full size; by default it is small.

use super::candidate::N_FEATURES;
use super::*;

mod fleet;

const RATE: f64 = 0.01;

/// Splitmix64: small, seeded, and good enough for coins.
struct Dice(u64);

impl Dice {
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Bell-shaped, of variance 1.
    fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.draw()).sum::<f64>() - 6.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.draw() * n as f64) as u64
    }
}

/// Traffic whose truth is no logistic curve in the features, and that is another every few hundred requests.
struct World {
    dice: Dice,
    /// How much better or worse a group's answers are than they look.
    groups: Vec<f64>,
    /// What the features show of the truth.
    clarity: f64,
    /// How good candidates are on average; drifts.
    quality: f64,
    /// The groups asked about now.
    in_season: u64,
    step: u64,
}

impl World {
    fn of_seed(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x0005_DEEC_E66D).wrapping_add(11));
        let groups = (0..40).map(|_| dice.bell()).collect();
        let (clarity, quality) = (0.8 + dice.draw(), 1.5 * dice.bell());
        Self { dice, groups, clarity, quality, in_season: 0, step: 0 }
    }

    /// A candidate, and whether its answer is right.
    fn ask(&mut self) -> (Candidate, bool) {
        self.step += 1;
        self.quality += 0.01 * self.dice.bell();
        if self.step.is_multiple_of(400) {
            self.in_season = self.dice.below(4) * 10;
        }
        let group = (self.in_season + self.dice.below(20)) % 40;
        let truth = self.quality + 2.0 * self.dice.bell();
        let mut features = [0.0; N_FEATURES];
        for feature in features.iter_mut().take(5) {
            *feature = 0.5 * self.clarity * truth.clamp(-4.0, 4.0) + 0.5 * self.dice.bell();
        }
        features[N_FEATURES - 1] = 1.0;
        let log_odds = 2.0 * truth + self.groups[group as usize];
        let right = self.dice.draw() < 1.0 / (1.0 + (-log_odds).exp());
        let entry = EntryKey(group * 1_000 + self.dice.below(30));
        let candidate =
            Candidate { entry, group: GroupKey(group), neighbour_idx: 0, similarity: 0.9, features };
        (candidate, right)
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Outcome {
    n_hits: u64,
    n_wrong: u64,
    n_audits: u64,
    /// At some moment more was wrong than promised.
    has_broken: bool,
}

/// One request: asked, decided, and told what it may know.
fn serve(risk: &mut Risk, asked: (Candidate, bool), draw: f64, outcome: &mut Outcome) -> bool {
    let scope = Scope::new("shop");
    let (candidate, right) = asked;
    let decision = risk.decide(&scope, Some(candidate), draw);
    risk.observe(&scope, &decision, right);
    let is_served = matches!(decision.verdict, Verdict::Serve { .. });
    outcome.n_hits += u64::from(is_served);
    outcome.n_wrong += u64::from(is_served && !right);
    outcome.n_audits += u64::from(decision.verdict == Verdict::Serve { audit: true });
    let n_requests = risk.standing(&scope).unwrap().n_requests;
    outcome.has_broken |= outcome.n_wrong as f64 > RATE * n_requests as f64;
    is_served
}

fn risk() -> Risk {
    Risk::new(&RiskConfig::default())
}

fn simulate(seed: u64, n_requests: u64) -> Outcome {
    let (mut risk, mut world, mut coin) = (risk(), World::of_seed(seed), Dice(!seed));
    let mut outcome = Outcome::default();
    for _ in 0..n_requests {
        let asked = world.ask();
        serve(&mut risk, asked, coin.draw(), &mut outcome);
    }
    outcome
}

fn n_streams(by_default: u64) -> u64 {
    option_env!("STIVER_RISK_STREAMS").map_or(by_default, |n| n.parse().expect("a number of streams"))
}

#[test]
fn simulated_streams_that_drift_keep_the_promise_and_are_served() {
    let n_streams = n_streams(12);
    let outcomes: Vec<Outcome> = (0..n_streams).map(|seed| simulate(seed, 6_000)).collect();

    let n_broken = outcomes.iter().filter(|outcome| outcome.has_broken).count();
    let share = |count: fn(&Outcome) -> u64| {
        outcomes.iter().map(count).sum::<u64>() as f64 / (n_streams * 6_000) as f64
    };
    let (hits, wrong, audits) = (share(|o| o.n_hits), share(|o| o.n_wrong), share(|o| o.n_audits));
    eprintln!("{n_streams} streams: {n_broken} broken, hits {hits:.3}, wrong {wrong:.4}, audits {audits:.3}");
    assert!(n_broken as f64 <= 0.05 * n_streams as f64, "{n_broken} of {n_streams} streams broke it");
    assert!(hits > 0.1, "only {hits:.3} of the requests were served");
}

/// Serves whenever it can be paid for, and every answer is wrong: the account alone keeps the promise.
fn spend_it_all(seed: u64) -> bool {
    let mut account = Account::open(RiskConfig::default().promise());
    let (mut coin, mut n_wrong) = (Dice(seed ^ 0xABCD), 0_u64);
    for step in 0..20_000_u64 {
        account.earn();
        // It waits until audits are rare, and then spends what it can.
        if step > 8_000
            && let Some(share) = account.least_share()
        {
            n_wrong += 1;
            account.serve(share);
            if coin.draw() < share {
                account.hold(share);
            }
        }
        if n_wrong as f64 > RATE * account.n_requests() as f64 {
            return true;
        }
    }
    false
}

#[test]
fn simulated_hostile_streams_keep_the_promise_by_the_account_alone() {
    let n_streams = n_streams(200);
    let n_broken = (0..n_streams).filter(|seed| spend_it_all(*seed)).count();

    eprintln!("{n_streams} hostile streams: {n_broken} broken");
    assert!(n_broken as f64 <= 0.05 * n_streams as f64, "{n_broken} of {n_streams} streams broke it");
}

/// A world in which candidates tell nothing any more and seven of ten are wrong.
fn shifted(world: &mut World) -> (Candidate, bool) {
    let (candidate, _) = world.ask();
    let right = world.dice.draw() < 0.3;
    (candidate, right)
}

/// Hits among each following hundred requests, after `n_before` good ones.
fn hits_after_shift(seed: u64, n_before: u64) -> (Vec<usize>, u64) {
    let (mut risk, mut world, mut coin) = (risk(), World::of_seed(seed), Dice(!seed));
    world.quality = 3.0;
    let mut outcome = Outcome::default();
    for _ in 0..n_before {
        let asked = world.ask();
        serve(&mut risk, asked, coin.draw(), &mut outcome);
    }
    let n_wrong_before = outcome.n_wrong;
    let mut hits = Vec::new();
    for _ in 0..20 {
        let served = (0..100).filter(|_| {
            let asked = shifted(&mut world);
            serve(&mut risk, asked, coin.draw(), &mut outcome)
        });
        hits.push(served.count());
    }
    assert!(!outcome.has_broken);
    (hits, outcome.n_wrong - n_wrong_before)
}

#[test]
fn simulated_streams_that_shift_at_once_are_closed_within_five_hundred_requests() {
    let n_streams = n_streams(3);
    let (mut latest, mut most_wrong) = (0, 0);
    for seed in 0..n_streams {
        let (hits, n_wrong) = hits_after_shift(seed, 12_000);
        let closed_after = hits.iter().rposition(|n_hits| *n_hits > 2).map_or(0, |idx| 100 * (idx + 1));
        (latest, most_wrong) = (latest.max(closed_after), most_wrong.max(n_wrong));
    }

    eprintln!("{n_streams} shifts: closed after {latest} requests at the latest, {most_wrong} wrong at most");
    assert!(latest <= 500, "open for {latest} requests after the shift");
}

#[test]
fn nothing_is_served_without_a_candidate_but_the_request_counts() {
    let (mut risk, scope) = (risk(), Scope::new("shop"));
    let decision = risk.decide(&scope, None, 0.5);

    assert_eq!(decision.verdict, Verdict::Refuse(Refusal::NoCandidate));
    assert_eq!(risk.standing(&scope).unwrap().n_requests, 1);
}

#[test]
fn a_new_scope_is_closed_and_learns_from_its_misses() {
    let (mut risk, mut world, scope) = (risk(), World::of_seed(1), Scope::new("shop"));
    world.quality = 4.0;
    let mut first_served = None;
    for step in 0..1_000 {
        let (candidate, right) = world.ask();
        let decision = risk.decide(&scope, Some(candidate), 0.5);
        risk.observe(&scope, &decision, right);
        if first_served.is_none() && decision.verdict == (Verdict::Serve { audit: true }) {
            first_served = Some(step);
        }
    }

    assert!(first_served.is_some_and(|step| step >= 99), "{first_served:?}");
}

#[test]
fn scopes_keep_accounts_of_their_own() {
    let mut risk = risk();
    for _ in 0..50 {
        risk.decide(&Scope::new("a"), None, 0.5);
    }
    risk.decide(&Scope::new("b"), None, 0.5);

    assert_eq!(risk.standing(&Scope::new("b")).unwrap().n_requests, 1);
    assert_eq!(risk.standing(&Scope::new("c")), None);
}

#[test]
fn a_complaint_about_an_answer_that_was_not_audited_changes_no_account() {
    let (mut risk, mut world, scope) = (risk(), World::of_seed(3), Scope::new("shop"));
    world.quality = 4.0;
    let unaudited = (0..20_000).find_map(|_| {
        let (candidate, right) = world.ask();
        let decision = risk.decide(&scope, Some(candidate), 0.999);
        risk.observe(&scope, &decision, right);
        (decision.verdict == Verdict::Serve { audit: false }).then_some(decision)
    });
    let before = risk.clone();

    risk.observe(&scope, &unaudited.expect("with a draw this high something is not audited"), false);

    assert_eq!(risk, before);
}

#[test]
fn values_that_make_no_sense_are_told_by_key() {
    assert!(RiskConfig::default().mistakes().is_empty());
    let bad = RiskConfig { max_false_hit_rate: 0.0, confidence: 1.0, audit_share: 1.5 };

    let mistakes = bad.mistakes();

    for key in ["max_false_hit_rate", "confidence", "audit_share"] {
        assert!(mistakes.iter().any(|mistake| mistake.contains(key)), "{key}");
    }
}
