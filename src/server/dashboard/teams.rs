//! Who spends: teams, their budgets, their users and models, and when they call.

use maud::{Markup, html};

use super::book::{Book, Read, grouped};
use super::burn::{burn_down, burned};
use super::chart::{Bar, Chart, Column, Tone, heat_map, meter, ranking};
use super::format::{self, Unit, name, share, usd};
use super::parts::{card, no_calls};
use super::series::{self, cost, n_hits};
use super::shell::Page;
use crate::ledger::budget::OnExceed;
use crate::ledger::report::{By, Figures, LatencyBy, LatencyRow, SpendRow, Sums};
use crate::server::standing::{Outlook, Standing};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const N_MOST: usize = 10;
/// Users and hours are many: the end of a long range tells as much, and at once.
const N_DAYS_OF_USERS: i64 = 14;
const N_DAYS_OF_HOURS: i64 = 14;
/// Users are summed by day and not by route; beyond this their rows would have to be read one by one.
const MOST_USERS_BY_ROUTE_MS: i64 = 7 * DAY_MS;

pub(super) async fn body(book: &Book<'_>) -> Read<Markup> {
    // One team alone is better told apart by its models.
    let ((by, figures), (other, other_figures)) = match book.team().is_some() {
        true => (([By::Model], Figures::Spent), ([By::Team], Figures::All)),
        false => (([By::Team], Figures::All), ([By::Model], Figures::Spent)),
    };
    let (by_time, others, by_hour, users, latency, burned) = tokio::try_join!(
        book.by_time(&by, figures),
        book.whole(&other, other_figures),
        book.spent_by_hour(N_DAYS_OF_HOURS),
        users(book),
        book.latency(Some(LatencyBy::Team)),
        burned(book),
    )?;
    let (by_time_whole, others) = (grouped(&by_time, 0, cost), grouped(&others, 0, cost));
    let (by_team, by_model) =
        if book.team().is_some() { (others, by_time_whole) } else { (by_time_whole, others) };
    if by_team.is_empty() {
        return Ok(html! { (no_calls(book)) (burn_down(book, &burned)) });
    }
    let columns = book.span.columns();
    Ok(html! {
        div.wide { (spend_chart(book, &by_time, &columns)) }
        (card("Teams", "", &team_table(book, &by_team, &latency)))
        (burn_down(book, &burned))
        div.halves {
            (users_card(book, users))
            (models_card(by_model))
        }
        (heat(book, &by_hour))
    })
}

async fn users(book: &Book<'_>) -> Read<Option<Vec<SpendRow>>> {
    if book.ask.route.is_some() && book.span.to_ms - book.span.from_ms > MOST_USERS_BY_ROUTE_MS {
        return Ok(None);
    }
    book.spent_of_last(N_DAYS_OF_USERS, &[By::User]).await.map(Some)
}

fn spend_chart(book: &Book<'_>, rows: &[SpendRow], columns: &[Column]) -> Markup {
    let of = if book.team().is_some() { "model" } else { "team" };
    let chart = Chart {
        id: "spend",
        title: &format!("Spend by {of}"),
        about: "Those that cost most have a colour each.",
        unit: Unit::Usd,
        columns,
        series: series::greatest(&book.span, rows, cost),
    };
    chart.stacked()
}

fn team_table(book: &Book<'_>, teams: &[(String, Sums)], latency: &[LatencyRow]) -> Markup {
    let mut total = Sums::default();
    teams.iter().for_each(|(_, sums)| total.add(sums));
    let p95 = |team: &str| {
        let row = latency.iter().find(|row| row.name == team);
        row.map_or(format::NOTHING.to_owned(), |row| format::duration(row.p95_ms))
    };
    let line = |team: &str, sums: &Sums| {
        vec![
            usd(sums.cost),
            share_of(sums, &total),
            usd(sums.saved.net()),
            format::grouped(sums.n_calls),
            format::tokens(sums.usage.input + sums.usage.output),
            share(n_hits(sums), sums.n_calls),
            share(sums.n_errors, sums.n_calls),
            p95(team),
        ]
    };
    let bars: Vec<Bar> = teams
        .iter()
        .map(|(team, sums)| Bar {
            href: Some(link(book, Page::Teams, &book.ask.with_team(team).shared())),
            value: cost(sums),
            tone: Tone::Nth(0),
            cells: line(team, sums),
            name: name(team).to_owned(),
        })
        .collect();
    ranking("Team", &["Cost", "Share", "Net saved", "Requests", "Tokens", "Hits", "Errors", "p95"], &bars)
}

pub(super) fn link(_: &Book<'_>, page: Page, ask: &super::range::Ask) -> String {
    format!("/dashboard/{}?{}", page.word(), ask.query())
}

fn share_of(part: &Sums, whole: &Sums) -> String {
    format::percent(cost(part), cost(whole))
}

/// Every budget: how much is used, and what will become of it.
pub(super) fn budget_table(book: &Book<'_>, budgets: &[Standing]) -> Markup {
    html! {
        div.scroll { table.budgets {
            thead { tr {
                th scope="col" { "Budget" } th scope="col" { "Per" } th.track scope="col" { "Used" }
                th.n scope="col" { "Used" } th.n scope="col" { "Limit" } th.n scope="col" { "Left" } th scope="col" { "Outlook" } th scope="col" { "When exceeded" }
            } }
            tbody { @for standing in budgets { tr {
                th scope="row" { a href=(link(book, Page::Teams, &book.ask.with_team(standing.team.as_str()).shared())) { (standing.owner()) } }
                td { (standing.budget.per) @if standing.budget.time_zone.name() != "UTC" { span.under { (standing.budget.time_zone.name()) } } }
                td.track { (used_meter(standing)) }
                td.n { (usd(standing.used())) } td.n { (usd(standing.limit())) } td.n { (usd(standing.left())) }
                td { (outlook(standing, book.now_ms)) }
                td { (on_exceed(standing.budget.on_exceed)) }
            } } }
        } }
    }
}

fn used_meter(standing: &Standing) -> Markup {
    let (used, limit) = (standing.used().as_usd(), standing.limit().as_usd());
    meter(used, limit, &format!("{} used", format::percent(used, limit)))
}

fn outlook(standing: &Standing, now_ms: i64) -> Markup {
    match standing.outlook(now_ms) {
        Outlook::TooEarly => html! { "too early to say" },
        Outlook::UsedUp => {
            html! { span.pill.bad { "used up" } " until " (format::time(standing.to_ms, "%-d %b, %H:%M")) }
        }
        Outlook::RunsOut { at_ms } => {
            html! { span.pill.warn { "runs out" } " " (format::time(at_ms, "%-d %b, %H:%M")) }
        }
        Outlook::Lasts { at_end } => html! { "lasts; " (usd(at_end)) " at the end" },
    }
}

fn on_exceed(what: OnExceed) -> &'static str {
    match what {
        OnExceed::Refuse => "calls are refused",
        OnExceed::LocalOnly => "local answers only",
        OnExceed::Warn => "calls carry a warning",
    }
}

fn users_card(book: &Book<'_>, users: Option<Vec<SpendRow>>) -> Markup {
    let Some(users) = users else {
        let body = html! { p.empty { "Users are summed by day over all routes. Choose at most seven days to see them by route." } };
        return card("Top users", "", &body);
    };
    let named: Vec<SpendRow> =
        users.into_iter().filter(|row| row.names.first().is_some_and(|n| !n.is_empty())).collect();
    if named.is_empty() {
        let body = html! { p.empty { "No call named its user. Send header " code { "x-stiver-user" } " to see who spends." } };
        return card("Top users", "", &body);
    }
    let row = |(user, sums): (String, Sums)| Bar {
        href: Some(link(book, Page::Calls, &book.ask.with_search(&user))),
        value: cost(&sums),
        tone: Tone::Nth(3),
        cells: vec![usd(sums.cost), format::grouped(sums.n_calls)],
        name: user,
    };
    let mut dearest = grouped(&named, 0, cost);
    dearest.truncate(N_MOST);
    let bars: Vec<Bar> = dearest.into_iter().map(row).collect();
    let about = format!("As calls name them in x-stiver-user{}.", of_last(book, N_DAYS_OF_USERS));
    card("Top users", &about, &ranking("User", &["Cost", "Requests"], &bars))
}

/// Says so where only the end of the range is counted.
fn of_last(book: &Book<'_>, n_days: i64) -> String {
    match book.span == book.span.last_days(n_days) {
        true => String::new(),
        false => format!(", in the last {n_days} days of the range"),
    }
}

fn models_card(mut by_model: Vec<(String, Sums)>) -> Markup {
    by_model.truncate(N_MOST);
    let row = |(model, sums): (String, Sums)| Bar {
        name: name(&model).to_owned(),
        href: None,
        value: cost(&sums),
        tone: Tone::Nth(6),
        cells: vec![usd(sums.cost), format::grouped(sums.n_calls)],
    };
    let bars: Vec<Bar> = by_model.into_iter().map(row).collect();
    card("Top models", "By what they cost.", &ranking("Model", &["Cost", "Requests"], &bars))
}

fn heat(book: &Book<'_>, by_hour: &[SpendRow]) -> Markup {
    let mut week = [[0.0; 24]; 7];
    for row in by_hour {
        // 1 January 1970 was a Thursday.
        let day = (row.at_ms.div_euclid(DAY_MS) + 3).rem_euclid(7);
        let hour = row.at_ms.rem_euclid(DAY_MS) / HOUR_MS;
        if let (Ok(day), Ok(hour)) = (usize::try_from(day), usize::try_from(hour)) {
            week[day][hour] += row.sums.n_calls as f64;
        }
    }
    let about = format!("Requests by day of the week and hour, UTC{}.", of_last(book, N_DAYS_OF_HOURS));
    html! { div.wide { (heat_map("When calls come", &about, Unit::Count, &week)) } }
}
