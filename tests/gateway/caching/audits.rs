//! Answers that are served and checked: whose call the check is, what it costs whom, and when there is none.

use stiver::ledger::budget::{Payer, Window};
use stiver::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome};
use stiver::team::TeamName;

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::stack::is_embedded;
use crate::harness::{Answer, CHAT, Setup, TestGateway, chat, endpoints, have_models};

/// One question in as many words as the risk control wants to have seen, and some more.
pub(super) fn wordings() -> Vec<String> {
    const BEFORE: [&str; 10] =
        ["", "Hi, ", "Hello, ", "Hey, ", "Sorry, ", "Please, ", "Well, ", "So, ", "Okay, ", "Excuse me, "];
    const ASKED: [&str; 4] = ["how do I", "how can I", "how could I", "how would I"];
    const AFTER: [&str; 6] = ["", " please", " now", " again", " here", " today"];
    let mut wordings = Vec::new();
    for after in AFTER {
        for asked in ASKED {
            wordings.extend(BEFORE.map(|before| format!("{before}{asked} reset my password{after}?")));
        }
    }
    wordings
}

/// A promise so weak that it is proved soon; its checks do not become rarer with time.
async fn start(fake: &FakeUpstream, audit_usd_per_day: &str) -> TestGateway {
    fake.script(Script::always("text=\"By the link below.\""));
    let promise = "policy = \"proven\"\nmax_false_hit_rate = 0.2\nconfidence = 0.9\naudit_share = 1.0\n";
    let toml = format!("[cache.semantic]\n{promise}audit_usd_per_day = {audit_usd_per_day}\n");
    Setup::of(&(endpoints(fake) + &toml)).with_models().start().await
}

async fn ask(gateway: &TestGateway, text: &str) -> Answer {
    let answer = gateway.post(CHAT, &chat("gpt-4o", text)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

pub(super) fn audits(rows: &[Entry]) -> Vec<&Entry> {
    rows.iter().filter(|row| row.path == AnswerPath::Audit).collect()
}

#[tokio::test]
async fn a_served_answer_is_checked_on_the_houses_account_and_without_money_none_is() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    let gateway = start(&fake, "5").await;
    let are_over = async |gateway: &stiver::gateway::Gateway| gateway.audits.n_started() == 0;
    let (mut n_asked, mut n_hits, mut checked) = (0, 0, None);
    for text in wordings() {
        n_asked += 1;
        let answer = ask(&gateway, &text).await;
        if answer.header("x-stiver-cache") != "hit-semantic" {
            continue;
        }
        n_hits += 1;
        gateway.eventually("the check is over", are_over).await;
        if !audits(&gateway.rows().await).is_empty() {
            checked = Some(answer);
            break;
        }
    }
    let hit = checked.expect("the promise is proved, the tier opens, and a coin falls");

    let rows = gateway.rows().await;
    let found = audits(&rows);
    assert_eq!((found.len(), rows.len(), fake.calls().len()), (1, n_asked + 1, n_asked - n_hits + 1));
    let audit = found[0];
    assert_eq!((audit.cache, audit.outcome, audit.status), (CacheOutcome::Audit, Outcome::Ok, 200));
    assert!(audit.reason.ends_with(hit.header("x-request-id")), "{}", audit.reason);
    assert!(audit.charge().get() > 0 && audit.saved() == Some(stiver::money::NanoUsd::ZERO - audit.charge()));
    let spent = |team: &TeamName| gateway.gateway().ledger.balance(team, Window::Day).spent;
    let of_clients = rows.iter().filter(|row| row.path != AnswerPath::Audit);
    let clients: i64 = of_clients.map(|row| row.charge().get()).sum();
    assert_eq!(spent(&Payer::house().team), audit.charge());
    // Where replicas share balances, one that no budget asks for is kept nowhere.
    if is_embedded() {
        assert_eq!(spent(&TeamName::from("default")).get(), clients);
    }
    gateway.finish().await;

    let fake = FakeUpstream::start();
    let poor = start(&fake, "0").await;
    let mut n_hits = 0;
    for text in wordings() {
        n_hits += usize::from(ask(&poor, &text).await.header("x-stiver-cache") == "hit-semantic");
    }
    // Whose coin fell was asked upstream in the foreground, and nothing went there behind anybody's back.
    assert_eq!(fake.calls().len(), wordings().len() - n_hits);
    assert!(audits(&poor.finish().await).is_empty());
}
