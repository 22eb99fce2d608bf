//! Windows in time zones: days of 23 and 25 hours, half hours, and midnights that do not exist.
//!
//! Invariants: none of its own.

use super::*;

const HOUR_MS: i64 = 3_600_000;

fn calendar(per: Window, zone: &str) -> Calendar {
    Calendar { per, zone: Zone::named(zone).unwrap() }
}

fn check(per: Window, zone: &str, at: &str, [start, end]: [&str; 2]) {
    let span = calendar(per, zone).span(ms(at));

    assert_eq!(span, Span { start_ms: ms(start), end_ms: ms(end) }, "{per} in {zone} around {at}");
}

#[test]
fn days_are_23_and_25_hours_long_when_the_clock_changes() {
    let berlin = calendar(Window::Day, "Europe/Berlin");
    for (at, hours) in
        [("2025-03-30T12:00:00Z", 23), ("2025-10-26T12:00:00Z", 25), ("2025-10-27T12:00:00Z", 24)]
    {
        let Span { start_ms, end_ms } = berlin.span(ms(at));
        assert_eq!((end_ms - start_ms) / HOUR_MS, hours, "{at}");
    }
    let week = calendar(Window::Week, "Europe/Berlin").span(ms("2025-03-30T12:00:00Z"));
    assert_eq!((week.end_ms - week.start_ms) / HOUR_MS, 7 * 24 - 1);
}

#[test]
fn windows_begin_at_midnight_of_the_zone() {
    for (per, zone, at, span) in [
        (
            Window::Day,
            "Europe/Berlin",
            "2025-06-30T22:00:00Z",
            ["2025-06-30T22:00:00Z", "2025-07-01T22:00:00Z"],
        ),
        (
            Window::Day,
            "Europe/Berlin",
            "2025-06-30T21:59:59.999Z",
            ["2025-06-29T22:00:00Z", "2025-06-30T22:00:00Z"],
        ),
        (
            Window::Month,
            "Europe/Berlin",
            "2025-03-15T00:00:00Z",
            ["2025-02-28T23:00:00Z", "2025-03-31T22:00:00Z"],
        ),
        (
            Window::Month,
            "America/New_York",
            "2025-11-01T03:59:59Z",
            ["2025-10-01T04:00:00Z", "2025-11-01T04:00:00Z"],
        ),
        (
            Window::Day,
            "Asia/Kolkata",
            "2025-06-01T18:30:00Z",
            ["2025-06-01T18:30:00Z", "2025-06-02T18:30:00Z"],
        ),
        (
            Window::Day,
            "Asia/Kathmandu",
            "2025-06-01T18:14:59Z",
            ["2025-05-31T18:15:00Z", "2025-06-01T18:15:00Z"],
        ),
        // Sunday in Auckland is still Saturday in UTC.
        (
            Window::Week,
            "Pacific/Auckland",
            "2025-07-12T13:00:00Z",
            ["2025-07-06T12:00:00Z", "2025-07-13T12:00:00Z"],
        ),
        // Half an hour is all that Lord Howe Island puts its clocks forward.
        (
            Window::Day,
            "Australia/Lord_Howe",
            "2025-10-04T20:00:00Z",
            ["2025-10-04T13:30:00Z", "2025-10-05T13:00:00Z"],
        ),
    ] {
        check(per, zone, at, span);
    }
}

#[test]
fn a_day_whose_midnight_is_skipped_begins_with_the_first_hour_there_is() {
    let day = ["2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"];

    check(Window::Day, "America/Sao_Paulo", "2018-11-04T03:00:00Z", day);
    check(Window::Day, "America/Sao_Paulo", "2018-11-04T02:59:59.999Z", ["2018-11-03T03:00:00Z", day[0]]);
}

#[test]
fn a_zone_is_read_by_its_name_and_another_word_is_refused() {
    let read =
        |zone: &str| toml::from_str::<Budget>(&format!("usd = 1\nper = \"day\"\ntime_zone = \"{zone}\""));

    assert_eq!(read("Europe/Berlin").unwrap().time_zone.name(), "Europe/Berlin");
    assert_eq!(read("UTC").unwrap(), budget(1_000_000_000, Window::Day));
    for wrong in ["Berlin", "CEST", "+02:00", ""] {
        let problem = read(wrong).unwrap_err().to_string();
        assert!(problem.contains("IANA"), "{wrong}: {problem}");
    }
}

#[test]
fn a_budget_of_a_zone_is_new_at_its_midnight() {
    let berlin = Budget { time_zone: Zone::named("Europe/Berlin").unwrap(), ..budget(100, Window::Day) };
    let budgets = [berlin];
    let mut books = Books::default();
    let midnight_ms = ms("2025-10-26T23:00:00Z");

    let last = books.hold(&payer(), midnight_ms - 25 * HOUR_MS, NanoUsd::new(100), &budgets).unwrap();
    books.settle(last, NanoUsd::new(100));

    assert!(books.hold(&payer(), midnight_ms - 1, NanoUsd::new(1), &budgets).is_err());
    assert!(books.hold(&payer(), midnight_ms, NanoUsd::new(100), &budgets).is_ok());
}

proptest! {
    #[test]
    fn the_windows_of_a_calendar_follow_each_other_without_gap_or_overlap(
        at_s in 0..4_000_000_000_i64,
        zone in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe",
            "America/Sao_Paulo", "Pacific/Apia", "America/Havana", "Africa/Cairo",
        ]),
        per in prop::sample::select(Window::ALL.to_vec()),
    ) {
        let calendar = calendar(per, zone);
        let span = calendar.span(at_s * 1_000);

        prop_assert!(span.contains(at_s * 1_000), "{zone} {span:?}");
        prop_assert_eq!(calendar.span(span.start_ms), span);
        prop_assert_eq!(calendar.span(span.end_ms - 1), span);
        prop_assert_eq!(calendar.span(span.end_ms).start_ms, span.end_ms);
    }
}
