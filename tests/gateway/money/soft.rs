//! Soft budgets tell and stop nothing; budgets of keys and users; and what is left when only local answers are.

use serde_json::{Value, json};
use stiver::ledger::budget::Window;
use stiver::team::TeamName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::budgets::{PRICES, bounded, ceiling, check_refused, only_large};
use crate::fake_upstream::FakeUpstream;
use crate::harness::{Answer, CHAT, Setup, TestGateway, key_of, nano_usd, route, team};

async fn start(toml: &str) -> TestGateway {
    Setup::of(toml).prices(PRICES).start().await
}

async fn ask_as(gateway: &TestGateway, text: &str, headers: &[(&str, &str)]) -> Answer {
    let (name, key) = key_of("search");
    let headers = [&[(name, key.as_str())], headers].concat();
    gateway.post_with(CHAT, &bounded(text), &headers).await
}

/// Takes webhooks, refuses the first `n_refused`, and gives the bodies of the others.
async fn webhook(n_refused: usize) -> (String, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port can be bound");
    let url = format!("http://{}/hook", listener.local_addr().expect("a bound socket has an address"));
    let (told, heard) = tokio::sync::mpsc::unbounded_channel();
    tokio_util::task::TaskTracker::new().spawn(async move {
        for nth in 0.. {
            let Ok((mut socket, _)) = listener.accept().await else { return };
            let (mut read, mut chunk) = (Vec::new(), [0; 4096]);
            let body = loop {
                let n_read = socket.read(&mut chunk).await.expect("the gateway sends on");
                read.extend_from_slice(&chunk[..n_read]);
                let text = String::from_utf8_lossy(&read);
                let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
                match body {
                    Some(body) => break body,
                    None => assert!(n_read > 0, "{text}"),
                }
            };
            let status = if nth < n_refused { "503 Busy" } else { "204 Told" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.expect("the gateway listens");
            if nth >= n_refused && told.send(body).is_err() {
                return;
            }
        }
    });
    (url, heard)
}

#[tokio::test]
async fn a_soft_budget_lets_calls_pass_says_so_and_calls_the_webhook_once() {
    let fake = FakeUpstream::start();
    let cost = cost_of_one(&fake).await;
    let (url, mut heard) = webhook(1).await;
    let budget = nano(3 * cost);
    let toml = only_large(&fake)
        + &team(
            "search",
            &format!(
                "webhook = \"{url}\"\nbudgets = [ {{ usd = \"{budget}\", per = \"month\", on_exceed = \"warn\", soft = 0.5 }} ]"
            ),
        );
    let gateway = start(&toml).await;

    let first = ask_as(&gateway, "question 1", &[]).await;
    let second = ask_as(&gateway, "question 2", &[]).await;
    let mut last = second.header("x-stiver-budget-warning").to_owned();
    for nth in 3..8 {
        let answer = ask_as(&gateway, &format!("question {nth}"), &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        last = answer.header("x-stiver-budget-warning").to_owned();
    }

    assert_eq!(first.header("x-stiver-budget-warning"), "");
    assert_eq!(second.header("x-stiver-budget-warning"), "month team search 66%");
    assert_eq!(last, "month team search 233%");
    let told = heard.recv().await.expect("the webhook is called");
    assert_eq!(told["event"], "budget_warning");
    assert_eq!(
        (&told["team"], &told["of"], &told["percent"]),
        (&json!("search"), &json!("team"), &json!(66))
    );
    assert_eq!(told["budget_usd"], budget);
    assert_eq!(told["resets_at_ms"], 1_761_955_200_000_i64);
    gateway.finish().await;
    assert!(heard.try_recv().is_err(), "told once");
}

#[tokio::test]
async fn a_team_of_the_database_is_told_of_at_its_own_webhook() {
    let fake = FakeUpstream::start();
    let (url, mut heard) = webhook(0).await;
    let gateway = start(&(crate::teams::ADMIN_TOML.to_owned() + &only_large(&fake))).await;
    let budget = json!({"usd": nano(1), "per": "month", "on_exceed": "warn"});
    let key =
        crate::teams::made(&gateway, &json!({"name": "search", "webhook": url, "budgets": [budget]})).await;

    let answer = crate::teams::ask(&gateway, &key, &bounded("question 1")).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(heard.recv().await.expect("the webhook is called")["team"], "search");
    gateway.finish().await;
}

#[tokio::test]
async fn a_webhook_that_is_not_there_delays_no_call() {
    let fake = FakeUpstream::start();
    let toml = format!("[ledger]\nwebhook = \"http://127.0.0.1:9/hook\"\n{}", only_large(&fake))
        + &team("search", "budgets = [ { usd = 0, per = \"day\", on_exceed = \"warn\" } ]");
    let gateway = start(&toml).await;

    for nth in 0..5 {
        assert_eq!(ask_as(&gateway, &format!("question {nth}"), &[]).await.status, 200);
    }

    assert_eq!(gateway.finish().await.len(), 5);
}

#[tokio::test]
async fn each_user_and_each_key_has_its_own() {
    let fake = FakeUpstream::start();
    let ceiling = nano(ceiling(&fake, "question 0").await);
    let toml = only_large(&fake)
        + &team(
            "search",
            &format!("budgets = [ {{ usd = \"{ceiling}\", per = \"day\", of = \"each_user\" }} ]"),
        );
    let gateway = start(&toml).await;
    let by = |user: &'static str| [("x-stiver-user", user)];

    assert_eq!(ask_as(&gateway, "question 1", &by("ann")).await.status, 200);
    let refused = ask_as(&gateway, "question 2", &by("ann")).await;
    check_refused(&refused, 12 * 3_600);
    assert!(refused.text().contains("user `ann`"), "{}", refused.text());
    assert_eq!(ask_as(&gateway, "question 3", &by("bob")).await.status, 200);
    assert_eq!(ask_as(&gateway, "question 4", &[]).await.status, 200);
    check_refused(&ask_as(&gateway, "question 5", &[]).await, 12 * 3_600);
    let folder = gateway.folder();
    gateway.finish().await;

    let again = Setup::of(&toml).prices(PRICES).in_folder(folder).start().await;
    check_refused(&ask_as(&again, "question 6", &by("ann")).await, 12 * 3_600);
    check_refused(&ask_as(&again, "question 7", &[]).await, 12 * 3_600);
    assert_eq!(ask_as(&again, "question 8", &by("cleo")).await.status, 200);
    let verified = again.gateway().ledger.verify_balances().await.unwrap();
    assert!(verified.adds_up() && verified.n_accounts >= 3, "{verified:?}");
    again.finish().await;
}

#[tokio::test]
async fn a_key_may_spend_what_its_own_line_says() {
    let fake = FakeUpstream::start();
    let ceiling = nano(ceiling(&fake, "question 0").await);
    let toml = only_large(&fake)
        + &team("search", "")
        + &format!("budgets = [ {{ usd = \"{ceiling}\", per = \"day\" }} ]\n");
    let gateway = start(&toml).await;

    assert_eq!(ask_as(&gateway, "question 1", &[]).await.status, 200);

    let refused = ask_as(&gateway, "question 2", &[]).await;
    check_refused(&refused, 12 * 3_600);
    assert!(refused.text().contains("key `search`"), "{}", refused.text());
    gateway.finish().await;
}

#[tokio::test]
async fn a_day_in_a_time_zone_ends_at_its_midnight_and_is_known_after_a_restart() {
    let fake = FakeUpstream::start();
    let ceiling = nano(ceiling(&fake, "question 0").await);
    let toml = only_large(&fake)
        + &team(
            "search",
            &format!("budgets = [ {{ usd = \"{ceiling}\", per = \"day\", time_zone = \"Asia/Kolkata\" }} ]"),
        );
    let gateway = start(&toml).await;
    assert_eq!(ask_as(&gateway, "question 1", &[]).await.status, 200);
    // Noon in UTC is half past five in the afternoon there.
    let until_midnight = 6 * 3_600 + 1_800;
    check_refused(&ask_as(&gateway, "question 2", &[]).await, until_midnight);
    let folder = gateway.folder();
    gateway.finish().await;

    let again = Setup::of(&toml).prices(PRICES).in_folder(folder).start().await;

    check_refused(&ask_as(&again, "question 3", &[]).await, until_midnight);
    again.finish().await;
}

#[tokio::test]
async fn a_spent_budget_leaves_local_answers_and_the_row_says_why() {
    let fake = FakeUpstream::start();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/router-models/support-assistant");
    let assistant =
        format!("[upstreams.assistant]\ndialect = 'local'\nmodel_dir = '{dir}'\ncpu = {{ threads = 1 }}\n");
    let ceiling = ceiling(&fake, "question 0").await;
    let budgets =
        format!("budgets = [ {{ usd = \"{}\", per = \"day\", on_exceed = \"local_only\" }} ]", nano(ceiling));
    let toml = upstreams(&fake)
        + &assistant
        + &route("gpt-4o", &["large", "assistant"])
        + &route("alone", &["large"]);
    let gateway = start(&(toml + &team("search", &budgets))).await;
    let first = ask_as(&gateway, "question 1", &[]).await;
    assert_eq!((first.status, first.header("x-stiver-path")), (200, "upstream"));

    let local = ask_as(&gateway, "Where is my order 48213?", &[]).await;
    let mut alone = bounded("question 3");
    alone["model"] = json!("alone");
    let (name, key) = key_of("search");
    let refused = gateway.post_with(CHAT, &alone, &[(name, &key)]).await;

    assert_eq!((local.status, local.header("x-stiver-path")), (200, "local"), "{}", local.text());
    let row = gateway.row_of(&local).await;
    assert!(row.reason.contains("only local answers") && row.reason.contains("per day"), "{}", row.reason);
    check_refused(&refused, 12 * 3_600);
    assert_eq!(fake.calls().len(), 1, "nothing went out for the others");
    let spent = gateway.gateway().ledger.balance(&TeamName::from("search"), Window::Day).spent;
    assert_eq!(Some(spent.get()), first.cost_nano_usd());
    gateway.finish().await;
}

fn upstreams(fake: &FakeUpstream) -> String {
    crate::harness::upstream("large", fake, "gpt-4o", "")
}

fn nano(nanos: i64) -> String {
    stiver::money::NanoUsd::new(nanos).to_string()
}

async fn cost_of_one(fake: &FakeUpstream) -> i64 {
    let gateway = start(&only_large(fake)).await;
    let answer = gateway.post(CHAT, &bounded("question 0")).await;
    gateway.finish().await;
    nano_usd(answer.header("x-stiver-cost-usd"))
}
