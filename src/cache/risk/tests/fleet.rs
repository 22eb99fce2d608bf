//! Replicas that share a scope, that end and begin again, and that are taken for gone while they are not.

use super::super::custody::Custody;
use super::*;

const N_REPLICAS: usize = 4;

/// What was written down of a scope: as text, so that it is what a database would hand back.
struct Saved {
    account: String,
    model: String,
}

fn shop() -> Scope {
    Scope::new("shop")
}

fn save(risk: &mut Risk, scope: &Scope) -> Saved {
    let account = risk.send_account(scope).to_json().unwrap();
    risk.saved(scope);
    let model = risk.model(scope).unwrap().to_json().unwrap();
    Saved { account, model }
}

fn adopt(risk: &mut Risk, scope: &Scope, replica: &str, saved: &Saved) {
    let account = AccountState::from_json(&saved.account).unwrap();
    let model = ModelState::from_json(&saved.model).unwrap();
    risk.adopt(scope, replica, &account, Some(&model));
}

/// As `config` finds it after the process ended and began again.
fn restarted(risk: &mut Risk, config: &RiskConfig) -> Risk {
    let mut again = Risk::new(config);
    let scopes: Vec<Scope> = risk.scopes.keys().cloned().chain([Scope::pool()]).collect();
    for scope in scopes {
        let saved = save(risk, &scope);
        adopt(&mut again, &scope, "before", &saved);
    }
    again
}

fn after(n_requests: usize, seed: u64) -> Risk {
    let (mut risk, mut world, mut coin) = (risk(), World::of_seed(seed), Dice(seed));
    let mut outcome = Outcome::default();
    for _ in 0..n_requests {
        let asked = world.ask();
        serve(&mut risk, asked, coin.draw(), &mut outcome);
    }
    risk
}

#[test]
fn a_restart_loses_nothing_and_changes_no_later_decision() {
    let mut risk = after(2_000, 5);
    let mut again = restarted(&mut risk, &RiskConfig::default());
    let standing = |risk: &Risk| risk.standing(&shop()).unwrap();
    let told = |risk: &Risk| {
        let Standing { n_requests, n_hits, n_audits, n_wrong_audits, n_labels, tier, .. } = standing(risk);
        (n_requests, n_hits, n_audits, n_wrong_audits, n_labels, tier)
    };
    assert_eq!(told(&again), told(&risk));

    let (mut world, mut coin) = (World::of_seed(6), Dice(6));
    for _ in 0..500 {
        let (asked, draw) = (world.ask(), coin.draw());
        let (mut a, mut b) = (Outcome::default(), Outcome::default());
        let served = serve(&mut risk, asked.clone(), draw, &mut a);
        assert_eq!(serve(&mut again, asked, draw, &mut b), served);
    }
    let upper = |risk: &Risk| standing(risk).false_hit_rate_upper;
    assert!((upper(&risk) - upper(&again)).abs() < 1e-12);
}

#[test]
fn a_changed_promise_starts_the_account_anew_and_keeps_what_was_learned() {
    let mut risk = after(2_000, 5);
    let n_labels = risk.standing(&shop()).unwrap().n_labels;
    let stricter = RiskConfig { max_false_hit_rate: 0.001, ..RiskConfig::default() };

    let again = restarted(&mut risk, &stricter);

    let standing = again.standing(&shop()).unwrap();
    assert_eq!((standing.n_requests, standing.n_labels), (0, n_labels));
    assert!(again.pool.all().n_labels() > 0);
}

#[test]
fn what_changed_is_told_until_it_is_saved() {
    let mut risk = after(200, 5);
    assert_eq!(risk.changed_accounts(), [shop()]);
    assert_eq!(risk.changed_models(), [Scope::pool(), shop()]);

    risk.send_account(&shop());
    assert_eq!(risk.changed_accounts(), []);
    risk.not_saved(&shop());
    assert_eq!(risk.changed_accounts(), [shop()]);
    risk.model(&shop());
    assert_eq!(risk.changed_models(), [Scope::pool()]);
    risk.model_not_saved(&shop());
    assert_eq!(risk.changed_models(), [Scope::pool(), shop()]);
}

#[test]
fn a_standing_shows_all_replicas_and_an_account_its_own() {
    let (mut a, mut b) = (after(1_500, 7), after(1_500, 8));
    let theirs = AccountState::from_json(&save(&mut b, &shop()).account).unwrap();

    a.look_at(&shop(), std::slice::from_ref(&theirs));

    let standing = a.standing(&shop()).unwrap();
    assert_eq!(standing.n_requests, 3_000);
    assert!(standing.false_hit_rate_upper <= RATE);
    let own = AccountState::from_json(&save(&mut a, &shop()).account).unwrap();
    assert_eq!(own.account.unwrap().n_requests(), 1_500);
}

#[test]
fn the_measured_rate_lies_below_its_bound_and_near_the_truth() {
    let (mut risk, mut world, mut coin) = (risk(), World::of_seed(2), Dice(2));
    world.quality = 2.0;
    let mut outcome = Outcome::default();
    for _ in 0..12_000 {
        let asked = world.ask();
        serve(&mut risk, asked, coin.draw(), &mut outcome);
    }

    let standing = risk.standing(&shop()).unwrap();
    let truth = outcome.n_wrong as f64 / 12_000.0;
    assert_eq!((standing.n_hits, standing.n_audits), (outcome.n_hits, outcome.n_audits));
    assert!(standing.n_wrong_audits > 0 && standing.n_wrong_audits <= outcome.n_wrong);
    assert!((standing.false_hit_rate - truth).abs() < 0.003, "{} {truth}", standing.false_hit_rate);
    assert!(standing.false_hit_rate_upper >= truth && standing.false_hit_rate_upper <= RATE);
}

/// Replicas behind one balancer; of each, what the database has.
struct Fleet {
    replicas: Vec<Risk>,
    /// Named anew with every restart.
    names: Vec<String>,
    saved: Vec<Option<Saved>>,
    dice: Dice,
    n_restarts: usize,
}

impl Fleet {
    fn of_seed(seed: u64) -> Self {
        Self {
            replicas: (0..N_REPLICAS).map(|_| risk()).collect(),
            names: (0..N_REPLICAS).map(|idx| idx.to_string()).collect(),
            saved: (0..N_REPLICAS).map(|_| None).collect(),
            dice: Dice(seed ^ 0x5EED),
            n_restarts: 0,
        }
    }

    fn any(&mut self) -> usize {
        self.dice.below(N_REPLICAS as u64) as usize
    }

    fn save(&mut self, idx: usize) {
        self.saved[idx] = Some(save(&mut self.replicas[idx], &shop()));
    }

    /// Everybody hears what everybody else has in the database.
    fn hear(&mut self) {
        for own in 0..N_REPLICAS {
            let others = (0..N_REPLICAS).filter(|idx| *idx != own);
            let told = others.filter_map(|idx| {
                let saved = self.saved[idx].as_ref()?;
                Some((self.names[idx].clone(), Some(ModelState::from_json(&saved.model).unwrap())))
            });
            let told = told.collect();
            self.replicas[own].hear(&shop(), told);
        }
    }

    /// A process dies with what it had not saved; another one takes over what it had, a new one begins.
    fn kill(&mut self, idx: usize) {
        let name = std::mem::replace(&mut self.names[idx], format!("{idx}-{}", self.n_restarts));
        self.replicas[idx] = risk();
        self.n_restarts += 1;
        if let Some(saved) = self.saved[idx].take() {
            let heir = (idx + 1) % N_REPLICAS;
            adopt(&mut self.replicas[heir], &shop(), &name, &saved);
            self.save(heir);
        }
    }
}

fn simulate_fleet(seed: u64, n_requests: u64) -> (Outcome, Fleet) {
    let (mut fleet, mut world, mut coin) = (Fleet::of_seed(seed), World::of_seed(seed), Dice(!seed));
    let (mut outcome, mut has_broken) = (Outcome::default(), false);
    for step in 1..=n_requests {
        let idx = fleet.any();
        let (candidate, right) = world.ask();
        let risk = &mut fleet.replicas[idx];
        let decision = risk.decide(&shop(), Some(candidate), coin.draw());
        if decision.verdict == (Verdict::Serve { audit: true }) {
            fleet.save(idx);
        }
        fleet.replicas[idx].observe(&shop(), &decision, right);
        let is_served = matches!(decision.verdict, Verdict::Serve { .. });
        outcome.n_hits += u64::from(is_served);
        outcome.n_wrong += u64::from(is_served && !right);
        has_broken |= outcome.n_wrong as f64 > RATE * step as f64;
        if step.is_multiple_of(40) {
            fleet.save(idx);
        }
        if step.is_multiple_of(200) {
            fleet.hear();
        }
        if step.is_multiple_of(700) {
            let victim = fleet.any();
            fleet.kill(victim);
        }
    }
    (Outcome { has_broken, ..outcome }, fleet)
}

#[test]
fn simulated_fleets_with_restarts_keep_the_promise_and_learn_from_each_other() {
    let n_streams = n_streams(4);
    let n_requests = 4_000;
    let (mut n_broken, mut n_hits) = (0, 0);
    for seed in 0..n_streams {
        let (outcome, fleet) = simulate_fleet(seed, n_requests);
        n_broken += u64::from(outcome.has_broken);
        n_hits += outcome.n_hits;
        let least = fleet.replicas.iter().filter_map(|risk| risk.standing(&shop())).map(|s| s.n_labels).min();
        assert!(least.unwrap() > 1_000, "a replica heard of {least:?} verdicts");
    }

    let hits = n_hits as f64 / (n_streams * n_requests) as f64;
    eprintln!("{n_streams} fleets: {n_broken} broken, hits {hits:.3}");
    assert!(n_broken as f64 <= 0.05 * n_streams as f64, "{n_broken} of {n_streams} fleets broke it");
    assert!(hits > 0.03, "only {hits:.3} of the requests were served");
}

/// Accounts behind one balancer, and what the database has of each.
struct Books {
    books: Vec<Custody>,
    saved: Vec<Account>,
}

impl Books {
    fn new() -> Self {
        let promise = RiskConfig::default().promise();
        Self {
            books: (0..N_REPLICAS).map(|_| Custody::open(promise)).collect(),
            saved: (0..N_REPLICAS).map(|_| Account::open(promise)).collect(),
        }
    }

    fn save(&mut self, idx: usize) {
        self.saved[idx] = self.books[idx].send();
        self.books[idx].settle();
    }

    /// Another one takes over what was saved; the account may be alive and go on for a while.
    fn take_over(&mut self, idx: usize) {
        let empty = Account::open(RiskConfig::default().promise());
        let saved = std::mem::replace(&mut self.saved[idx], empty);
        let heir = (idx + 1) % N_REPLICAS;
        self.books[heir].take_over(&saved);
        self.save(heir);
    }

    /// It finds out, and hands over the rest.
    fn give_up(&mut self, idx: usize) {
        let left = self.books[idx].give_up();
        let heir = (idx + 1) % N_REPLICAS;
        self.books[heir].take_over(&left);
        self.save(heir);
    }
}

/// Every replica serves whenever it can pay, every answer is wrong, and any may be taken for gone.
fn spend_it_all_together(seed: u64) -> bool {
    let (mut fleet, mut coin, mut dice) = (Books::new(), Dice(seed ^ 0xABCD), Dice(seed ^ 0x1234));
    let (mut n_wrong, mut silent) = (0_u64, None);
    for step in 1..=14_000_u64 {
        let idx = dice.below(N_REPLICAS as u64) as usize;
        let book = &mut fleet.books[idx];
        let mut is_charged = false;
        book.earn();
        // They wait until audits are rare, and then spend what they can.
        if step > 8_000
            && let Some(share) = book.account().least_share()
        {
            n_wrong += 1;
            book.serve(share);
            if coin.draw() < share {
                book.hold(share);
                is_charged = true;
            }
        }
        // An account is saved with every charge, but for one that is cut off.
        if (is_charged || step.is_multiple_of(50)) && silent.is_none_or(|(cut_off, _)| cut_off != idx) {
            fleet.save(idx);
        }
        match silent {
            None if step.is_multiple_of(1_500) => silent = Some((idx, step)),
            Some((idx, since)) if step == since + 100 => fleet.take_over(idx),
            Some((idx, since)) if step == since + 200 => {
                fleet.give_up(idx);
                silent = None;
            }
            _ => {}
        }
        if n_wrong as f64 > RATE * step as f64 {
            return true;
        }
    }
    false
}

#[test]
fn simulated_hostile_fleets_keep_the_promise_though_some_are_taken_for_gone() {
    let n_streams = n_streams(200);
    let n_broken = (0..n_streams).filter(|seed| spend_it_all_together(*seed)).count();

    eprintln!("{n_streams} hostile fleets: {n_broken} broken");
    assert!(n_broken as f64 <= 0.05 * n_streams as f64, "{n_broken} of {n_streams} fleets broke it");
}
