//! Stacked bars: gains pile up from zero, losses down from it.
//!
//! One path a series, which is a tenth of what one rectangle a bar would be.

use std::fmt::Write;

use maud::{Markup, html};

use super::scale::{Scale, drawable};
use super::{HEIGHT, Series, WIDTH, move_to, place};

/// What stays free of a column.
const GAP: f64 = 0.22;

pub(super) fn scale(series: &[Series], n_columns: usize, min_step: f64) -> Scale {
    let (mut least, mut most) = (0.0_f64, 0.0_f64);
    for idx in 0..n_columns {
        let values = || series.iter().filter_map(|series| value_at(series, idx));
        least = least.min(values().filter(|value| *value < 0.0).sum());
        most = most.max(values().filter(|value| *value > 0.0).sum());
    }
    Scale::covering(least, most, min_step)
}

pub(super) fn paths(series: &[Series], n_columns: usize, scale: Scale) -> Markup {
    let mut gains = vec![0.0_f64; n_columns];
    let mut losses = vec![0.0_f64; n_columns];
    let mut drawn = Vec::with_capacity(series.len());
    for series in series {
        let mut path = String::new();
        for idx in 0..n_columns {
            let Some(value) = value_at(series, idx).filter(|value| *value != 0.0) else { continue };
            let from = if value > 0.0 { &mut gains[idx] } else { &mut losses[idx] };
            bar(&mut path, (idx, n_columns), scale.y(*from, HEIGHT), scale.y(*from + value, HEIGHT));
            *from += value;
        }
        drawn.push((series.tone, path));
    }
    html! { @for (tone, path) in &drawn { @if !path.is_empty() {
        path class={ "bar " (tone.class()) } d=(path) {}
    } } }
}

fn value_at(series: &Series, idx: usize) -> Option<f64> {
    series.values.get(idx).copied().flatten().and_then(drawable)
}

fn bar(path: &mut String, (idx, n_columns): (usize, usize), from_y: f64, to_y: f64) {
    let column = WIDTH / n_columns as f64;
    // One bar alone would be as wide as the chart.
    let width = (column * (1.0 - GAP)).min(80.0);
    let x = (idx as f64 + 0.5) * column - width / 2.0;
    move_to(path, x, from_y);
    let _ = write!(path, "h{}V{}h-{}z", place(width), place(to_y), place(width));
}
