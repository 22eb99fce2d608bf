//! From rows of a report to series of a chart: a value a column, the greatest names each on its own.
//!
//! Pure. Knows what is counted where, and nothing of how it is drawn.
//!
//! Invariants: every row within the span is in exactly one series, so that a stack is as high as the total.

use std::collections::BTreeMap;

use super::chart::{Look, N_TONES, Series, Tone};
use super::format::name;
use super::range::Span;
use crate::ledger::report::{SpendRow, Sums};

/// A sum, by column of the span.
pub(super) fn by_column(span: &Span, rows: &[SpendRow]) -> Vec<Sums> {
    let mut columns = vec![Sums::default(); span.n_columns()];
    for row in rows {
        if let Some(column) = span.column_at(row.at_ms).and_then(|idx| columns.get_mut(idx)) {
            column.add(&row.sums);
        }
    }
    columns
}

/// One series for all rows; where `value` says nothing, the line is broken.
pub(super) fn line(columns: &[Sums], label: &str, tone: Tone, value: fn(&Sums) -> Option<f64>) -> Series {
    let values = columns.iter().map(value).collect();
    Series { name: label.to_owned(), tone, look: Look::Line, values }
}

/// A series for each of the names that come to most, and one for the others.
pub(super) fn greatest(span: &Span, rows: &[SpendRow], value: fn(&Sums) -> f64) -> Vec<Series> {
    let mut by_name: Vec<(String, Vec<f64>)> = named(span, rows, value).into_iter().collect();
    let size = |values: &[f64]| values.iter().map(|value| value.abs()).sum::<f64>();
    by_name.sort_by(|(_, a), (_, b)| size(b).total_cmp(&size(a)));
    let rest = if by_name.len() > N_TONES { by_name.split_off(N_TONES - 1) } else { Vec::new() };
    let mut series: Vec<Series> = by_name
        .into_iter()
        .enumerate()
        .map(|(idx, (label, values))| bars(name(&label), Tone::Nth(idx), values))
        .collect();
    if !rest.is_empty() {
        let label = format!("{} others", rest.len());
        let mut values = vec![0.0; span.n_columns()];
        for (_, one) in &rest {
            values.iter_mut().zip(one).for_each(|(sum, value)| *sum += value);
        }
        series.push(bars(&label, Tone::Rest, values));
    }
    series
}

/// A series for each of `known`, in that order, with the tone it always has.
pub(super) fn known(
    span: &Span,
    rows: &[SpendRow],
    known: &[(&str, &str, Tone)],
    value: fn(&Sums) -> f64,
) -> Vec<Series> {
    let mut by_name = named(span, rows, value);
    let one = |(word, label, tone): &(&str, &str, Tone)| Some(bars(label, *tone, by_name.remove(*word)?));
    known.iter().filter_map(one).collect()
}

fn named(span: &Span, rows: &[SpendRow], value: fn(&Sums) -> f64) -> BTreeMap<String, Vec<f64>> {
    let mut by_name = BTreeMap::<String, Vec<f64>>::new();
    for row in rows {
        let Some(idx) = span.column_at(row.at_ms) else { continue };
        let label = row.names.first().cloned().unwrap_or_default();
        let values = by_name.entry(label).or_insert_with(|| vec![0.0; span.n_columns()]);
        if let Some(column) = values.get_mut(idx) {
            *column += value(&row.sums);
        }
    }
    by_name
}

fn bars(label: &str, tone: Tone, values: Vec<f64>) -> Series {
    let values = values.into_iter().map(Some).collect();
    Series { name: label.to_owned(), tone, look: Look::Line, values }
}

/// A label, its tone, and how many calls are meant.
type Answered = (&'static str, Tone, fn(&Sums) -> u64);

/// Calls by what answered them, each in its tone; what answered none is left out.
pub(super) fn by_path(columns: &[Sums]) -> Vec<Series> {
    let paths: [Answered; 5] = [
        ("Upstream", Tone::Nth(0), |sums| sums.n_upstream),
        ("Local model", Tone::Nth(1), |sums| sums.n_local),
        ("Exact cache", Tone::Nth(2), |sums| sums.n_hits_exact),
        ("Semantic cache", Tone::Nth(4), |sums| sums.n_hits_semantic),
        ("Not answered", Tone::Rest, n_unanswered),
    ];
    let one =
        |(label, tone, n): Answered| bars(label, tone, columns.iter().map(|sums| n(sums) as f64).collect());
    let is_some = |series: &Series| series.values.iter().any(|value| value.is_some_and(|n| n > 0.0));
    paths.into_iter().map(one).filter(is_some).collect()
}

fn n_unanswered(sums: &Sums) -> u64 {
    let n_answered = sums.n_upstream + sums.n_local + n_hits(sums);
    sums.n_calls.saturating_sub(n_answered)
}

/// What the cache said, each in its tone.
pub(super) const CACHE: [(&str, &str, Tone); 4] = [
    ("hit-exact", "Exact hit", Tone::Nth(2)),
    ("hit-semantic", "Semantic hit", Tone::Nth(4)),
    ("miss", "Miss", Tone::Nth(0)),
    ("bypass", "Bypass", Tone::Rest),
];

pub(super) fn cost(sums: &Sums) -> f64 {
    sums.cost.as_usd()
}

pub(super) fn n_calls(sums: &Sums) -> f64 {
    sums.n_calls as f64
}

pub(super) fn n_hits(sums: &Sums) -> u64 {
    sums.n_hits_exact + sums.n_hits_semantic
}

/// A part of the calls in percent; nothing where there are no calls.
pub(super) fn percent_of_calls(part: u64, sums: &Sums) -> Option<f64> {
    (sums.n_calls > 0).then(|| part as f64 / sums.n_calls as f64 * 100.0)
}

/// A part of the calls in percent by column, for a sparkline: where there were no calls, nothing changed.
pub(super) fn rates(columns: &[Sums], part: fn(&Sums) -> u64) -> Vec<f64> {
    steady(columns.iter().map(|sums| percent_of_calls(part(sums), sums)))
}

/// Values with each gap filled by the one before it.
pub(super) fn steady(values: impl Iterator<Item = Option<f64>>) -> Vec<f64> {
    let mut last = 0.0;
    let fill = |value: Option<f64>| {
        last = value.unwrap_or(last);
        last
    };
    values.map(fill).collect()
}

#[cfg(test)]
mod tests {
    use super::super::range::Grain;
    use super::*;
    use crate::money::NanoUsd;

    const DAY_MS: i64 = 86_400_000;
    const SPAN: Span = Span { from_ms: DAY_MS, to_ms: 4 * DAY_MS, grain: Grain::Day };

    fn row(day: i64, label: &str, usd: i64) -> SpendRow {
        let sums = Sums { n_calls: 1, cost: NanoUsd::new(usd * 1_000_000_000), ..Sums::default() };
        SpendRow { at_ms: day * DAY_MS, names: vec![label.to_owned()], sums }
    }

    fn sum(series: &[Series]) -> f64 {
        series.iter().flat_map(|series| series.values.iter().copied().flatten()).sum()
    }

    #[test]
    fn the_greatest_have_a_tone_each_and_the_others_one_together() {
        let rows: Vec<SpendRow> =
            (0..10).map(|idx| row(1 + idx % 3, &format!("team {idx}"), 10 - idx)).collect();

        let series = greatest(&SPAN, &rows, cost);

        let names: Vec<&str> = series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["team 0", "team 1", "team 2", "team 3", "team 4", "team 5", "4 others"]);
        assert_eq!(series[6].tone, Tone::Rest);
        assert_eq!(series[0].values, [Some(10.0), Some(0.0), Some(0.0)]);
        assert_eq!(sum(&series), 55.0);
    }

    #[test]
    fn as_many_names_as_tones_need_no_others() {
        let rows: Vec<SpendRow> = (0..7).map(|idx| row(1, &format!("team {idx}"), 1)).collect();

        assert_eq!(greatest(&SPAN, &rows, cost).len(), 7);
        assert_eq!(greatest(&SPAN, &[], cost).len(), 0);
    }

    #[test]
    fn rows_outside_the_span_are_left_out_and_a_missing_name_is_said() {
        let series = greatest(&SPAN, &[row(0, "a", 5), row(1, "", 2), row(4, "b", 7)], cost);

        assert_eq!(series.len(), 1);
        assert_eq!((series[0].name.as_str(), sum(&series)), ("(none)", 2.0));
        assert_eq!(
            by_column(&SPAN, &[row(0, "a", 5), row(3, "a", 5)]).iter().map(|s| s.n_calls).sum::<u64>(),
            1
        );
    }

    #[test]
    fn known_names_keep_their_order_and_tone() {
        let series = known(&SPAN, &[row(1, "hit-exact", 1), row(2, "miss", 9)], &CACHE, n_calls);

        let found: Vec<(&str, Tone)> =
            series.iter().map(|series| (series.name.as_str(), series.tone)).collect();
        assert_eq!(found, [("Exact hit", Tone::Nth(2)), ("Miss", Tone::Nth(0))]);
    }

    #[test]
    fn every_call_is_in_the_series_of_what_answered_it() {
        let day = Sums { n_calls: 9, n_upstream: 4, n_hits_exact: 2, n_hits_semantic: 1, ..Sums::default() };

        let series = by_path(&[day, Sums::default()]);

        let found: Vec<(&str, Option<f64>)> =
            series.iter().map(|series| (series.name.as_str(), series.values[0])).collect();
        let expected =
            [("Upstream", 4.0), ("Exact cache", 2.0), ("Semantic cache", 1.0), ("Not answered", 2.0)];
        assert_eq!(found, expected.map(|(name, n)| (name, Some(n))));
    }

    #[test]
    fn a_gap_is_filled_by_the_value_before() {
        let values = [None, Some(2.0), None, Some(3.0), None];

        assert_eq!(steady(values.into_iter()), [0.0, 2.0, 2.0, 3.0, 3.0]);
    }

    #[test]
    fn a_share_of_no_calls_breaks_the_line() {
        let columns = by_column(&SPAN, &[row(1, "a", 1)]);
        let series = line(&columns, "errors", Tone::Bad, |sums| percent_of_calls(sums.n_errors, sums));

        assert_eq!(series.values, [Some(0.0), None, None]);
    }
}
