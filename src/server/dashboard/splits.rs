//! A/B splits: what each arm got, cost, saved, and how well it was answered.
//!
//! Judges no winner: figures stand side by side, and chance is not taken out of them.

use maud::{Markup, html};

use super::book::{Book, Read, grouped};
use super::chart::{Bar, Chart, Segment, Tone, ranking, share_bar};
use super::format::{self, NOTHING, Unit, duration, name, share, usd};
use super::parts::{card, empty, no_calls};
use super::series::{self, cost, n_calls, n_hits};
use crate::ledger::report::{By, Figures, LatencyRow, SpendRow, Sums};
use crate::money::NanoUsd;

const EXAMPLE: &str = "[[split]]
name = \"cheap-first\"
route = \"auto\"
unit = \"header:x-stiver-user\"
arms = [ { name = \"control\", share = 9000 }, { name = \"lower-bar\", share = 1000, ladder = { small = 0.50 } } ]";

/// A split and what its arms came to.
struct Split {
    name: String,
    whole: Sums,
    /// All sums by arm.
    rows: Vec<SpendRow>,
    /// Calls and cost by time and arm.
    spent: Vec<SpendRow>,
    latency: Vec<LatencyRow>,
}

pub(super) async fn body(book: &Book<'_>) -> Read<Markup> {
    let (rows, spent, latency) = tokio::try_join!(
        book.whole(&[By::Split, By::Arm], Figures::All),
        book.by_time(&[By::Split, By::Arm], Figures::Spent),
        book.latency_of_arms(),
    )?;
    if rows.is_empty() {
        return Ok(no_calls(book));
    }
    let named = grouped(&rows, 0, n_calls).into_iter().filter(|(split, _)| !split.is_empty());
    let splits: Vec<Split> =
        named.map(|(name, whole)| Split::of(name, whole, (&rows, &spent), &latency)).collect();
    let idle = idle(book, &splits);
    if splits.is_empty() && idle.is_empty() {
        return Ok(nothing());
    }
    Ok(html! {
        @for split in &idle {
            p.notice { "No call came to split " strong { (split) } " in this range. Is its route asked for, and does its unit arrive, such as the header it names?" }
        }
        @for (idx, split) in splits.iter().enumerate() {
            (split_card(book, split))
            div.wide { (cost_chart(book, &format!("cost-{idx}"), split)) }
        }
        p.hint { "A difference here may be chance. Wait until each arm has some hundreds of calls, and change one thing at a time." }
    })
}

/// Splits of the configuration that no call of the range came to; a team is not told of others' splits.
fn idle(book: &Book<'_>, called: &[Split]) -> Vec<String> {
    let configured = book.live.config.splits.iter().map(|split| split.name.to_string());
    let is_idle = |name: &String| book.sees_all() && called.iter().all(|split| split.name != *name);
    configured.filter(is_idle).collect()
}

/// The share that the configuration gives an arm now.
fn planned(book: &Book<'_>, split: &str, arm: &str) -> String {
    let found = book.live.config.splits.iter().find(|known| known.name.as_str() == split);
    let share = found.and_then(|found| found.arms().iter().find(|known| known.name.as_str() == arm));
    share.map_or(NOTHING.to_owned(), |arm| format::percent(f64::from(arm.share), 10_000.0))
}

impl Split {
    fn of(
        name: String,
        whole: Sums,
        (rows, spent): (&[SpendRow], &[SpendRow]),
        latency: &[LatencyRow],
    ) -> Self {
        let own = |rows: &[SpendRow]| -> Vec<SpendRow> {
            rows.iter().filter(|row| row.names.first() == Some(&name)).cloned().collect()
        };
        let of_arm = |row: &LatencyRow| {
            let arm = row.name.strip_prefix(name.as_str())?.strip_prefix('=')?;
            Some(LatencyRow { name: arm.to_owned(), ..row.clone() })
        };
        let latency = latency.iter().filter_map(of_arm).collect();
        Self { whole, rows: own(rows), spent: own(spent), latency, name }
    }

    /// In the order of names, so that an arm keeps its place and its colour while shares change.
    fn arms(&self) -> Vec<(String, Sums)> {
        let mut arms = grouped(&self.rows, 1, n_calls);
        arms.sort_by(|(a, _), (b, _)| a.cmp(b));
        arms
    }
}

fn cost_chart(book: &Book<'_>, id: &str, split: &Split) -> Markup {
    let columns = book.span.columns();
    let line = |(idx, (arm, _)): (usize, (String, Sums))| {
        let rows: Vec<SpendRow> =
            split.spent.iter().filter(|row| row.names.get(1) == Some(&arm)).cloned().collect();
        let sums = series::by_column(&book.span, &rows);
        series::line(&sums, name(&arm), Tone::Nth(idx), |sums| {
            (sums.n_calls > 0).then(|| cost(sums) / n_calls(sums))
        })
    };
    let chart = Chart {
        id,
        title: &format!("Cost per call in {}", split.name),
        about: "By arm.",
        unit: Unit::Usd,
        columns: &columns,
        series: split.arms().into_iter().enumerate().map(line).collect(),
    };
    chart.lines()
}

fn nothing() -> Markup {
    let todo = html! {
        p { "A split sends a fixed share of users another way, so that a cheaper one can be tried on real traffic. In " code { "config/splits.toml" } ":" }
        pre.code { code { (EXAMPLE) } }
        p { "The gateway takes the file up without a restart. Each user stays in its arm." }
    };
    empty("No split has matched a call in this range.", &todo)
}

fn split_card(book: &Book<'_>, split: &Split) -> Markup {
    let arms = split.arms();
    let segments: Vec<Segment> = arms
        .iter()
        .enumerate()
        .map(|(idx, (arm, sums))| Segment {
            name: name(arm).to_owned(),
            value: n_calls(sums),
            shown: share(sums.n_calls, split.whole.n_calls),
            tone: Tone::Nth(idx),
        })
        .collect();
    let bars: Vec<Bar> =
        arms.iter().enumerate().map(|(idx, (arm, sums))| arm_bar(book, (idx, arm), sums, split)).collect();
    let heads = [
        "Cost per call",
        "Calls",
        "Share",
        "planned",
        "Cost",
        "Saved per call",
        "Hits",
        "p50",
        "p95",
        "Errors",
    ];
    let body = html! {
        (share_bar(&split.name, &segments))
        (ranking("Arm", &heads, &bars))
    };
    card(&split.name, &format!("{} calls", format::grouped(split.whole.n_calls)), &body)
}

fn arm_bar(book: &Book<'_>, (idx, arm): (usize, &str), sums: &Sums, split: &Split) -> Bar {
    let row = split.latency.iter().find(|row| row.name == arm);
    let took = |value: fn(&LatencyRow) -> f64| row.map_or(NOTHING.to_owned(), |row| duration(value(row)));
    Bar {
        name: name(arm).to_owned(),
        href: None,
        value: cost(sums) / n_calls(sums).max(1.0),
        tone: Tone::Nth(idx),
        cells: vec![
            per_call(sums.cost, sums.n_calls),
            format::grouped(sums.n_calls),
            share(sums.n_calls, split.whole.n_calls),
            planned(book, &split.name, arm),
            usd(sums.cost),
            per_call(sums.saved.net(), sums.n_calls),
            share(n_hits(sums), sums.n_calls),
            took(|row| row.p50_ms),
            took(|row| row.p95_ms),
            share(sums.n_errors, sums.n_calls),
        ],
    }
}

fn per_call(amount: NanoUsd, n_calls: u64) -> String {
    match i64::try_from(n_calls) {
        Ok(n_calls) if n_calls > 0 => usd(NanoUsd::new(amount.get() / n_calls)),
        Ok(_) | Err(_) => NOTHING.to_owned(),
    }
}
