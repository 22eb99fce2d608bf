//! Tests of budgets: calendar windows, both sides of limits, and that nothing overspends.
//!
//! Invariants: none of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};

use jiff::Timestamp;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::window::MS_PER_DAY;
use super::*;
use crate::team::{KeyId, TeamName};

mod calendars;
mod subjects;

const NOW_MS: i64 = 1_700_000_000_000;

fn team() -> TeamName {
    TeamName::from("search")
}

fn payer() -> Payer {
    Payer::of_team(&team())
}

fn budget(nanos: i64, per: Window) -> Budget {
    Budget::new(NanoUsd::new(nanos), per)
}

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

#[test]
fn windows_are_aligned_to_the_calendar_in_utc() {
    for (window, at, start, end) in [
        (Window::Day, "2024-02-29T23:59:59.999Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
        (Window::Day, "2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z", "2024-03-02T00:00:00Z"),
        (Window::Week, "2024-03-03T23:59:59.999Z", "2024-02-26T00:00:00Z", "2024-03-04T00:00:00Z"),
        (Window::Week, "2024-03-04T00:00:00Z", "2024-03-04T00:00:00Z", "2024-03-11T00:00:00Z"),
        (Window::Month, "2024-02-29T23:59:59.999Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        (Window::Month, "2024-12-31T12:00:00Z", "2024-12-01T00:00:00Z", "2025-01-01T00:00:00Z"),
        (Window::Day, "1969-12-31T12:00:00Z", "1969-12-31T00:00:00Z", "1970-01-01T00:00:00Z"),
    ] {
        assert_eq!(window.bounds_ms(ms(at)), (ms(start), ms(end)), "{window} around {at}");
    }
}

#[test]
fn a_ceiling_at_the_limit_is_held_and_one_nano_dollar_over_is_refused() {
    let budgets = [budget(100, Window::Day)];
    let mut books = Books::default();
    books.spend(&payer(), NOW_MS, NanoUsd::new(40));

    let over = books.hold(&payer(), NOW_MS, NanoUsd::new(61), &budgets).unwrap_err();
    let at = books.hold(&payer(), NOW_MS, NanoUsd::new(60), &budgets);

    assert_eq!((over.balance.spent, over.balance.held), (NanoUsd::new(40), NanoUsd::ZERO));
    assert!(at.is_ok());
    assert_eq!(books.remaining(&payer(), NOW_MS, &budgets), Some(NanoUsd::ZERO));
}

#[test]
fn a_refused_hold_sets_nothing_aside_in_any_budget() {
    let budgets = [budget(100, Window::Month), budget(10, Window::Day)];
    let mut books = Books::default();

    let refused = books.hold(&payer(), NOW_MS, NanoUsd::new(11), &budgets).unwrap_err();

    assert_eq!(&refused.budget, &budgets[1]);
    for window in Window::ALL {
        assert_eq!(books.balance(&team(), window, NOW_MS).held, NanoUsd::ZERO);
    }
}

#[test]
fn a_budget_that_refuses_goes_before_one_that_allows_local_answers() {
    let local = Budget { on_exceed: OnExceed::LocalOnly, ..budget(5, Window::Day) };
    let budgets = [local, budget(5, Window::Month)];
    let mut books = Books::default();

    let both = books.hold(&payer(), NOW_MS, NanoUsd::new(6), &budgets).unwrap_err();
    let one = books.hold(&payer(), NOW_MS, NanoUsd::new(6), &budgets[..1]).unwrap_err();

    assert_eq!(both.budget.on_exceed, OnExceed::Refuse);
    assert_eq!(one.budget.on_exceed, OnExceed::LocalOnly);
}

#[test]
fn a_new_window_starts_empty_and_a_late_settlement_goes_to_the_old_one() {
    let budgets = [budget(100, Window::Day)];
    let mut books = Books::default();
    let (_, midnight_ms) = Window::Day.bounds_ms(NOW_MS);
    let hold = books.hold(&payer(), midnight_ms - 1, NanoUsd::new(90), &budgets).unwrap();

    assert!(books.hold(&payer(), midnight_ms - 1, NanoUsd::new(11), &budgets).is_err());
    assert!(books.hold(&payer(), midnight_ms, NanoUsd::new(100), &budgets).is_ok());
    books.settle(hold, NanoUsd::new(70));

    let old = books.balance(&team(), Window::Day, midnight_ms - 1);
    let new = books.balance(&team(), Window::Day, midnight_ms);
    assert_eq!((old.spent, old.held), (NanoUsd::new(70), NanoUsd::ZERO));
    assert_eq!((new.spent, new.held), (NanoUsd::ZERO, NanoUsd::new(100)));
}

#[test]
fn windows_long_past_are_forgotten_unless_money_is_held_in_them() {
    let mut books = Books::default();
    let hold = books.hold(&payer(), NOW_MS, NanoUsd::new(1), &[]).unwrap();

    for day in 1..50 {
        books.spend(&payer(), NOW_MS + day * MS_PER_DAY, NanoUsd::new(1));
    }

    // The day before the hold's sweep, the weeks and months of 50 days, and the windows that hold.
    let later_ms = NOW_MS + 50 * MS_PER_DAY;
    drop(books.reserve(&payer(), later_ms, NanoUsd::ZERO));
    let n_kept = books.team_books(&team()).accounts.len();
    assert!(n_kept <= 3 + 2 * 3, "{n_kept} accounts");
    assert_eq!(books.balance(&team(), Window::Day, NOW_MS).held, NanoUsd::new(1));
    books.settle(hold, NanoUsd::new(1));
    assert_eq!(books.balance(&team(), Window::Day, NOW_MS).held, NanoUsd::ZERO);
}

#[test]
fn a_budget_is_read_from_numbers_and_text_and_refuses_what_is_neither() {
    let read = |usd: &str| toml::from_str::<Budget>(&format!("usd = {usd}\nper = \"month\""));

    assert_eq!(read("500").unwrap().usd, NanoUsd::from_usd("500").unwrap());
    assert_eq!(read("0.1").unwrap().usd, NanoUsd::from_usd("0.1").unwrap());
    assert_eq!(read("\"0.000000001\"").unwrap().usd, NanoUsd::new(1));
    assert_eq!(read("1").unwrap().on_exceed, OnExceed::Refuse);
    for wrong in ["-1", "\"1 dollar\"", "true", "0.0000000001"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_hundred_callers_at_the_edge_never_pass_the_limit() {
    const LIMIT: i64 = 1_000;
    let budgets = Arc::new([budget(LIMIT, Window::Day), budget(LIMIT * 2, Window::Month)]);
    let books = Arc::new(Mutex::new(Books::default()));
    let (start, granted) = (Arc::new(Barrier::new(100)), Arc::new(AtomicI64::new(0)));

    std::thread::scope(|threads| {
        for caller in 0..100 {
            let (budgets, books) = (budgets.clone(), books.clone());
            let (start, granted) = (start.clone(), granted.clone());
            threads.spawn(move || {
                start.wait();
                let ceiling = NanoUsd::new(11 + caller % 7);
                let held = books.lock().hold(&payer(), NOW_MS, ceiling, budgets.as_slice());
                if let Ok(reserved) = held {
                    granted.fetch_add(ceiling.get(), Ordering::Relaxed);
                    books.lock().settle(reserved, ceiling);
                }
            });
        }
    });

    let spent = books.lock().balance(&team(), Window::Day, NOW_MS).spent.get();
    assert_eq!(spent, granted.load(Ordering::Relaxed));
    assert!(spent <= LIMIT && spent > LIMIT - 18, "{spent} of {LIMIT}");
}

#[derive(Debug, Clone)]
enum Op {
    Hold { team: u8, ceiling: i64 },
    Settle { which: usize, share: i64 },
    Advance { by_ms: i64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3u8, 0..400i64).prop_map(|(team, ceiling)| Op::Hold { team, ceiling }),
        3 => (any::<usize>(), 0..=100i64).prop_map(|(which, share)| Op::Settle { which, share }),
        1 => (0..3 * MS_PER_DAY).prop_map(|by_ms| Op::Advance { by_ms }),
    ]
}

proptest! {
    #[test]
    fn no_interleaving_overspends_and_every_balance_is_the_sum_of_its_parts(
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let budgets = [budget(1_000, Window::Day), budget(2_500, Window::Week), budget(4_000, Window::Month)];
        let mut books = Books::default();
        let mut now_ms = NOW_MS;
        let mut open: Vec<(Reserved, i64)> = Vec::new();
        let mut spent: HashMap<(TeamName, Window, i64), i64> = HashMap::new();
        for op in ops {
            match op {
                Op::Hold { team, ceiling } => {
                    let payer = Payer::of_team(&TeamName::from(&format!("t{team}")));
                    if let Ok(reserved) = books.hold(&payer, now_ms, NanoUsd::new(ceiling), &budgets) {
                        open.push((reserved, ceiling));
                    }
                }
                Op::Settle { which, share } => {
                    if open.is_empty() { continue }
                    let (reserved, ceiling) = open.swap_remove(which % open.len());
                    let cost = ceiling * share / 100;
                    for window in Window::ALL {
                        let (start_ms, _) = window.bounds_ms(reserved.ts_ms);
                        *spent.entry((reserved.payer.team.clone(), window, start_ms)).or_default() += cost;
                    }
                    books.settle(reserved, NanoUsd::new(cost));
                }
                Op::Advance { by_ms } => now_ms += by_ms,
            }
            for team in ["t0", "t1", "t2"].map(TeamName::from) {
                for budget in &budgets {
                    let balance = books.balance(&team, budget.per, now_ms);
                    let (start_ms, _) = budget.per.bounds_ms(now_ms);
                    let held: i64 = open.iter()
                        .filter(|(r, _)| r.payer.team == team && budget.per.bounds_ms(r.ts_ms).0 == start_ms)
                        .map(|(_, ceiling)| ceiling)
                        .sum();
                    let booked = spent.get(&(team.clone(), budget.per, start_ms)).copied().unwrap_or(0);
                    prop_assert_eq!(balance.held.get(), held);
                    prop_assert_eq!(balance.spent.get(), booked);
                    prop_assert!(balance.spent + balance.held <= budget.usd);
                }
            }
        }
    }
}
