//! Small pictures that stand beside a number: a sparkline, a meter, a call's timeline.
//!
//! A sparkline says nothing that the text does not, so it is hidden from who cannot see it.

use std::fmt::Write;

use maud::{Markup, html};

use super::scale::{Scale, drawable};
use super::{Tone, WIDTH, middle, move_to, place};

const SPARK_HEIGHT: f64 = 32.0;

pub(crate) fn sparkline(values: &[f64], tone: Tone) -> Markup {
    let values: Vec<f64> = values.iter().map(|value| drawable(*value).unwrap_or(0.0)).collect();
    if values.len() < 2 || values.iter().all(|value| *value == 0.0) {
        return html! {};
    }
    let fold = |start, pick: fn(f64, f64) -> f64| values.iter().copied().fold(start, pick);
    let scale = Scale::covering(fold(0.0, f64::min), fold(0.0, f64::max), 0.0);
    // Two units stay free, so that the line's own width is seen.
    let y = |value: f64| scale.y(value, SPARK_HEIGHT - 4.0) + 2.0;
    let mut line = String::new();
    move_to(&mut line, middle(0, values.len()), y(values[0]));
    for (idx, value) in values.iter().enumerate().skip(1) {
        let _ = write!(line, "L{} {}", place(middle(idx, values.len())), place(y(*value)));
    }
    let first = place(middle(0, values.len()));
    let area = format!("{line}V{}H{first}z", place(y(0.0)));
    html! {
        svg.spark aria-hidden="true" width="100%" height="32" viewBox={ "0 0 " (WIDTH) " " (SPARK_HEIGHT) } preserveAspectRatio="none" {
            path class={ "area " (tone.class()) } d=(area) {}
            path class={ "line " (tone.class()) } d=(line) {}
        }
    }
}

/// How much of a limit is used; `said` is what the picture means.
pub(crate) fn meter(used: f64, limit: f64, said: &str) -> Markup {
    let share = if limit > 0.0 { drawable(used / limit).unwrap_or(1.0) } else { 1.0 };
    let class = match share {
        ..0.8 => "meter fine",
        0.8..1.0 => "meter near",
        _ => "meter over",
    };
    let width = share.clamp(0.0, 1.0) * WIDTH;
    html! {
        svg class=(class) role="img" aria-label=(said) width="100%" height="6" viewBox={ "0 0 " (WIDTH) " 6" } preserveAspectRatio="none" {
            rect.of x="0" y="0" width=(WIDTH) height="6" {}
            rect.used x="0" y="0" width=(place(width)) height="6" {}
        }
    }
}

/// A stretch of a call.
#[derive(Debug, Clone)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) from_ms: f64,
    pub(crate) to_ms: f64,
    pub(crate) tone: Tone,
    pub(crate) shown: String,
}

/// What followed what, and how long each took.
pub(crate) fn timeline(stages: &[Stage]) -> Markup {
    let end = stages.iter().filter_map(|stage| drawable(stage.to_ms)).fold(0.0, f64::max);
    let at = |ms: f64| if end > 0.0 { drawable(ms).unwrap_or(0.0).max(0.0) / end * WIDTH } else { 0.0 };
    html! {
        div.scroll { table.ranking.timeline {
            thead { tr { th scope="col" { "Stretch" } th.track aria-hidden="true" {} th.n scope="col" { "Time" } } }
            tbody { @for stage in stages {
                @let from = at(stage.from_ms);
                @let width = (at(stage.to_ms) - from).max(4.0);
                tr {
                    th scope="row" { (stage.name) }
                    td.track aria-hidden="true" {
                        svg width="100%" height="10" viewBox={ "0 0 " (WIDTH) " 10" } preserveAspectRatio="none" {
                            rect class={ "bar " (stage.tone.class()) } x=(place(from.min(WIDTH - width))) y="0" width=(place(width)) height="10" {}
                        }
                    }
                    td.n { (stage.shown) }
                }
            } }
        } }
    }
}
