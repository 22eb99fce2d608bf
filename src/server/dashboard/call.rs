//! One call, stage by stage: what was decided, why, how long it took and what it cost.
//!
//! Shows only what the row says; a stage that the call did not reach is said so. What was asked and answered is
//! `text`'s to show.

use maud::{Markup, html};

use super::book::Book;
use super::chart::{Stage, Tone, timeline};
use super::format::{self, NOTHING, duration, grouped, moment, usd};
use super::parts::{card, outcome_pill, path_pill};
use crate::cache::policy::Ineligible;
use crate::ledger::entry::{CacheOutcome, Entry, Outcome, Stages};
use crate::money::NanoUsd;

pub(super) fn body(book: &Book<'_>, call: &Entry, text: &Markup) -> Markup {
    html! {
        p.back { a href={ "/dashboard/calls?" (book.ask.shared().query()) } { "← Calls" } }
        header.bar.call {
            h1 { "Call " code { (call.id) } }
            p { (outcome_pill(call.outcome)) " " (path_pill(call.path)) @if call.estimated { " " span.pill { "estimated" } } }
        }
        p.span { (moment(call.ts_ms)) " UTC · team " strong { (call.team) } " · route " strong { (call.route) } " · " (call.endpoint) }
        section.tiles.small {
            (figure("Cost", call.cost.map_or("unpriced".to_owned(), usd)))
            (figure("Saved", call.saved().map_or(NOTHING.to_owned(), usd)))
            (figure("Total time", duration(call.total_ms as f64)))
            (figure("First byte", call.first_byte_ms.map_or(NOTHING.to_owned(), |ms| duration(ms as f64))))
        }
        (card("Where the time went", "", &timeline(&stretches(call))))
        (card("Stage by stage", "", &stages(call)))
        div.halves { (tokens_card(call)) (money_card(call)) }
        (text)
    }
}

fn figure(label: &str, value: String) -> Markup {
    html! { div.tile data-tile=(label) { p.label { (label) } p.value { (value) } } }
}

/// From stage to stage as the row has them; older rows know only three moments.
fn stretches(call: &Entry) -> Vec<Stage> {
    let Stages {
        admitted_us,
        looked_up_us,
        scored_us,
        planned_us,
        held_us,
        sent_us,
        first_byte_us,
        ended_us,
    } = call.stages;
    let total_ms = call.total_ms as f64;
    let ms = |us: Option<u64>| us.map(|us| us as f64 / 1_000.0);
    let known = [
        ("Admit", ms(admitted_us), Tone::Nth(3)),
        ("Look up in the cache", ms(looked_up_us), Tone::Nth(2)),
        ("Score", ms(scored_us), Tone::Nth(6)),
        ("Plan", ms(planned_us), Tone::Nth(4)),
        ("Hold", ms(held_us), Tone::Nth(3)),
        ("Send, with attempts before", ms(sent_us), Tone::Nth(5)),
        ("Wait for the first byte", ms(first_byte_us), Tone::Nth(1)),
        ("Pass the answer on", ms(ended_us), Tone::Nth(0)),
    ];
    let overhead_ms = call.overhead_us as f64 / 1_000.0;
    let older = [
        ("Gateway, before sending", Some(overhead_ms), Tone::Nth(2)),
        ("Wait for the first byte", call.first_byte_ms.map(|ms| ms as f64), Tone::Nth(1)),
        ("Pass the answer on", Some(total_ms), Tone::Nth(0)),
    ];
    let is_known = known.iter().any(|(_, at, _)| at.is_some());
    let moments = if is_known { known.to_vec() } else { older.to_vec() };
    let mut from_ms = 0.0;
    let mut stages = Vec::with_capacity(moments.len());
    for (name, at, tone) in moments {
        let Some(to_ms) = at else { continue };
        let to_ms = to_ms.max(from_ms);
        stages.push(Stage { name, from_ms, to_ms, tone, shown: duration(to_ms - from_ms) });
        from_ms = to_ms;
    }
    stages
}

fn stages(call: &Entry) -> Markup {
    html! {
        ol.stages {
            li { h3 { "Admitted" } p { (admitted(call)) } }
            li { h3 { "Looked up" } p { (looked_up(call)) } }
            li { h3 { "Scored" } p { (scored(call)) } }
            li { h3 { "Planned" } p { (planned(call)) } }
            li { h3 { "Sent" } (sent(call)) }
            li { h3 { "Settled" } p { (settled(call)) } }
        }
    }
}

fn admitted(call: &Entry) -> Markup {
    html! {
        "Team " strong { (call.team) }
        @match &call.key { Some(key) => { ", key " code { "sk-stiver-" (key) "-…" } }, None => ", without a key of ours" }
        @if let Some(user) = &call.user { ", user " strong { (user) } }
        "."
        @if !call.tags.is_empty() { " Tags: " @for tag in &call.tags { span.pill { (tag) } " " } }
    }
}

fn looked_up(call: &Entry) -> Markup {
    html! {
        @match call.cache {
            CacheOutcome::HitExact => "The same request had been answered before, and that answer was given again. Nothing was sent.",
            CacheOutcome::HitSemantic => "A question of the same meaning had been answered, and that answer was given again. Nothing was sent.",
            CacheOutcome::Miss => "No earlier answer fitted.",
            CacheOutcome::Bypass => "The cache was not asked.",
            CacheOutcome::Audit => "A call of our own: it asks anew what the cache had answered, and its answer is compared with that one. Nobody waited for it, and no budget of the team pays for it.",
        }
        @if let Some(why) = call.cache_why.as_deref().and_then(Ineligible::parse) {
            @if call.cache == CacheOutcome::Miss { " Only an equal request would have done: " } @else { " The reason: " }
            (why) "."
        }
        @if let Some(entry) = &call.cache_entry { " The answer's name in the cache is " code { (entry) } "." }
        @if let Some(likeness) = call.similarity { " The nearest text was alike by " strong { (format!("{likeness:.4}")) } "." }
    }
}

fn scored(call: &Entry) -> Markup {
    html! {
        @match call.score {
            Some(score) => {
                "Complexity " strong { (format!("{score:.3}")) } " of 1"
                @if let Some(source) = &call.score_source { ", by the " (source) }
                "."
            }
            None => "Not scored: the route has one rung, or the cache answered.",
        }
    }
}

fn planned(call: &Entry) -> Markup {
    html! {
        @if let Some(tier) = &call.tier { "Tier " strong { (tier) } ". " }
        @if !call.reason.is_empty() { "Because " (call.reason) ". " }
        @if let Some(split) = &call.split {
            "Split " strong { (split) } ", arm " strong { (call.arm.as_deref().unwrap_or(NOTHING)) } "."
        }
        @if call.tier.is_none() && call.reason.is_empty() && call.split.is_none() { "Nothing had to be chosen." }
    }
}

fn sent(call: &Entry) -> Markup {
    html! {
        @if !call.tried.is_empty() {
            ul.tried { @for attempt in &call.tried {
                li { span.pill.bad { (attempt.reason) } " " (attempt.upstream) ", given up after " (duration(attempt.took_ms as f64)) }
            } }
        }
        p { @match &call.upstream {
            Some(upstream) => {
                "To upstream " strong { (upstream) }
                @if let Some(model) = &call.model { ", model " strong { (model) } }
                ", in " (call.attempts) @if call.attempts == 1 { " attempt." } @else { " attempts." }
            }
            None => "Nothing was sent.",
        } }
    }
}

fn settled(call: &Entry) -> Markup {
    html! {
        @match call.outcome {
            Outcome::Ok => "The answer was complete",
            Outcome::ClientGone => "The client hung up before the end; what was metered so far is charged",
            Outcome::Truncated => "The upstream's stream ended before its end mark",
            Outcome::UpstreamError => "No upstream gave an answer",
            Outcome::Interrupted => "The gateway died with the call in flight, and the next start posted it",
            Outcome::Refused => "The call was refused",
        }
        ", status " (call.status) ". "
        @match call.cost {
            Some(cost) => { "Posted " strong { (usd(cost)) } @if call.estimated { ", by estimate" } @else { ", as the upstream metered it" } "." }
            None => "No price is known for the model, so nothing was charged; add it to prices.toml.",
        }
    }
}

fn tokens_card(call: &Entry) -> Markup {
    let usage = &call.usage;
    let rows = [
        ("Input", usage.input, false),
        ("read from the provider's cache", usage.cached_read, true),
        ("written to the provider's cache", usage.cache_write, true),
        ("audio", usage.audio_input, true),
        ("Output", usage.output, false),
        ("reasoning", usage.reasoning, true),
        ("audio", usage.audio_output, true),
    ];
    let body = html! {
        table.sums { tbody { @for (name, n, is_part) in rows { @if !is_part || n > 0 {
            tr.part[is_part] { th scope="row" { (name) } td.n { (grouped(n)) } }
        } } } }
    };
    card(
        "Tokens",
        if call.estimated { "Estimated at four bytes a token." } else { "As the upstream reported them." },
        &body,
    )
}

fn money_card(call: &Entry) -> Markup {
    let aside = &call.aside;
    let row = |name: &str, amount: Option<NanoUsd>| {
        html! { tr { th scope="row" { (name) } td.n { (amount.map_or(NOTHING.to_owned(), usd)) } } }
    };
    let body = html! {
        table.sums { tbody {
            (row("Baseline model", call.baseline))
            (row("This call", call.cost))
            @if aside.own_cost != NanoUsd::ZERO { (row("Our own cost", Some(aside.own_cost))) }
            @if aside.compression_saved != NanoUsd::ZERO { (row("Saved by compression", Some(aside.compression_saved))) }
            @if aside.prefix_saved != NanoUsd::ZERO { (row("Taken off by the provider's prefix cache", Some(aside.prefix_saved))) }
            (row("Saved", call.saved()))
        } }
        p.about { "Overhead of the gateway: " (format::duration(call.overhead_us as f64 / 1_000.0)) "." }
    };
    card("Money", "", &body)
}
