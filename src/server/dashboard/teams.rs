//! Who spends: teams, their budgets, their users and models, and when they call.

use maud::{Markup, html};

use super::book::{Book, Read, grouped};
use super::budgets::{Outlook, Standing};
use super::chart::{Bar, Chart, Column, Look, Series, Tone, heat_map, meter, ranking};
use super::format::{self, Unit, name, share, usd};
use super::parts::{card, no_calls};
use super::range::{Grain, Span};
use super::series::{self, cost, n_hits};
use super::shell::Page;
use crate::ledger::budget::{Of, OnExceed, Window};
use crate::ledger::report::{By, LatencyBy, LatencyRow, SpendRow, Sums};

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
    let (by, other) =
        if book.team().is_some() { ([By::Model], [By::Team]) } else { ([By::Team], [By::Model]) };
    let (by_time, others, by_hour, users, latency, burned) = tokio::try_join!(
        book.by_time(&by),
        book.whole(&other),
        book.by_hour(N_DAYS_OF_HOURS),
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
    book.whole_of_last(N_DAYS_OF_USERS, &[By::User]).await.map(Some)
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
                th scope="row" { a href=(link(book, Page::Teams, &book.ask.with_team(&standing.team).shared())) { (standing.owner) } }
                td { (standing.per) @if standing.zone != "UTC" { span.under { (standing.zone) } } }
                td.track { (meter(standing.used.as_usd(), standing.limit.as_usd(), &format!("{} used", format::percent(standing.used.as_usd(), standing.limit.as_usd())))) }
                td.n { (usd(standing.used)) } td.n { (usd(standing.limit)) } td.n { (usd(standing.left())) }
                td { (outlook(standing, book.now_ms)) }
                td { (on_exceed(standing.on_exceed)) }
            } } }
        } }
    }
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

/// The budget worth drawing, and what was spent of it by day.
enum Burned {
    /// There is none.
    Nothing,
    /// There are some, but of which team is to be drawn?
    Unchosen,
    Drawn(Standing, Vec<SpendRow>),
}

/// The monthly budget that the page's team shares. Days of the book are days in UTC, so budgets of other
/// calendars are not drawn.
async fn burned(book: &Book<'_>) -> Read<Burned> {
    let is_drawn = |standing: &Standing| {
        standing.per == Window::Month && standing.of == Of::Team && standing.zone == "UTC"
    };
    let Some(standing) = book.budgets().await?.into_iter().find(is_drawn) else { return Ok(Burned::Nothing) };
    match (book.team(), &book.ask.route) {
        (Some(_), None) => {
            let span = Span { from_ms: standing.from_ms, to_ms: standing.to_ms, grain: Grain::Day };
            let by_day = book.by_day(span).await?;
            Ok(Burned::Drawn(standing, by_day))
        }
        (None, _) => Ok(Burned::Unchosen),
        (Some(_), Some(_)) => Ok(Burned::Nothing),
    }
}

fn burn_down(book: &Book<'_>, burned: &Burned) -> Markup {
    let (standing, by_day) = match burned {
        Burned::Nothing => return html! {},
        Burned::Unchosen => {
            return html! { p.hint { "Choose a team above to see how its monthly budget burns down." } };
        }
        Burned::Drawn(standing, by_day) => (standing, by_day),
    };
    let span = Span { from_ms: standing.from_ms, to_ms: standing.to_ms, grain: Grain::Day };
    let columns = span.columns();
    let chart = Chart {
        id: "burn-down",
        title: &format!("Monthly budget of {}", standing.owner),
        about: "What is left at the end of each day, beside an even pace and the forecast.",
        unit: Unit::Usd,
        columns: &columns,
        series: burn_series(standing, &span, by_day, book.now_ms),
    };
    html! { div.wide { (chart.lines()) } }
}

fn burn_series(standing: &Standing, span: &Span, by_day: &[SpendRow], now_ms: i64) -> Vec<Series> {
    let limit = standing.limit.as_usd();
    let n_days = span.n_columns();
    let today = span.column_at(now_ms).unwrap_or(n_days.saturating_sub(1));
    let spent = series::by_column(span, by_day);
    let mut left = limit;
    let mut actual = vec![None; n_days];
    for (idx, sums) in spent.iter().enumerate().take(today + 1) {
        left -= cost(sums);
        actual[idx] = Some(left);
    }
    let pace = (limit - left) / ((now_ms - span.from_ms).max(1) as f64 / DAY_MS as f64);
    let days_after_now = |idx: usize| (idx + 1) as f64 - (now_ms - span.from_ms) as f64 / DAY_MS as f64;
    let forecast = (0..n_days).map(|idx| match idx {
        _ if idx < today => None,
        _ if idx == today => Some(left),
        _ => Some(left - pace * days_after_now(idx)).filter(|value| *value > -pace),
    });
    // What is used up needs no forecast.
    let forecast = forecast.map(|value| value.filter(|_| left > 0.0).map(|value| value.max(0.0))).collect();
    let even = (0..n_days).map(|idx| Some(limit * (1.0 - (idx + 1) as f64 / n_days as f64))).collect();
    let one = |name: &str, tone, look, values| Series { name: name.to_owned(), tone, look, values };
    let series = [
        one("Left", Tone::Nth(0), Look::Area, actual),
        one("Forecast", Tone::Nth(1), Look::Dashed, forecast),
        one("Even pace", Tone::Quiet, Look::Dashed, even),
    ];
    series.into_iter().filter(|series| series.values.iter().any(Option::is_some)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::NanoUsd;

    fn spent(day: i64, usd: i64) -> SpendRow {
        let sums = Sums { n_calls: 1, cost: NanoUsd::new(usd * 1_000_000_000), ..Sums::default() };
        SpendRow { at_ms: day * DAY_MS, names: Vec::new(), sums }
    }

    fn series(days: &[(i64, i64)], now_day: f64) -> Vec<Vec<Option<f64>>> {
        let usd = |usd: i64| NanoUsd::new(usd * 1_000_000_000);
        let standing = Standing {
            owner: "a".to_owned(),
            team: "a".to_owned(),
            of: Of::Team,
            zone: "UTC".to_owned(),
            limit: usd(100),
            used: usd(0),
            per: Window::Month,
            on_exceed: OnExceed::Refuse,
            from_ms: 0,
            to_ms: 5 * DAY_MS,
        };
        let span = Span { from_ms: 0, to_ms: 5 * DAY_MS, grain: Grain::Day };
        let rows: Vec<SpendRow> = days.iter().map(|(day, usd)| spent(*day, *usd)).collect();
        let now_ms = (now_day * DAY_MS as f64) as i64;
        burn_series(&standing, &span, &rows, now_ms).into_iter().map(|series| series.values).collect()
    }

    #[test]
    fn a_budget_burns_down_by_day_and_the_forecast_goes_on_from_today() {
        let found = series(&[(0, 20), (1, 20)], 2.0 - 1e-6);

        assert_eq!(found[0], [Some(80.0), Some(60.0), None, None, None]);
        let forecast: Vec<Option<i64>> = found[1].iter().map(|v| v.map(|v| v.round() as i64)).collect();
        assert_eq!(forecast, [None, Some(60), Some(40), Some(20), Some(0)]);
        assert_eq!(
            found[2].iter().map(|v| v.unwrap().round() as i64).collect::<Vec<_>>(),
            [80, 60, 40, 20, 0]
        );
    }

    #[test]
    fn a_forecast_ends_where_the_money_does() {
        let found = series(&[(0, 60)], 1.0 - 1e-6);

        assert_eq!(found[0][0], Some(40.0));
        assert_eq!(
            found[1].iter().map(|v| v.map(|v| v.round() as i64)).collect::<Vec<_>>(),
            [Some(40), Some(0), None, None, None]
        );
    }
}
