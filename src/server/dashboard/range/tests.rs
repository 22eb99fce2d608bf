//! URLs are read as they were meant, at both sides of each limit, and junk is told.

use super::*;

/// Saturday 21 November 2026, 23:20 UTC.
const NOW_MS: i64 = 1_795_303_200_000;

fn ask(query: &str) -> Ask {
    let uri: http::Uri = format!("/dashboard/overview?{query}").parse().unwrap();
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).unwrap();
    Ask::parse(&pairs.0)
}

fn days(query: &str) -> (String, String) {
    let span = ask(query).range.span(NOW_MS);
    (format::time(span.from_ms, "%F %H:%M"), format::time(span.to_ms, "%F %H:%M"))
}

fn check(query: &str, from: &str, to: &str) {
    assert_eq!(days(query), (from.to_owned(), to.to_owned()), "{query}");
}

#[test]
fn presets_end_with_the_hour_or_the_day_that_runs() {
    check("range=24h", "2026-11-21 00:00", "2026-11-22 00:00");
    check("range=7d", "2026-11-15 00:00", "2026-11-22 00:00");
    check("", "2026-10-23 00:00", "2026-11-22 00:00");
    check("range=90d", "2026-08-24 00:00", "2026-11-22 00:00");
    check("range=month", "2026-11-01 00:00", "2026-11-22 00:00");
    check("range=last-month", "2026-10-01 00:00", "2026-11-01 00:00");
}

#[test]
fn dates_of_ones_own_include_the_last_day_in_any_order() {
    check("range=custom&from=2026-11-03&to=2026-11-05", "2026-11-03 00:00", "2026-11-06 00:00");
    check("from=2026-11-05&to=2026-11-03", "2026-11-03 00:00", "2026-11-06 00:00");
    check("from=2026-11-05", "2026-11-05 00:00", "2026-11-06 00:00");
    check("range=7d&from=2026-01-01&to=2026-01-02", "2026-11-15 00:00", "2026-11-22 00:00");
}

#[test]
fn three_days_have_hours_and_four_have_days() {
    let three = ask("from=2026-11-01&to=2026-11-03").range.span(NOW_MS);
    let four = ask("from=2026-11-01&to=2026-11-04").range.span(NOW_MS);

    assert_eq!((three.grain, three.n_columns()), (Grain::Hour, 72));
    assert_eq!((four.grain, four.n_columns()), (Grain::Day, 4));
    assert_eq!(three.columns()[1].long, "Sun 1 Nov 2026, 01:00");
    assert_eq!(four.columns()[3].short, "4 Nov");
}

#[test]
fn a_moment_falls_into_its_column_or_into_none() {
    let span = ask("from=2026-11-01&to=2026-11-04").range.span(NOW_MS);

    assert_eq!(span.column_at(span.from_ms - 1), None);
    assert_eq!(span.column_at(span.from_ms), Some(0));
    assert_eq!(span.column_at(span.from_ms + DAY_MS - 1), Some(0));
    assert_eq!(span.column_at(span.to_ms - 1), Some(3));
    assert_eq!(span.column_at(span.to_ms), None);
    assert_eq!(span.before().to_ms, span.from_ms);
    assert_eq!(span.before().n_columns(), 4);
    assert_eq!((span.last_days(3).n_columns(), span.last_days(5).n_columns()), (3, 4));
}

#[test]
fn a_range_is_at_most_as_long_as_can_be_drawn() {
    let at_most = ask("from=2025-01-01&to=2026-02-04");
    let longer = ask("from=2025-01-01&to=2026-02-05");

    assert_eq!(at_most.range.span(NOW_MS).n_columns(), 400);
    assert_eq!(at_most.notices, Vec::<String>::new());
    assert_eq!(longer.range, at_most.range);
    assert_eq!(longer.notices, ["At most 400 days are shown, so the range ends at 2026-02-04."]);
}

#[test]
fn junk_becomes_a_default_and_a_notice() {
    for (query, part) in [
        ("range=fortnight", "`fortnight` is no range"),
        ("from=2026-02-30&to=2026-03-01", "`2026-02-30` is no date"),
        ("from=2026-02-03&to=yesterday", "`yesterday` is no date"),
        ("from=-009999-01-01&to=2026-02-03", "is no date"),
        ("from=9999-12-31", "is no date"),
        ("outcome=fine", "`fine` is no outcome"),
        ("before=17", "`17` is no before"),
        ("team=%00", "`team` holds characters"),
        ("q=x%0a%0dy", "`q` holds characters"),
    ] {
        let ask = ask(query);
        assert!(ask.notices.len() == 1 && ask.notices[0].contains(part), "{query}: {:?}", ask.notices);
        assert_eq!(Ask { notices: Vec::new(), ..ask }, Ask::default(), "{query}");
    }
}

#[test]
fn a_name_may_be_as_long_as_names_are_and_no_longer() {
    let most = ask(&format!("team={}", "ä".repeat(200).replace('ä', "%C3%A4")));
    let longer = ask(&format!("team={}", "a".repeat(201)));

    assert_eq!(most.team, Some("ä".repeat(200)));
    assert_eq!((longer.team, longer.notices.len()), (None, 1));
}

#[test]
fn what_is_written_back_is_read_as_the_same() {
    for query in [
        "",
        "range=24h&team=search&route=auto",
        "from=2026-11-03&to=2026-11-05&q=a%20%26b%3D%3Cc%3E%22%27%2B%25",
        "range=90d&team=%F0%9F%A6%80%20%E2%80%AE&outcome=client_gone",
        "before=0199c0de-0000-7000-8000-000000000001",
    ] {
        let first = ask(query);
        assert_eq!(ask(&first.query()), first, "{query}");
        assert!(first.query().bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"'".contains(&byte)));
    }
}

#[test]
fn links_keep_the_filters_and_begin_at_the_first_page() {
    let ask = ask("range=7d&team=a&route=r&q=x&before=0199c0de-0000-7000-8000-000000000001");

    assert_eq!(ask.shared().query(), "range=7d&team=a&route=r");
    assert_eq!(ask.with_team("b").query(), "range=7d&team=b&route=r&q=x");
    assert_eq!(ask.with_range(Range::Preset(Preset::Day)).query(), "range=24h&team=a&route=r&q=x");
    assert_eq!(ask.with_search("y z").query(), "range=7d&team=a&route=r&q=y%20z");
    assert_eq!(ask.with_route("s").query(), "range=7d&team=a&route=s&q=x");
}
