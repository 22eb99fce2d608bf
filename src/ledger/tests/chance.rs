//! Any order of calls, crashes and outages leaves one row a call, and balances that add up.
//!
//! Invariants: [`Model`] is the whole specification: what was sent is in the book once, at the cost
//! it ended with; what was never sent is not in it.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::crash::crash;
use super::*;

const LIMIT: i64 = 5_000;

#[derive(Debug, Clone)]
enum Step {
    Hold { ceiling: i64 },
    Sent { which: usize },
    Progress { which: usize, share: i64 },
    Post { which: usize, share: i64 },
    Void { which: usize },
    Drop { which: usize },
    Record { cost: i64 },
    Advance { by_ms: i64 },
    AwayFor { n_calls: u8 },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let which = any::<usize>;
    prop_oneof![
        6 => (1..400i64).prop_map(|ceiling| Step::Hold { ceiling }),
        6 => which().prop_map(|which| Step::Sent { which }),
        4 => (which(), 0..=100i64).prop_map(|(which, share)| Step::Progress { which, share }),
        3 => (which(), 0..=100i64).prop_map(|(which, share)| Step::Post { which, share }),
        1 => which().prop_map(|which| Step::Void { which }),
        2 => which().prop_map(|which| Step::Drop { which }),
        1 => (0..5i64).prop_map(|cost| Step::Record { cost }),
        2 => (0..400i64).prop_map(|by_ms| Step::Advance { by_ms }),
        1 => (1..5u8).prop_map(|n_calls| Step::AwayFor { n_calls }),
        1 => Just(Step::Crash),
    ]
}

/// A call in flight, as the model sees it.
struct Flight {
    hold: Hold,
    ceiling: i64,
    is_sent: bool,
    /// The cost metered so far.
    metered: Option<i64>,
    /// The cost last journalled, and when.
    journalled: Option<(i64, i64)>,
}

#[derive(Default)]
struct Model {
    flights: Vec<Flight>,
    rows: HashMap<CallId, i64>,
}

impl Model {
    fn take(&mut self, which: usize, want_sent: bool) -> Option<Flight> {
        let fit: Vec<_> = (0..self.flights.len()).filter(|n| self.flights[*n].is_sent == want_sent).collect();
        (!fit.is_empty()).then(|| self.flights.swap_remove(fit[which % fit.len()]))
    }

    fn end(&mut self, id: CallId, cost: i64) {
        assert_eq!(self.rows.insert(id, cost), None, "a call ends once");
    }

    fn spent(&self) -> i64 {
        self.rows.values().sum()
    }

    fn held(&self) -> i64 {
        self.flights.iter().map(|flight| flight.ceiling).sum()
    }
}

fn hold(book: &Book, model: &mut Model, ceiling: i64) {
    let fits = model.spent() + model.held() + ceiling <= LIMIT;
    let granted = hold_now(&book.ledger, ask(ceiling, &per_day(LIMIT)));
    assert_eq!(granted.is_ok(), fits, "{granted:?}");
    if let Ok(hold) = granted {
        model.flights.push(Flight { hold, ceiling, is_sent: false, metered: None, journalled: None });
    }
}

fn progress(flight: &mut Flight, now_ms: i64, share: i64) {
    let cost = flight.ceiling * share / 100;
    flight.hold.progress(used(1), NanoUsd::new(cost));
    let cost = flight.metered.map_or(cost, |metered| metered.max(cost));
    flight.metered = Some(cost);
    if flight.journalled.is_none_or(|(_, at_ms)| now_ms - at_ms >= 250) {
        flight.journalled = Some((cost, now_ms));
    }
}

async fn post_while_away(book: &Book, model: &mut Model, n_calls: u8) {
    let options = SqliteConnectOptions::new().filename(&book.config.path);
    let mut away = options.connect().await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut away).await.unwrap();
    for _ in 0..n_calls {
        let entry = Entry { cost: Some(NanoUsd::ZERO), ..draft(NOW_MS) };
        model.end(entry.id, 0);
        book.ledger.record(entry).unwrap();
    }
    away.close().await.unwrap();
}

async fn crash_all(book: Book, model: &mut Model) -> Book {
    let mut holds = Vec::new();
    for flight in std::mem::take(&mut model.flights) {
        if flight.is_sent {
            let cost = flight.journalled.map_or(flight.ceiling, |(cost, _)| cost);
            model.end(flight.hold.draft().id, cost);
        }
        holds.push(flight.hold);
    }
    crash(book, holds).await
}

fn take_step(book: &Book, model: &mut Model, step: &Step) {
    match *step {
        Step::Hold { ceiling } => hold(book, model, ceiling),
        Step::Sent { which } => {
            if let Some(mut flight) = model.take(which, false) {
                send(&mut flight.hold);
                model.flights.push(Flight { is_sent: true, ..flight });
            }
        }
        Step::Progress { which, share } => {
            if let Some(mut flight) = model.take(which, true) {
                progress(&mut flight, book.clock.now_ms(), share);
                model.flights.push(flight);
            }
        }
        Step::Post { which, share } => {
            if let Some(flight) = model.take(which, true) {
                let cost = flight.ceiling * share / 100;
                let entry = ended(&flight.hold, cost);
                model.end(entry.id, cost);
                flight.hold.post(entry);
            }
        }
        Step::Void { which } => {
            if let Some(flight) = model.take(which, true) {
                let entry = ended(&flight.hold, 1);
                model.end(entry.id, 0);
                flight.hold.void(entry);
            }
        }
        Step::Drop { which } => {
            if let Some(flight) = model.take(which, which % 2 == 0)
                && flight.is_sent
            {
                model.end(flight.hold.draft().id, flight.metered.unwrap_or(0));
            }
        }
        Step::Record { cost } => {
            let entry = Entry { cost: Some(NanoUsd::new(cost)), ..draft(NOW_MS) };
            model.end(entry.id, cost);
            book.ledger.record(entry).unwrap();
        }
        Step::Advance { by_ms } => book.clock.advance(by_ms),
        Step::AwayFor { .. } | Step::Crash => unreachable!("these wait, and are taken by `live`"),
    }
}

async fn live(steps: Vec<Step>) -> TestCaseResult {
    let mut book = Book::with(|config| config.segment_bytes = 6_000).await;
    let mut model = Model::default();
    for step in &steps {
        if let Step::Crash = step {
            book = crash_all(book, &mut model).await;
        } else if let Step::AwayFor { n_calls } = step {
            post_while_away(&book, &mut model, *n_calls).await;
        } else {
            take_step(&book, &mut model, step);
        }
        let balance = book.ledger.balance(&team(), Window::Day);
        prop_assert_eq!((balance.spent.get(), balance.held.get()), (model.spent(), model.held()));
    }
    let book = crash_all(book, &mut model).await;
    let rows = book.rows().await;
    let by_id: HashMap<_, _> = rows.iter().map(|row| (row.id, row.charge().get())).collect();
    prop_assert_eq!(rows.len(), by_id.len());
    prop_assert_eq!(by_id, model.rows);
    book.close().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_calls_crashes_and_outages_leaves_one_row_a_call(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(live(steps))?;
    }
}
