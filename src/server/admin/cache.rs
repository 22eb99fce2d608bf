//! The caches: what they saved in a window, what they hold now, and how an operator empties them.
//!
//! Invariants: nothing is purged by a question that names nothing; entries held now are of all teams, so a
//! team is not told of them.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask;
use super::read::{question, unreadable};
use super::{respond, table, taken_from_operator};
use crate::cache::EntryId;
use crate::cache::purge::{Chosen, Purge};
use crate::error::{Error, Result};
use crate::gateway::Gateway;
use crate::ledger::entry::{AnswerPath, CacheOutcome};
use crate::ledger::report::{By, CallsAsk, Figures, Filter, SpendAsk, SpendRow, Sums};
use crate::money::NanoUsd;
use crate::server::promise::{ScopeStanding, scopes, why};
use crate::server::similarity::{N_SAMPLED, bins};
use crate::server::viewer::Viewer;
use crate::team::{CallId, RouteName, TeamName};
use crate::telemetry::events::CachePurged;

pub(super) async fn show(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let (viewer, given) = question(&gateway, request)?;
        let asked = ask::window(given)?;
        let asked = SpendAsk { filter: viewer.narrow(asked.filter), ..asked };
        let reports = gateway.ledger.reports();
        let by = |by: By, figures| SpendAsk { by: vec![by], figures, ..asked.clone() };
        let (by_route, by_cache) = (by(By::Route, Figures::All), by(By::Cache, Figures::Spent));
        let similar = CallsAsk {
            from_ms: asked.from_ms,
            to_ms: asked.to_ms,
            filter: Filter { path: Some(AnswerPath::Semantic.as_str().to_owned()), ..asked.filter.clone() },
            limit: N_SAMPLED,
            ..CallsAsk::default()
        };
        let (by_route, by_cache, similar) =
            tokio::try_join!(reports.spend(&by_route), reports.spend(&by_cache), reports.calls(&similar))
                .map_err(|error| unreadable(&error))?;
        let similar: Vec<f32> = similar
            .iter()
            .filter_map(|call| call.similarity)
            .filter(|likeness| likeness.is_finite())
            .collect();
        let mut total = Sums::default();
        by_route.iter().for_each(|row| total.add(&row.sums));
        let now = match &viewer {
            Viewer::Operator => json!(gateway.cache.stats().await),
            Viewer::Team(_) => Value::Null,
        };
        Ok(json!({
            "object": "cache",
            "from": table::time(asked.from_ms),
            "to": table::time(asked.to_ms),
            "total": hits(&total),
            "by_outcome": outcomes(&by_cache),
            "by_route": by_route.iter().map(of_route).collect::<Vec<Value>>(),
            "similarity": similarity(&similar),
            "risk": scopes(&gateway, &viewer, &asked.filter).iter().map(risk).collect::<Vec<Value>>(),
            "now": now,
        }))
    };
    respond(answer.await)
}

fn hits(sums: &Sums) -> Value {
    let usd = |amount: NanoUsd| amount.to_string();
    let n_hits = sums.n_hits_exact + sums.n_hits_semantic;
    json!({
        "n_calls": sums.n_calls,
        "n_hits_exact": sums.n_hits_exact,
        "n_hits_semantic": sums.n_hits_semantic,
        "hit_rate": (sums.n_calls > 0).then(|| n_hits as f64 / sums.n_calls as f64),
        "n_audits": sums.n_audits,
        "own_cost_usd": usd(sums.saved.own_cost),
        "saved_exact_usd": usd(sums.saved.exact),
        "saved_semantic_usd": usd(sums.saved.semantic),
        "saved_by_hits_usd": usd(sums.saved.exact.saturating_add(sums.saved.semantic)),
        "baseline_usd": usd(sums.baseline),
    })
}

fn of_route(row: &SpendRow) -> Value {
    let mut told = hits(&row.sums);
    told["route"] = json!(row.names.first());
    told
}

/// How wrong the answers of a scope are, at most and as measured, since its account was opened.
fn risk(one: &ScopeStanding) -> Value {
    let standing = &one.standing;
    json!({
        "scope": one.scope,
        "team": one.team,
        "route": one.route,
        "n_requests": standing.n_requests,
        "n_hits": standing.n_hits,
        "hit_rate": standing.hit_rate(),
        "false_hit_rate_measured": standing.false_hit_rate,
        "false_hit_rate_upper": standing.false_hit_rate_upper,
        "confidence": standing.confidence,
        "max_false_hit_rate": standing.max_false_hit_rate,
        "state": standing.tier.as_str(),
        "why": why(standing),
        "p_wrong_max": standing.p_wrong_max,
        "audit_share": standing.audit_share,
        "n_audits": standing.n_audits,
        "n_wrong_audits": standing.n_wrong_audits,
        "n_verdicts": standing.n_labels,
        "available": standing.available,
    })
}

/// Calls by what the cache said, none left out.
fn outcomes(by_cache: &[SpendRow]) -> Value {
    let n_calls = |word: &str| {
        let found = by_cache.iter().find(|row| row.names.first().is_some_and(|name| name == word));
        found.map_or(0, |row| row.sums.n_calls + row.sums.n_audits)
    };
    CacheOutcome::ALL.iter().map(|one| (one.as_str().to_owned(), json!(n_calls(one.as_str())))).collect()
}

fn similarity(similar: &[f32]) -> Value {
    let bins = if similar.is_empty() { Vec::new() } else { bins(similar) };
    let bin = |bin: &crate::server::similarity::Bin| json!({"from": hundredths(bin.from), "to": hundredths(bin.to), "n": bin.n});
    json!({"n_latest": similar.len(), "bins": bins.iter().map(bin).collect::<Vec<Value>>()})
}

/// As it is meant: 0.93, and not the nearest number that a float of 32 bits has.
fn hundredths(edge: f32) -> f64 {
    (f64::from(edge) * 100.0).round() / 100.0
}

/// What is to go: everything by `all`, one entry by its name, or what has all the marks that are given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PurgeBody {
    #[serde(default)]
    all: bool,
    entry: Option<String>,
    call: Option<String>,
    team: Option<String>,
    route: Option<String>,
    model: Option<String>,
}

pub(super) async fn purge(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    let answer = async {
        let body = taken_from_operator(&gateway, request).await?;
        let body: PurgeBody = serde_json::from_slice(&body)
            .map_err(|error| Error::invalid(format!("the body is not as expected: {error}")))?;
        let purge = wanted(body)?;
        let gone = gateway.cache.purge(&purge).await?;
        CachePurged { n_exact: gone.n_exact, n_semantic: gone.n_semantic }.emit();
        Ok(json!({"object": "purge", "n_exact": gone.n_exact, "n_semantic": gone.n_semantic}))
    };
    respond(answer.await)
}

fn wanted(body: PurgeBody) -> Result<Purge> {
    let PurgeBody { all, entry, call, team, route, model } = body;
    let call = call.map(|id| {
        CallId::parse(&id).ok_or_else(|| {
            Error::invalid("`call` is no id of a call, such as `x-request-id` says").with_param("call")
        })
    });
    let chosen = Chosen {
        team: team.map(|team| TeamName::from(&team)),
        route: route.map(|route| RouteName::from(&route)),
        model,
        call: call.transpose()?,
    };
    match (all, entry, chosen.is_empty()) {
        (true, None, true) => Ok(Purge::All),
        (false, Some(entry), true) => {
            let problem = "`entry` is no name of a cached answer, such as `x-stiver-cache-entry` says";
            let id = EntryId::parse(&entry).ok_or_else(|| Error::invalid(problem).with_param("entry"))?;
            Ok(Purge::Entry(id))
        }
        (false, None, false) => Ok(Purge::Chosen(chosen)),
        (false, None, true) => Err(Error::invalid(
            "nothing is named; give `team`, `route`, `model`, `call` or `entry`, or `\"all\": true` for everything",
        )),
        _ => Err(Error::invalid("`all` and `entry` stand alone; leave the other names out")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Purge> {
        wanted(serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_purge_says_what_it_is_of_and_everything_only_in_so_many_words() {
        let team = Chosen { team: Some(TeamName::from("search")), ..Chosen::default() };
        assert_eq!(read(r#"{"team": "search"}"#).unwrap(), Purge::Chosen(team));
        assert_eq!(read(r#"{"all": true}"#).unwrap(), Purge::All);

        for (body, expected) in [
            ("{}", "nothing is named"),
            (r#"{"all": false}"#, "nothing is named"),
            (r#"{"all": true, "team": "search"}"#, "stand alone"),
            (r#"{"entry": "x", "team": "search"}"#, "stand alone"),
            (r#"{"entry": "x"}"#, "x-stiver-cache-entry"),
            (r#"{"call": "x"}"#, "x-request-id"),
        ] {
            assert!(read(body).unwrap_err().message.contains(expected), "{body}");
        }
        assert!(serde_json::from_str::<PurgeBody>(r#"{"teams": "search"}"#).is_err());
    }
}
