//! Charts as SVG, drawn by the server: what they show, and what all of them share.
//!
//! Knows nothing of the ledger. Has no style and no script in it, so that the strictest content security
//! policy holds: colours are classes, places are attributes. A chart stretches with its column, so shapes
//! are drawn a thousand units wide in a picture of their own and texts stand beside it.
//!
//! Invariants: behind every chart stands its table, which is also what the tooltip reads; values that are
//! not finite are left out; names are escaped by maud and never stand in an attribute that is code.

mod bars;
mod heat;
mod lines;
mod ranking;
mod scale;
mod small;

use std::fmt::Write;

use maud::{Markup, html};

pub(crate) use heat::heat_map;
pub(crate) use ranking::{Bar, Segment, ranking, share_bar};
pub(crate) use small::{Stage, meter, sparkline, timeline};

use super::format::{NOTHING, Unit};
use scale::Scale;

/// How wide and high shapes are drawn; the width is stretched.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 200.0;
const HEIGHT_PX: u32 = 200;
/// Labels below a chart, so that they do not collide on a phone.
const N_LABELS: usize = 6;

/// A colour that means the same on every page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// One of the palette's, which colour-blind people can tell apart.
    Nth(usize),
    /// What is not worth a colour of its own.
    Rest,
    Bad,
    /// A line to compare with.
    Quiet,
}

/// Colours of the palette.
pub(crate) const N_TONES: usize = 7;

impl Tone {
    pub(crate) fn class(self) -> &'static str {
        const NTH: [&str; N_TONES] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6"];
        match self {
            Self::Nth(idx) => NTH[idx % N_TONES],
            Self::Rest => "rest",
            Self::Bad => "bad",
            Self::Quiet => "quiet",
        }
    }
}

/// How a series of a line chart is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Line,
    Area,
    Dashed,
}

/// One series: a value a column, where there is one.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) tone: Tone,
    pub(crate) look: Look,
    pub(crate) values: Vec<Option<f64>>,
}

/// A place on the x axis.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    /// For the tooltip and the table: `Tue 3 Nov 2026`.
    pub(crate) long: String,
    /// For the axis: `3 Nov`.
    pub(crate) short: String,
}

/// Everything a chart shows.
#[derive(Debug, Clone)]
pub(crate) struct Chart<'a> {
    /// Unique on its page: letters and dashes.
    pub(crate) id: &'a str,
    pub(crate) title: &'a str,
    /// What to read from it, in a sentence.
    pub(crate) about: &'a str,
    pub(crate) unit: Unit,
    pub(crate) columns: &'a [Column],
    pub(crate) series: Vec<Series>,
}

impl Chart<'_> {
    /// Bars, one series on top of the other.
    pub(crate) fn stacked(&self) -> Markup {
        let scale = bars::scale(&self.series, self.columns.len(), self.min_step());
        self.figure(scale, bars::paths(&self.series, self.columns.len(), scale), true)
    }

    /// Lines, areas and dashes over one another.
    pub(crate) fn lines(&self) -> Markup {
        let scale = lines::scale(&self.series, self.min_step());
        self.figure(scale, lines::paths(&self.series, self.columns.len(), scale), false)
    }

    fn min_step(&self) -> f64 {
        match self.unit {
            Unit::Count => 1.0,
            Unit::Usd | Unit::Percent | Unit::Ms => 0.0,
        }
    }

    fn is_empty(&self) -> bool {
        let is_value = |value: &Option<f64>| value.is_some_and(|value| value.is_finite() && value != 0.0);
        self.columns.is_empty() || !self.series.iter().any(|series| series.values.iter().any(is_value))
    }

    fn figure(&self, scale: Scale, shapes: Markup, has_total: bool) -> Markup {
        html! {
            figure.chart #(self.id) {
                figcaption {
                    h2 { (self.title) }
                    p.about { (self.about) }
                    @if !self.is_empty() { (legend(&self.series)) }
                }
                @if self.is_empty() {
                    p.empty { "Nothing to draw in this time range. Choose a longer one, or clear the filters." }
                } @else {
                    (self.frame(scale, &shapes))
                    (self.table(has_total))
                }
            }
        }
    }

    fn frame(&self, scale: Scale, shapes: &Markup) -> Markup {
        let (title, about) = (format!("{}-title", self.id), format!("{}-about", self.id));
        let ticks = scale.ticks();
        html! {
            div.frame tabindex="0" role="group" aria-label={ (self.title) ": arrow keys read the values" } {
                svg.y width="100%" height=(HEIGHT_PX) aria-hidden="true" {
                    @for tick in &ticks {
                        text x="100%" y=(place(scale.y(*tick, HEIGHT))) dy="4" text-anchor="end" { (self.unit.short(*tick)) }
                    }
                }
                svg.plot role="img" aria-labelledby={ (title) " " (about) } width="100%" height=(HEIGHT_PX)
                    viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" data-columns=(self.columns.len()) {
                    title #(title) { (self.title) }
                    desc #(about) { (self.about) " The values are in the table below." }
                    path.grid d=(grid(&ticks, scale)) {}
                    (shapes)
                    path.zero d={ "M0 " (place(scale.y(0.0, HEIGHT))) "H" (WIDTH) } {}
                    rect.cursor x="0" y="0" width="0" height=(HEIGHT) {}
                }
                (x_axis(self.columns))
            }
        }
    }

    /// What a reader without eyes or a mouse has, and where the tooltip takes its texts from.
    fn table(&self, has_total: bool) -> Markup {
        let has_total = has_total && self.series.len() > 1;
        html! {
            details.behind {
                summary { "Show as table" }
                div.scroll { table {
                    thead { tr {
                        th scope="col" { "Time" }
                        @for series in &self.series { th.n scope="col" data-tone=(series.tone.class()) { (series.name) } }
                        @if has_total { th.n scope="col" data-tone="total" { "Total" } }
                    } }
                    tbody { @for (idx, column) in self.columns.iter().enumerate() { tr {
                        th scope="row" { (column.long) }
                        @for series in &self.series { (self.cell(series.values.get(idx).copied().flatten())) }
                        @if has_total { (self.cell(Some(total_at(&self.series, idx)))) }
                    } } }
                } }
            }
        }
    }

    fn cell(&self, value: Option<f64>) -> Markup {
        match value.filter(|value| value.is_finite()) {
            Some(value) => html! { td.n data-v=(value) { (self.unit.long(value)) } },
            None => html! { td.n { (NOTHING) } },
        }
    }
}

fn legend(series: &[Series]) -> Markup {
    html! {
        @if series.len() > 1 {
            ul.legend { @for series in series {
                li { (swatch(series.tone)) (series.name) }
            } }
        }
    }
}

/// A dot in a tone.
pub(crate) fn swatch(tone: Tone) -> Markup {
    html! { span class={ "swatch " (tone.class()) } {} }
}

fn grid(ticks: &[f64], scale: Scale) -> String {
    let mut path = String::new();
    for tick in ticks {
        move_to(&mut path, 0.0, scale.y(*tick, HEIGHT));
        let _ = write!(path, "H{WIDTH}");
    }
    path
}

fn x_axis(columns: &[Column]) -> Markup {
    let every = columns.len().div_ceil(N_LABELS).max(1);
    let labels = columns.iter().enumerate().step_by(every);
    html! {
        svg.x width="100%" height="18" aria-hidden="true" {
            @for (idx, column) in labels {
                @let middle = (idx as f64 + 0.5) / columns.len() as f64 * 100.0;
                text x={ (place(middle)) "%" } y="13" text-anchor=(anchor(middle)) { (column.short) }
            }
        }
    }
}

/// Labels at an edge stay within the chart.
fn anchor(percent: f64) -> &'static str {
    match percent {
        ..1.0 => "start",
        1.0..=97.5 => "middle",
        _ => "end",
    }
}

fn total_at(series: &[Series], idx: usize) -> f64 {
    series
        .iter()
        .filter_map(|series| series.values.get(idx).copied().flatten())
        .filter(|v| v.is_finite())
        .sum()
}

/// The middle of a column.
fn middle(idx: usize, n_columns: usize) -> f64 {
    (idx as f64 + 0.5) * WIDTH / n_columns.max(1) as f64
}

fn move_to(path: &mut String, x: f64, y: f64) {
    // Writing to a string cannot fail.
    let _ = write!(path, "M{} {}", place(x), place(y));
}

/// A coordinate with one decimal, and none where it is whole.
fn place(coordinate: f64) -> String {
    let tenths = (coordinate * 10.0).round() / 10.0;
    // Minus zero would be written with its sign.
    format!("{}", tenths + 0.0)
}

#[cfg(test)]
mod tests;
