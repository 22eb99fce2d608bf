//! Whether everything works: parts, upstreams and their breakers, the journal, and how sure the figures are.
//!
//! The state of parts is what `/readyz` tells anybody. Calls and errors are the viewer's team's.

use maud::{Markup, html};

use super::book::{Book, Read, grouped, sum};
use super::chart::{Chart, Column, Tone, meter, sparkline};
use super::format::{self, NOTHING, Unit, share, usd};
use super::parts::{Tile, card, tiles};
use super::series::{self, by_column, n_calls, percent_of_calls};
use crate::gateway::Part;
use crate::ledger::report::{By, Figures, SpendRow, Sums};
use crate::server::parts::{UpstreamState, upstream_state};

pub(super) async fn body(book: &Book<'_>) -> Read<Markup> {
    let (by_outcome, rows, by_upstream) = tokio::try_join!(
        book.by_time(&[By::Outcome], Figures::Spent),
        book.by_time(&[], Figures::All),
        book.whole(&[By::Upstream], Figures::All),
    )?;
    let parts = book.gateway.readiness().await;
    let total = sum(&rows);
    let sums = by_column(&book.span, &rows);
    let columns = book.span.columns();
    Ok(html! {
        (tiles(&figures(book, &parts, (&total, &sums))))
        (card("Parts", "A part that is not required only makes answers dearer or less sure.", &parts_table(&parts)))
        (card("Upstreams", "", &upstream_table(book, &by_upstream)))
        @if total.n_calls > 0 {
            div.halves {
                (outcomes_chart(book, &by_outcome, &columns))
                (sureness_chart(&sums, &columns))
            }
        }
    })
}

fn figures(book: &Book<'_>, parts: &[Part], (total, columns): (&Sums, &[Sums])) -> [Tile<'static>; 4] {
    let n_wrong = parts.iter().filter(|part| !part.ready).count();
    let is_ready = parts.iter().all(|part| part.ready || !part.required);
    let journal = book.gateway.ledger.journal_fill();
    let unsure = series::rates(columns, |sums| sums.n_estimated);
    let unpriced = series::rates(columns, |sums| sums.n_unpriced);
    [
        Tile {
            label: "State",
            value: match (is_ready, n_wrong) {
                (false, _) => "Not ready",
                (true, 0) => "All well",
                (true, _) => "Ready, degraded",
            }
            .to_owned(),
            note: html! { @if n_wrong > 0 { (n_wrong) " of " (parts.len()) " parts have a problem" } @else { (parts.len()) " parts" } },
            picture: html! {},
        },
        Tile {
            label: "Journal",
            value: format::bytes(journal.size_bytes),
            note: html! {
                (share(journal.size_bytes, journal.max_bytes)) " of " (format::bytes(journal.max_bytes)) "; "
                (format::grouped(book.gateway.ledger.n_pending())) " rows wait for the database"
            },
            picture: meter(
                journal.size_bytes as f64,
                journal.max_bytes as f64,
                &format!(
                    "{} of {}, above which calls are refused",
                    format::bytes(journal.size_bytes),
                    format::bytes(journal.max_bytes)
                ),
            ),
        },
        Tile {
            label: "Estimated rows",
            value: share(total.n_estimated, total.n_calls),
            note: html! { (format::grouped(total.n_estimated)) " rows whose usage nobody reported" },
            picture: sparkline(&unsure, Tone::Nth(1)),
        },
        Tile {
            label: "Unpriced rows",
            value: share(total.n_unpriced, total.n_calls),
            note: html! { (format::grouped(total.n_unpriced)) " rows that are in no sum" },
            picture: sparkline(&unpriced, Tone::Bad),
        },
    ]
}

fn parts_table(parts: &[Part]) -> Markup {
    html! {
        div.scroll { table.parts {
            thead { tr { th scope="col" { "Part" } th scope="col" { "State" } th scope="col" { "What is wrong" } } }
            tbody { @for part in parts { tr {
                th scope="row" { (part.name) @if part.required { span.under { "required" } } }
                td { @match (part.ready, part.required) {
                    (true, _) => span.pill.good { "ready" },
                    (false, true) => span.pill.bad { "not ready" },
                    (false, false) => span.pill.warn { "degraded" },
                } }
                td.text { (part.problem.as_deref().unwrap_or(NOTHING)) }
            } } }
        } }
    }
}

/// Upstreams of the configuration, and those that only the book still knows.
fn upstream_table(book: &Book<'_>, rows: &[SpendRow]) -> Markup {
    let called = grouped(rows, 0, n_calls);
    let live = &book.live;
    let configured: Vec<String> = live.config.upstreams.keys().map(ToString::to_string).collect();
    let gone =
        called.iter().map(|(name, _)| name).filter(|name| !name.is_empty() && !configured.contains(name));
    let names: Vec<&String> = configured.iter().chain(gone).collect();
    let state = |name: &str| {
        let state = upstream_state(book.gateway, live, name);
        match state {
            UpstreamState::Closed => html! { span.pill.good { (state.as_str()) } },
            UpstreamState::Open => {
                html! { span.pill.bad title="It failed repeatedly and is left alone for a moment." { (state.as_str()) } }
            }
            UpstreamState::NotLoaded => html! { span.pill.bad { (state.as_str()) } },
            UpstreamState::Off => html! { span.pill title="Its key is not set." { (state.as_str()) } },
            UpstreamState::NotConfigured => html! { span.pill { (state.as_str()) } },
        }
    };
    html! {
        div.scroll { table.upstreams {
            thead { tr {
                th scope="col" { "Upstream" } th scope="col" { "State" } th.n scope="col" { "Requests" }
                th.n scope="col" { "Attempts per request" } th.n scope="col" { "Errors" } th.n scope="col" { "Cost" }
            } }
            tbody { @for name in names {
                @let sums = called.iter().find(|(one, _)| one == name).map(|(_, sums)| *sums).unwrap_or_default();
                tr {
                    th scope="row" { (name) }
                    td { (state(name)) }
                    td.n { (format::grouped(sums.n_calls)) }
                    td.n { @if sums.n_calls > 0 { (format!("{:.2}", sums.n_attempts as f64 / n_calls(&sums))) } @else { (NOTHING) } }
                    td.n { (share(sums.n_errors, sums.n_calls)) }
                    td.n { (usd(sums.cost)) }
                }
            } }
        } }
    }
}

fn outcomes_chart(book: &Book<'_>, rows: &[SpendRow], columns: &[Column]) -> Markup {
    let wrong = [
        ("upstream_error", "Upstream error", Tone::Bad),
        ("truncated", "Truncated", Tone::Nth(1)),
        ("interrupted", "Interrupted", Tone::Nth(6)),
        ("refused", "Refused", Tone::Nth(4)),
        ("client_gone", "Client gone", Tone::Rest),
    ];
    let chart = Chart {
        id: "outcomes",
        title: "Calls that did not end well",
        about: "By how they ended.",
        unit: Unit::Count,
        columns,
        series: series::known(&book.span, rows, &wrong, n_calls),
    };
    chart.stacked()
}

fn sureness_chart(sums: &[Sums], columns: &[Column]) -> Markup {
    let chart = Chart {
        id: "sureness",
        title: "How sure the figures are",
        about: "Share of rows that are estimated, or have no price.",
        unit: Unit::Percent,
        columns,
        series: vec![
            series::line(sums, "Estimated", Tone::Nth(1), |sums| percent_of_calls(sums.n_estimated, sums)),
            series::line(sums, "Unpriced", Tone::Bad, |sums| percent_of_calls(sums.n_unpriced, sums)),
        ],
    };
    chart.lines()
}
