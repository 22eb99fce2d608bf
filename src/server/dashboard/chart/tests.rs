//! Charts are well-formed, escaped and whole, whatever the numbers are.

use super::*;

const NAMES: [&str; 4] =
    ["plain", "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "a & b'\"</title></svg>"];

fn columns(n_columns: usize) -> Vec<Column> {
    (0..n_columns).map(|idx| Column { long: format!("long {idx}"), short: format!("{idx}") }).collect()
}

fn series(values: &[&[f64]]) -> Vec<Series> {
    let looks = [Look::Line, Look::Area, Look::Dashed];
    let one = |(idx, values): (usize, &&[f64])| Series {
        name: NAMES[idx % NAMES.len()].to_owned(),
        tone: Tone::Nth(idx),
        look: looks[idx % looks.len()],
        values: values.iter().map(|value| (*value != 404.0).then_some(*value)).collect(),
    };
    values.iter().enumerate().map(one).collect()
}

fn draw(n_columns: usize, values: &[&[f64]]) -> [String; 2] {
    let columns = columns(n_columns);
    let chart = Chart {
        id: "made-up",
        title: NAMES[1],
        about: NAMES[2],
        unit: Unit::Usd,
        columns: &columns,
        series: series(values),
    };
    [chart.stacked().into_string(), chart.lines().into_string()]
}

/// Every element is closed in its order, no name is markup, no number is missing.
fn check(markup: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = markup;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').unwrap_or_else(|| panic!("an open tag in {markup}"));
        rest = after;
        let name = tag.trim_start_matches('/').split(' ').next().unwrap();
        match tag.strip_prefix('/') {
            Some(_) => assert_eq!(open.pop(), Some(name), "{markup}"),
            None => open.push(name),
        }
        assert!(!matches!(name, "script" | "img"), "{markup}");
        assert!(!tag.contains("style=") && tag.matches('"').count() % 2 == 0, "{tag}");
        let coordinates = tag.split(" d=\"").nth(1).and_then(|path| path.split('"').next()).unwrap_or("");
        assert!(!coordinates.contains("NaN") && !coordinates.contains("inf"), "{tag}");
    }
    assert!(open.is_empty(), "{open:?} in {markup}");
}

#[test]
fn any_numbers_give_well_formed_charts() {
    let cases: [(usize, &[&[f64]]); 9] = [
        (0, &[]),
        (3, &[]),
        (3, &[&[0.0, 0.0, 0.0]]),
        (1, &[&[5.0]]),
        (3, &[&[1.0, 2.0, 3.0], &[3.0, 404.0, 1.0], &[0.5, 0.5, 0.5]]),
        (3, &[&[-1.0, -2.0, -3.0], &[3.0, -2.0, 1.0]]),
        (2, &[&[f64::MAX, f64::MIN], &[f64::MAX, f64::MIN]]),
        (3, &[&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY], &[1.0, 1.0, 1.0]]),
        (4, &[&[1.0], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]),
    ];
    for (n_columns, values) in cases {
        draw(n_columns, values).iter().for_each(|markup| check(markup));
    }
}

#[test]
fn names_are_text_wherever_they_stand() {
    for markup in draw(2, &[&[1.0, 2.0], &[1.0, 2.0], &[1.0, 2.0], &[1.0, 2.0]]) {
        check(&markup);
        assert!(markup.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{markup}");
        assert!(!markup.contains("<script") && !markup.contains("<img"), "{markup}");
    }
    let bar = Bar {
        name: NAMES[2].to_owned(),
        href: Some("/x?a=\"><b>".to_owned()),
        value: 1.0,
        tone: Tone::Rest,
        cells: vec![NAMES[1].to_owned()],
    };
    check(&ranking(NAMES[3], &[NAMES[1]], &[bar]).into_string());
    let part = Segment { name: NAMES[3].to_owned(), value: 1.0, shown: NAMES[1].to_owned(), tone: Tone::Bad };
    check(&share_bar(NAMES[2], &[part]).into_string());
    check(&heat_map(NAMES[2], NAMES[1], Unit::Count, &[[1.0; 24]; 7]).into_string());
}

#[test]
fn an_empty_chart_says_so_and_draws_nothing() {
    for markup in [draw(0, &[]), draw(3, &[&[0.0, 0.0, 0.0]]), draw(1, &[&[f64::NAN]])].concat() {
        assert!(markup.contains("Nothing to draw"), "{markup}");
        assert!(!markup.contains("<svg"), "{markup}");
    }
    assert!(heat_map("a", "b", Unit::Count, &[[0.0; 24]; 7]).into_string().contains("Nothing to draw"));
}

#[test]
fn bars_pile_up_and_losses_hang_down() {
    let [markup, _] = draw(1, &[&[30.0], &[20.0], &[-50.0]]);

    // The scale goes from -50 to 50: zero is at half the height.
    assert!(markup.contains(r#"class="bar t0" d="M460 100h80V40h-80z""#), "{markup}");
    assert!(markup.contains(r#"class="bar t1" d="M460 40h80V0h-80z""#), "{markup}");
    assert!(markup.contains(r#"class="bar t2" d="M460 100h80V200h-80z""#), "{markup}");
}

#[test]
fn a_line_breaks_where_a_value_is_missing_and_one_alone_is_a_dot() {
    let [_, markup] = draw(4, &[&[4.0, 2.0, 404.0, 4.0]]);

    assert!(markup.contains(r#"class="line t0" d="M125 0L375 100M875 0h0""#), "{markup}");
}

#[test]
fn the_table_has_every_value_with_its_unit_and_the_total() {
    let [stacked, lines] = draw(2, &[&[1.5, 2.0], &[404.0, 0.25]]);

    for markup in [&stacked, &lines] {
        assert!(markup.contains(r#"<td class="n" data-v="1.5">$1.50</td>"#), "{markup}");
        assert!(markup.contains(r#"<td class="n">–</td>"#), "{markup}");
    }
    assert!(stacked.contains(r#"<td class="n" data-v="2.25">$2.25</td>"#), "{stacked}");
    assert!(!lines.contains("2.25"), "{lines}");
}

#[test]
fn a_meter_warns_before_its_limit_and_at_it() {
    for (used, limit, class) in [
        (0.0, 10.0, "fine"),
        (7.9, 10.0, "fine"),
        (8.0, 10.0, "near"),
        (10.0, 10.0, "over"),
        (1.0, 0.0, "over"),
    ] {
        let markup = meter(used, limit, "said").into_string();
        check(&markup);
        assert!(markup.contains(&format!("meter {class}")), "{used} of {limit}: {markup}");
    }
}

#[test]
fn small_pictures_take_any_number() {
    for values in [&[][..], &[1.0], &[0.0, 0.0], &[1.0, -2.0, f64::NAN, 1e308]] {
        check(&sparkline(values, Tone::Nth(0)).into_string());
    }
    let stage = |from_ms, to_ms| Stage { name: "a", from_ms, to_ms, tone: Tone::Quiet, shown: String::new() };
    for stages in [vec![], vec![stage(0.0, 0.0)], vec![stage(0.0, 5.0), stage(5.0, f64::INFINITY)]] {
        check(&timeline(&stages).into_string());
    }
}
