//! The promise on cached answers: what each scope measured, what it can prove, what its audits cost.
//!
//! Figures of hits and audits are of all time; money is of the page's range.

use maud::{Markup, html};

use super::book::Book;
use super::format::{self, NOTHING, share, usd};
use super::parts::card;
use crate::cache::risk::Tier;
use crate::ledger::report::{SpendRow, Sums};
use crate::server::promise::{ScopeStanding, scopes, why};

const ABOUT: &str = "Semantic hits of a team on a route, since its account was opened, on all replicas. \
    Measured is what audits let one guess; proven is what it is at most.";

/// Nothing where no scope was asked yet; `by_scope` are the sums of the range by team and route.
pub(super) fn body(book: &Book<'_>, by_scope: &[SpendRow]) -> Markup {
    let found = scopes(book.gateway, book.viewer, &book.filter());
    let Some(first) = found.first() else { return html! {} };
    let title = format!(
        "At most {} wrong answers, with {} confidence",
        percent(first.standing.max_false_hit_rate),
        percent(first.standing.confidence)
    );
    let rows = html! {
        div.scroll { table.promise {
            thead { tr {
                th scope="col" { "Scope" } th scope="col" { "Tier" }
                @for head in ["Requests", "Hits", "Measured wrong", "Proven wrong", "Audits", "Found wrong", "Cost of audits", "Net saved"] {
                    th.n scope="col" { (head) }
                }
            } }
            tbody { @for one in &found { (row(one, &of(one, by_scope))) } }
        } }
        @for one in found.iter().filter(|one| one.standing.tier != Tier::Open) {
            p.about { (one.team) " / " (one.route) " is " (one.standing.tier.as_str()) ": " (why(&one.standing)) "." }
        }
    };
    html! { div.wide data-card="promise" { (card(&title, ABOUT, &rows)) } }
}

/// The range's sums of one scope.
fn of(one: &ScopeStanding, by_scope: &[SpendRow]) -> Sums {
    let is_it = |row: &&SpendRow| {
        row.names.iter().take(2).map(String::as_str).eq([one.team.as_str(), one.route.as_str()])
    };
    by_scope.iter().find(is_it).map(|row| row.sums).unwrap_or_default()
}

fn row(one: &ScopeStanding, sums: &Sums) -> Markup {
    let standing = &one.standing;
    let net = sums.saved.semantic - sums.saved.own_cost;
    html! {
        tr {
            th scope="row" { (one.team) " / " (one.route) }
            td { (tier_pill(one)) }
            td.n { (format::grouped(standing.n_requests)) }
            td.n { (share(standing.n_hits, standing.n_requests)) }
            td.n { @if standing.n_audits > 0 { (percent(standing.false_hit_rate)) } @else { (NOTHING) } }
            td.n { (percent(standing.false_hit_rate_upper)) }
            td.n { (format::grouped(standing.n_audits)) }
            td.n { (format::grouped(standing.n_wrong_audits)) }
            td.n { (usd(sums.saved.own_cost)) }
            td.n { (usd(net)) }
        }
    }
}

fn tier_pill(one: &ScopeStanding) -> Markup {
    let class = match one.standing.tier {
        Tier::Learning => "pill",
        Tier::Open => "pill good",
        Tier::Closed(_) => "pill bad",
    };
    let why = why(&one.standing);
    html! { span class=(class) title=(why) { (one.standing.tier.as_str()) } }
}

/// Rates are small: two decimals.
fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
