//! How doubtful a candidate may be and still be served: one rung of a fixed ladder of bars for a scope.
//!
//! For each rung it keeps how many wrong answers a request would have got there, as the model expects
//! and as verdicts showed. Verdicts come free with every miss, and with an audit at the weight of its
//! probability. The rungs are tried from the strictest on and the last that keeps to the aim before one
//! fails is taken. Gives no guarantee: the account does.
//!
//! Invariants: the bar moves along the ladder only; too few verdicts mean no bar, and nothing is served.

use serde::{Deserialize, Serialize};

/// The greatest probability of being wrong that is served, strictest first.
const RUNGS: [f64; 16] =
    [0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.25, 0.35, 0.5];
/// Requests after which what was seen counts for a third.
const MEMORY_REQUESTS: f64 = 4_000.0;
/// Hits and requests that are assumed to have been before the first.
const ASSUMED: (f64, f64) = (100.0, 500.0);
/// Verdicts before anything is served.
pub(super) const MIN_LABELS: u64 = 100;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Bar {
    tallies: [Tally; RUNGS.len()],
    n_requests: f64,
    n_served: f64,
    rung_idx: Option<usize>,
}

/// What happened to candidates under a rung.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    /// Wrong answers expected among all.
    expected: f64,
    /// Wrong answers expected, and found, among those with a verdict, by weight.
    expected_judged: f64,
    wrong_judged: f64,
}

/// What the rungs are measured against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim {
    /// Wrong answers a request.
    pub(super) rate: f64,
    /// What a wrong answer costs the account.
    pub(super) price: f64,
    /// How many wrong answers must have been seen for the verdicts to count as much as the model.
    pub(super) caution: f64,
    pub(super) n_labels: u64,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self { tallies: [Tally::default(); RUNGS.len()], n_requests: 0.0, n_served: 0.0, rung_idx: None }
    }

    pub(super) fn p_wrong_max(&self) -> Option<f64> {
        self.rung_idx.map(|idx| RUNGS[idx])
    }

    /// A request came by.
    pub(super) fn pass(&mut self) {
        let keep = 1.0 - 1.0 / MEMORY_REQUESTS;
        self.n_requests = self.n_requests * keep + 1.0;
        self.n_served *= keep;
        for tally in &mut self.tallies {
            tally.expected *= keep;
            tally.expected_judged *= keep;
            tally.wrong_judged *= keep;
        }
    }

    /// It had a candidate.
    pub(super) fn expect(&mut self, p_wrong: f64) {
        self.under(p_wrong).for_each(|tally| tally.expected += p_wrong);
    }

    /// Which was served.
    pub(super) fn serve(&mut self) {
        self.n_served += 1.0;
    }

    /// Served of late, of all requests.
    pub(super) fn hit_rate(&self) -> f64 {
        let (n_served, n_requests) = ASSUMED;
        (self.n_served + n_served) / (self.n_requests + n_requests)
    }

    /// And this is what became of it.
    pub(super) fn judge(&mut self, p_wrong: f64, weight: f64, right: bool) {
        let wrong = f64::from(u8::from(!right));
        self.under(p_wrong).for_each(|tally| {
            tally.expected_judged += weight * p_wrong;
            tally.wrong_judged += weight * wrong;
        });
    }

    fn under(&mut self, p_wrong: f64) -> impl Iterator<Item = &mut Tally> {
        self.tallies.iter_mut().zip(RUNGS).filter(move |(_, rung)| p_wrong <= *rung).map(|(tally, _)| tally)
    }

    pub(super) fn choose(&mut self, aim: &Aim) {
        let n_kept = match aim.n_labels < MIN_LABELS {
            true => 0,
            false => {
                self.tallies.iter().take_while(|tally| tally.cost(aim) <= aim.rate * self.n_requests).count()
            }
        };
        self.rung_idx = n_kept.checked_sub(1);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.n_requests == 0.0 {
            // Nothing was seen here: the bar begins where the other was.
            self.clone_from(other);
            return;
        }
        self.n_requests += other.n_requests;
        self.n_served += other.n_served;
        for (own, other) in self.tallies.iter_mut().zip(&other.tallies) {
            own.expected += other.expected;
            own.expected_judged += other.expected_judged;
            own.wrong_judged += other.wrong_judged;
        }
        self.rung_idx = self.rung_idx.min(other.rung_idx);
    }
}

impl Tally {
    fn cost(&self, aim: &Aim) -> f64 {
        let truth = (self.wrong_judged + aim.caution) / (self.expected_judged + aim.caution);
        self.expected * truth * aim.price
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AIM: Aim = Aim { rate: 0.005, price: 1.0, caution: 1.0, n_labels: 1_000 };

    /// A thousand requests whose candidates are thought wrong with `p_wrong`, and are with `truth`.
    fn seen(p_wrong: f64, truth: f64) -> Bar {
        let mut bar = Bar::new();
        for step in 0..1_000 {
            bar.pass();
            bar.expect(p_wrong);
            bar.judge(p_wrong, 1.0, (f64::from(step) * truth).fract() + truth < 1.0);
        }
        bar
    }

    fn chosen(mut bar: Bar, aim: &Aim) -> Option<f64> {
        bar.choose(aim);
        bar.p_wrong_max()
    }

    #[test]
    fn nothing_is_served_before_there_are_enough_verdicts() {
        assert_eq!(chosen(seen(0.001, 0.0), &Aim { n_labels: MIN_LABELS - 1, ..AIM }), None);
        assert!(chosen(seen(0.001, 0.0), &Aim { n_labels: MIN_LABELS, ..AIM }).is_some());
    }

    #[test]
    fn a_model_that_is_right_is_taken_at_its_word() {
        assert_eq!(chosen(seen(0.004, 0.004), &AIM), Some(0.5));
        assert_eq!(chosen(seen(0.015, 0.015), &AIM), Some(0.01));
    }

    #[test]
    fn a_model_that_boasts_is_corrected_by_verdicts() {
        assert_eq!(chosen(seen(0.004, 0.05), &AIM), Some(0.003));
    }

    #[test]
    fn a_dearer_wrong_answer_lowers_the_bar() {
        assert_eq!(chosen(seen(0.004, 0.004), &Aim { price: 2.0, ..AIM }), Some(0.003));
    }

    #[test]
    fn of_two_replicas_the_stricter_bar_holds() {
        let mut open = seen(0.004, 0.004);
        open.choose(&AIM);

        open.merge(&Bar::new());

        assert_eq!(open.p_wrong_max(), None);
    }
}
