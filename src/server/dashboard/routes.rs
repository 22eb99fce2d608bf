//! What routes, tiers, upstreams and models cost, and how calls are spread over them.

use maud::{Markup, html};

use super::book::{Book, Read, grouped, sum};
use super::chart::{Bar, Chart, Segment, Tone, ranking, share_bar, swatch};
use super::format::{self, NOTHING, Unit, duration, name, share, usd};
use super::parts::{card, no_calls};
use super::series::{self, cost, n_calls, n_hits};
use super::shell::Page;
use super::teams::link;
use crate::ledger::report::{By, Figures, LatencyBy, LatencyRow, SpendRow, Sums};
use crate::money::NanoUsd;

pub(super) async fn body(book: &Book<'_>) -> Read<Markup> {
    let (by_route, rows, latency) = tokio::try_join!(
        book.by_time(&[By::Route], Figures::Spent),
        book.whole(&[By::Route, By::Tier, By::Model, By::Upstream], Figures::All),
        book.latency(Some(LatencyBy::Route)),
    )?;
    if by_route.is_empty() {
        return Ok(no_calls(book));
    }
    let columns = book.span.columns();
    let chart = Chart {
        id: "spend",
        title: "Spend by route",
        about: "A route is the model name that clients ask for.",
        unit: Unit::Usd,
        columns: &columns,
        series: series::greatest(&book.span, &by_route, cost),
    };
    let n_unpriced = sum(&rows).n_unpriced;
    Ok(html! {
        @if n_unpriced > 0 {
            p.notice { (format::grouped(n_unpriced)) " calls have no known price and are in no sum. Add their models to prices.toml." }
        }
        div.wide { (chart.stacked()) }
        (card("Routes", "", &route_table(book, &rows, &latency)))
        (tiers_card(&rows))
        (card("Models", "Quality stands here as soon as it is metered; until then a cheaper model is only cheaper.", &cost_table("Model", &rows, 2)))
        (card("Upstreams", "", &cost_table("Upstream", &rows, 3)))
    })
}

fn route_table(book: &Book<'_>, rows: &[SpendRow], latency: &[LatencyRow]) -> Markup {
    let quantiles = |route: &str| {
        let row = latency.iter().find(|row| row.name == route);
        row.map_or([NOTHING.to_owned(), NOTHING.to_owned()], |row| {
            [duration(row.p50_ms), duration(row.p95_ms)]
        })
    };
    let bars: Vec<Bar> = grouped(rows, 0, cost)
        .into_iter()
        .map(|(route, sums)| {
            let [p50, p95] = quantiles(&route);
            Bar {
                href: Some(link(book, Page::Routes, &book.ask.with_route(&route).shared())),
                value: cost(&sums),
                tone: Tone::Nth(0),
                cells: vec![
                    usd(sums.cost),
                    per_thousand(&sums),
                    usd(sums.saved.net()),
                    format::grouped(sums.n_calls),
                    share(n_hits(&sums), sums.n_calls),
                    share(sums.n_errors, sums.n_calls),
                    p50,
                    p95,
                ],
                name: name(&route).to_owned(),
            }
        })
        .collect();
    let heads = ["Cost", "per 1,000", "Net saved", "Requests", "Hits", "Errors", "p50", "p95"];
    ranking("Route", &heads, &bars)
}

/// What a thousand such calls cost.
fn per_thousand(sums: &Sums) -> String {
    let n_priced = i128::from(sums.n_calls - sums.n_unpriced.min(sums.n_calls));
    if n_priced == 0 {
        return NOTHING.to_owned();
    }
    let nanos = i128::from(sums.cost.get()) * 1_000 / n_priced;
    i64::try_from(nanos).map_or(NOTHING.to_owned(), |nanos| usd(NanoUsd::new(nanos)))
}

fn tiers_card(by_tier: &[SpendRow]) -> Markup {
    let tiers = grouped(by_tier, 1, n_calls);
    let label = |tier: &str| if tier.is_empty() { "none".to_owned() } else { tier.to_owned() };
    let of = |route: &str, tier: &str| -> Sums {
        let is_it = |row: &&SpendRow| row.names.iter().take(2).map(String::as_str).eq([route, tier]);
        sum(&by_tier.iter().filter(is_it).cloned().collect::<Vec<_>>())
    };
    let body = html! {
        div.scroll { table.ranking {
            thead { tr {
                th scope="col" { "Route" } th.track scope="col" { "Share of requests" }
                @for (idx, (tier, _)) in tiers.iter().enumerate() { th.n scope="col" { (swatch(tone(idx, tier))) (label(tier)) } }
            } }
            tbody { @for (route, whole) in grouped(by_tier, 0, n_calls) {
                @let parts: Vec<Sums> = tiers.iter().map(|(tier, _)| of(&route, tier)).collect();
                tr {
                    th scope="row" { span title=(route) { (name(&route)) } }
                    td.track { (share_bar(name(&route), &segments(&tiers, &parts, &whole))) }
                    @for part in &parts { td.n { (share(part.n_calls, whole.n_calls)) } }
                }
            } }
        } }
    };
    card(
        "Tiers",
        "Which rung of the ladder answered; none where a cache did, or where a route has one rung.",
        &body,
    )
}

fn tone(idx: usize, tier: &str) -> Tone {
    if tier.is_empty() { Tone::Rest } else { Tone::Nth(idx) }
}

fn segments(tiers: &[(String, Sums)], parts: &[Sums], whole: &Sums) -> Vec<Segment> {
    let one = |(idx, ((tier, _), part)): (usize, (&(String, Sums), &Sums))| Segment {
        name: name(tier).to_owned(),
        value: n_calls(part),
        shown: share(part.n_calls, whole.n_calls),
        tone: tone(idx, tier),
    };
    tiers.iter().zip(parts).enumerate().map(one).collect()
}

/// Rows grouped by their name at `idx`.
fn cost_table(what: &str, rows: &[SpendRow], idx: usize) -> Markup {
    let total = sum(rows);
    let bars: Vec<Bar> = grouped(rows, idx, cost)
        .into_iter()
        .map(|(one, sums)| Bar {
            // Hits of a cache, and calls that were refused.
            name: if one.is_empty() { "(nothing was sent)".to_owned() } else { one },
            href: None,
            value: cost(&sums),
            tone: Tone::Nth(0),
            cells: vec![
                usd(sums.cost),
                format::percent(cost(&sums), cost(&total)),
                per_thousand(&sums),
                format::grouped(sums.n_calls),
                format::tokens(sums.usage.input),
                share(sums.usage.cached_read, sums.usage.input),
                format::tokens(sums.usage.output),
                share(sums.n_errors, sums.n_calls),
            ],
        })
        .collect();
    let heads = ["Cost", "Share", "per 1,000", "Requests", "Input", "cached", "Output", "Errors"];
    ranking(what, &heads, &bars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_calls_cost_what_the_priced_ones_did() {
        let sums = |n_calls, n_unpriced, nanos| Sums {
            n_calls,
            n_unpriced,
            cost: NanoUsd::new(nanos),
            ..Sums::default()
        };

        assert_eq!(per_thousand(&sums(4, 2, 2_000_000_000)), "$1,000.00");
        assert_eq!(per_thousand(&sums(2, 2, 0)), NOTHING);
        assert_eq!(per_thousand(&sums(0, 0, 0)), NOTHING);
        assert_eq!(per_thousand(&sums(1, 0, i64::MAX)), NOTHING);
    }
}
