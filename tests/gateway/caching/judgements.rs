//! Answers in other words, which only a judge can tell from other answers: what it teaches the cache, and what it costs.

use stiver::ledger::budget::{Payer, Window};
use stiver::ledger::entry::Entry;
use stiver::team::TeamName;

use super::audits::{audits, wordings};
use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{CHAT, Setup, TestGateway, chat, endpoints, have_models};

const JUDGE: &str = "gpt-4o-mini";
/// More sentences than the trained guard is asked about.
const N_SENTENCES: usize = 30;

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

/// Asks one question in ever other words, each answered in other words, until an earlier answer is served; how many were
/// asked then, if so many were needed.
async fn asked_until_served(gateway: &TestGateway, fake: &FakeUpstream, at_most: usize) -> Option<usize> {
    for (step, text) in wordings().iter().enumerate().take(at_most) {
        fake.script(Script::model("gpt-4o", &format!("text=\"{}\"", reworded(step).trim())));
        let answer = gateway.post(CHAT, &chat("gpt-4o", text)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        if answer.header("x-stiver-cache") == "hit-semantic" {
            return Some(step + 1);
        }
        gateway.until_entries(step as u64 + 1).await;
    }
    None
}

fn n_judgements(rows: &[Entry]) -> usize {
    audits(rows).iter().filter(|row| row.reason.starts_with("judges the answer given to call ")).count()
}

#[tokio::test]
async fn a_judge_teaches_the_cache_that_answers_in_other_words_are_the_same() {
    if !have_models() {
        return;
    }
    let fake = FakeUpstream::start();
    fake.script(Script::model(JUDGE, "text=SAME"));
    let gateway = start(&fake, &format!("judge_route = \"{JUDGE}\"\n")).await;

    let n_asked = asked_until_served(&gateway, &fake, 240).await.expect("the tier opens");

    let are_over = async |gateway: &stiver::gateway::Gateway| gateway.audits.n_started() == 0;
    gateway.eventually("the check and its judgement are over", are_over).await;
    let rows = gateway.rows().await;
    assert!(n_judgements(&rows) > n_asked, "two for each answer but the first: {}", n_judgements(&rows));
    let of_judge = rows.iter().filter(|row| row.route.as_str() == JUDGE);
    assert!(of_judge.clone().count() == n_judgements(&rows));
    assert!(of_judge.clone().all(|row| row.charge().get() > 0 && row.team.as_str() == "default"));
    let spent = |team: &TeamName| gateway.gateway().ledger.balance(team, Window::Day).spent.get();
    let house: i64 = audits(&rows).iter().map(|row| row.charge().get()).sum();
    let clients: i64 = rows.iter().map(|row| row.charge().get()).sum::<i64>() - house;
    assert_eq!((spent(&Payer::house().team), spent(&TeamName::from("default"))), (house, clients));
    assert!(house < 5_000_000_000, "the day's budget is five dollars");
    let exhibits = fake.calls().iter().find(|call| call.model == JUDGE).expect("it was asked").json();
    let shown = exhibits["messages"][1]["content"].as_str().expect("it is text").to_owned();
    assert!(shown.contains(&wordings()[1]) && shown.contains("Open the account settings there."), "{shown}");
    gateway.finish().await;
}

#[tokio::test]
async fn without_a_judge_or_with_one_that_is_down_answers_in_other_words_are_others() {
    if !have_models() {
        return;
    }
    const N_ASKED: usize = 60;
    for (more, is_asked) in [
        (String::new(), false),
        (format!("judge_route = \"{JUDGE}\"\naudit_usd_per_day = 0\n"), false),
        (format!("judge_route = \"{JUDGE}\"\n"), true),
    ] {
        let fake = FakeUpstream::start();
        fake.script(Script::model(JUDGE, "status=500"));
        let gateway = start(&fake, &more).await;

        assert_eq!(asked_until_served(&gateway, &fake, N_ASKED).await, None, "{more}");

        let n_asked_of_judge = fake.calls().iter().filter(|call| call.model == JUDGE).count();
        assert_eq!(n_asked_of_judge > 0, is_asked, "{more}");
        let house = gateway.gateway().ledger.balance(&Payer::house().team, Window::Day);
        assert_eq!((house.spent.get(), house.held.get()), (0, 0), "{more}");
        gateway.finish().await;
    }
}
