//! Single calls, the newest first: searched, filtered, a page at a time.

use maud::{Markup, html};

use super::book::{Book, Read};
use super::chart::Tone;
use super::chart::swatch;
use super::format::{self, duration, time, tokens};
use super::parts::{cost_cell, empty, no_calls, outcome_label, outcome_pill, path_pill, saved_text};
use super::range::Ask;
use super::shell::{Page, range_fields};
use super::teams::link;
use crate::ledger::entry::{Entry, Outcome};

pub(super) async fn body(book: &Book<'_>) -> Read<Markup> {
    let (calls, has_more) = book.calls().await?;
    let is_filtered = book.ask.search.is_some() || book.ask.outcome.is_some() || book.ask.before.is_some();
    Ok(html! {
        (search(book))
        @if calls.is_empty() {
            @if is_filtered {
                (empty("No call fits.", &html! { p { "Search for part of an id, a user, a tag, a model, an upstream or a reason, or " a href=(link(book, Page::Calls, &book.ask.shared())) { "clear the search" } "." } }))
            } @else { (no_calls(book)) }
        } @else {
            (list(book, &calls))
            (pages(book, &calls, has_more))
        }
    })
}

fn search(book: &Book<'_>) -> Markup {
    html! {
        form.search method="get" action="/dashboard/calls" role="search" {
            (range_fields(book))
            @if book.sees_all() {
                @if let Some(team) = &book.ask.team { input type="hidden" name="team" value=(team); }
            }
            @if let Some(route) = &book.ask.route { input type="hidden" name="route" value=(route); }
            input type="search" name="q" maxlength="200" value=[book.ask.search.as_deref()]
                placeholder="Id, user, tag, model, upstream or reason" aria-label="Search";
            select name="outcome" aria-label="Outcome" {
                option value="" { "Any outcome" }
                @for outcome in Outcome::ALL {
                    option value=(outcome.as_str()) selected[book.ask.outcome == Some(*outcome)] { (outcome_label(*outcome)) }
                }
            }
            button.primary type="submit" { "Search" }
        }
    }
}

fn list(book: &Book<'_>, calls: &[Entry]) -> Markup {
    let has_teams = book.team().is_none();
    html! {
        section.card.flush { div.scroll { table.calls {
            thead { tr {
                th scope="col" { "Time (UTC)" }
                @if has_teams { th.more scope="col" { "Team" } }
                th.more scope="col" { "Route" } th.more scope="col" { "Model" } th.more scope="col" { "Answered by" } th scope="col" { "Outcome" }
                th.n.more scope="col" { "Tokens in" } th.n.more scope="col" { "out" }
                th.n scope="col" { "Cost" } th.n.more scope="col" { "Saved" } th.n scope="col" { "Took" }
            } }
            tbody { @for call in calls { (row(book, call, has_teams)) } }
        } } }
    }
}

fn row(book: &Book<'_>, call: &Entry, has_teams: bool) -> Markup {
    html! {
        tr {
            th scope="row" {
                a href={ "/dashboard/calls/" (call.id) "?" (book.ask.shared().query()) } title=(call.reason) {
                    (time(call.ts_ms, "%-d %b %H:%M:%S"))
                }
                @if let Some(user) = &call.user { span.under { (user) } }
            }
            @if has_teams { td.more { (call.team) } }
            td.more { (call.route) @if let Some(tier) = &call.tier { span.under { "tier " (tier) } } }
            td.more { (call.model.as_deref().unwrap_or(format::NOTHING)) @if let Some(upstream) = &call.upstream { span.under { (upstream) } } }
            td.more { (path_pill(call.path)) }
            td { (outcome_pill(call.outcome)) @if call.estimated { " " span.pill title="Usage was estimated, because the upstream did not say it." { "estimated" } } }
            td.n.more { (tokens(call.usage.input)) } td.n.more { (tokens(call.usage.output)) }
            (cost_cell(call.cost))
            td.n.more { (saved_text(call)) }
            td.n { (duration(call.total_ms as f64)) }
        }
    }
}

fn pages(book: &Book<'_>, calls: &[Entry], has_more: bool) -> Markup {
    let newest = Ask { before: None, ..book.ask.clone() };
    let older = calls.last().map(|last| Ask { before: Some(last.id), ..book.ask.clone() });
    html! {
        nav.pages aria-label="Pages of the list" {
            span { (calls.len()) " calls" @if book.ask.team.is_none() { " of all teams" } " " (swatch(Tone::Quiet)) }
            @if book.ask.before.is_some() { a href=(link(book, Page::Calls, &newest)) { "Newest" } }
            @if let (true, Some(older)) = (has_more, &older) { a rel="next" href=(link(book, Page::Calls, older)) { "Older →" } }
        }
    }
}
