//! `/dashboard`: what was spent and saved this month, and the last calls.
//!
//! Shows no prompt. Open only while the gateway takes any key on loopback; with keys configured it
//! asks for one as the password of HTTP basic authentication, and shows that key's team alone.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_SECURITY_POLICY, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use maud::{DOCTYPE, Markup, html};

use crate::gateway::Gateway;
use crate::ledger::budget::Window;
use crate::ledger::entry::Entry;
use crate::ledger::report::{By, SpendAsk, SpendRow};
use crate::team::TeamName;

const N_RECENT: u32 = 50;
const STYLE: &str = include_str!("dashboard.css");

pub(super) async fn page(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let ring = gateway.live().key_ring();
    let only = match (ring.is_open(), ring.admit(password(&headers).as_deref(), gateway.clock.now_ms())) {
        (true, _) => None,
        (false, Ok(caller)) => Some(caller.team.name.clone()),
        (false, Err(refused)) => {
            let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"stiver: your API key as the password\"")];
            return (StatusCode::UNAUTHORIZED, challenge, refused.to_string()).into_response();
        }
    };
    match render(&gateway, only.as_ref()).await {
        Ok(markup) => {
            let policy =
                "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
            ([(CONTENT_SECURITY_POLICY, policy)], Html(markup.into_string())).into_response()
        }
        Err(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem).into_response(),
    }
}

fn password(headers: &HeaderMap) -> Option<String> {
    let basic = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(basic).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

async fn render(gateway: &Gateway, only: Option<&TeamName>) -> Result<Markup, String> {
    let (from_ms, to_ms) = Window::Month.bounds_ms(gateway.clock.now_ms());
    let reports = gateway.ledger.reports();
    let failed = |error| format!("the ledger cannot be read: {error}");
    let ask = |by| SpendAsk::over(&[by], from_ms, to_ms);
    let mut teams = reports.spend(&ask(By::Team)).await.map_err(failed)?;
    let recent = reports.recent(N_RECENT, only).await.map_err(failed)?;
    let mut paths = reports.spend(&ask(By::Path)).await.map_err(failed)?;
    if let Some(team) = only {
        teams.retain(|row| row.names[0] == team.as_str());
        // Sums by path are over all teams.
        paths.clear();
    }
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Stiver" }
                style { (maud::PreEscaped(STYLE)) }
            }
            body {
                h1 { "Stiver" }
                (spend_table("This month by team", "team", &teams))
                @if !paths.is_empty() { (spend_table("This month by path", "path", &paths)) }
                (calls_table(&recent))
            }
        }
    })
}

fn spend_table(title: &str, name: &str, rows: &[SpendRow]) -> Markup {
    html! {
        h2 { (title) }
        @if rows.is_empty() {
            p { "No call yet. Send one to " code { "/v1/chat/completions" } " and load this page again." }
        } @else {
            table {
                thead { tr {
                    th { (name) } th.n { "calls" } th.n { "cost, $" } th.n { "saved, $" }
                    th.n { "input tokens" } th.n { "output tokens" } th.n { "unpriced" }
                } }
                tbody { @for row in rows { tr {
                    td { (row.names[0]) } td.n { (row.sums.n_calls) } td.n { (row.sums.cost) } td.n { (row.sums.saved.net()) }
                    td.n { (row.sums.usage.input) } td.n { (row.sums.usage.output) } td.n { (row.sums.n_unpriced) }
                } } }
            }
        }
    }
}

fn calls_table(entries: &[Entry]) -> Markup {
    html! {
        h2 { "Last calls" }
        table {
            thead { tr {
                th { "time (UTC)" } th { "team" } th { "route" } th { "path" } th { "tier" } th.n { "score" } th { "model" }
                th { "outcome" } th.n { "tokens" } th.n { "cost, $" } th.n { "ms" }
            } }
            tbody { @for entry in entries { tr title=(entry.reason) {
                td { (time(entry.ts_ms)) } td { (entry.team) } td { (entry.route) } td { (entry.path.as_str()) }
                td { @if let Some(tier) = &entry.tier { (tier) } }
                td.n { @if let Some(score) = entry.score { (format!("{score:.2}")) } }
                td { (entry.model.as_deref().unwrap_or("")) } td { (entry.outcome.as_str()) }
                td.n { (entry.usage.input) " + " (entry.usage.output) }
                td.n { @match entry.cost { Some(cost) => (cost), None => "unpriced" } }
                td.n { (entry.total_ms) }
            } } }
        }
    }
}

fn time(ts_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ts_ms)
        .map_or_else(|_| String::new(), |time| time.strftime("%F %T").to_string())
}
