//! Who is shown what at `/dashboard`, and that nothing in the book is taken for markup.
//!
//! How pages look and whether their figures are right is for the browser of `tests/dashboard`.

use stiver::ledger::entry::{AnswerPath, CacheOutcome, Entry, Outcome, Tried};
use stiver::money::NanoUsd;
use stiver::team::{CallId, KeyId, RouteName, TeamName, TierName, UpstreamName};

use crate::fake_upstream::FakeUpstream;
use crate::harness::{Answer, NOW_MS, Setup, TestGateway, endpoints, key_of, team};

const PAGES: [&str; 7] = ["overview", "teams", "routes", "cache", "splits", "calls", "health"];
const ADMIN_KEY: &str = "operator-key-of-the-tests-0123";
/// Wherever a name can stand, an attack does.
const EVIL: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;";

fn row(nth: u8, team: &str) -> Entry {
    let id = CallId::new(NOW_MS - 60_000, [nth; 10]);
    let route = RouteName::from("gpt-4o");
    let mut row = Entry::draft(id, NOW_MS - 60_000, TeamName::from(team), "/v1/chat/completions", route);
    row.cost = Some(NanoUsd::new(1_000_000));
    row.baseline = Some(NanoUsd::new(3_000_000));
    row.user = Some(format!("{team}-user"));
    row.outcome = Outcome::Ok;
    row.path = AnswerPath::Upstream;
    row
}

fn evil_row() -> Entry {
    let mut row = row(66, EVIL);
    row.user = Some(EVIL.to_owned());
    row.key = Some(KeyId::from(EVIL));
    row.tags = vec![EVIL.to_owned()];
    row.endpoint = EVIL.to_owned();
    row.route = RouteName::from(EVIL);
    row.tier = Some(TierName::from(EVIL));
    row.score_source = Some(EVIL.to_owned());
    row.score = Some(0.5);
    row.reason = EVIL.to_owned();
    row.split = Some(EVIL.to_owned());
    row.arm = Some(EVIL.to_owned());
    row.upstream = Some(UpstreamName::from(EVIL));
    row.model = Some(EVIL.to_owned());
    row.cache = CacheOutcome::Miss;
    row.tried = vec![Tried { upstream: UpstreamName::from(EVIL), reason: EVIL.to_owned(), took_ms: 1 }];
    row
}

/// Two teams with a key each, an operator, and a book in which three teams have called.
async fn start() -> TestGateway {
    let fake = FakeUpstream::start();
    let budget = "budgets = [{ usd = 5, per = \"month\" }, { usd = 1, per = \"day\", of = \"each_user\", \
                  time_zone = \"Europe/Berlin\", on_exceed = \"warn\" }]";
    let admin = format!("[admin]\nkey = \"{ADMIN_KEY}\"\n");
    let toml = endpoints(&fake) + &team("search", budget) + &team("support", budget) + &admin;
    let gateway = Setup::of(&toml).start().await;
    for row in [row(1, "search"), row(2, "support"), evil_row()] {
        gateway.gateway().ledger.record(row).expect("the journal has room");
    }
    gateway.gateway().ledger.flushed().await;
    gateway
}

async fn as_team(gateway: &TestGateway, path: &str) -> Answer {
    let (name, value) = key_of("search");
    gateway.get_with(path, &[(name, &value)]).await
}

async fn as_operator(gateway: &TestGateway, path: &str) -> Answer {
    gateway.get_with(path, &[("authorization", &format!("Bearer {ADMIN_KEY}"))]).await
}

/// Sends a form, and does not go where the answer leads.
async fn send_form(
    gateway: &TestGateway,
    path: &str,
    form: String,
    headers: &[(&str, &str)],
) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let client = client.build().expect("these options go together");
    let mut request = client.post(format!("{}{path}", gateway.url())).body(form);
    for (name, value) in [&[("content-type", "application/x-www-form-urlencoded")], headers].concat() {
        request = request.header(name, value);
    }
    let answer = request.send().await.expect("the gateway answers");
    let cookie =
        answer.headers().get("set-cookie").map_or("", |value| value.to_str().expect("a cookie is ASCII"));
    (answer.status().as_u16(), cookie.to_owned())
}

async fn sign_in(gateway: &TestGateway, key: &str, headers: &[(&str, &str)]) -> (u16, String) {
    send_form(gateway, "/dashboard/sign-in", format!("key={key}&next=/dashboard/teams"), headers).await
}

#[tokio::test]
async fn every_page_shows_its_viewer_what_is_his() {
    let gateway = start().await;

    for page in PAGES {
        let all = as_operator(&gateway, &format!("/dashboard/{page}?range=24h")).await;
        let own = as_team(&gateway, &format!("/dashboard/{page}?range=24h")).await;

        assert_eq!((all.status, own.status), (200, 200), "{page}: {}", all.text());
        assert!(own.text().contains("Team search"), "{page}");
        assert!(!own.text().contains("support") && !own.text().contains("script>alert"), "{page}");
        assert!(all.text().contains("support"), "{page}");
    }
    gateway.finish().await;
}

#[tokio::test]
async fn budgets_of_each_user_are_told_by_their_dearest() {
    let gateway = start().await;

    let all = as_operator(&gateway, "/dashboard/overview").await;
    let own = as_team(&gateway, "/dashboard/overview").await;

    for part in ["search / search-user", "Europe/Berlin", "calls carry a warning", "$0.0010"] {
        assert!(own.text().contains(part), "{part} is not in {}", own.text());
    }
    assert!(all.text().contains("support / support-user") && !own.text().contains("support / "));
    gateway.finish().await;
}

#[tokio::test]
async fn no_parameter_shows_a_team_another_one() {
    let gateway = start().await;

    for query in [
        "team=support",
        "team=search&team=support",
        "team=",
        "team=%00support",
        "TEAM=support",
        "team[]=support",
        "q=support-user",
        "q=%25",
        "route=gpt-4o&team=support&outcome=ok",
        "team=support%27%20OR%20%271%27=%271",
    ] {
        for page in PAGES {
            let answer = as_team(&gateway, &format!("/dashboard/{page}?range=24h&{query}")).await;

            assert_eq!(answer.status, 200, "{page}?{query}");
            // What was asked for may be said again, but nothing of the other team.
            for part in ["support-user", ">support<", "value=\"support\"", "team=support"] {
                let is_echo = part == "support-user" && query.contains("q=support-user");
                assert!(is_echo || !answer.text().contains(part), "{page}?{query} shows {part}");
            }
        }
    }
    let other = row(2, "support").id;
    let hidden = as_team(&gateway, &format!("/dashboard/calls/{other}?team=support")).await;
    let never = as_team(&gateway, "/dashboard/calls/0199c0de-0000-7000-8000-000000000001?team=support").await;
    assert_eq!((hidden.status, hidden.text()), (404, never.text()), "another team's call is like none");
    assert_eq!(as_team(&gateway, &format!("/dashboard/calls/{}", row(1, "search").id)).await.status, 200);
    gateway.finish().await;
}

#[tokio::test]
async fn names_in_the_book_are_text_on_every_page() {
    let gateway = start().await;
    let call = format!("calls/{}", evil_row().id);

    for page in PAGES.into_iter().chain([call.as_str()]) {
        let answer = as_operator(&gateway, &format!("/dashboard/{page}?range=24h")).await;

        assert_eq!(answer.status, 200, "{page}");
        for part in ["<script>alert", "<img", "\"'>"] {
            assert!(!answer.text().contains(part), "{page} has {part}");
        }
        let is_shown = answer.text().contains("&lt;script&gt;alert(1)&lt;/script&gt;");
        assert!(is_shown, "{page} does not show the name at all");
    }
    let searched = as_operator(&gateway, "/dashboard/calls?q=%22%3E%3Cscript%3Ealert(2)%3C/script%3E").await;
    assert!(!searched.text().contains("<script>alert"), "{}", searched.text());
    gateway.finish().await;
}

#[tokio::test]
async fn every_answer_has_a_policy_that_lets_nothing_else_run() {
    let gateway = start().await;

    for path in
        ["/dashboard", "/dashboard/sign-in", "/dashboard/app.css", "/dashboard/nothing", "/dashboard/calls/x"]
    {
        let answer = as_operator(&gateway, path).await;

        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert!(!answer.text().contains(" style=\""), "{path}");
    }
    assert_eq!(as_operator(&gateway, "/dashboard/overview").await.header("cache-control"), "no-store");
    gateway.finish().await;
}

#[tokio::test]
async fn a_stranger_is_led_to_the_form_and_a_script_is_told() {
    let gateway = start().await;
    let html = [("accept", "text/html,*/*")];

    let browser = gateway.get_with("/dashboard/teams?range=7d", &html).await;
    let script = gateway.get("/dashboard/teams").await;
    let wrong = gateway.get_with("/dashboard", &[("authorization", "Bearer sk-stiver-a-b")]).await;
    let basic = gateway.get_with("/dashboard", &[("authorization", &basic(ADMIN_KEY))]).await;

    // The client follows the redirect.
    assert_eq!(browser.status, 200);
    assert!(
        browser.text().contains("name=\"next\" value=\"/dashboard/teams?range=7d\""),
        "{}",
        browser.text()
    );
    assert_eq!(script.status, 401);
    assert!(script.header("www-authenticate").starts_with("Basic "));
    assert_eq!((wrong.status, basic.status), (401, 200));
    assert!(!wrong.text().contains("Spend"), "{}", wrong.text());
    gateway.finish().await;
}

fn basic(key: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("me:{key}")))
}

#[tokio::test]
async fn a_session_stands_for_its_key_until_it_is_ended() {
    let gateway = start().await;
    let (_, bearer) = key_of("search");
    let key = bearer.trim_start_matches("Bearer ");

    let wrong = sign_in(&gateway, "sk-stiver-search-guess", &[]).await;
    let (status, cookie) = sign_in(&gateway, key, &[]).await;
    let secure = sign_in(&gateway, key, &[("x-forwarded-proto", "https")]).await;

    assert_eq!(wrong, (401, String::new()));
    assert_eq!(status, 303);
    assert!(cookie.contains("; HttpOnly; SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
    assert!(secure.1.ends_with("; Secure"), "{secure:?}");
    assert!(!cookie.contains("secret"), "the key goes nowhere");
    let session = cookie.split(';').next().unwrap().to_owned();
    let page = gateway.get_with("/dashboard/overview?team=support", &[("cookie", &session)]).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Team search") && !page.text().contains(">support<"));
    let (_, ended) = send_form(&gateway, "/dashboard/sign-out", String::new(), &[("cookie", &session)]).await;
    assert!(ended.contains("Max-Age=0"), "{ended}");
    assert_eq!(gateway.get_with("/dashboard/overview", &[("cookie", &session)]).await.status, 401);
    gateway.finish().await;
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let gateway = start().await;

    for foreign in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        let answer = sign_in(&gateway, ADMIN_KEY, &[foreign]).await;

        assert_eq!(answer, (403, String::new()), "{foreign:?}");
    }
    assert_eq!(sign_in(&gateway, ADMIN_KEY, &[("origin", gateway.url())]).await.0, 303);
    gateway.finish().await;
}

#[tokio::test]
async fn a_book_without_a_call_says_how_to_make_one() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&endpoints(&fake)).await;

    for page in PAGES {
        let answer = gateway.get(&format!("/dashboard/{page}")).await;

        assert_eq!(answer.status, 200, "{page}");
        assert!(answer.text().contains("Open on this machine"), "{page}");
        assert!(page == "health" || answer.text().contains("curl http://"), "{page}: {}", answer.text());
    }
    let rebound = gateway.get_with("/dashboard", &[("host", "evil.example")]).await;
    assert_eq!(rebound.status, 403, "a name that points at this machine is not this machine");
    gateway.finish().await;
}
