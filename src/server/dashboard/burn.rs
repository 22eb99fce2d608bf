//! How budgets burn down: what is left at the end of each hour or day of a window, and what will be.
//!
//! Reads nothing itself; a budget's window is cut by its own calendar, whatever the page's range is.
//!
//! Invariants: the forecast begins at what is left now and never falls below zero.

use maud::{Markup, html};

use super::book::{Book, Read};
use super::chart::{Chart, Column, Look, Series, Tone};
use super::format::{Unit, time_in};
use crate::ledger::budget::{Of, Window};
use crate::money::NanoUsd;
use crate::server::standing::Standing;

/// The budgets worth drawing, and what was spent of them.
pub(super) enum Burned {
    /// There is none.
    Nothing,
    /// There are some, but of which team are they to be drawn?
    Unchosen,
    Drawn(Vec<(Standing, Vec<NanoUsd>)>),
}

/// The budgets of the page's team. They are of all routes, so a page about one route draws none.
pub(super) async fn burned(book: &Book<'_>) -> Read<Burned> {
    if book.ask.route.is_some() {
        return Ok(Burned::Nothing);
    }
    if book.team().is_none() {
        let has_any = book.live.key_ring().teams().any(|team| !team.budgets.is_empty());
        return Ok(if has_any { Burned::Unchosen } else { Burned::Nothing });
    }
    let standings = book.budgets().await?;
    let spent = futures_util::future::try_join_all(standings.iter().map(|one| book.burned(one))).await?;
    Ok(Burned::Drawn(standings.into_iter().zip(spent).collect()))
}

pub(super) fn burn_down(book: &Book<'_>, burned: &Burned) -> Markup {
    let drawn = match burned {
        Burned::Nothing => return html! {},
        Burned::Unchosen => {
            return html! { p.hint { "Choose a team above to see how its budgets burn down." } };
        }
        Burned::Drawn(drawn) => drawn,
    };
    html! {
        @for (pair_idx, pair) in drawn.chunks(2).enumerate() {
            div class=(if pair.len() == 2 { "halves" } else { "wide" }) {
                @for (idx, (standing, spent)) in pair.iter().enumerate() {
                    (chart(&format!("burn-down-{}", pair_idx * 2 + idx), standing, spent, book.now_ms))
                }
            }
        }
    }
}

fn chart(id: &str, standing: &Standing, spent: &[NanoUsd], now_ms: i64) -> Markup {
    let edges_ms = standing.edges_ms();
    let zone = standing.budget.time_zone.name();
    let step = match standing.budget.per {
        Window::Day => "hour",
        Window::Week | Window::Month => "day",
    };
    let columns = columns(standing, &edges_ms);
    let chart = Chart {
        id,
        title: &title(standing),
        about: &format!(
            "What is left at the end of each {step} in {zone}, beside an even pace and the forecast."
        ),
        unit: Unit::Usd,
        columns: &columns,
        series: series(standing, &edges_ms, spent, now_ms),
    };
    chart.lines()
}

fn title(standing: &Standing) -> String {
    let per = match standing.budget.per {
        Window::Day => "Daily",
        Window::Week => "Weekly",
        Window::Month => "Monthly",
    };
    let team = &standing.team;
    match standing.budget.of {
        Of::Team => format!("{per} budget of {team}"),
        Of::EachKey => format!("{per} budget of key {} of {team}", standing.name),
        Of::EachUser => format!("{per} budget of user {} of {team}", standing.name),
    }
}

fn columns(standing: &Standing, edges_ms: &[i64]) -> Vec<Column> {
    let (long, short) = match standing.budget.per {
        Window::Day => ("%a %-d %b %Y, %H:%M", "%H:%M"),
        Window::Week | Window::Month => ("%a %-d %b %Y", "%-d %b"),
    };
    let zone = standing.budget.time_zone.name();
    let column =
        |at_ms: &i64| Column { long: time_in(zone, *at_ms, long), short: time_in(zone, *at_ms, short) };
    edges_ms[..edges_ms.len().saturating_sub(1)].iter().map(column).collect()
}

fn series(standing: &Standing, edges_ms: &[i64], spent: &[NanoUsd], now_ms: i64) -> Vec<Series> {
    let limit = standing.limit().as_usd();
    let (from_ms, to_ms) = (standing.from_ms, standing.to_ms);
    let ends: Vec<i64> = edges_ms.iter().skip(1).copied().collect();
    let today = ends.partition_point(|end_ms| *end_ms <= now_ms).min(ends.len().saturating_sub(1));
    let mut left = limit;
    let mut actual = vec![None; ends.len()];
    for (idx, usd) in spent.iter().enumerate().take(today + 1) {
        left -= usd.as_usd();
        actual[idx] = Some(left);
    }
    let per_ms = (limit - left) / (now_ms - from_ms).max(1) as f64;
    let at_end = |idx: usize| left - per_ms * (ends[idx] - now_ms) as f64;
    let forecast = (0..ends.len()).map(|idx| match idx {
        // What is used up needs no forecast.
        _ if idx < today || left <= 0.0 => None,
        _ if idx == today => Some(left),
        // The first stretch that ends with nothing left is the last.
        _ if idx > today + 1 && at_end(idx - 1) <= 0.0 => None,
        _ => Some(at_end(idx).max(0.0)),
    });
    let share = |end_ms: &i64| (end_ms - from_ms) as f64 / (to_ms - from_ms).max(1) as f64;
    let even = ends.iter().map(|end_ms| Some(limit * (1.0 - share(end_ms)))).collect();
    let one = |name: &str, tone, look, values| Series { name: name.to_owned(), tone, look, values };
    let series = [
        one("Left", Tone::Nth(0), Look::Area, actual),
        one("Forecast", Tone::Nth(1), Look::Dashed, forecast.collect()),
        one("Even pace", Tone::Quiet, Look::Dashed, even),
    ];
    series.into_iter().filter(|series| series.values.iter().any(Option::is_some)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::budget::Budget;
    use crate::team::TeamName;

    const DAY_MS: i64 = 86_400_000;

    fn usd(usd: i64) -> NanoUsd {
        NanoUsd::new(usd * 1_000_000_000)
    }

    /// Five days and a hundred dollars.
    fn values(spent: &[i64], now_day: f64) -> Vec<Vec<Option<f64>>> {
        let standing = Standing {
            team: TeamName::from("a"),
            name: String::new(),
            budget: Budget::new(usd(100), Window::Month),
            spent: NanoUsd::ZERO,
            held: NanoUsd::ZERO,
            from_ms: 0,
            to_ms: 5 * DAY_MS,
        };
        let edges: Vec<i64> = (0..=5).map(|day| day * DAY_MS).collect();
        let mut days: Vec<NanoUsd> = spent.iter().map(|spent| usd(*spent)).collect();
        days.resize(5, NanoUsd::ZERO);
        let now_ms = (now_day * DAY_MS as f64) as i64;
        series(&standing, &edges, &days, now_ms).into_iter().map(|series| series.values).collect()
    }

    fn rounded(values: &[Option<f64>]) -> Vec<Option<i64>> {
        values.iter().map(|value| value.map(|value| value.round() as i64)).collect()
    }

    #[test]
    fn a_budget_burns_down_by_day_and_the_forecast_goes_on_from_today() {
        let found = values(&[20, 20], 2.0 - 1e-6);

        assert_eq!(found[0], [Some(80.0), Some(60.0), None, None, None]);
        assert_eq!(rounded(&found[1]), [None, Some(60), Some(40), Some(20), Some(0)]);
        assert_eq!(rounded(&found[2]), [80, 60, 40, 20, 0].map(Some));
    }

    #[test]
    fn a_forecast_ends_where_the_money_does() {
        let found = values(&[60], 1.0 - 1e-6);

        assert_eq!(found[0][0], Some(40.0));
        assert_eq!(rounded(&found[1]), [Some(40), Some(0), None, None, None]);
    }

    #[test]
    fn what_is_used_up_has_no_forecast() {
        let found = values(&[60, 70], 1.5);

        assert_eq!(found.len(), 2);
        assert_eq!(found[0][..2], [Some(40.0), Some(-30.0)]);
    }
}
