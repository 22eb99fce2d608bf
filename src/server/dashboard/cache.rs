//! How often the caches answer, how alike semantic hits are, and what hits save.

use maud::{Markup, html};

use super::book::{Book, Read, sum};
use super::chart::{Bar, Chart, Column, Tone, ranking, sparkline};
use super::format::{self, NOTHING, Unit, share, usd};
use super::parts::{Tile, card, no_calls, tiles};
use super::promise;
use super::series::{self, by_column, n_calls, n_hits, percent_of_calls};
use super::shell::Page;
use super::teams::link;
use crate::ledger::report::{By, Figures, SpendRow, Sums};
use crate::server::similarity::{Bin, N_SAMPLED, bins};

pub(super) async fn body(book: &Book<'_>) -> Read<Markup> {
    let (by_cache, by_route, by_scope, similar) = tokio::try_join!(
        book.by_time(&[By::Cache], Figures::Spent),
        book.by_time(&[By::Route], Figures::All),
        book.whole(&[By::Team, By::Route], Figures::All),
        similarities(book),
    )?;
    let total = sum(&by_route);
    if total.n_calls == 0 {
        return Ok(no_calls(book));
    }
    let sums = by_column(&book.span, &by_route);
    let columns = book.span.columns();
    let what = Chart {
        id: "cache",
        title: "What the cache said",
        about: "Bypassed calls asked for it, or are too random to have one answer.",
        unit: Unit::Count,
        columns: &columns,
        series: series::known(&book.span, &by_cache, &series::CACHE, n_calls),
    };
    Ok(html! {
        (tiles(&figures(&total, &sums)))
        div.wide { (what.stacked()) }
        (promise::body(book, &by_scope))
        div.halves { (rate_chart(&sums, &columns)) (saved_chart(&sums, &columns)) }
        div.halves { (similarity_card(&similar)) (routes_card(book, &by_route)) }
        (state_card(book).await)
    })
}

fn figures(total: &Sums, columns: &[Sums]) -> [Tile<'static>; 4] {
    let percents = |part: fn(&Sums) -> u64| series::rates(columns, part);
    let dollars = |part: fn(&Sums) -> f64| -> Vec<f64> { columns.iter().map(part).collect() };
    let hit_savings = total.saved.exact.saturating_add(total.saved.semantic);
    [
        Tile {
            label: "Hit rate",
            value: share(n_hits(total), total.n_calls),
            note: html! { (format::grouped(n_hits(total))) " of " (format::grouped(total.n_calls)) " requests" },
            picture: sparkline(&percents(n_hits), Tone::Nth(2)),
        },
        Tile {
            label: "Exact hits",
            value: format::grouped(total.n_hits_exact),
            note: html! { "saved " (usd(total.saved.exact)) },
            picture: sparkline(&percents(|sums| sums.n_hits_exact), Tone::Nth(2)),
        },
        Tile {
            label: "Semantic hits",
            value: format::grouped(total.n_hits_semantic),
            note: html! { "saved " (usd(total.saved.semantic)) },
            picture: sparkline(&percents(|sums| sums.n_hits_semantic), Tone::Nth(4)),
        },
        Tile {
            label: "Saved by hits",
            value: usd(hit_savings),
            note: html! {
                (format::percent(hit_savings.as_usd(), total.baseline.as_usd())) " of the baseline's cost"
                @if total.n_audits > 0 { ", less " (usd(total.saved.own_cost)) " for " (format::grouped(total.n_audits)) " audits and the like" }
            },
            picture: sparkline(
                &dollars(|sums| sums.saved.exact.as_usd() + sums.saved.semantic.as_usd()),
                Tone::Nth(2),
            ),
        },
    ]
}

fn rate_chart(sums: &[Sums], columns: &[Column]) -> Markup {
    let chart = Chart {
        id: "rates",
        title: "Hit rate",
        about: "Share of all requests.",
        unit: Unit::Percent,
        columns,
        series: vec![
            series::line(sums, "Exact", Tone::Nth(2), |sums| percent_of_calls(sums.n_hits_exact, sums)),
            series::line(sums, "Semantic", Tone::Nth(4), |sums| percent_of_calls(sums.n_hits_semantic, sums)),
        ],
    };
    chart.lines()
}

fn saved_chart(sums: &[Sums], columns: &[Column]) -> Markup {
    let chart = Chart {
        id: "saved",
        title: "Saved by hits",
        about: "What the baseline model would have cost.",
        unit: Unit::Usd,
        columns,
        series: vec![
            series::line(sums, "Exact", Tone::Nth(2), |sums| Some(sums.saved.exact.as_usd())),
            series::line(sums, "Semantic", Tone::Nth(4), |sums| Some(sums.saved.semantic.as_usd())),
        ],
    };
    chart.stacked()
}

async fn similarities(book: &Book<'_>) -> Read<Vec<f32>> {
    let calls = book.calls_by_path("semantic", N_SAMPLED).await?;
    Ok(calls.iter().filter_map(|call| call.similarity).filter(|likeness| likeness.is_finite()).collect())
}

fn similarity_card(similar: &[f32]) -> Markup {
    let body = if similar.is_empty() {
        html! { p.empty { "No semantic hit in this range. They need " code { "[cache.semantic]" } " switched on, its embedder, and questions that are asked twice in other words." } }
    } else {
        let row = |bin: Bin| Bar {
            name: bin.label(),
            href: None,
            value: bin.n as f64,
            tone: Tone::Nth(4),
            cells: vec![format::grouped(bin.n), share(bin.n, similar.len() as u64)],
        };
        let bars: Vec<Bar> = bins(similar).into_iter().map(row).collect();
        ranking("Similarity", &["Hits", "Share"], &bars)
    };
    let about = format!(
        "Of the latest {} semantic hits. The guard refuses texts that only look alike.",
        similar.len()
    );
    card("How alike semantic hits are", &about, &body)
}

fn routes_card(book: &Book<'_>, by_route: &[SpendRow]) -> Markup {
    let row = |(route, sums): (String, Sums)| Bar {
        href: Some(link(book, Page::Cache, &book.ask.with_route(&route).shared())),
        value: percent_of_calls(n_hits(&sums), &sums).unwrap_or(0.0),
        tone: Tone::Nth(2),
        cells: vec![
            share(n_hits(&sums), sums.n_calls),
            usd(sums.saved.exact.saturating_add(sums.saved.semantic)),
            format::grouped(sums.n_calls),
        ],
        name: format::name(&route).to_owned(),
    };
    let bars: Vec<Bar> = super::book::grouped(by_route, 0, n_calls).into_iter().map(row).collect();
    card("Hit rate by route", "", &ranking("Route", &["Hits", "Saved", "Requests"], &bars))
}

fn size(n_bytes: Option<u64>) -> Markup {
    html! { @if let Some(n_bytes) = n_bytes { ", " (format::bytes(n_bytes)) } }
}

/// What the caches of this process hold now; it is of all teams, so a team does not see it.
async fn state_card(book: &Book<'_>) -> Markup {
    if !book.sees_all() {
        return html! {};
    }
    let stats = book.gateway.cache.stats().await;
    let count = |n: u64| format::grouped(n);
    let body = html! {
        dl.facts {
            div { dt { "Exact entries" } dd { (stats.n_exact_entries.map_or(NOTHING.to_owned(), count)) (size(stats.exact_bytes)) } }
            div { dt { "Semantic entries" } dd { (stats.n_semantic_entries.map_or("off".to_owned(), count)) (size(stats.semantic_bytes)) } }
            div { dt { "Refused by the guard" } dd { (count(stats.n_guard_refusals)) } }
            div { dt { "Equal calls at once" } dd { (count(stats.n_coalesced_hits)) } }
            div { dt { "Errors of the stores" } dd { (count(stats.n_errors)) } }
        }
    };
    card("This process, since it started", "All teams together.", &body)
}
