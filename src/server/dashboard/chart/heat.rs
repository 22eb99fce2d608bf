//! A heat map of a week: how much there is in each hour of each day of the week.
//!
//! Colours are five steps of one tone, by share of the greatest value.

use maud::{Markup, html};

use super::{Column, HEIGHT, HEIGHT_PX, WIDTH, place, x_axis};
use crate::server::dashboard::format::Unit;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const N_HOURS: usize = 24;
const N_SHADES: f64 = 5.0;

/// `values` by day of the week, from Monday, and hour of the day.
pub(crate) fn heat_map(title: &str, about: &str, unit: Unit, values: &[[f64; N_HOURS]; 7]) -> Markup {
    let most = values.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let hours: Vec<Column> = (0..N_HOURS)
        .map(|hour| Column { long: format!("{hour:02}:00"), short: format!("{hour:02}") })
        .collect();
    html! {
        figure.chart #week {
            figcaption { h2 { (title) } p.about { (about) } }
            @if most == 0.0 {
                p.empty { "Nothing to draw in this time range. Choose a longer one, or clear the filters." }
            } @else {
                div.frame {
                    svg.y width="100%" height=(HEIGHT_PX) aria-hidden="true" {
                        @for (idx, day) in DAYS.iter().enumerate() {
                            text x="100%" y=(place((idx as f64 + 0.5) * HEIGHT / 7.0)) dy="4" text-anchor="end" { (day) }
                        }
                    }
                    svg.plot.heat role="img" aria-labelledby="week-title week-about" width="100%" height=(HEIGHT_PX)
                        viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" {
                        title #week-title { (title) }
                        desc #week-about { (about) " The values are in the table below." }
                        (cells(values, most, unit))
                    }
                    (x_axis(&hours))
                }
                (table(values, unit))
            }
        }
    }
}

fn cells(values: &[[f64; N_HOURS]; 7], most: f64, unit: Unit) -> Markup {
    let (width, height) = (WIDTH / N_HOURS as f64, HEIGHT / 7.0);
    html! { @for (day, hours) in values.iter().enumerate() { @for (hour, value) in hours.iter().enumerate() {
        rect class={ "h" (shade(*value, most)) } x=(place(hour as f64 * width)) y=(place(day as f64 * height))
            width=(place(width - 3.0)) height=(place(height - 2.0)) {
            title { (DAYS[day]) " " (format!("{hour:02}:00")) ": " (unit.long(*value)) }
        }
    } } }
}

/// 0 for nothing, then 1 to 5.
fn shade(value: f64, most: f64) -> u8 {
    if !value.is_finite() || value <= 0.0 {
        return 0;
    }
    (value / most * N_SHADES).ceil().clamp(1.0, N_SHADES) as u8
}

fn table(values: &[[f64; N_HOURS]; 7], unit: Unit) -> Markup {
    html! {
        details.behind {
            summary { "Show as table" }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Hour (UTC)" }
                    @for day in DAYS { th.n scope="col" { (day) } }
                } }
                tbody { @for hour in 0..N_HOURS { tr {
                    th scope="row" { (format!("{hour:02}:00")) }
                    @for day in values { td.n { (unit.long(day[hour])) } }
                } } }
            } }
        }
    }
}
