//! The first page: what is spent, what is saved and by what, and whether calls are answered well.

use maud::{Markup, html};

use super::book::{Book, Read, sum};
use super::chart::{Bar, Chart, Column, Look, Series, Tone, meter, ranking, sparkline};
use super::format::{self, Unit, duration, share, usd};
use super::parts::{Tile, card, change, no_calls, tiles};
use super::range::{Grain, Preset, Range, Span};
use super::series::{self, by_column, cost, n_calls, n_hits, percent_of_calls, steady};
use super::teams::budget_table;
use crate::ledger::budget::{Of, Window};
use crate::ledger::report::{self, By, LatencyRow, SpendRow, Sums};
use crate::money::NanoUsd;
use crate::server::standing::{Outlook, Standing};

/// What the page reads.
struct Figures {
    /// All sums, by column.
    rows: Vec<SpendRow>,
    /// Calls and cost by team or route.
    spent: Vec<SpendRow>,
    before: Sums,
    /// Calls and cost of this month, and of yesterday where that was in another.
    by_day: Vec<SpendRow>,
    latency: Option<LatencyRow>,
    latency_by_time: Vec<LatencyRow>,
    budgets: Vec<Standing>,
}

impl Figures {
    async fn read(book: &Book<'_>) -> Read<Self> {
        // Who sees one team only is better served by its routes.
        let by = [if book.team().is_some() { By::Route } else { By::Team }];
        let (rows, spent, before, by_day, (latency, latency_by_time), budgets) = tokio::try_join!(
            book.by_time(&[], report::Figures::All),
            book.by_time(&by, report::Figures::Spent),
            book.spent_in(book.span.before()),
            recent_days(book),
            book.latency_by_time(),
            book.budgets(),
        )?;
        let by_day = by_day.unwrap_or_else(|| rows.clone());
        Ok(Self { rows, spent, before, by_day, latency, latency_by_time, budgets })
    }

    /// What was spent on the day that began so many days before today.
    fn spent_days_ago(&self, book: &Book<'_>, n_days: i64) -> NanoUsd {
        let from_ms = book.now_ms - book.now_ms.rem_euclid(DAY_MS) - n_days * DAY_MS;
        self.by_day.iter().filter(|row| row.at_ms == from_ms).map(|row| row.sums.cost).sum()
    }

    fn spent_this_month(&self, book: &Book<'_>) -> NanoUsd {
        let Span { from_ms, .. } = Range::Preset(Preset::Month).span(book.now_ms);
        self.by_day.iter().filter(|row| row.at_ms >= from_ms).map(|row| row.sums.cost).sum()
    }
}

/// This month by day, and yesterday where that was in another; nothing where the range's own days have them.
async fn recent_days(book: &Book<'_>) -> Read<Option<Vec<SpendRow>>> {
    let month = Range::Preset(Preset::Month).span(book.now_ms);
    let recent = Span { from_ms: month.from_ms.min(month.to_ms - 2 * DAY_MS), grain: Grain::Day, ..month };
    let has_them = book.span.grain == Grain::Day
        && book.span.from_ms <= recent.from_ms
        && recent.to_ms <= book.span.to_ms;
    if has_them { Ok(None) } else { book.spent_by_day(recent).await.map(Some) }
}

const DAY_MS: i64 = 86_400_000;

pub(super) async fn body(book: &Book<'_>) -> Read<Markup> {
    let figures = Figures::read(book).await?;
    let total = sum(&figures.rows);
    let columns = by_column(&book.span, &figures.rows);
    let names = book.span.columns();
    Ok(html! {
        (tiles(&[spent_today(book, &figures, &columns), spent_this_month(book, &figures), saved(&total, &columns), requests(&total, &figures, &columns)]))
        (tiles(&[errors(&total, &columns), hits(&total, &columns), slowest(book, &figures), overhead(&total, &columns)]))
        @if total.n_calls == 0 { (no_calls(book)) } @else {
            div.wide { (spend_chart(book, &figures, &names)) }
            div.halves {
                (savings_card(&total))
                (answers_chart(&columns, &names))
            }
            div.halves {
                (rates_chart(&columns, &names))
                (latency_chart(book, &figures, &names))
            }
        }
        (budgets_card(book, &figures.budgets))
    })
}

fn spent_today(book: &Book<'_>, figures: &Figures, columns: &[Sums]) -> Tile<'static> {
    let (today, yesterday) = (figures.spent_days_ago(book, 0), figures.spent_days_ago(book, 1));
    Tile {
        label: "Spend today",
        value: usd(today),
        note: html! { "yesterday " (usd(yesterday)) },
        picture: sparkline(&columns.iter().map(cost).collect::<Vec<f64>>(), Tone::Nth(0)),
    }
}

fn spent_this_month(book: &Book<'_>, figures: &Figures) -> Tile<'static> {
    let spent = figures.spent_this_month(book);
    let is_monthly =
        |standing: &&Standing| standing.budget.per == Window::Month && standing.budget.of == Of::Team;
    let monthly: Vec<Standing> = figures.budgets.iter().filter(is_monthly).cloned().collect();
    let limit: NanoUsd = monthly.iter().map(Standing::limit).fold(NanoUsd::ZERO, NanoUsd::saturating_add);
    let used: NanoUsd = monthly.iter().map(Standing::used).fold(NanoUsd::ZERO, NanoUsd::saturating_add);
    Tile {
        label: "Spend this month",
        value: usd(spent),
        note: html! {
            @if monthly.is_empty() { "no monthly budget" } @else {
                (format::percent(used.as_usd(), limit.as_usd())) " of " (usd(limit)) " budgeted"
                br; (outlook(&monthly, book.now_ms))
            }
        },
        picture: html! { @if !monthly.is_empty() {
            (meter(used.as_usd(), limit.as_usd(), &format!("{} of the monthly budgets", format::percent(used.as_usd(), limit.as_usd()))))
        } },
    }
}

/// The worst that is to be expected of the budgets.
fn outlook(budgets: &[Standing], now_ms: i64) -> Markup {
    let used_up: Vec<&Standing> =
        budgets.iter().filter(|standing| standing.outlook(now_ms) == Outlook::UsedUp).collect();
    let soonest = budgets.iter().filter_map(|standing| match standing.outlook(now_ms) {
        Outlook::RunsOut { at_ms } => Some((at_ms, standing)),
        Outlook::UsedUp | Outlook::TooEarly | Outlook::Lasts { .. } => None,
    });
    let soonest = soonest.min_by_key(|(at_ms, _)| *at_ms);
    html! {
        @match (used_up.as_slice(), soonest) {
            ([], None) => "lasts at this pace",
            ([], Some((at_ms, standing))) => span.change.bad { (standing.owner()) " runs out on " (format::time(at_ms, "%-d %b")) },
            ([one], _) => span.change.bad { (one.owner()) " is used up" },
            (several, _) => span.change.bad { (several.len()) " budgets are used up" },
        }
    }
}

fn saved(total: &Sums, columns: &[Sums]) -> Tile<'static> {
    let net = total.saved.net();
    let values: Vec<f64> = columns.iter().map(|sums| sums.saved.net().as_usd()).collect();
    Tile {
        label: "Net savings",
        value: usd(net),
        note: html! {
            @if total.baseline > NanoUsd::ZERO { (format::percent(net.as_usd(), total.baseline.as_usd())) " of the baseline's cost" }
            @else { "no baseline is known" }
        },
        picture: sparkline(&values, Tone::Nth(2)),
    }
}

fn requests(total: &Sums, figures: &Figures, columns: &[Sums]) -> Tile<'static> {
    let values: Vec<f64> = columns.iter().map(n_calls).collect();
    Tile {
        label: "Requests",
        value: format::grouped(total.n_calls),
        note: html! { (change(n_calls(total), n_calls(&figures.before), true)) " from the range before" },
        picture: sparkline(&values, Tone::Nth(0)),
    }
}

fn errors(total: &Sums, columns: &[Sums]) -> Tile<'static> {
    let values = series::rates(columns, |sums| sums.n_errors);
    Tile {
        label: "Error rate",
        value: share(total.n_errors, total.n_calls),
        note: html! { (format::grouped(total.n_errors)) " calls failed" },
        picture: sparkline(&values, Tone::Bad),
    }
}

fn hits(total: &Sums, columns: &[Sums]) -> Tile<'static> {
    let values = series::rates(columns, n_hits);
    Tile {
        label: "Cache hit rate",
        value: share(n_hits(total), total.n_calls),
        note: html! { (share(total.n_hits_exact, total.n_calls)) " exact, " (share(total.n_hits_semantic, total.n_calls)) " semantic" },
        picture: sparkline(&values, Tone::Nth(2)),
    }
}

fn slowest(book: &Book<'_>, figures: &Figures) -> Tile<'static> {
    let all = figures.latency.as_ref();
    let values = steady(values_at(book, &figures.latency_by_time, |row| row.p95_ms).into_iter());
    Tile {
        label: "p95 latency",
        value: all.map_or(format::NOTHING.to_owned(), |row| duration(row.p95_ms)),
        note: html! { @if let Some(row) = all { "p50 " (duration(row.p50_ms)) ", p99 " (duration(row.p99_ms)) } },
        picture: sparkline(&values, Tone::Nth(6)),
    }
}

fn overhead(total: &Sums, columns: &[Sums]) -> Tile<'static> {
    let mean_ms = |sums: &Sums| sums.overhead_us as f64 / 1_000.0 / sums.n_calls.max(1) as f64;
    let values = steady(columns.iter().map(|sums| (sums.n_calls > 0).then(|| mean_ms(sums))));
    Tile {
        label: "Gateway overhead",
        value: if total.n_calls == 0 { format::NOTHING.to_owned() } else { duration(mean_ms(total)) },
        note: html! { "mean of a call, before it is sent" },
        picture: sparkline(&values, Tone::Nth(3)),
    }
}

fn spend_chart(book: &Book<'_>, figures: &Figures, columns: &[Column]) -> Markup {
    let of = if book.team().is_some() { "route" } else { "team" };
    let chart = Chart {
        id: "spend",
        title: &format!("Spend by {of}"),
        about: "What was charged by upstreams and by our own machines.",
        unit: Unit::Usd,
        columns,
        series: series::greatest(&book.span, &figures.spent, cost),
    };
    chart.stacked()
}

/// The causes of what was saved; the discount of providers stands beside them and is not in the sum.
fn savings_card(total: &Sums) -> Markup {
    let saved = &total.saved;
    let net = saved.net();
    let causes = [
        ("Exact cache hits", saved.exact, Tone::Nth(2)),
        ("Semantic cache hits", saved.semantic, Tone::Nth(4)),
        ("Cheaper model (route-down)", saved.route_down, Tone::Nth(0)),
        ("Local model", saved.local, Tone::Nth(1)),
        ("Compression", saved.compression, Tone::Nth(6)),
        ("Our own cost", NanoUsd::ZERO - saved.own_cost, Tone::Bad),
    ];
    let bars: Vec<Bar> = causes
        .into_iter()
        .map(|(name, amount, tone)| Bar {
            name: name.to_owned(),
            href: None,
            value: amount.as_usd(),
            tone,
            cells: vec![usd(amount), format::percent(amount.as_usd(), total.baseline.as_usd())],
        })
        .collect();
    let body = html! {
        (ranking("Cause", &["Saved", "of baseline"], &bars))
        p.sum { "Net " strong { (usd(net)) } ": " (usd(total.cost)) " spent instead of " (usd(total.baseline)) }
        @if saved.prefix_cache != NanoUsd::ZERO {
            p.about { "Providers took " (usd(saved.prefix_cache)) " off for prompts they had cached; it comes without a gateway, too, so it is not in the sum." }
        }
    };
    card("Net savings by cause", "What the baseline model would have cost more.", &body)
}

fn answers_chart(sums: &[Sums], columns: &[Column]) -> Markup {
    let chart = Chart {
        id: "answers",
        title: "Requests by what answered",
        about: "Caches and local models cost next to nothing.",
        unit: Unit::Count,
        columns,
        series: series::by_path(sums),
    };
    chart.stacked()
}

fn rates_chart(sums: &[Sums], columns: &[Column]) -> Markup {
    let chart = Chart {
        id: "rates",
        title: "Hits and errors",
        about: "Share of all requests.",
        unit: Unit::Percent,
        columns,
        series: vec![
            series::line(sums, "Cache hits", Tone::Nth(2), |sums| percent_of_calls(n_hits(sums), sums)),
            series::line(sums, "Errors", Tone::Bad, |sums| percent_of_calls(sums.n_errors, sums)),
        ],
    };
    chart.lines()
}

fn latency_chart(book: &Book<'_>, figures: &Figures, columns: &[Column]) -> Markup {
    let one = |name: &str, tone, value: fn(&LatencyRow) -> f64| Series {
        name: name.to_owned(),
        tone,
        look: Look::Line,
        values: values_at(book, &figures.latency_by_time, value),
    };
    let chart = Chart {
        id: "latency",
        title: "Latency",
        about: "From a request's arrival to the end of its answer.",
        unit: Unit::Ms,
        columns,
        series: vec![one("p95", Tone::Nth(6), |row| row.p95_ms), one("p50", Tone::Nth(4), |row| row.p50_ms)],
    };
    chart.lines()
}

/// Rows by the beginning of their hour or day, as values by column.
fn values_at(book: &Book<'_>, rows: &[LatencyRow], value: fn(&LatencyRow) -> f64) -> Vec<Option<f64>> {
    let mut values = vec![None; book.span.n_columns()];
    for row in rows {
        let idx = row.name.parse().ok().and_then(|at_ms| book.span.column_at(at_ms));
        if let Some(place) = idx.and_then(|idx| values.get_mut(idx)) {
            *place = Some(value(row));
        }
    }
    values
}

fn budgets_card(book: &Book<'_>, budgets: &[Standing]) -> Markup {
    html! { @if !budgets.is_empty() {
        (card("Budgets", "What is held for open calls counts as used. The forecast is this window's average so far.", &budget_table(book, budgets)))
    } }
}
