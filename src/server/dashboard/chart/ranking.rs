//! Horizontal bars: a table whose rows have a bar, and a bar split into shares.
//!
//! They are their own tables, so nothing stands behind them.

use maud::{Markup, html};

use super::scale::drawable;
use super::{Tone, WIDTH, place};

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Where the name leads.
    pub(crate) href: Option<String>,
    pub(crate) value: f64,
    pub(crate) tone: Tone,
    /// What is written beside the bar: the value first.
    pub(crate) cells: Vec<String>,
}

/// Rows in the order given, bars to one scale; `heads` name the cells beside the bar.
pub(crate) fn ranking(what: &str, heads: &[&str], bars: &[Bar]) -> Markup {
    let sizes = || bars.iter().filter_map(|bar| drawable(bar.value));
    let (least, most) = (sizes().fold(0.0, f64::min), sizes().fold(0.0, f64::max));
    html! {
        div.scroll { table.ranking {
            thead { tr {
                th scope="col" { (what) }
                th.track aria-hidden="true" {}
                @for head in heads { th.n scope="col" { (head) } }
            } }
            tbody { @for bar in bars { tr {
                th scope="row" { (label(bar)) }
                td.track aria-hidden="true" { (track(bar, least, most)) }
                @for cell in &bar.cells { td.n { (cell) } }
            } } }
        } }
    }
}

fn label(bar: &Bar) -> Markup {
    html! {
        @match &bar.href {
            Some(href) => a href=(href) title=(bar.name) { (bar.name) },
            None => span title=(bar.name) { (bar.name) },
        }
    }
}

fn track(bar: &Bar, least: f64, most: f64) -> Markup {
    let span = if most > least { most - least } else { 1.0 };
    let at = |value: f64| (value - least) / span * WIDTH;
    let value = drawable(bar.value).unwrap_or(0.0);
    let (from, to) = (at(value.min(0.0)), at(value.max(0.0)));
    // A value that is there is seen.
    let width = if value == 0.0 { 0.0 } else { (to - from).max(6.0) };
    html! {
        svg width="100%" height="10" viewBox={ "0 0 " (WIDTH) " 10" } preserveAspectRatio="none" {
            rect class={ "bar " (bar.tone.class()) } x=(place(from.min(WIDTH - width))) y="0" width=(place(width)) height="10" {}
        }
    }
}

/// A part of a whole.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) shown: String,
    pub(crate) tone: Tone,
}

/// One bar, as wide as its column, split by shares.
pub(crate) fn share_bar(what: &str, segments: &[Segment]) -> Markup {
    let sizes: Vec<f64> = segments.iter().map(|part| drawable(part.value).unwrap_or(0.0).max(0.0)).collect();
    let whole: f64 = sizes.iter().sum();
    let said: Vec<String> = segments.iter().map(|part| format!("{} {}", part.name, part.shown)).collect();
    let mut x = 0.0;
    let mut placed = Vec::with_capacity(sizes.len());
    for (part, size) in segments.iter().zip(&sizes).filter(|(_, size)| **size > 0.0 && whole.is_finite()) {
        let width = size / whole * WIDTH;
        placed.push((part, x, width));
        x += width;
    }
    html! {
        svg.share role="img" aria-label={ (what) ": " (said.join(", ")) } width="100%" height="12"
            viewBox={ "0 0 " (WIDTH) " 12" } preserveAspectRatio="none" {
            @for (part, x, width) in placed {
                rect class={ "bar " (part.tone.class()) } x=(place(x)) y="0" width=(place(width)) height="12" {
                    title { (part.name) ": " (part.shown) }
                }
            }
        }
    }
}
