//! Spend reports as SQL: whole days and hours from their sums, the ragged ends of a window from the rows.
//!
//! A part is grouped where it is read, in the order of its key where that can be, so that the database has
//! little to sort; the few groups of all parts are put together here.
//!
//! Invariants: the parts of a window never overlap, so that a call is counted once; names of columns are
//! our own words, values from outside are bound.

use std::collections::BTreeMap;

use super::db::{Row, Sql, Value};
use super::derived::{MS_PER_DAY, MS_PER_HOUR, SUMS, floor};
use super::{Store, StoreError, rows};
use crate::ledger::entry::AnswerPath;
use crate::ledger::report::{By, Figures, Filter, SpendAsk, SpendRow, Step, Sums};
use crate::ledger::savings::Savings;
use crate::money::NanoUsd;

/// Outcomes that count as errors.
const ERRORS: &str = "('truncated', 'upstream_error', 'interrupted')";

/// Where a part of a window is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    CallHours,
    CallDays,
    UserDays,
    Postings,
}

/// A span of a window and what it is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    source: Source,
    from_ms: i64,
    to_ms: i64,
}

impl Source {
    fn table(self) -> &'static str {
        match self {
            Self::CallHours => "call_hours",
            Self::CallDays => "call_days",
            Self::UserDays => "user_days",
            Self::Postings => "postings",
        }
    }

    fn time(self) -> &'static str {
        match self {
            Self::CallHours | Self::CallDays | Self::UserDays => "at_ms",
            Self::Postings => "ts_ms",
        }
    }

    fn has(self, by: By) -> bool {
        match self {
            Self::CallHours | Self::CallDays => !matches!(by, By::Key | By::User | By::Tag | By::Endpoint),
            Self::UserDays => {
                matches!(by, By::Team | By::Key | By::User | By::Path | By::Outcome)
            }
            Self::Postings => true,
        }
    }

    /// The time in whole spans; the column itself where it is, because then its order can be used.
    fn floored(self, span_ms: i64) -> String {
        let grain_ms = match self {
            Self::CallHours => MS_PER_HOUR,
            Self::CallDays | Self::UserDays => MS_PER_DAY,
            Self::Postings => 1,
        };
        let time = self.time();
        if grain_ms % span_ms == 0 { time.to_owned() } else { format!("{time} - {time} % {span_ms}") }
    }

    /// A name that is never NULL; in sums it is none anyway.
    fn name(self, by: By) -> String {
        match self {
            Self::CallHours | Self::CallDays | Self::UserDays => column(by).to_owned(),
            Self::Postings => format!("COALESCE({}, '')", column(by)),
        }
    }

    /// The beginning of the key up to the last name asked for, where that is short enough to bring many lines
    /// together and is not the question's own grouping.
    fn key_of(self, ask: &SpendAsk) -> Option<String> {
        const KEY: [By; 5] = [By::Team, By::Route, By::Tier, By::Upstream, By::Model];
        let last =
            ask.by.iter().map(|by| KEY.iter().position(|known| known == by)).collect::<Option<Vec<_>>>()?;
        let n_names = last.into_iter().max()? + 1;
        let is_own = KEY[..n_names] == ask.by[..] && ask.step != Step::Whole;
        if is_own || self != Self::CallDays {
            return None;
        }
        let names: Vec<&str> = KEY[..n_names].iter().map(|by| column(*by)).collect();
        Some(format!("at_ms, {}", names.join(", ")))
    }

    fn sum(self, column: &str) -> String {
        if self != Self::Postings {
            return column.to_owned();
        }
        match column {
            "n_calls" => "1".to_owned(),
            "n_unpriced" => "CASE WHEN cost_nano_usd IS NULL THEN 1 ELSE 0 END".to_owned(),
            "n_estimated" => "CASE WHEN estimated THEN 1 ELSE 0 END".to_owned(),
            "cost_nano_usd" | "baseline_nano_usd" => format!("COALESCE({column}, 0)"),
            "saved_nano_usd" => "COALESCE(baseline_nano_usd - cost_nano_usd, 0)".to_owned(),
            _ => column.to_owned(),
        }
    }
}

fn column(by: By) -> &'static str {
    match by {
        By::Team => "team",
        By::Key => "key_id",
        By::User => "user_name",
        By::Tag => "tag",
        By::Endpoint => "endpoint",
        By::Route => "route",
        By::Tier => "tier",
        By::Upstream => "upstream",
        By::Model => "model",
        By::Path => "path",
        By::Cache => "cache",
        By::Split => "split",
        By::Arm => "arm",
        By::Outcome => "outcome",
    }
}

/// The filter as pairs of a dimension and the text it must have.
fn wanted(filter: &Filter) -> Vec<(By, &str)> {
    let pairs = [
        (By::Team, filter.team.as_ref().map(|team| team.as_str())),
        (By::Route, filter.route.as_ref().map(|route| route.as_str())),
        (By::Model, filter.model.as_deref()),
        (By::Upstream, filter.upstream.as_deref()),
        (By::Path, filter.path.as_deref()),
        (By::Split, filter.split.as_deref()),
        (By::Key, filter.key.as_ref().map(|key| key.as_str())),
        (By::User, filter.user.as_deref()),
        (By::Tag, filter.tag.as_deref()),
    ];
    pairs.into_iter().filter_map(|(by, text)| Some((by, text?))).collect()
}

/// Cuts a window into what can be read from sums and what is read row by row.
fn parts(ask: &SpendAsk) -> Vec<Part> {
    let dims: Vec<By> = ask.by.iter().copied().chain(wanted(&ask.filter).iter().map(|(by, _)| *by)).collect();
    let can = |source: Source| dims.iter().all(|by| source.has(*by));
    let steps: &[(Source, i64)] = if can(Source::CallHours) {
        &[(Source::CallDays, MS_PER_DAY), (Source::CallHours, MS_PER_HOUR)]
    } else if can(Source::UserDays) {
        &[(Source::UserDays, MS_PER_DAY)]
    } else {
        &[]
    };
    let steps: Vec<_> = steps
        .iter()
        .filter(|(_, span_ms)| ask.step != Step::Hour || *span_ms == MS_PER_HOUR)
        .copied()
        .collect();
    let mut found = Vec::new();
    cut(ask.from_ms, ask.to_ms, &steps, &mut found);
    found
}

fn cut(from_ms: i64, to_ms: i64, steps: &[(Source, i64)], found: &mut Vec<Part>) {
    if from_ms >= to_ms {
        return;
    }
    let Some(((source, span_ms), finer)) = steps.split_first() else {
        found.push(Part { source: Source::Postings, from_ms, to_ms });
        return;
    };
    let (first, last) = (floor(from_ms.saturating_add(span_ms - 1), *span_ms), floor(to_ms, *span_ms));
    if first >= last {
        cut(from_ms, to_ms, finer, found);
        return;
    }
    cut(from_ms, first, finer, found);
    found.push(Part { source: *source, from_ms: first, to_ms: last });
    cut(last, to_ms, finer, found);
}

/// Collects values and hands out their places.
#[derive(Default)]
struct Bound(Vec<Value>);

impl Bound {
    fn place(&mut self, value: Value) -> String {
        self.0.push(value);
        format!("${}", self.0.len())
    }
}

impl Store {
    pub(in crate::ledger) async fn spend(&self, ask: &SpendAsk) -> Result<Vec<SpendRow>, StoreError> {
        let parts = parts(ask);
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let mut bound = Bound::default();
        let selects: Vec<String> = parts.iter().map(|part| self.select(part, ask, &mut bound)).collect();
        let found = self.db.fetch(Sql::once(selects.join(" UNION ALL "), bound.0)).await?;
        let mut merged: BTreeMap<(i64, Vec<String>), Sums> = BTreeMap::new();
        for row in &found {
            let line = spend_row(row, ask)?;
            merged.entry((line.at_ms, line.names)).or_default().add(&line.sums);
        }
        let row = |((at_ms, names), sums)| SpendRow { at_ms, names, sums };
        let mut rows: Vec<SpendRow> = merged.into_iter().map(row).collect();
        rows.sort_by(|a, b| {
            a.at_ms.cmp(&b.at_ms).then(b.sums.cost.cmp(&a.sums.cost)).then_with(|| a.names.cmp(&b.names))
        });
        Ok(rows)
    }

    fn select(&self, part: &Part, ask: &SpendAsk, bound: &mut Bound) -> String {
        let source = part.source;
        let time = source.time();
        let at = match ask.step {
            Step::Hour => source.floored(MS_PER_HOUR),
            Step::Day => source.floored(MS_PER_DAY),
            Step::Whole => format!("CAST({} AS BIGINT)", bound.place(Value::Int(ask.from_ms))),
        };
        let names = ask.by.iter().enumerate();
        let names: String = names.map(|(idx, by)| format!(", {} AS name_{idx}", source.name(*by))).collect();
        let figures: String = figures(source, ask.figures)
            .iter()
            .map(|(name, value)| format!(", CAST(SUM({value}) AS BIGINT) AS {name}"))
            .collect();
        let from = bound.place(Value::Int(part.from_ms));
        let to = bound.place(Value::Int(part.to_ms));
        let mut wheres = format!("{time} >= {from} AND {time} < {to}");
        for (by, text) in wanted(&ask.filter) {
            let place = bound.place(Value::from(text));
            wheres.push_str(&format!(" AND {} = {place}", column(by)));
        }
        let needs_tags = ask.by.contains(&By::Tag) || ask.filter.tag.is_some();
        let table = if needs_tags { self.db.tagged_postings() } else { source.table() };
        let Some(key) = source.key_of(ask) else {
            return format!(
                "SELECT {at} AS at_ms{names}{figures} FROM {table} WHERE {wheres} {}",
                grouping(ask)
            );
        };
        // Lines that lie beside each other are added up first, and only what is left is sorted.
        let outer: String = (0..ask.by.len()).map(|idx| format!(", name_{idx}")).collect();
        let sums = figures_of(ask.figures);
        let sums: String = sums.iter().map(|sum| format!(", CAST(SUM({sum}) AS BIGINT) AS {sum}")).collect();
        format!(
            "SELECT at_ms{outer}{sums} FROM (SELECT {at} AS at_ms{names}{figures} FROM {table} \
             WHERE {wheres} GROUP BY {key}) AS run GROUP BY at_ms{outer}"
        )
    }
}

/// The names of what is summed.
fn figures_of(wanted: Figures) -> Vec<&'static str> {
    figures(Source::CallDays, wanted).into_iter().map(|(name, _)| name).collect()
}

/// By the places of what is selected. Nothing to group by is one line, unless there is nothing at all.
fn grouping(ask: &SpendAsk) -> String {
    let first = if ask.step == Step::Whole { 2 } else { 1 };
    let places: Vec<String> = (first..ask.by.len() + 2).map(|place| place.to_string()).collect();
    if places.is_empty() {
        return "HAVING COUNT(*) > 0".to_owned();
    }
    format!("GROUP BY {}", places.join(", "))
}

/// What is told of calls that clients waited for, and of audits not.
const OF_CLIENTS: [&str; 5] = ["n_calls", "n_unpriced", "n_estimated", "attempts", "overhead_us"];

/// What is summed, under which name. Causes of savings hang on the path, so each path has its own.
fn figures(source: Source, figures: Figures) -> Vec<(&'static str, String)> {
    let plain = |column: &'static str| (column, source.sum(column));
    let clients = |column: &'static str| {
        (column, format!("CASE WHEN path = 'audit' THEN 0 ELSE {} END", source.sum(column)))
    };
    let audits = ("n_audits", format!("CASE WHEN path = 'audit' THEN {} ELSE 0 END", source.sum("n_calls")));
    if figures == Figures::Spent {
        return vec![clients("n_calls"), audits, plain("cost_nano_usd")];
    }
    let sum = |column| if OF_CLIENTS.contains(&column) { clients(column) } else { plain(column) };
    let mut found: Vec<_> = SUMS.into_iter().filter(|sum| *sum != "saved_nano_usd").map(sum).collect();
    let (n_calls, saved) = (source.sum("n_calls"), source.sum("saved_nano_usd"));
    found.push(audits);
    found.push(("spent_on_audits", format!("CASE WHEN path = 'audit' THEN -{saved} ELSE 0 END")));
    found.push((
        "n_errors",
        format!("CASE WHEN outcome IN {ERRORS} AND path <> 'audit' THEN {n_calls} ELSE 0 END"),
    ));
    for (path, n, cause) in PATHS {
        let path = path.as_str();
        // What compression saved is told apart, and was sent upstream.
        let less = if cause == "saved_upstream" { " - compression_saved_nano_usd" } else { "" };
        found.push((n, format!("CASE WHEN path = '{path}' THEN {n_calls} ELSE 0 END")));
        found.push((cause, format!("CASE WHEN path = '{path}' THEN {saved}{less} ELSE 0 END")));
    }
    found
}

/// Paths that save, with the names of their counts and causes.
const PATHS: [(AnswerPath, &str, &str); 4] = [
    (AnswerPath::Exact, "n_exact", "saved_exact"),
    (AnswerPath::Semantic, "n_semantic", "saved_semantic"),
    (AnswerPath::Local, "n_local", "saved_local"),
    (AnswerPath::Upstream, "n_upstream", "saved_upstream"),
];

fn spend_row(row: &Row, ask: &SpendAsk) -> Result<SpendRow, StoreError> {
    let names = (0..ask.by.len()).map(|idx| row.get(&format!("name_{idx}"))).collect::<Result<_, _>>()?;
    Ok(SpendRow { at_ms: row.get("at_ms")?, names, sums: sums(row, ask.figures)? })
}

fn sums(row: &Row, figures: Figures) -> Result<Sums, StoreError> {
    let money = |column| row.get::<i64>(column).map(NanoUsd::new);
    let (n_calls, n_audits) = (row.count("n_calls")?, row.count("n_audits")?);
    let spent = Sums { n_calls, n_audits, cost: money("cost_nano_usd")?, ..Sums::default() };
    match figures {
        Figures::Spent => return Ok(spent),
        Figures::All => {}
    }
    let aside = rows::aside(row)?;
    Ok(Sums {
        n_errors: row.count("n_errors")?,
        n_unpriced: row.count("n_unpriced")?,
        n_estimated: row.count("n_estimated")?,
        n_hits_exact: row.count("n_exact")?,
        n_hits_semantic: row.count("n_semantic")?,
        n_local: row.count("n_local")?,
        n_upstream: row.count("n_upstream")?,
        n_attempts: row.count("attempts")?,
        baseline: money("baseline_nano_usd")?,
        saved: Savings {
            exact: money("saved_exact")?,
            semantic: money("saved_semantic")?,
            local: money("saved_local")?,
            route_down: money("saved_upstream")?,
            compression: aside.compression_saved,
            prefix_cache: aside.prefix_saved,
            own_cost: aside.own_cost + money("spent_on_audits")?,
        },
        usage: rows::usage(row)?,
        overhead_us: row.count("overhead_us")?,
        ..spent
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(by: &[By], step: Step, from_ms: i64, to_ms: i64) -> SpendAsk {
        SpendAsk { by: by.to_vec(), step, from_ms, to_ms, ..SpendAsk::default() }
    }

    fn sources(ask: &SpendAsk) -> Vec<Source> {
        parts(ask).iter().map(|part| part.source).collect()
    }

    #[test]
    fn a_window_is_read_from_the_coarsest_sums_that_fit() {
        let whole_days = ask(&[By::Team], Step::Day, 0, 7 * MS_PER_DAY);
        assert_eq!(sources(&whole_days), [Source::CallDays]);

        let ragged = ask(&[By::Team], Step::Whole, 1, 2 * MS_PER_DAY + 1);
        let expected = [Source::Postings, Source::CallHours, Source::CallDays, Source::Postings];
        assert_eq!(sources(&ragged), expected);

        assert_eq!(sources(&ask(&[By::Team], Step::Hour, 0, MS_PER_DAY)), [Source::CallHours]);
        assert_eq!(sources(&ask(&[By::Team, By::User], Step::Day, 0, MS_PER_DAY)), [Source::UserDays]);
        assert_eq!(sources(&ask(&[By::User], Step::Hour, 0, MS_PER_DAY)), [Source::Postings]);
        assert_eq!(sources(&ask(&[By::Tag], Step::Day, 0, MS_PER_DAY)), [Source::Postings]);
        assert_eq!(sources(&ask(&[By::User, By::Model], Step::Whole, 0, MS_PER_DAY)), [Source::Postings]);
        assert!(sources(&ask(&[], Step::Whole, 5, 5)).is_empty());
    }

    proptest! {
        #[test]
        fn the_parts_of_a_window_follow_each_other_without_gap_or_overlap(
            from in 0..4 * MS_PER_DAY, span in 1..4 * MS_PER_DAY, by_user in any::<bool>(), hourly in any::<bool>(),
        ) {
            let by = if by_user { By::User } else { By::Team };
            let step = if hourly { Step::Hour } else { Step::Whole };
            let found = parts(&ask(&[by], step, from, from + span));

            prop_assert_eq!(found[0].from_ms, from);
            prop_assert_eq!(found[found.len() - 1].to_ms, from + span);
            for pair in found.windows(2) {
                prop_assert_eq!(pair[0].to_ms, pair[1].from_ms);
            }
        }
    }
}
