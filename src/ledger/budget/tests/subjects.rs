//! Budgets of keys and users, soft lines, and that strangers' names take no memory without a bound.
//!
//! Invariants: none of its own.

use super::*;

fn of(of: Of, nanos: i64) -> Budget {
    Budget { of, ..budget(nanos, Window::Day) }
}

fn by(key: &str, user: &str) -> Payer {
    let user = (!user.is_empty()).then(|| Arc::from(user));
    Payer { key: Some(KeyId::from(key)), user, ..payer() }
}

fn spend(books: &mut Books, payer: &Payer, nanos: i64, budgets: &[Budget]) -> bool {
    let held = books.hold(payer, NOW_MS, NanoUsd::new(nanos), budgets);
    held.map(|reserved| books.settle(reserved, NanoUsd::new(nanos))).is_ok()
}

#[test]
fn each_key_and_each_user_has_an_amount_of_its_own_within_the_teams() {
    let budgets = [of(Of::Team, 100), of(Of::EachKey, 60), of(Of::EachUser, 40)];
    let mut books = Books::default();

    assert!(spend(&mut books, &by("a", "ann"), 40, &budgets));
    assert!(!spend(&mut books, &by("a", "ann"), 1, &budgets), "ann has spent hers");
    assert!(spend(&mut books, &by("a", "bob"), 20, &budgets));
    assert!(!spend(&mut books, &by("a", "bob"), 1, &budgets), "key a is spent, bob is not");
    assert!(spend(&mut books, &by("b", "bob"), 20, &budgets));
    assert!(!spend(&mut books, &by("b", "bob"), 1, &budgets), "bob has spent his with both keys");
    assert!(spend(&mut books, &by("b", "cleo"), 20, &budgets));
    let refused = books.hold(&by("c", "dan"), NOW_MS, NanoUsd::new(1), &budgets).unwrap_err();
    assert_eq!(refused.subject, Subject::Team);
}

#[test]
fn whoever_names_no_user_cannot_leave_a_users_budget() {
    let budgets = [of(Of::EachUser, 40)];
    let mut books = Books::default();

    assert!(spend(&mut books, &by("a", ""), 40, &budgets));

    assert!(!spend(&mut books, &by("b", ""), 1, &budgets));
    assert!(spend(&mut books, &by("b", "ann"), 40, &budgets));
}

#[test]
fn users_beyond_the_bound_share_one_account_and_are_never_forgotten() {
    let budgets = [of(Of::EachUser, 10)];
    let mut books = Books::default();
    for nth in 0..books::MAX_USERS {
        assert!(spend(&mut books, &by("a", &format!("user {nth}")), 10, &budgets));
    }

    assert!(spend(&mut books, &by("a", "one more"), 6, &budgets));
    assert!(!spend(&mut books, &by("a", "another"), 5, &budgets), "they share what is left");
    assert!(spend(&mut books, &by("a", "another"), 4, &budgets));
    assert!(!spend(&mut books, &by("a", "user 7"), 1, &budgets), "who was there is still known");

    let n_users = books.team_books(&team()).accounts.keys().filter(|id| id.subject.of() == Of::EachUser);
    assert_eq!(n_users.count(), books::MAX_USERS + 1);
}

#[test]
fn a_user_who_spent_nothing_takes_no_memory() {
    let budgets = [of(Of::EachUser, 10)];
    let mut books = Books::default();

    for nth in 0..100 {
        let user = by("a", &format!("user {nth}"));
        assert!(books.hold(&user, NOW_MS, NanoUsd::new(11), &budgets).is_err());
        assert!(spend(&mut books, &user, 0, &budgets));
        let void = books.hold(&user, NOW_MS, NanoUsd::new(5), &budgets).unwrap();
        books.settle(void, NanoUsd::ZERO);
    }

    assert!(books.team_books(&team()).accounts.keys().all(|id| id.subject == Subject::Team));
}

#[test]
fn a_budget_that_warns_stops_nothing_and_is_past_at_its_amount() {
    let budgets = [Budget { on_exceed: OnExceed::Warn, ..of(Of::Team, 100) }];
    let mut books = Books::default();

    assert!(spend(&mut books, &payer(), 99, &budgets));
    assert_eq!(books.warnings(&payer(), NOW_MS, &budgets), []);
    assert!(spend(&mut books, &payer(), 1_000, &budgets));

    let warnings = books.warnings(&payer(), NOW_MS, &budgets);
    assert_eq!(warnings[0].to_string(), "day team search 1099%");
    assert_eq!(books.remaining(&payer(), NOW_MS, &budgets), None, "only hard budgets run out");
}

#[test]
fn a_soft_line_is_told_once_a_window_and_each_line_for_itself() {
    let soft = |share: f64| Budget { soft: Some(Share::try_from(share).unwrap()), ..of(Of::Team, 100) };
    let budgets = [soft(0.5), soft(0.8)];
    let mut books = Books::default();
    let mut told = |nanos, at_ms| {
        let held = books.hold(&payer(), at_ms, NanoUsd::new(nanos), &budgets).unwrap();
        books.settle_and_tell(held, NanoUsd::new(nanos), &budgets).len()
    };

    assert_eq!(told(49, NOW_MS), 0);
    assert_eq!(told(1, NOW_MS), 1, "at the line");
    assert_eq!(told(10, NOW_MS), 0, "once");
    assert_eq!(told(25, NOW_MS), 1, "the other line");
    assert_eq!(told(0, NOW_MS), 0);
    assert_eq!(told(90, NOW_MS + MS_PER_DAY), 2, "a new window");
}

#[test]
fn what_was_past_its_line_before_a_start_is_not_told_again() {
    let budgets = [Budget { soft: Some(Share::try_from(0.5).unwrap()), ..of(Of::Team, 100) }];
    let mut books = Books::default();
    let id = books.account_id(&payer(), Of::Team, &budgets[0].calendar(), NOW_MS);
    books.add_past(&team(), &id, NanoUsd::new(60));

    let held = books.hold(&payer(), NOW_MS, NanoUsd::new(1), &budgets).unwrap();

    assert_eq!(books.settle_and_tell(held, NanoUsd::new(1), &budgets), []);
    assert_eq!(books.warnings(&payer(), NOW_MS, &budgets).len(), 1, "calls still carry it");
}

#[test]
fn a_share_is_more_than_nothing_and_less_than_all() {
    let read = |soft: &str| toml::from_str::<Budget>(&format!("usd = 10\nper = \"day\"\nsoft = {soft}"));

    assert_eq!(read("0.8").unwrap().soft_line(), NanoUsd::from_usd("8"));
    assert_eq!(read("0.0001").unwrap().soft_line(), NanoUsd::from_usd("0.001"));
    for wrong in ["0", "0.0", "1.0", "1.5", "-0.1", "nan"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn budgets_with_the_same_window_hold_once_in_one_account() {
    let budgets = [of(Of::Team, 100), of(Of::Team, 200)];
    let mut books = Books::default();

    let held = books.hold(&payer(), NOW_MS, NanoUsd::new(60), &budgets).unwrap();

    assert_eq!(books.balance(&team(), Window::Day, NOW_MS).held, NanoUsd::new(60));
    books.settle(held, NanoUsd::new(60));
    assert_eq!(books.remaining(&payer(), NOW_MS, &budgets), Some(NanoUsd::new(40)));
}

#[test]
fn a_call_let_through_for_local_answers_counts_in_the_budget_it_did_not_name() {
    let local = Budget { on_exceed: OnExceed::LocalOnly, ..of(Of::Team, 10) };
    let key = of(Of::EachKey, 100);
    let mut books = Books::default();
    assert!(spend(&mut books, &by("a", ""), 10, &[local.clone(), key.clone()]));

    assert!(spend(&mut books, &by("a", ""), 5, std::slice::from_ref(&key)));

    assert_eq!(books.balance(&team(), Window::Day, NOW_MS).spent, NanoUsd::new(15));
}
