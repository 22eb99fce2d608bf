//! Lines, areas and dashed lines over the same columns.
//!
//! A line is broken where a value is missing; a value alone between two gaps is a dot.

use std::fmt::Write;

use maud::{Markup, html};

use super::scale::{Scale, drawable};
use super::{HEIGHT, Look, Series, middle, move_to, place};

pub(super) fn scale(series: &[Series], min_step: f64) -> Scale {
    let values =
        || series.iter().flat_map(|series| series.values.iter().copied().flatten().filter_map(drawable));
    Scale::covering(values().fold(0.0, f64::min), values().fold(0.0, f64::max), min_step)
}

pub(super) fn paths(series: &[Series], n_columns: usize, scale: Scale) -> Markup {
    html! { @for series in series {
        @let tone = series.tone.class();
        @let line = line(&series.values, n_columns, scale);
        @if !line.is_empty() {
            @match series.look {
                Look::Line => path class={ "line " (tone) } d=(line) {},
                Look::Dashed => path class={ "line dashed " (tone) } d=(line) {},
                Look::Area => {
                    path class={ "area " (tone) } d=(area(&series.values, n_columns, scale)) {}
                    path class={ "line " (tone) } d=(line) {}
                }
            }
        }
    } }
}

/// Values that follow one another without a gap, each with its place.
fn runs(values: &[Option<f64>], n_columns: usize, scale: Scale) -> Vec<Vec<(f64, f64)>> {
    let mut runs = vec![Vec::new()];
    for (idx, value) in values.iter().take(n_columns).enumerate() {
        match value.and_then(drawable) {
            Some(value) => {
                let run = runs.last_mut().expect("it begins with one run");
                run.push((middle(idx, n_columns), scale.y(value, HEIGHT)));
            }
            None => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn line(values: &[Option<f64>], n_columns: usize, scale: Scale) -> String {
    let mut path = String::new();
    for run in runs(values, n_columns, scale) {
        move_to(&mut path, run[0].0, run[0].1);
        if run.len() == 1 {
            // Round ends make a dot of a line without length.
            path.push_str("h0");
        }
        for (x, y) in &run[1..] {
            let _ = write!(path, "L{} {}", place(*x), place(*y));
        }
    }
    path
}

fn area(values: &[Option<f64>], n_columns: usize, scale: Scale) -> String {
    let mut path = String::new();
    let zero = scale.y(0.0, HEIGHT);
    for run in runs(values, n_columns, scale) {
        move_to(&mut path, run[0].0, zero);
        for (x, y) in &run {
            let _ = write!(path, "L{} {}", place(*x), place(*y));
        }
        let _ = write!(path, "V{}z", place(zero));
    }
    path
}
