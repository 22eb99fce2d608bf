//! What trips a breaker, what a probe does, and what is ignored.

use super::*;

const CONFIG: BreakerConfig =
    BreakerConfig { failures: 3, error_share: 0.5, min_calls: 10, window_ms: 1_000, open_ms: 100 };

struct Bench {
    breaker: Breaker,
    began: Instant,
}

impl Bench {
    fn new() -> Self {
        let began = Instant::now();
        Self { breaker: Breaker::new(CONFIG, began), began }
    }

    fn at(&self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms)
    }

    fn admit(&mut self, ms: u64) -> Admission {
        let now = self.at(ms);
        self.breaker.admit(now)
    }

    fn record(&mut self, admission: Admission, outcome: Outcome, ms: u64) {
        let now = self.at(ms);
        self.breaker.record(admission, outcome, now);
    }

    fn fail(&mut self, n: u32, ms: u64) {
        for _ in 0..n {
            self.record(Admission::Pass, Outcome::Failure, ms);
        }
    }

    fn is_tripped(&self, ms: u64) -> bool {
        self.breaker.is_tripped(self.at(ms))
    }
}

#[test]
fn failures_in_a_row_trip_it_and_one_fewer_do_not() {
    let mut bench = Bench::new();

    bench.fail(2, 0);
    assert_eq!(bench.admit(0), Admission::Pass);
    bench.fail(1, 0);

    assert_eq!(bench.admit(40), Admission::Tripped(Duration::from_millis(60)));
    assert!(bench.is_tripped(99));
}

#[test]
fn a_success_between_failures_starts_the_row_anew() {
    let mut bench = Bench::new();

    bench.fail(2, 0);
    bench.record(Admission::Pass, Outcome::Success, 0);
    bench.fail(2, 0);

    assert_eq!(bench.admit(0), Admission::Pass);
}

#[test]
fn half_of_enough_calls_failing_trips_it() {
    let mut bench = Bench::new();

    for idx in 0..10 {
        assert!(!bench.is_tripped(0), "after {idx} calls");
        let outcome = if idx % 2 == 1 { Outcome::Failure } else { Outcome::Success };
        bench.record(Admission::Pass, outcome, 0);
    }

    assert!(bench.is_tripped(0));
}

#[test]
fn failures_of_windows_long_gone_do_not_count() {
    let mut bench = Bench::new();
    for (n_rounds, ms) in [(4, 0), (1, 2_500)] {
        for _ in 0..n_rounds {
            bench.record(Admission::Pass, Outcome::Success, ms);
            bench.record(Admission::Pass, Outcome::Failure, ms);
        }
    }

    assert!(!bench.is_tripped(2_500));
}

#[test]
fn a_burst_across_a_window_border_counts() {
    let mut bench = Bench::new();
    for (n_rounds, ms) in [(4, 990), (1, 1_010)] {
        for _ in 0..n_rounds {
            bench.record(Admission::Pass, Outcome::Success, ms);
            bench.record(Admission::Pass, Outcome::Failure, ms);
        }
    }

    assert!(bench.is_tripped(1_010));
}

#[test]
fn one_probe_goes_when_the_open_period_is_over() {
    let mut bench = Bench::new();
    bench.fail(3, 0);

    assert_eq!(bench.admit(99), Admission::Tripped(Duration::from_millis(1)));
    assert_eq!(bench.admit(100), Admission::Probe(1));

    assert_eq!(bench.admit(150), Admission::Tripped(Duration::from_millis(50)));
}

#[test]
fn a_probe_that_succeeds_closes_it_and_one_that_fails_opens_it_again() {
    for (outcome, after) in [
        (Outcome::Success, Admission::Pass),
        (Outcome::Failure, Admission::Tripped(Duration::from_millis(100))),
    ] {
        let mut bench = Bench::new();
        bench.fail(3, 0);
        let probe = bench.admit(100);

        bench.record(probe, outcome, 120);

        assert_eq!(bench.admit(120), after);
    }
}

#[test]
fn a_probe_that_says_nothing_lets_the_next_call_probe() {
    let mut bench = Bench::new();
    bench.fail(3, 0);
    let probe = bench.admit(100);

    bench.record(probe, Outcome::Neither, 120);

    assert_eq!(bench.admit(120), Admission::Probe(2));
}

#[test]
fn an_overdue_probe_is_replaced_and_decides_nothing_later() {
    let mut bench = Bench::new();
    bench.fail(3, 0);
    let lost = bench.admit(100);

    assert_eq!(bench.admit(200), Admission::Probe(2));
    bench.record(lost, Outcome::Success, 210);

    assert!(bench.is_tripped(210));
}

#[test]
fn calls_from_before_it_tripped_decide_nothing() {
    let mut bench = Bench::new();
    bench.fail(3, 0);

    bench.record(Admission::Pass, Outcome::Success, 10);
    bench.fail(3, 90);

    assert_eq!(bench.admit(100), Admission::Probe(1));
}

#[test]
fn a_permit_dropped_without_a_word_frees_its_probe() {
    let (breakers, name, now) = (Breakers::default(), UpstreamName::from("a"), Instant::now());
    let later = now + Duration::from_millis(100);
    for _ in 0..3 {
        breakers.permit(&name, &CONFIG, now).unwrap().record(Outcome::Failure, now);
    }
    assert!(breakers.permit(&name, &CONFIG, now).is_err());

    let probe = breakers.permit(&name, &CONFIG, later).unwrap();
    assert!(breakers.permit(&name, &CONFIG, later).is_err());
    drop(probe);

    assert!(breakers.permit(&name, &CONFIG, later).is_ok());
}

#[test]
fn upstreams_trip_apart_and_a_new_configuration_starts_closed() {
    let (breakers, now) = (Breakers::default(), Instant::now());
    let [ill, well] = ["ill", "well"].map(UpstreamName::from);
    for _ in 0..3 {
        breakers.permit(&ill, &CONFIG, now).unwrap().record(Outcome::Failure, now);
    }

    assert!(breakers.is_tripped(&ill, now));
    assert!(!breakers.is_tripped(&well, now));
    assert!(breakers.permit(&ill, &BreakerConfig { failures: 9, ..CONFIG }, now).is_ok());
}

#[test]
fn each_mistake_in_the_configuration_is_named() {
    let config = BreakerConfig { failures: 0, error_share: 1.1, min_calls: 1, window_ms: 1, open_ms: 0 };

    let mistakes = config.mistakes();

    assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    assert!(mistakes[2].contains("`breaker.error_share` is 1.1"));
    assert!(BreakerConfig::default().mistakes().is_empty());
}
