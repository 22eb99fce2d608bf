//! How often the caches answer, how alike semantic hits are, and what hits save.

use maud::{Markup, html};

use super::book::{Book, Read, sum};
use super::chart::{Bar, Chart, Column, Tone, ranking, sparkline};
use super::format::{self, Unit, share, usd};
use super::parts::{Tile, card, no_calls, tiles};
use super::series::{self, by_column, n_calls, n_hits, percent_of_calls};
use super::shell::Page;
use super::teams::link;
use crate::ledger::report::{By, SpendRow, Sums};

/// Semantic hits whose likeness is counted: enough for a shape, few enough to be read at once.
const N_SAMPLED: u32 = 500;
const N_BINS: usize = 8;

pub(super) async fn body(book: &Book<'_>) -> Read<Markup> {
    let (by_cache, similar) = tokio::try_join!(book.by_time(&[By::Cache, By::Route]), similarities(book))?;
    let total = sum(&by_cache);
    if total.n_calls == 0 {
        return Ok(no_calls(book));
    }
    let sums = by_column(&book.span, &by_cache);
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
        div.halves { (rate_chart(&sums, &columns)) (saved_chart(&sums, &columns)) }
        div.halves { (similarity_card(&similar)) (routes_card(book, &by_cache)) }
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
            note: html! { (format::percent(hit_savings.as_usd(), total.baseline.as_usd())) " of the baseline's cost" },
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

/// How many of the latest hits are how alike, in bins from the least one found up to 1.
fn bins(similar: &[f32]) -> Vec<(String, usize)> {
    let least = similar.iter().copied().fold(1.0_f32, f32::min).clamp(0.0, 1.0);
    // In hundredths, so that the ends of bins are round.
    let from = (least * 100.0).floor().min(100.0 - N_BINS as f32);
    let width = ((100.0 - from) / N_BINS as f32).ceil().max(1.0);
    let from = 100.0 - width * N_BINS as f32;
    let mut counts = [0; N_BINS];
    for likeness in similar {
        let bin = ((likeness * 100.0 - from) / width).floor().clamp(0.0, N_BINS as f32 - 1.0);
        counts[bin as usize] += 1;
    }
    let label = |idx: usize| {
        let low = (from + width * idx as f32).max(0.0) / 100.0;
        format!("{low:.2} – {:.2}", (from + width * (idx + 1) as f32) / 100.0)
    };
    counts.iter().enumerate().map(|(idx, n)| (label(idx), *n)).rev().collect()
}

fn similarity_card(similar: &[f32]) -> Markup {
    let body = if similar.is_empty() {
        html! { p.empty { "No semantic hit in this range. They need " code { "[cache.semantic]" } " switched on, its embedder, and questions that are asked twice in other words." } }
    } else {
        let row = |(label, n): (String, usize)| Bar {
            name: label,
            href: None,
            value: n as f64,
            tone: Tone::Nth(4),
            cells: vec![format::grouped(n as u64), share(n as u64, similar.len() as u64)],
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

fn routes_card(book: &Book<'_>, by_cache: &[SpendRow]) -> Markup {
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
    let bars: Vec<Bar> = super::book::grouped(by_cache, 1, n_calls).into_iter().map(row).collect();
    card("Hit rate by route", "", &ranking("Route", &["Hits", "Saved", "Requests"], &bars))
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
            div { dt { "Semantic entries" } dd { (stats.n_semantic_entries.map_or("off".to_owned(), count)) } }
            div { dt { "Refused by the guard" } dd { (count(stats.n_guard_refusals)) } }
            div { dt { "Equal calls at once" } dd { (count(stats.n_coalesced_hits)) } }
            div { dt { "Errors of the stores" } dd { (count(stats.n_errors)) } }
        }
    };
    card("This process, since it started", "All teams together.", &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_similarity_is_in_one_bin() {
        for similar in [&[0.97_f32, 0.99, 1.0][..], &[0.5], &[0.0, 1.0], &[1.0], &[-0.2, 1.3]] {
            let bins = bins(similar);
            assert_eq!(bins.len(), N_BINS);
            assert_eq!(bins.iter().map(|(_, n)| n).sum::<usize>(), similar.len(), "{similar:?}: {bins:?}");
        }
    }

    #[test]
    fn bins_end_at_one_and_have_round_edges() {
        let bins = bins(&[0.93, 0.96, 0.999]);

        assert_eq!(bins[0].0, "0.99 – 1.00");
        assert_eq!(bins.last().unwrap().0, "0.92 – 0.93");
    }
}
