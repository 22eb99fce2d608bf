//! Questions to the judge, from two answers to a verdict and its rows.

use super::super::call::Errand;
use super::super::judge::Judge;
use super::*;
use crate::cache::Arbiter;
use crate::ledger::budget::{Payer, Window};
use crate::ledger::entry::{AnswerPath, CacheOutcome, Outcome};
use crate::money::NanoUsd;
use crate::team::TeamName;

const ASK: &str = r#"{"model":"auto","user":"ada","messages":[{"role":"user","content":"How are you?"}]}"#;
const ON: &str = "judge_route = \"auto\"";

macro_rules! says {
    ($word:literal) => {
        Says::Whole(concat!(
            r#"{"id":"1","object":"chat.completion","model":"gpt-4o","choices":[{"index":0,"finish_reason":"stop","#,
            r#""message":{"role":"assistant","content":""#,
            $word,
            r#""}}],"usage":{"prompt_tokens":1000,"completion_tokens":1,"total_tokens":1001}}"#
        ))
    };
}

const SAME: Says = says!("SAME.");
const DIFFERENT: Says = says!("DIFFERENT");
const OTHER: Says = says!("I would say they are the SAME");

/// What a gateway's judge makes of two answers, its rows, and the call whose answer it judges.
async fn judged(says: &[Says], more: &str) -> (Option<bool>, Vec<Entry>, CallId) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(&folder, &upstream_in_turn(says).await, more).await;
    let (admitted, call) = admitted(&gateway, ASK).await;

    let judge = Judge::of(&gateway, &admitted, &call).expect("the test names a judge");
    let is_same = judge.same("How are you?", "Well.", "I am well.").await;

    let rows = rows(&gateway).await;
    let day = |payer: Payer| gateway.ledger.balance(&payer.team, Window::Day);
    let charged: i64 = rows.iter().map(|row| row.charge().get()).sum();
    assert_eq!(day(Payer::of_team(&TeamName::from("default"))).spent, NanoUsd::ZERO, "no team pays");
    assert_eq!((day(Payer::house()).spent.get(), day(Payer::house()).held), (charged, NanoUsd::ZERO));
    assert_eq!(gateway.audits.n_started(), 0, "the slot is free again");
    drop((judge, admitted));
    gateway.close().await.unwrap();
    (is_same, rows, call.id)
}

#[tokio::test]
async fn answers_are_the_same_only_where_both_orders_say_so() {
    for (says, expected, n_asked) in [
        (&[SAME, SAME][..], Some(true), 2),
        (&[SAME, DIFFERENT], Some(false), 2),
        (&[SAME, OTHER], None, 2),
        (&[DIFFERENT, SAME], Some(false), 1),
        (&[OTHER, SAME], None, 1),
    ] {
        let (is_same, rows, _) = judged(says, ON).await;

        assert_eq!((is_same, rows.len()), (expected, n_asked), "{says:?}");
    }
}

#[tokio::test]
async fn a_judgement_has_rows_that_say_whose_answer_it_is_of_and_that_the_house_pays() {
    let (_, rows, judged) = judged(&[SAME], ON).await;

    for row in &rows {
        assert_eq!((row.path, row.cache, row.outcome), (AnswerPath::Audit, CacheOutcome::Audit, Outcome::Ok));
        assert_eq!(row.reason, format!("judges the answer given to call {judged}"));
        // 1,000 tokens at 2.50 dollars a million, and one at 10.
        assert_eq!((row.cost, row.baseline), (Some(NanoUsd::new(2_510_000)), Some(NanoUsd::ZERO)));
        assert_eq!((row.team.as_str(), row.route.as_str()), ("default", "auto"));
        assert_eq!((&row.key, &row.user, &row.cache_entry), (&None, &None, &None));
    }
}

#[tokio::test]
async fn a_judge_that_is_down_gives_no_verdict_and_costs_nothing() {
    let (is_same, rows, _) = judged(&[Says::Broken], ON).await;

    assert_eq!((is_same, rows.len()), (None, 1));
    assert_eq!((rows[0].outcome, rows[0].cost), (Outcome::UpstreamError, Some(NanoUsd::ZERO)));
}

#[tokio::test]
async fn nobody_is_asked_beyond_the_days_budget() {
    for usd in ["0", "0.0000001"] {
        let (is_same, rows, _) = judged(&[SAME], &format!("{ON}\naudit_usd_per_day = {usd}")).await;

        assert_eq!((is_same, rows.len()), (None, 0), "{usd}");
    }
    // Half of it pays for one question, and not for the other order as well.
    let (is_same, rows, _) = judged(&[SAME], &format!("{ON}\naudit_usd_per_day = 0.008")).await;
    assert_eq!((is_same, rows.len()), (None, 1));
}

#[tokio::test]
async fn half_of_the_days_budget_is_left_to_audits_and_judgements_of_what_they_checked() {
    let folder = tempfile::tempdir().unwrap();
    let url = upstream(SAME).await;
    let gateway = gateway(&folder, &url, &format!("{ON}\naudit_usd_per_day = 0.012")).await;
    let (admitted, call) = admitted(&gateway, ASK).await;
    let of_miss = Judge::of(&gateway, &admitted, &call).unwrap();
    let check = call.again(CallId::new(NOW_MS, rand::random()), Instant::now(), NOW_MS);
    let of_audit = Judge::of(&gateway, &admitted, &check).unwrap();

    assert_eq!(of_miss.same("How?", "Well.", "I am well.").await, Some(true));
    assert_eq!(of_miss.same("How?", "Well.", "I am well.").await, None, "half of it is spent");
    assert_eq!(of_audit.same("How?", "Well.", "I am well.").await, Some(true));

    let rows = rows(&gateway).await;
    let reason = format!("judges the answer given to call {}", call.id);
    assert!(rows.len() == 4 && rows.iter().all(|row| row.reason == reason), "the call it checks is named");
    drop((of_miss, of_audit, admitted));
    gateway.close().await.unwrap();
}

#[tokio::test]
async fn without_a_route_nobody_judges_and_no_judge_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let url = upstream(SAME).await;
    let unset = gateway(&folder, &url, "").await;
    let (admitted_there, call) = admitted(&unset, ASK).await;
    assert!(Judge::of(&unset, &admitted_there, &call).is_none());
    drop(admitted_there);
    unset.close().await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let set = gateway(&folder, &url, ON).await;
    let (admitted_here, call) = admitted(&set, ASK).await;
    assert!(Judge::of(&set, &admitted_here, &call.on(Errand::Judge(CallId::new(NOW_MS, [1; 10])))).is_none());
    drop(admitted_here);
    set.close().await.unwrap();
}

#[tokio::test]
async fn judgements_share_the_slots_of_audits_and_end_with_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let url = upstream(Says::Nothing).await;
    let gateway = gateway(&folder, &url, &format!("{ON}\nmax_audits_in_flight = 1")).await;
    let (admitted, call) = admitted(&gateway, ASK).await;
    let judge = Arc::new(Judge::of(&gateway, &admitted, &call).unwrap());
    let first = Arc::clone(&judge);
    let verdict = gateway.tasks.spawn(async move { first.same("How?", "Well.", "I am well.").await });
    while gateway.ledger.balance(&Payer::house().team, Window::Day).held == NanoUsd::ZERO {
        tokio::task::yield_now().await;
    }

    assert!(!gateway.audits.have_room(&gateway.ledger, NanoUsd::new(5_000_000_000), NOW_MS));
    assert_eq!(judge.same("How?", "Well.", "I am well.").await, None, "as many as may be are under way");
    drop(admitted);
    gateway.close().await.unwrap();

    assert_eq!(verdict.await.unwrap(), None);
    assert_eq!(judge.same("How?", "Well.", "I am well.").await, None, "nothing is asked after the end");
    assert_eq!(gateway.ledger.balance(&Payer::house().team, Window::Day).held, NanoUsd::ZERO);
}
