//! Signals, sockets, the flood guard, health, keys and reloads, as a running gateway shows them.
//!
//! A stream is kept open by pausing the fake upstream in the middle of it, never by waiting.

use std::time::Instant;

use reqwest::Response;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::fake_upstream::FakeUpstream;
use crate::harness::{
    Answer, Gateway, Home, MODEL, Posting, UPSTREAM_KEY, ask, ask_streamed, config, within,
};
use crate::sockets::sockets_of;

const STOPPING: &str = "stopping: no new call is accepted";
const RELOADED: &str = "the configuration was reloaded";
const NOT_RELOADED: &str = "the last good one stays in force";

/// Begins a stream that waits in its middle until the fake upstream is told to release it.
async fn open_stream(fake: &FakeUpstream, gateway: &Gateway) -> Response {
    let ask = ask_streamed("tell me [[fake: chunks=6 pause_at=3]]");
    let response = within("the stream begins", gateway.begin(&ask)).await.expect("the gateway answers");
    within("the stream pauses", fake.until(|calls| calls.iter().any(|call| call.n_written == 3))).await;
    response
}

async fn rest_of(stream: Response) -> reqwest::Result<Answer> {
    within("the stream ends", Answer::read(stream)).await
}

/// Whether nothing was left to be posted by the next start.
fn is_closed(home: &Home) -> bool {
    let left = std::fs::read_dir(home.path().join("data/journal")).expect("the journal has a folder");
    left.filter_map(Result::ok).all(|file| file.file_name() == "lock")
}

fn outcomes(postings: &[Posting]) -> Vec<&str> {
    postings.iter().map(|posting| posting.outcome.as_str()).collect()
}

async fn until_refusing(gateway: &Gateway) {
    let refusing = async {
        while TcpStream::connect(gateway.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    within("new connections are refused", refusing).await;
}

#[tokio::test]
async fn sigterm_lets_open_streams_end_and_closes_the_book() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let mut gateway = home.start().await;
    let stream = open_stream(&fake, &gateway).await;

    gateway.signal(Signal::TERM);
    gateway.stderr.until(STOPPING).await;
    until_refusing(&gateway).await;
    fake.release();
    let answer = rest_of(stream).await.expect("the stream was not cut");

    assert!(answer.body.ends_with(b"data: [DONE]\n\n"), "{}", answer.text());
    assert_eq!(gateway.ended().await.code(), Some(0), "{}", gateway.stderr.text());
    assert!(is_closed(&home), "the journal is empty");
    assert_eq!(outcomes(&home.postings().await), ["ok"]);
}

#[tokio::test]
async fn streams_still_open_when_the_drain_time_is_over_are_cut_and_posted() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, "[server]\ndrain_timeout_ms = 100\n"));
    let mut gateway = home.start().await;
    let stream = open_stream(&fake, &gateway).await;

    gateway.signal(Signal::INT);
    let status = gateway.ended().await;

    assert!(rest_of(stream).await.is_err(), "a cut stream must not look like a whole one");
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr.text());
    assert!(gateway.stderr.text().contains("the drain time is over"), "{}", gateway.stderr.text());
    assert!(is_closed(&home), "the journal is empty");
    let postings = home.postings().await;
    assert_eq!(outcomes(&postings), ["client_gone"]);
    assert!(postings[0].cost_nano_usd.is_some_and(|cost| cost > 0), "{postings:?}");
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_the_next_start_posts() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let mut gateway = home.start().await;
    let stream = open_stream(&fake, &gateway).await;

    gateway.signal(Signal::TERM);
    gateway.stderr.until(STOPPING).await;
    gateway.signal(Signal::TERM);
    let status = gateway.ended().await;
    home.start().await.stop().await;

    assert_eq!(status.code(), Some(1));
    assert!(rest_of(stream).await.is_err(), "a cut stream must not look like a whole one");
    assert_eq!(outcomes(&home.postings().await), ["interrupted"]);
}

#[tokio::test]
async fn a_signal_ends_a_gateway_that_still_loads_a_model() {
    let home = Home::new(
        "[upstreams.house]\ndialect = 'local'\nmodel_dir = 'model'\n[routes.house]\nupstreams = ['house']\n",
    );
    std::fs::create_dir(home.path().join("model")).expect("the folder is ours");
    // Nobody ever writes to it, so that whoever reads it waits.
    let made = std::process::Command::new("mkfifo").arg(home.path().join("model/config.json")).status();
    assert!(made.expect("coreutils are there").success());
    let (mut child, _stdout, stderr) = home.spawn(&["--listen", "127.0.0.1:0"]);
    stderr.until("loading a local model").await;
    let pid = Pid::from_raw(child.id().expect("it runs").cast_signed()).expect("it is positive");

    kill_process(pid, Signal::TERM).expect("it is our child");

    let status = within("the gateway ends", child.wait()).await.expect("it is our child");
    assert!(status.success(), "{status}: {}", stderr.text());
    assert!(stderr.text().contains("stopped before it listened"), "{}", stderr.text());
}

#[tokio::test]
async fn small_writes_leave_at_once_on_both_sides() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let gateway = home.start().await;
    let stream = open_stream(&fake, &gateway).await;

    let sockets = sockets_of(gateway.pid());

    let to_clients = sockets.iter().filter(|socket| socket.local_addr().unwrap() == gateway.address);
    let to_upstreams = sockets.iter().filter(|socket| socket.peer_addr().unwrap() == fake.address());
    let no_delay = |socket: &std::net::TcpStream| socket.nodelay().unwrap();
    assert_eq!(to_clients.map(no_delay).collect::<Vec<_>>(), [true]);
    assert_eq!(to_upstreams.map(no_delay).collect::<Vec<_>>(), [true]);
    drop(stream);
}

#[tokio::test]
async fn one_address_may_not_flood_and_others_do_not_suffer() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, "[server]\nflood = { per_second = 1, burst = 4 }\n"));
    let gateway = home.start().await;
    let neighbour = reqwest::Client::builder().no_proxy().local_address("127.0.0.2".parse().ok());
    let neighbour = neighbour.build().unwrap();

    let began = Instant::now();
    let mut last = gateway.get("/v1/models").await;
    let mut n_answered = 0;
    while last.status == 200 {
        n_answered += 1;
        last = gateway.get("/v1/models").await;
    }
    let n_seconds = began.elapsed().as_secs();
    let theirs = neighbour.get(gateway.url("/v1/models")).send().await.unwrap();

    // Each second that passed meanwhile allows one more.
    assert!((4..=5 + n_seconds).contains(&n_answered), "{n_answered} in {n_seconds} s");
    let refusal = last.refusal();
    assert_eq!((last.status, refusal.kind.as_str()), (429, "rate_limit_error"));
    assert_eq!(refusal.code.as_deref(), Some("address_rate_limit"));
    assert!(last.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(theirs.status(), 200);
    for path in ["/healthz", "/readyz", "/metrics"] {
        for _ in 0..6 {
            assert_eq!(gateway.get(path).await.status, 200, "{path}");
        }
    }
    assert_eq!(gateway.chat_until(&ask("and now?"), 200).await.status, 200);
}

#[tokio::test]
async fn readiness_tells_each_part_and_what_to_do_about_it() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let home_without = Home::new(&config(&fake, "").replace(UPSTREAM_KEY, "${NOT_SET:-}"));
    let (with_upstream, without) = (home.start().await, home_without.start().await);

    let ready = with_upstream.get("/readyz").await;
    let degraded = without.get("/readyz").await;

    let part = |answer: &Answer, name: &str| -> Value {
        let parts = answer.json()["parts"].as_array().cloned().unwrap();
        parts.into_iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("no part {name}"))
    };
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &Value::Bool(true)));
    for name in ["ledger", "upstreams"] {
        assert_eq!(part(&ready, name)["ready"], true, "{name}");
    }
    let embedder = part(&ready, "embedder");
    assert_eq!((&embedder["ready"], &embedder["required"]), (&Value::Bool(false), &Value::Bool(false)));
    assert!(embedder["problem"].as_str().unwrap().contains("router-models/embedder"), "{embedder}");
    let upstreams = part(&degraded, "upstreams");
    assert!(upstreams["problem"].as_str().unwrap().contains("set OPENAI_API_KEY"), "{upstreams}");
    assert_eq!((with_upstream.get("/healthz").await.text().as_str(), degraded.status), ("ok\n", 200));
}

fn assert_lines(text: &str, expected: &[&str]) {
    for line in expected {
        assert!(text.lines().any(|known| known == *line), "{line}\nis not in\n{text}");
    }
}

#[tokio::test]
async fn metrics_follow_the_generative_ai_conventions() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let gateway = home.start().await;
    assert_eq!(gateway.chat(&ask("count me")).await.status, 200);
    assert_eq!(gateway.chat(&Value::Null).await.status, 400);

    let metrics = gateway.get("/metrics").await;

    assert!(metrics.header("content-type").starts_with("text/plain"));
    let expected = [
        "gen_ai_client_operation_duration_count{gen_ai_operation_name=\"chat\",gen_ai_request_model=\"gpt-4o-mini\"} 1",
        "gen_ai_client_token_usage_count{gen_ai_token_type=\"input\",gen_ai_response_model=\"gpt-4o-mini\"} 1",
        "gen_ai_server_time_to_first_token_count{gen_ai_provider_name=\"fake\"} 1",
        "stiver_calls_total{endpoint=\"chat\",route=\"gpt-4o-mini\",path=\"upstream\",outcome=\"ok\"} 1",
        "stiver_refusals_total{blame=\"caller\",code=\"none\"} 1",
    ];
    assert_lines(&metrics.text(), &expected);
}

#[tokio::test]
async fn metrics_tell_how_busy_a_local_model_is_and_what_it_did() {
    let fake = FakeUpstream::start();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/router-models/support-assistant");
    let local = format!(
        "[upstreams.house]\ndialect = 'local'\nmodel_dir = '{dir}'\n[routes.house]\nupstreams = ['house']\n"
    );
    let gateway = Home::new(&config(&fake, &local)).start().await;
    let mut question = ask("where is my order?");
    question["model"] = "house".into();
    assert_eq!(gateway.chat(&question).await.status, 200);

    let metrics = gateway.get("/metrics").await;

    let expected = [
        "stiver_local_running{upstream=\"house\"} 0",
        "stiver_local_waiting{upstream=\"house\"} 0",
        "stiver_local_first_token_seconds_count{upstream=\"house\"} 1",
        "stiver_local_inter_token_seconds_count{upstream=\"house\"} 1",
        "stiver_local_drafted_tokens_total{upstream=\"house\"} 0",
        "stiver_calls_total{endpoint=\"chat\",route=\"house\",path=\"local\",outcome=\"ok\"} 1",
    ];
    assert_lines(&metrics.text(), &expected);
}

#[tokio::test]
async fn a_key_made_while_the_gateway_runs_closes_the_door_and_a_revoked_one_is_refused() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let mut gateway = home.start().await;
    assert_eq!(gateway.chat(&ask("anybody may ask")).await.status, 200);

    let key = home.create_key(&[]).await;
    let stranger = gateway.chat_until(&ask("and now?"), 401).await;
    gateway.key = key.clone();
    let known = gateway.chat(&ask("and with the key?")).await;
    let id = key.split('-').nth(2).unwrap();
    assert_eq!(home.run(&["keys", "revoke", id]).await.code, Some(0));
    let revoked = gateway.chat_until(&ask("still?"), 401).await;

    assert!(stranger.refusal().message.contains("not one of ours"));
    assert_eq!(known.status, 200);
    assert!(revoked.refusal().message.contains("was revoked"));
    assert_eq!(revoked.refusal().code.as_deref(), Some("invalid_api_key"));
}

#[tokio::test]
async fn other_machines_are_let_in_only_once_there_is_a_key() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));

    let refused = home.run(&["--listen", "0.0.0.0:0"]).await;
    let key = home.create_key(&[]).await;
    let mut gateway = home.start_with(&["--listen", "0.0.0.0:0"]).await;
    let stranger = gateway.chat(&ask("let me in")).await;
    gateway.key = key;
    let known = gateway.chat(&ask("let me in")).await;

    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("there is no key and no team, so anybody could spend"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("make a key with `stiver keys create`"), "{}", refused.stderr);
    assert!(!refused.stdout.contains("listens"), "{}", refused.stdout);
    assert_eq!((stranger.status, known.status), (401, 200));
}

fn ask_route(route: &str) -> Value {
    let mut ask = ask("which way?");
    ask["model"] = route.into();
    ask
}

#[tokio::test]
async fn a_changed_file_takes_effect_and_a_bad_one_does_not() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let gateway = home.start().await;
    assert_eq!(gateway.chat(&ask_route("second")).await.status, 404);

    home.write("config/stiver.toml", &config(&fake, "[routes.second]\nupstreams = [\"fake\"]\n"));
    gateway.chat_until(&ask_route("second"), 200).await;
    home.write(
        "config/stiver.toml",
        &config(&fake, "[routes.third]\nupstreams = [\"none\"]\nx = 1\n[serve]\n"),
    );
    for mistake in ["routes.third.x: unknown field", "`none`", "serve: is not a section"] {
        let log = gateway.stderr.until(mistake).await;
        let line = log.lines().find(|line| line.contains(mistake)).unwrap();
        assert!(line.contains(NOT_RELOADED) && line.contains("config/stiver.toml"), "{line}");
    }
    assert_eq!(gateway.chat(&ask_route("second")).await.status, 200);
    assert_eq!(gateway.chat(&ask_route("third")).await.status, 404);
    // Many editors write a new file and put it in the place of the old one.
    home.write("config/new.toml", &config(&fake, "[routes.fourth]\nupstreams = [\"fake\"]\n"));
    std::fs::rename(home.path().join("config/new.toml"), home.path().join("config/stiver.toml")).unwrap();
    gateway.chat_until(&ask_route("fourth"), 200).await;
    assert_eq!(gateway.chat(&ask_route("second")).await.status, 404);
}

#[tokio::test]
async fn a_reload_never_opens_a_public_address_to_everybody() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, "[teams.search]\n"));
    let gateway = home.start_with(&["--listen", "0.0.0.0:0"]).await;
    assert_eq!(gateway.chat(&ask("let me in")).await.status, 401);

    home.write("config/stiver.toml", &config(&fake, ""));
    let log = gateway.stderr.until(NOT_RELOADED).await;

    assert!(log.contains("there is no key and no team, so anybody could spend"), "{log}");
    assert_eq!(gateway.chat(&ask("let me in")).await.status, 401);
}

#[tokio::test]
async fn a_section_that_is_read_once_is_named_when_it_changes() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let gateway = home.start().await;

    home.write("config/stiver.toml", &config(&fake, "[complexity]\nthreads = 2\n"));
    let log = gateway.stderr.until(RELOADED).await;

    assert!(log.contains("changes to [complexity] take effect at the next start"), "{log}");
    assert!(!log.contains("changes to [ledger]"), "{log}");
}

#[tokio::test]
async fn a_hangup_reads_the_file_again_and_ends_nothing() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let gateway = home.start().await;

    gateway.signal(Signal::HUP);
    let log = gateway.stderr.until(RELOADED).await;

    assert!(log.contains(RELOADED) && !log.contains("WARN"), "{log}");
    assert_eq!(gateway.chat(&ask("still there?")).await.status, 200);
}

#[tokio::test]
async fn a_call_keeps_the_configuration_it_began_with() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let gateway = home.start().await;
    let stream = open_stream(&fake, &gateway).await;

    let id = stream.headers()["x-request-id"].to_str().unwrap().to_owned();
    let renamed = config(&fake, "").replace(&format!("[routes.{MODEL}]"), "[routes.renamed]");

    home.write("config/stiver.toml", &renamed);
    gateway.stderr.until(RELOADED).await;
    assert_eq!(gateway.chat(&ask("is the route still here?")).await.status, 404);
    fake.release();
    let answer = rest_of(stream).await.expect("the stream was not cut");
    gateway.stop().await;

    assert!(answer.body.ends_with(b"data: [DONE]\n\n"), "{}", answer.text());
    let postings = home.postings().await;
    assert_eq!(outcomes(&postings), ["ok"]);
    assert!(postings[0].id == id && postings[0].cost_nano_usd.is_some(), "{postings:?}");
}
