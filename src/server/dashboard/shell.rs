//! What stands around every page: head, navigation, range, filters, notices.
//!
//! Computes nothing. Works without its script: links are links and filters a form.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::assets::{css_path, js_path};
use super::book::{Book, Read};
use super::format::{name, time};
use super::range::{Preset, Range};
use crate::server::viewer::Viewer;

/// The pages, in the order of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Teams,
    Routes,
    Cache,
    Splits,
    Calls,
    Health,
}

impl Page {
    pub(super) const ALL: [Self; 7] =
        [Self::Overview, Self::Teams, Self::Routes, Self::Cache, Self::Splits, Self::Calls, Self::Health];

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.word() == word)
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Teams => "teams",
            Self::Routes => "routes",
            Self::Cache => "cache",
            Self::Splits => "splits",
            Self::Calls => "calls",
            Self::Health => "health",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Teams => "Teams",
            Self::Routes => "Routes & models",
            Self::Cache => "Cache",
            Self::Splits => "Splits",
            Self::Calls => "Calls",
            Self::Health => "Health",
        }
    }

    /// A line drawing, sixteen units wide.
    fn icon(self) -> &'static str {
        match self {
            Self::Overview => "M2 9h5V2H2zM9 14h5V7H9zM2 14h5v-3H2zM9 5h5V2H9z",
            Self::Teams => {
                "M6 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM1.5 14c0-2.5 2-4 4.5-4s4.5 1.5 4.5 4M11 8a2 2 0 1 0-1-3.7M12 10.2c1.5.4 2.5 1.8 2.5 3.8"
            }
            Self::Routes => {
                "M3 3v10M3 6c0 2 2 2 4 2h2c2 0 4 0 4 2v3M13 10.5v2.5M1.5 11.5 3 13l1.5-1.5M11.5 11.5 13 13l1.5-1.5"
            }
            Self::Cache => {
                "M2.5 4c0-1.2 2.5-2 5.5-2s5.5.8 5.5 2-2.5 2-5.5 2-5.5-.8-5.5-2zM2.5 4v8c0 1.2 2.5 2 5.5 2s5.5-.8 5.5-2V4M2.5 8c0 1.2 2.5 2 5.5 2s5.5-.8 5.5-2"
            }
            Self::Splits => {
                "M8 14V9M8 9C8 6 4 7 4 3M8 9c0-3 4-2 4-6M2.5 4.5 4 3l1.5 1.5M10.5 4.5 12 3l1.5 1.5"
            }
            Self::Calls => "M2 4h12M2 8h12M2 12h8",
            Self::Health => "M1.5 8h3L6.5 3l3 10 2-5h3",
        }
    }
}

/// What can be chosen in the filters.
pub(super) struct Choices {
    teams: Vec<String>,
    routes: Vec<String>,
}

impl Choices {
    pub(super) async fn read(book: &Book<'_>) -> Read<Self> {
        let (mut teams, mut routes): (Vec<String>, Vec<String>) = book.names().await?.into_iter().unzip();
        teams.extend(book.live.key_ring().teams().map(|team| team.name.to_string()));
        teams.extend(book.ask.team.clone());
        if !book.sees_all() {
            // Who sees one team only has nothing to choose.
            teams.clear();
        }
        routes.extend(book.ask.route.clone());
        Ok(Self { teams: sorted(teams), routes: sorted(routes) })
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

/// A whole page with range and filters.
pub(super) fn page(page: Page, book: &Book<'_>, choices: &Choices, body: &Markup) -> Markup {
    let bar = html! {
        header.bar {
            h1 { (page.label()) }
            (ranges(page, book))
            (filters(page, book, choices))
        }
        p.span {
            (time(book.span.from_ms, "%-d %b %Y, %H:%M")) " to " (time(book.span.to_ms - 1, "%-d %b %Y, %H:%M"))
            " UTC"
            @if let Some(team) = book.team() { " · team " strong { (team) } }
            @if let Some(route) = &book.ask.route { " · route " strong { (route) } }
        }
    };
    around(page, book, &html! { (bar) (body) })
}

/// A page about one thing: no range, no filters.
pub(super) fn plain(page: Page, book: &Book<'_>, body: &Markup) -> Markup {
    around(page, book, body)
}

fn around(page: Page, book: &Book<'_>, body: &Markup) -> Markup {
    let shell = html! {
        a.skip href="#content" { "Skip to the content" }
        div.shell {
            nav.side aria-label="Pages" {
                a.brand href="/dashboard" { (mark()) span { "Stiver" } }
                ul { @for other in Page::ALL { li {
                    a href={ "/dashboard/" (other.word()) "?" (book.ask.shared().query()) }
                        aria-current=[(other == page).then_some("page")] {
                        (icon(other.icon())) span { (other.label()) }
                    }
                } } }
                div.foot {
                    button.theme type="button" hidden aria-label="Change between light and dark" { (icon(THEME)) span { "Theme" } }
                    (who_is_here(book))
                }
            }
            main #content {
                @for notice in &book.ask.notices { p.notice role="status" { (notice) } }
                (body)
            }
        }
    };
    document(page.label(), &shell)
}

const THEME: &str = "M8 2a6 6 0 1 0 0 12zM8 2a6 6 0 0 1 0 12";

fn who_is_here(book: &Book<'_>) -> Markup {
    let label = match book.viewer {
        Viewer::Operator if book.is_open() => {
            return html! { p.who { "Open on this machine: no key is configured yet" } };
        }
        Viewer::Operator => "Operator: all teams".to_owned(),
        Viewer::Team(name) => format!("Team {name}"),
    };
    html! {
        p.who { (label) }
        form method="post" action="/dashboard/sign-out" { button.quiet type="submit" { "Sign out" } }
    }
}

fn icon(path: &'static str) -> Markup {
    html! { svg.icon viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" { path d=(path) {} } }
}

/// The coin.
pub(super) fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
            circle cx="12" cy="12" r="10" {}
            path d="M15.5 8.5c-.8-1-2-1.5-3.5-1.5-2 0-3.5 1-3.5 2.5S10 11.800 12 12s3.5 1 3.5 2.5S14 17 12 17c-1.5 0-2.800-.5-3.600-1.600" {}
        }
    }
}

fn ranges(page: Page, book: &Book<'_>) -> Markup {
    let is_custom = matches!(book.ask.range, Range::Days { .. });
    html! {
        div.ranges role="group" aria-label="Time range" {
            @for preset in Preset::ALL {
                @let range = Range::Preset(preset);
                a href={ "/dashboard/" (page.word()) "?" (book.ask.with_range(range).query()) }
                    aria-current=[(book.ask.range == range).then_some("true")] { (preset.label()) }
            }
            details.custom {
                summary aria-current=[is_custom.then_some("true")] { "Dates" }
                form method="get" action={ "/dashboard/" (page.word()) } {
                    (hidden("team", book.sees_all().then_some(book.ask.team.as_deref()).flatten()))
                    (hidden("route", book.ask.route.as_deref()))
                    (hidden("outcome", book.ask.outcome.map(|outcome| outcome.as_str())))
                    (hidden("q", book.ask.search.as_deref()))
                    label { "From" input type="date" name="from" required value=(time(book.span.from_ms, "%F")); }
                    label { "To" input type="date" name="to" required value=(time(book.span.to_ms - 1, "%F")); }
                    button.primary type="submit" { "Show" }
                }
            }
        }
    }
}

fn hidden(field: &str, value: Option<&str>) -> Markup {
    html! { @if let Some(value) = value { input type="hidden" name=(field) value=(value); } }
}

fn filters(page: Page, book: &Book<'_>, choices: &Choices) -> Markup {
    html! {
        form.filters method="get" action={ "/dashboard/" (page.word()) } data-submit="change" {
            (range_fields(book))
            @if book.sees_all() {
                (choice("team", "All teams", &choices.teams, book.ask.team.as_deref()))
            }
            (choice("route", "All routes", &choices.routes, book.ask.route.as_deref()))
            (hidden("outcome", book.ask.outcome.map(|outcome| outcome.as_str())))
            (hidden("q", book.ask.search.as_deref()))
            button type="submit" { "Apply" }
        }
    }
}

/// The range as fields of a form that is about something else.
pub(super) fn range_fields(book: &Book<'_>) -> Markup {
    match book.ask.range {
        Range::Preset(preset) => hidden("range", Some(preset.word())),
        Range::Days { first, last } => {
            html! { (hidden("from", Some(&first.to_string()))) (hidden("to", Some(&last.to_string()))) }
        }
    }
}

pub(super) fn choice(field: &str, all: &str, names: &[String], chosen: Option<&str>) -> Markup {
    html! {
        select name=(field) aria-label=(all) {
            option value="" { (all) }
            @for one in names {
                option value=(one) selected[chosen == Some(one.as_str())] { (name(one)) }
            }
        }
    }
}

/// A whole document.
pub(super) fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Stiver" }
                link rel="icon" href=(PreEscaped(ICON));
                link rel="stylesheet" href=(css_path());
                script src=(js_path()) {}
            }
            body { (body) }
        }
    }
}

const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E%3Ccircle cx='12' cy='12' r='11' fill='%232f6fde'/%3E%3Cpath d='M15.5 8.5c-.8-1-2-1.5-3.5-1.5-2 0-3.5 1-3.5 2.5S10 11.800 12 12s3.5 1 3.5 2.5S14 17 12 17c-1.5 0-2.800-.5-3.600-1.600' fill='none' stroke='white' stroke-width='2' stroke-linecap='round'/%3E%3C/svg%3E";
