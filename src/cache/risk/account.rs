//! The budget of wrong answers of one scope, and the proof that it is kept.
//!
//! Every request earns the promised rate; what may have gone wrong is charged; nothing is served
//! that the rest could not pay for. Does not estimate how likely a wrong answer is and needs no such
//! estimate: the proof rests on the audits' coin alone, so it holds for any traffic, drifting or hostile.
//!
//! How: answers that are served are audited with a probability q that is fixed before its coin is thrown.
//! A line bets a share h on each coin, below every q. With η = −ln(1−h), let a wrong answer multiply the
//! line's stake by e^η, and an audit that finds it also by (q−h)/q: the expectation is
//! (1−q)·e^η + q·e^η·(q−h)/q = 1. So the stake is a martingale that starts at 1, and by Ville's inequality
//! it never reaches 1/δ, but with probability δ. Taking logarithms:
//!
//! wrong answers ≤ (ln(1/δ) + Σ over audits that found one of ln(q/(q−h))) / η, at every moment.
//!
//! The first term is the line's price. A high bet has a low price and needs many audits, so that several
//! lines are kept from the start, each with a part of δ, and the one that now needs the fewest is used.
//! A line ends when an answer is served with an audit share that is not above its bet.
//!
//! Replicas keep an account each, of their own requests. For one bet, the product of all replicas' stakes
//! is a martingale too: each step multiplies one factor, by a coin that is independent of all that was before
//! on any replica, with a probability that was fixed before it, if by what others had learned. So with one
//! price and one δ, at every moment and for all bets at once,
//!
//! wrong answers of all ≤ price of the bet + Σ over replicas of what the bet was charged,
//!
//! as long as the bet lasts on all. That is no more than the sum of the replicas' bounds, of whichever line
//! each is: take the least bet that any of them uses. It lasts on all, because what is audited more often than
//! a higher bet asks for is audited more often than it asks for; it is charged no more than the bets that they
//! use, because ln(q/(q−h)) / −ln(1−h) never falls in h; and its price is one of those in the sum. Every
//! replica stays within what its own requests earned, so together they stay within what all earned. Adding
//! accounts up pays a line's price once and keeps the sums, and an account that is lost as a whole, such as
//! with a database, was within its own income and takes nothing from the others.
//!
//! Invariants: the bound never exceeds what was earned; an audit that never comes back stays charged;
//! income that is dropped at the cap only makes the bound safer.

use serde::{Deserialize, Serialize};

use super::seen::Seen;

/// The highest bet below certainty; each further line bets this share of the one before.
const FIRST_BET: f64 = 0.4;
const BET_STEP: f64 = 0.7;
/// The least audit share, in bets: the nearer to 1, the fewer audits and the dearer each one that finds something.
const SHARE_PER_BET: f64 = 1.3;
/// The account is never emptied by fewer audits than this: when it runs low more is audited, and each costs less.
const AUDITS_PAID: f64 = 1.2;
/// What the last line keeps and at most holds, in audits of its least share that found something.
const RESERVE_AUDITS: f64 = 3.0;
const CAP_AUDITS: f64 = 6.0;

/// What is promised of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// Wrong answers a request.
    pub max_false_hit_rate: f64,
    /// How sure it is that the promise holds at every moment, from 0 to 1.
    pub confidence: f64,
    /// The audit share that is aimed at in the long run.
    pub audit_share: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Account {
    promise: Promise,
    n_requests: u64,
    earned: f64,
    /// Highest bet first. The first bets everything: it audits all, and counts exactly.
    lines: Vec<Line>,
    #[serde(default)]
    seen: Seen,
}

/// One bound on the wrong answers, as long as it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Line {
    bet: f64,
    price: f64,
    charged: f64,
    has_ended: bool,
}

impl Line {
    fn new(bet: f64, price: f64) -> Self {
        Self { bet, price, charged: 0.0, has_ended: false }
    }

    /// η: what a wrong answer adds to the logarithm of the stake.
    fn exponent(&self) -> f64 {
        -(-self.bet).ln_1p()
    }

    /// What an audit costs that found a wrong answer, in wrong answers.
    fn charge(&self, share: f64) -> f64 {
        if self.bet >= 1.0 || share <= self.bet {
            return 1.0;
        }
        (share / (share - self.bet)).ln() / self.exponent()
    }

    fn outlasts(&self, share: f64) -> bool {
        share > self.bet || share >= 1.0
    }

    fn bound(&self) -> f64 {
        self.price + self.charged
    }

    fn share_floor(&self) -> f64 {
        (SHARE_PER_BET * self.bet).min(1.0)
    }

    /// The least audit share with this much left; none where not even an answer that is sure to be
    /// audited can be paid for.
    fn least_share(&self, available: f64) -> Option<f64> {
        if available < 1.0 {
            return None;
        }
        if self.bet >= 1.0 {
            return Some(1.0);
        }
        let payable = (available / AUDITS_PAID).max(1.0);
        let affordable = self.bet / (1.0 - (-self.exponent() * payable).exp());
        Some(self.share_floor().max(affordable).min(1.0))
    }
}

/// The line that is used, and what it asks for.
#[derive(Debug, Clone, Copy)]
struct Used {
    line: Line,
    is_last: bool,
    share: f64,
}

impl Account {
    pub(super) fn open(promise: Promise) -> Self {
        Self { promise, n_requests: 0, earned: 0.0, lines: lines(&promise), seen: Seen::default() }
    }

    /// A request came by, whatever becomes of it.
    pub(super) fn earn(&mut self) {
        self.n_requests += 1;
        self.earned += self.promise.max_false_hit_rate;
        if let Some(Used { line, is_last: true, .. }) = self.used() {
            self.earned = self.earned.min(line.bound() + CAP_AUDITS * line.charge(line.share_floor()));
        }
    }

    /// The line that needs the fewest audits.
    fn used(&self) -> Option<Used> {
        let last_idx = self.lines.len() - 1;
        let usable = self.lines.iter().enumerate().filter(|(_, line)| !line.has_ended);
        let asking = usable.filter_map(|(idx, line)| {
            let share = line.least_share(self.earned - line.bound())?;
            Some(Used { line: *line, is_last: idx == last_idx, share })
        });
        asking.min_by(|a, b| a.share.total_cmp(&b.share))
    }

    /// The least audit share at which an answer can be served.
    pub(super) fn least_share(&self) -> Option<f64> {
        self.used().map(|used| used.share)
    }

    /// An answer is served with this probability of an audit.
    pub(super) fn serve(&mut self, share: f64) {
        self.seen.n_hits += 1;
        self.lines.iter_mut().filter(|line| !line.outlasts(share)).for_each(|line| line.has_ended = true);
    }

    /// Sets aside what an audit sent with this probability costs should it find a wrong answer.
    pub(super) fn hold(&mut self, share: f64) {
        self.seen.n_audits += 1;
        self.lines.iter_mut().for_each(|line| line.charged += line.charge(share));
    }

    /// The audit found the answer to be right.
    pub(super) fn release(&mut self, share: f64) {
        self.lines.iter_mut().for_each(|line| line.charged -= line.charge(share));
    }

    /// The audit found a wrong answer: what was set aside for it is spent.
    pub(super) fn find_wrong(&mut self, share: f64) {
        self.seen.find_wrong(share);
    }

    /// Wrong answers that can still be paid for.
    pub(super) fn available(&self) -> f64 {
        self.earned - self.bound()
    }

    /// What lies there beyond a reserve, once audits cannot become fewer.
    pub(super) fn spare(&self) -> f64 {
        match self.used() {
            Some(Used { line, is_last: true, .. }) => {
                let reserve = RESERVE_AUDITS * line.charge(line.share_floor());
                (self.earned - line.bound() - reserve).max(0.0)
            }
            Some(_) | None => 0.0,
        }
    }

    /// What a wrong answer costs on average, in wrong answers.
    pub(super) fn price_of_one(&self) -> f64 {
        self.used().map_or(1.0, |used| used.share * used.line.charge(used.share))
    }

    /// How much an audit weighs that was sent with the least share.
    pub(super) fn weight(&self) -> f64 {
        1.0 / self.least_share().unwrap_or(1.0)
    }

    pub(super) fn n_requests(&self) -> u64 {
        self.n_requests
    }

    pub(super) fn promise(&self) -> &Promise {
        &self.promise
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What was charged, with nothing earned to pay for it.
    pub(super) fn without_income(&self) -> Self {
        Self { earned: 0.0, ..self.clone() }
    }

    /// Wrong answers served so far are at most this many.
    pub(super) fn bound(&self) -> f64 {
        let running = self.lines.iter().filter(|line| !line.has_ended);
        running.map(Line::bound).fold(f64::INFINITY, f64::min)
    }

    /// Adds another account of the same scope and promise, whose coins are none of this one's.
    pub(super) fn merge(&mut self, other: &Self) {
        self.n_requests += other.n_requests;
        self.earned += other.earned;
        self.seen.merge(&other.seen);
        for (own, other) in self.lines.iter_mut().zip(&other.lines) {
            own.charged += other.charged;
            own.has_ended |= other.has_ended;
        }
    }
}

/// The lines' chances to fail, δ/2, δ/6, δ/12 and so on, add up to no more than δ.
fn lines(promise: &Promise) -> Vec<Line> {
    let last_bet = (promise.audit_share / SHARE_PER_BET).min(FIRST_BET);
    let mut lines = vec![Line::new(1.0, 0.0)];
    let mut bet = FIRST_BET;
    for number in 1.. {
        bet = bet.max(last_bet);
        let probability = (1.0 - promise.confidence) / f64::from(number * (number + 1));
        lines.push(Line::new(bet, -probability.ln() / Line::new(bet, 0.0).exponent()));
        if bet <= last_bet {
            break;
        }
        bet *= BET_STEP;
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn promise() -> Promise {
        Promise { max_false_hit_rate: 0.01, confidence: 0.95, audit_share: 0.02 }
    }

    fn after(n_requests: usize) -> Account {
        let mut account = Account::open(promise());
        (0..n_requests).for_each(|_| account.earn());
        account
    }

    #[test]
    fn nothing_is_served_before_one_wrong_answer_is_earned() {
        assert_eq!(after(99).least_share(), None);
        assert_eq!(after(101).least_share(), Some(1.0));
    }

    #[test]
    fn an_answer_that_is_sure_to_be_audited_costs_itself() {
        for bet in [1.0, 0.4, 0.1, 0.01] {
            assert!((Line::new(bet, 0.0).charge(1.0) - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_stake_keeps_its_expectation_whatever_the_share() {
        for (bet, share) in [(0.4, 0.52), (0.1, 0.9), (0.02, 0.026), (0.3, 1.0)] {
            let line = Line::new(bet, 0.0);
            let growth = line.exponent().exp();
            let found = growth * (-line.charge(share) * line.exponent()).exp();

            assert!((share * found + (1.0 - share) * growth - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn audits_become_rarer_the_longer_nothing_goes_wrong_and_stop_at_the_configured_share() {
        let shares: Vec<f64> = [500, 2_000, 8_000, 30_000, 200_000]
            .into_iter()
            .map(|n_requests| after(n_requests).least_share().unwrap())
            .collect();

        assert!(shares.windows(2).all(|pair| pair[0] > pair[1]), "{shares:?}");
        assert!((shares[4] - 0.02).abs() < 1e-9, "{shares:?}");
    }

    #[test]
    fn an_account_that_runs_low_audits_more_and_an_empty_one_serves_nothing() {
        let mut account = after(20_000);
        let mut shares = Vec::new();
        while let Some(share) = account.least_share() {
            shares.push(share);
            account.serve(share);
            account.hold(share);
        }

        assert!(shares.len() >= 3, "{shares:?}");
        assert!(shares.windows(2).all(|pair| pair[0] <= pair[1]), "{shares:?}");
        assert!(account.available() >= 0.0);
    }

    #[test]
    fn what_is_held_and_released_leaves_no_trace() {
        let mut account = after(20_000);
        let before = account.available();
        account.hold(0.5);
        account.release(0.5);

        assert!((account.available() - before).abs() < 1e-9);
    }

    #[test]
    fn a_line_ends_where_less_is_audited_than_it_bets() {
        let mut account = after(20_000);
        assert!(account.lines.iter().all(|line| !line.has_ended));

        account.serve(0.25);

        assert!(account.lines.iter().all(|line| line.has_ended == (line.bet >= 0.25)));
    }

    #[test]
    fn a_running_line_bounds_though_another_is_dearer() {
        let mut account = after(20_000);
        account.serve(1.0);
        account.hold(1.0);
        assert_eq!(account.bound(), 1.0);

        account.serve(0.5);

        assert!(account.bound() > 1.0);
    }

    #[test]
    fn a_lower_bet_is_never_charged_more() {
        for share in [0.02, 0.1, 0.37, 0.8, 1.0] {
            let bets = (1..400).map(|step| share * f64::from(step) / 400.0);
            let charges: Vec<f64> = bets.map(|bet| Line::new(bet, 0.0).charge(share)).collect();

            assert!(charges.windows(2).all(|pair| pair[0] <= pair[1] + 1e-9), "{share}: {charges:?}");
        }
    }

    #[test]
    fn merged_accounts_pay_a_line_once() {
        let (mut a, mut b) = (after(3_000), after(1_000));
        b.hold(1.0);

        a.merge(&b);

        assert_eq!((a.bound(), a.n_requests()), (1.0, 4_000));
        assert!((a.earned - 40.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn the_bound_never_passes_what_the_requests_allow(
            steps in prop::collection::vec((1_usize..400, 0.0_f64..1.0, any::<bool>()), 1..80),
        ) {
            let mut account = Account::open(promise());
            for (n_requests, above, is_wrong) in steps {
                (0..n_requests).for_each(|_| account.earn());
                if let Some(least) = account.least_share() {
                    let share = least + (1.0 - least) * above;
                    account.serve(share);
                    account.hold(share);
                    if !is_wrong {
                        account.release(share);
                    }
                }
                prop_assert!(account.available() > -1e-9);
                prop_assert!(account.bound() <= 0.01 * account.n_requests() as f64 + 1e-9);
            }
        }

        #[test]
        fn accounts_prove_no_less_together_than_each_alone(
            steps in prop::collection::vec((0_usize..4, 1_usize..900, 0.0_f64..1.0, any::<bool>()), 1..120),
        ) {
            let mut accounts = vec![Account::open(promise()); 4];
            for (idx, n_requests, above, is_wrong) in steps {
                let account = &mut accounts[idx];
                (0..n_requests).for_each(|_| account.earn());
                if let Some(least) = account.least_share() {
                    let share = least + (1.0 - least) * above;
                    account.serve(share);
                    account.hold(share);
                    if !is_wrong {
                        account.release(share);
                    }
                }
            }
            let apart: f64 = accounts.iter().map(Account::bound).sum();
            let together = accounts.into_iter().reduce(|mut all, account| {
                all.merge(&account);
                all
            });

            prop_assert!(together.unwrap().bound() <= apart + 1e-9);
        }
    }
}
