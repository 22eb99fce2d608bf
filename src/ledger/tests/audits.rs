//! Tests of calls of our own: the house pays, the team's figures tell them apart.
//!
//! Invariants: none of its own.

use super::*;
use crate::ledger::entry::{AnswerPath, CacheOutcome};
use crate::ledger::report::{Figures, LatencyAsk};
use crate::ledger::verify::{VerifyAsk, verify};
use crate::team::KeyId;

const HOUR_MS: i64 = 3_600_000;

fn audit(ts_ms: i64) -> Entry {
    Entry {
        path: AnswerPath::Audit,
        cache: CacheOutcome::Audit,
        baseline: Some(NanoUsd::ZERO),
        attempts: 1,
        ..draft(ts_ms)
    }
}

fn clients(ts_ms: i64) -> Entry {
    let key = Some(KeyId::from("k1"));
    Entry {
        path: AnswerPath::Semantic,
        cost: Some(NanoUsd::ZERO),
        baseline: Some(NanoUsd::new(50)),
        outcome: Outcome::Ok,
        key,
        ..draft(ts_ms)
    }
}

#[tokio::test]
async fn the_house_pays_for_an_audit_and_the_team_does_not() {
    let book = Book::new().await;
    let mut ask = ask(100, &[]);
    ask.entry_draft = audit(NOW_MS);
    let mut hold = hold_now(&book.ledger, ask).unwrap();
    let left = |ledger: &Ledger, payer: &Payer| ledger.remaining(payer, &per_day(1_000)).map(NanoUsd::get);
    let (house, own) = (Payer::house(), Payer::of_team(&team()));
    assert_eq!((left(&book.ledger, &house), left(&book.ledger, &own)), (Some(900), Some(1_000)));
    send(&mut hold);

    let row = ended(&hold, 30);
    hold.post(row);

    assert_eq!((left(&book.ledger, &house), left(&book.ledger, &own)), (Some(970), Some(1_000)));
    assert_eq!(book.rows().await[0].team, team(), "the row is the team's");
    assert!(book.ledger.verify_balances().await.unwrap().adds_up());
    book.ledger.close().await.unwrap();
    let again = book.open_again().await;
    assert_eq!((left(&again, &house), left(&again, &own)), (Some(970), Some(1_000)), "after a restart");
    again.close().await.unwrap();
}

#[tokio::test]
async fn an_audit_that_a_crash_cut_off_is_the_houses_too() {
    let book = Book::new().await;
    let mut ask = ask(100, &[]);
    ask.entry_draft = Entry { cost: Some(NanoUsd::new(100)), ..audit(NOW_MS) };
    let mut hold = hold_now(&book.ledger, ask).unwrap();
    send(&mut hold);
    // What the process would leave if it died now.
    let dir = tempfile::tempdir().unwrap();
    let config = config_in(dir.path());
    std::fs::create_dir_all(&config.journal_dir).unwrap();
    for name in segment_names(&book.config.journal_dir) {
        std::fs::copy(book.config.journal_dir.join(&name), config.journal_dir.join(&name)).unwrap();
    }

    let again = Ledger::open(&config, book.clock.clone(), TaskTracker::new()).await.unwrap();

    let left = |payer: &Payer| again.remaining(payer, &per_day(1_000)).map(NanoUsd::get);
    assert_eq!((left(&Payer::house()), left(&Payer::of_team(&team()))), (Some(900), Some(1_000)));
    let rows = again.reports().recent(10, None).await.unwrap();
    assert_eq!((rows.len(), rows[0].outcome, rows[0].path), (1, Outcome::Interrupted, AnswerPath::Audit));
    again.close().await.unwrap();
    drop(hold);
    book.close().await;
}

#[tokio::test]
async fn audits_are_counted_apart_wherever_sums_are_read_from() {
    let book = Book::new().await;
    let day_ms = 24 * HOUR_MS;
    let from_ms = NOW_MS - NOW_MS.rem_euclid(day_ms);
    for ts_ms in [from_ms + 10, from_ms + HOUR_MS + 20] {
        let cost = Some(NanoUsd::new(7));
        book.ledger.record(Entry { cost, overhead_us: 500, total_ms: 900, ..audit(ts_ms) }).unwrap();
        book.ledger.record(clients(ts_ms)).unwrap();
    }
    book.rows().await;

    for (by, step_ms) in
        [(vec![], day_ms), (vec![By::Key], day_ms), (vec![By::Tag], day_ms), (vec![], 2 * HOUR_MS)]
    {
        let ask = SpendAsk::over(&by, from_ms, from_ms + step_ms);
        let mut sums = crate::ledger::report::Sums::default();
        for row in book.ledger.reports().spend(&ask).await.unwrap() {
            sums.add(&row.sums);
        }
        // No row here has a tag, so that by tag there is none to read.
        let n = u64::from(!by.contains(&By::Tag)) * 2;
        assert_eq!((sums.n_calls, sums.n_audits, sums.n_hits_semantic), (n, n, n), "{by:?}");
        assert_eq!(
            (sums.n_errors, sums.overhead_us, sums.n_attempts, sums.n_estimated - n),
            (0, 0, 0, 0),
            "{by:?}"
        );
        let money = 7 * n as i64;
        assert_eq!((sums.cost.get(), sums.saved.own_cost.get()), (money, money), "{by:?}");
        assert_eq!(sums.saved.semantic.get(), 50 * n as i64, "{by:?}");
        assert_eq!(sums.saved.net(), sums.baseline - sums.cost, "{by:?}");
        let few = SpendAsk { figures: Figures::Spent, ..ask };
        let few = book.ledger.reports().spend(&few).await.unwrap();
        assert_eq!(few.iter().map(|row| row.sums.n_audits).sum::<u64>(), n, "{by:?}");
    }
    let took = LatencyAsk { from_ms, to_ms: from_ms + day_ms, ..LatencyAsk::default() };
    assert_eq!(book.ledger.reports().latency(&took).await.unwrap()[0].n_calls, 2, "clients waited for two");
    let verified = verify(&book.config, &VerifyAsk { now_ms: NOW_MS, ..VerifyAsk::default() }).await.unwrap();
    assert!(verified.adds_up(), "{:#?}", verified.differences);
    book.close().await;
}
