//! Answers in other words, which only a judge can tell from other answers: what it teaches the cache, and what it costs.

use stiver::ledger::budget::{Payer, Window};
use stiver::ledger::entry::{AnswerPath, Entry};
use stiver::team::TeamName;

use super::audits::{audits, wordings};
use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::stack::is_embedded;
use crate::harness::{CHAT, Setup, TestGateway, chat, endpoints, have_models};

const JUDGE: &str = "gpt-4o-mini";
/// More sentences than the trained guard is asked about.
const N_SENTENCES: usize = 30;
/// The first has nothing to be compared with; a hundred verdicts are the fewest that open the tier.
const N_ASKED: usize = 101;

/// The same sentences, beginning at another one each time.
fn reworded(step: usize) -> String {
    let things = ["account", "address", "billing", "browser", "code", "device"];
    let deeds = ["Open", "Check", "Change", "Save", "Close"];
    let sentence = |nth: usize| {
        let (deed, thing) = (deeds[nth % deeds.len()], things[nth / deeds.len()]);
        format!("{deed} the {thing} settings there. ")
    };
    (0..N_SENTENCES).map(|nth| sentence((nth + step) % N_SENTENCES)).collect()
}

async fn start(fake: &FakeUpstream, more: &str) -> TestGateway {
    let promise =
        "policy = \"proven\"\nmax_false_hit_rate = 0.2\nconfidence = 0.9\nmax_audits_in_flight = 64\n";
    let toml = endpoints(fake) + "[cache.semantic]\n" + promise + more;
    Setup::of(&toml).with_models().start().await
}

/// Asks one question in ever other words, each answered in other words; and once more: what the cache said then.
async fn asked(gateway: &TestGateway, fake: &FakeUpstream) -> String {
    let wordings = wordings();
    for (step, text) in wordings.iter().enumerate().take(N_ASKED) {
        fake.script(Script::model("gpt-4o", &format!("text=\"{}\"", reworded(step).trim())));
        let answer = gateway.post(CHAT, &chat("gpt-4o", text)).await;
        assert_eq!((answer.status, answer.header("x-stiver-cache")), (200, "miss"), "{}", answer.text());
        // It is kept when it has been compared.
        gateway.until_entries(step as u64 + 1).await;
    }
    check_money(gateway).await;
    let last = gateway.post(CHAT, &chat("gpt-4o", &wordings[N_ASKED])).await;
    last.header("x-stiver-cache").to_owned()
}

/// What the judge costs is the house's, and nothing else is.
async fn check_money(gateway: &TestGateway) {
    let rows = gateway.rows().await;
    let spent = |team: &TeamName| gateway.gateway().ledger.balance(team, Window::Day).spent.get();
    let house: i64 = audits(&rows).iter().map(|row| row.charge().get()).sum();
    let clients: i64 = rows.iter().map(|row| row.charge().get()).sum::<i64>() - house;
    // Where replicas share balances they are settled a little later, and what no budget asks for is kept nowhere.
    if is_embedded() {
        assert_eq!((spent(&Payer::house().team), spent(&TeamName::from("default"))), (house, clients));
    }
    assert!(house < 5_000_000_000, "the day's budget is five dollars");
}

#[tokio::test]
async fn a_judge_teaches_the_cache_that_answers_in_other_words_are_the_same() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    fake.script(Script::model(JUDGE, "text=SAME"));
    let gateway = start(&fake, &format!("judge_route = \"{JUDGE}\"\n")).await;

    assert_eq!(asked(&gateway, &fake).await, "hit-semantic");

    let rows = gateway.finish().await;
    let of_judge: Vec<&Entry> = rows.iter().filter(|row| row.route.as_str() == JUDGE).collect();
    assert!(of_judge.len() >= 2 * (N_ASKED - 1), "two for each answer but the first: {}", of_judge.len());
    assert!(of_judge.iter().all(|row| {
        row.path == AnswerPath::Audit && row.reason.starts_with("judges the answer given to call ")
    }));
    let exhibits = fake.calls().iter().find(|call| call.model == JUDGE).expect("it was asked").json();
    let shown = exhibits["messages"][1]["content"].as_str().expect("it is text").to_owned();
    assert!(shown.contains(&wordings()[1]) && shown.contains("Open the account settings there."), "{shown}");
}

#[tokio::test]
async fn without_a_judge_or_with_one_that_is_down_answers_in_other_words_are_others() {
    if !have_models() {
        return;
    }
    for (more, is_asked) in [(String::new(), false), (format!("judge_route = \"{JUDGE}\"\n"), true)] {
        let fake = FakeUpstream::start();
        fake.script(Script::model(JUDGE, "status=500"));
        let gateway = start(&fake, &more).await;

        assert_eq!(asked(&gateway, &fake).await, "miss", "{more}");

        assert_eq!(fake.calls().iter().any(|call| call.model == JUDGE), is_asked, "{more}");
        let rows = gateway.finish().await;
        assert_eq!(rows.iter().any(|row| row.path == AnswerPath::Audit), is_asked, "{more}");
        assert!(audits(&rows).iter().all(|row| row.charge().get() == 0), "{more}");
    }
}
