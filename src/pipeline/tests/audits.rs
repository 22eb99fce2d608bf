//! The check of a cached answer, from the hit that it is of to its row.

use super::super::audit::Audit;
use super::*;
use crate::cache::{Control, Fill, Found, Question};
use crate::ledger::budget::{Payer, Window};
use crate::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome};
use crate::money::NanoUsd;
use crate::team::TeamName;

const ASK: &str = r#"{"model":"auto","user":"ada","messages":[{"role":"user","content":"How are you?"}]}"#;
const WHOLE: &str = r#"{"id":"1","object":"chat.completion","model":"gpt-4o","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Well."}}],"usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}"#;
const STREAM: &str = "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Well.\"},\"finish_reason\":null}]}\n\n\
    data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":1000,\"completion_tokens\":100,\"total_tokens\":1100}}\n\n\
    data: [DONE]\n\n";

async fn look(gateway: &Gateway, admitted: &Admitted) -> Found {
    let canonical = &admitted.canonical;
    let question = Question {
        exact: canonical.exact,
        scope: canonical.scope,
        text: None,
        control: Control::default(),
        promise: "default/auto",
        draw: 0.5,
        may_audit: false,
    };
    gateway.cache.find(&question, NOW_MS).await
}

async fn fill(gateway: &Gateway, admitted: &Admitted) -> Fill {
    match look(gateway, admitted).await {
        Found::Miss(fill) => fill,
        found @ (Found::Hit(_) | Found::Audited(..) | Found::Bypass(_)) => {
            panic!("an empty cache has found {found:?}")
        }
    }
}

/// The row of an audit, and whether its answer went into the cache.
async fn audited(says: Says, body: &str) -> (Entry, CallId, bool) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(&folder, &upstream(says).await, "").await;
    let (admitted, call) = admitted(&gateway, body).await;
    let fill = fill(&gateway, &admitted).await;

    Audit::of(&gateway, &admitted, &call, fill).run(Arc::clone(&gateway)).await;

    let mut rows = rows(&gateway).await;
    assert_eq!(rows.len(), 1, "an audit has one row");
    let spent = |payer: Payer| gateway.ledger.balance(&payer.team, Window::Day);
    assert_eq!(spent(Payer::of_team(&TeamName::from("default"))).spent, NanoUsd::ZERO);
    assert_eq!(spent(Payer::house()).spent, rows[0].charge());
    assert_eq!(spent(Payer::house()).held, NanoUsd::ZERO);
    drop(admitted.pass);
    let (again, _) = super::admitted(&gateway, body).await;
    let is_kept = matches!(look(&gateway, &again).await, Found::Hit(_));
    drop(again);
    gateway.close().await.unwrap();
    (rows.remove(0), call.id, is_kept)
}

#[tokio::test]
async fn an_audit_has_a_row_of_its_own_that_no_budget_of_the_team_pays_for() {
    for (says, body) in [
        (Says::Whole(WHOLE), ASK.to_owned()),
        (Says::Stream(STREAM), ASK.replace("{\"model\"", "{\"stream\":true,\"model\"")),
    ] {
        let (row, checked, is_kept) = audited(says, &body).await;

        assert_eq!((row.path, row.cache, row.outcome), (AnswerPath::Audit, CacheOutcome::Audit, Outcome::Ok));
        // 1,000 tokens at 2.50 dollars a million, and 100 at 10.
        let cost = NanoUsd::new(3_500_000);
        assert_eq!((row.cost, row.baseline), (Some(cost), Some(NanoUsd::ZERO)));
        assert_eq!(row.reason, format!("checks the cached answer given to call {checked}"));
        assert_ne!(row.id, checked);
        assert_eq!((row.team.as_str(), row.route.as_str(), row.status), ("default", "auto", 200));
        assert_eq!((&row.key, &row.user, row.tags.len()), (&None, &None, 0));
        assert!(is_kept, "the fresh answer is the cache's");
    }
}

#[tokio::test]
async fn an_audit_that_nobody_answers_costs_nothing_and_tells_the_cache_nothing() {
    let (row, _, is_kept) = audited(Says::Broken, ASK).await;

    assert_eq!((row.path, row.outcome, row.attempts), (AnswerPath::Audit, Outcome::UpstreamError, 1));
    assert_eq!((row.cost, is_kept), (Some(NanoUsd::ZERO), false));
}

#[tokio::test]
async fn a_slot_is_taken_while_an_audit_runs_and_a_gateway_that_stops_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let url = upstream(Says::Nothing).await;
    let gateway = gateway(&folder, &url, "max_audits_in_flight = 1").await;
    let (admitted, call) = admitted(&gateway, ASK).await;
    let fill = fill(&gateway, &admitted).await;
    let usd = NanoUsd::new(1_000_000_000);
    assert!(gateway.audits.have_room(&gateway.ledger, usd, NOW_MS));
    assert!(!gateway.audits.have_room(&gateway.ledger, NanoUsd::ZERO, NOW_MS), "no money is no room");

    gateway.audits.pause(NOW_MS);
    assert!(!gateway.audits.have_room(&gateway.ledger, usd, NOW_MS + 4_999));
    assert!(gateway.audits.have_room(&gateway.ledger, usd, NOW_MS + 5_000));

    let audit = Audit::of(&gateway, &admitted, &call, fill);
    gateway.audits.start(audit.run(Arc::clone(&gateway)));
    while gateway.ledger.balance(&Payer::house().team, Window::Day).held == NanoUsd::ZERO {
        tokio::task::yield_now().await;
    }

    assert!(!gateway.audits.have_room(&gateway.ledger, usd, NOW_MS + 5_000), "the one slot is taken");
    assert_eq!(gateway.audits.n_started(), 1);
    drop(admitted);
    gateway.close().await.unwrap();
    assert_eq!(gateway.audits.n_started(), 0);
    assert_eq!(gateway.ledger.balance(&Payer::house().team, Window::Day).held, NanoUsd::ZERO);
}
