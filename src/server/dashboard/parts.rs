//! What pages are put together from: tiles, cards, tables' cells, pills, empty states.
//!
//! Knows no figure's meaning.

use maud::{Markup, html};

use super::book::Book;
use super::chart::{Tone, swatch};
use super::format::{NOTHING, usd};
use crate::ledger::entry::{AnswerPath, Entry, Outcome};
use crate::money::NanoUsd;

/// A figure with its name, and what helps to judge it.
pub(super) struct Tile<'a> {
    pub(super) label: &'a str,
    pub(super) value: String,
    /// Below the figure.
    pub(super) note: Markup,
    /// A sparkline or a meter.
    pub(super) picture: Markup,
}

pub(super) fn tiles(tiles: &[Tile<'_>]) -> Markup {
    html! {
        section.tiles { @for tile in tiles {
            div.tile data-tile=(tile.label) {
                p.label { (tile.label) }
                p.value { (tile.value) }
                div.note { (tile.note) }
                div.picture { (tile.picture) }
            }
        } }
    }
}

pub(super) fn card(title: &str, about: &str, body: &Markup) -> Markup {
    html! {
        section.card {
            h2 { (title) }
            @if !about.is_empty() { p.about { (about) } }
            (body)
        }
    }
}

/// What is said where there is nothing, and what to do about it.
pub(super) fn empty(what: &str, todo: &Markup) -> Markup {
    html! { section.card.nothing { h2 { (what) } (todo) } }
}

/// For a book without any call in the range.
pub(super) fn no_calls(book: &Book<'_>) -> Markup {
    let listen = book.live.config.server.listen;
    let route =
        book.live.config.catalog.routes().next().map_or("auto".to_owned(), |route| route.name.to_string());
    let key = if book.live.key_ring().is_open() { "any-key" } else { "sk-stiver-…" };
    let todo = html! {
        p { "Choose a longer range, clear the filters, or send the first call:" }
        pre.code { code {
            "curl http://" (listen) "/v1/chat/completions \\\n  -H 'authorization: Bearer " (key)
            "' -H 'content-type: application/json' \\\n  -d '{\"model\": \"" (route)
            "\", \"messages\": [{\"role\": \"user\", \"content\": \"Say hello.\"}]}'"
        } }
        p { "Rows appear here within a second of the call's end." }
    };
    empty("No call in this range yet.", &todo)
}

/// By how much a figure changed; whether more is better decides the colour.
pub(super) fn change(now: f64, before: f64, is_more_better: bool) -> Markup {
    if before <= 0.0 || !now.is_finite() {
        return html! {};
    }
    let percent = (now / before - 1.0) * 100.0;
    let class = match (percent.abs() < 0.5, (percent > 0.0) == is_more_better) {
        (true, _) => "change",
        (false, true) => "change good",
        (false, false) => "change bad",
    };
    let arrow = if percent.abs() < 0.5 {
        "±"
    } else if percent > 0.0 {
        "▲"
    } else {
        "▼"
    };
    html! { span class=(class) { (arrow) " " (format!("{:.0} %", percent.abs().min(9_999.0))) } }
}

pub(super) fn cost_cell(cost: Option<NanoUsd>) -> Markup {
    match cost {
        Some(cost) => html! { td.n data-v=(cost.get()) { (usd(cost)) } },
        None => {
            html! { td.n { span.pill.bad title="No price is known for the model, so the cost is not in any sum." { "unpriced" } } }
        }
    }
}

pub(super) fn saved_text(entry: &Entry) -> String {
    entry.saved().map_or(NOTHING.to_owned(), usd)
}

pub(super) fn path_pill(path: AnswerPath) -> Markup {
    let (label, tone) = match path {
        AnswerPath::Exact => ("exact", Tone::Nth(2)),
        AnswerPath::Semantic => ("semantic", Tone::Nth(4)),
        AnswerPath::Local => ("local", Tone::Nth(1)),
        AnswerPath::Upstream => ("upstream", Tone::Nth(0)),
        AnswerPath::Audit => ("audit", Tone::Nth(6)),
        AnswerPath::None => ("none", Tone::Rest),
    };
    html! { span.pill { (swatch(tone)) (label) } }
}

/// How a call ended, for people.
pub(super) fn outcome_label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::ClientGone => "client gone",
        Outcome::Truncated => "truncated",
        Outcome::UpstreamError => "upstream error",
        Outcome::Interrupted => "interrupted",
        Outcome::Refused => "refused",
    }
}

pub(super) fn outcome_pill(outcome: Outcome) -> Markup {
    let class = match outcome {
        Outcome::Ok => "pill good",
        Outcome::ClientGone | Outcome::Refused => "pill",
        Outcome::Truncated | Outcome::UpstreamError | Outcome::Interrupted => "pill bad",
    };
    html! { span class=(class) { (outcome_label(outcome)) } }
}
