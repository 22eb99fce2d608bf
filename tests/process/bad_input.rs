//! What clients must not send: each mistake has its status and OpenAI's error body, and harms nobody else.
//!
//! What is wrong with fields is tested in detail where they are read; here is what comes over the wire.
//!
//! Invariant: after every mistake the same gateway still answers.

use serde_json::{Value, json};
use stiver::team::key::PREFIX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fake_upstream::FakeUpstream;
use crate::harness::{Answer, Gateway, Home, MODEL, UPSTREAM_KEY, ask, config, within};
use crate::sockets::{exchange, exchange_on};

/// Short, so that the tests of them are; elsewhere a busy machine must not be called slow.
const SHORT_LIMITS: &str = "[server]\nhead_timeout_ms = 400\nbody_timeout_ms = 400\n";
const CHAT: &str = "POST /v1/chat/completions HTTP/1.1";

async fn start(fake: &FakeUpstream) -> (Home, Gateway) {
    let home = Home::new(&config(fake, ""));
    let gateway = home.start().await;
    (home, gateway)
}

/// A whole request, after which the connection is closed.
fn request(line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head =
        format!("{line}\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    headers.iter().for_each(|header| head += &format!("{header}\r\n"));
    [head.as_bytes(), b"\r\n", body].concat()
}

fn with_field(name: &str, value: &str) -> String {
    let ask = ask("hello").to_string();
    format!("{},\"{name}\":{value}}}", ask.trim_end_matches('}'))
}

/// Expects the status, and the `param` and `code` of the error.
fn check(what: &str, answer: &Answer, (status, param, code): (u16, Option<&str>, Option<&str>)) {
    let refusal = answer.refusal();
    let found = (answer.status, refusal.param.as_deref(), refusal.code.as_deref());
    assert_eq!(found, (status, param, code), "{what}: {}", refusal.message);
}

async fn check_answers(gateway: &Gateway) {
    let answer = gateway.chat(&ask("are you well?")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn bodies_that_are_no_request_are_refused_by_field() {
    let fake = FakeUpstream::start();
    let (_home, gateway) = start(&fake).await;
    let messages = |messages: &str| format!(r#"{{"model":"{MODEL}","messages":{messages}}}"#);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: Vec<(&str, Vec<u8>, Option<&str>)> = vec![
        ("nothing", vec![], None),
        ("malformed JSON", br#"{"model":"#.to_vec(), None),
        ("an array", b"[]".to_vec(), None),
        ("trailing text", [ask("x").to_string().as_bytes(), b"}"].concat(), None),
        ("invalid UTF-8", b"{\"model\":\"\xff\xfe\"}".to_vec(), None),
        ("no model", br#"{"messages":[{"role":"user","content":"x"}]}"#.to_vec(), Some("model")),
        ("a model that is a number", br#"{"model":1,"messages":[{"role":"user"}]}"#.to_vec(), Some("model")),
        ("no messages", format!(r#"{{"model":"{MODEL}"}}"#).into(), Some("messages")),
        ("empty messages", messages("[]").into(), Some("messages")),
        ("messages that are text", messages("\"hello\"").into(), Some("messages")),
        ("an unknown role", messages(r#"[{"role":"wizard","content":"x"}]"#).into(), Some("messages[0]")),
        (
            "negative max_tokens",
            with_field("max_completion_tokens", "-5").into(),
            Some("max_completion_tokens"),
        ),
        ("NaN temperature", with_field("temperature", "NaN").into(), None),
        ("infinite temperature", with_field("temperature", "1e999").into(), Some("temperature")),
        ("a temperature in words", with_field("temperature", "\"hot\"").into(), Some("temperature")),
        ("a stream that is no boolean", with_field("stream", "1").into(), Some("stream")),
        ("a key twice", with_field("model", "\"other\"").into(), None),
        ("deep nesting", deep.into(), None),
    ];

    for (what, body, param) in cases {
        let sent = request(CHAT, &["content-type: application/json"], &body);
        let answer = exchange(gateway.address, &sent).await.unwrap_or_else(|| panic!("{what}: no answer"));

        check(what, &answer, (400, param, None));
        assert_eq!(answer.refusal().kind, "invalid_request_error", "{what}");
    }
    assert!(fake.calls().is_empty(), "nothing of it went upstream");
    check_answers(&gateway).await;
}

#[tokio::test]
async fn no_field_is_nested_too_deeply_to_survive() {
    let fake = FakeUpstream::start();
    let (_home, gateway) = start(&fake).await;
    let arrays = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let content = |deep: &str| format!(r#"[{{"role":"user","content":{deep}}}]"#);
    let part = |deep: &str| content(&format!(r#"[{{"type":"text","text":"x","more":{deep}}}]"#));

    for deep in [&arrays, &objects] {
        let messages = [content(deep), part(deep)].map(|messages| ("messages", messages));
        let tool = format!(r#"[{{"type":"function","function":{{"name":"f","parameters":{deep}}}}}]"#);
        let fields = [("metadata", deep.clone()), ("tools", tool), ("stop", deep.clone())];
        for (name, value) in messages.into_iter().chain(fields) {
            let body = match name {
                "messages" => format!(r#"{{"model":"{MODEL}","messages":{value}}}"#),
                _ => with_field(name, &value),
            };
            let answer = exchange(gateway.address, &request(CHAT, &[], body.as_bytes())).await.unwrap();

            // Ours where we read the field; of the upstream, which reads them all, where we carry it.
            assert_eq!(
                (answer.status, answer.refusal().kind.as_str()),
                (400, "invalid_request_error"),
                "{name}"
            );
        }
    }
    check_answers(&gateway).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_its_own_status() {
    let fake = FakeUpstream::start();
    let (_home, gateway) = start(&fake).await;
    let large = ask(&"x".repeat(10_000_000)).to_string();
    let header = format!("x-large: {}", "y".repeat(1_000_000));

    let by_sdk = gateway.chat(&ask(&"x".repeat(10_000_000))).await;
    let announced = exchange(gateway.address, &request(CHAT, &[], large.as_bytes())).await.unwrap();
    let with_header = exchange(gateway.address, &request(CHAT, &[&header], b"{}")).await.unwrap();

    check("a 10 MB body", &by_sdk, (413, None, Some("body_too_large")));
    check("a 10 MB body in raw bytes", &announced, (413, None, Some("body_too_large")));
    check("a 1 MB header", &with_header, (431, None, Some("headers_too_large")));
    check_answers(&gateway).await;
}

#[tokio::test]
async fn what_is_large_but_within_limits_is_answered() {
    let fake = FakeUpstream::start();
    let (_home, gateway) = start(&fake).await;
    let message = json!({"role": "user", "content": "and on"});
    let mut many = ask("x");
    many["messages"] = Value::Array(vec![message; 10_000]);

    let answer = gateway.chat(&many).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(fake.calls()[0].json()["messages"].as_array().map(Vec::len), Some(10_000));
    let header = format!("x-large: {}", "y".repeat(60_000));
    let just_within = request(CHAT, &[&header], ask("x").to_string().as_bytes());
    let just_within = exchange(gateway.address, &just_within).await.unwrap();
    assert_eq!(just_within.status, 200);
}

#[tokio::test]
async fn unknown_routes_paths_and_methods_are_told_apart() {
    let fake = FakeUpstream::start();
    let (_home, gateway) = start(&fake).await;
    let mut unknown = ask("x");
    unknown["model"] = "no-such-model".into();
    let post = |line: &'static str, body: String| {
        let address = gateway.address;
        async move { exchange(address, &request(line, &[], body.as_bytes())).await.unwrap() }
    };

    let route = gateway.chat(&unknown).await;
    let model = gateway.get("/v1/models/no-such-model").await;
    let path = post("POST /v1/chat/completion HTTP/1.1", ask("x").to_string()).await;
    let method = post("PUT /v1/chat/completions HTTP/1.1", ask("x").to_string()).await;
    let get = gateway.get("/v1/chat/completions").await;
    let header = exchange(gateway.address, &request(CHAT, &["x-stiver-user: J\u{fc}rgen"], b"{}")).await;

    check("an unknown route", &route, (404, Some("model"), Some("model_not_found")));
    check("an unknown model", &model, (404, Some("model"), Some("model_not_found")));
    check("an unknown path", &path, (404, None, Some("unknown_path")));
    check("a wrong method", &method, (405, None, Some("method_not_allowed")));
    check("GET where POST is due", &get, (405, None, Some("method_not_allowed")));
    check("a header that is not ASCII", &header.unwrap(), (400, None, None));
    check_answers(&gateway).await;
}

#[tokio::test]
async fn keys_that_do_not_open_are_refused_before_the_body_is_read() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, "[routes.other]\nupstreams = [\"fake\"]\n"));
    let good = home.create_key(&[]).await;
    let other = home.create_key(&["--routes", "other"]).await;
    let expired = home.create_key(&["--expires", "0"]).await;
    let revoked = home.create_key(&[]).await;
    let id = revoked.split('-').nth(2).unwrap();
    assert_eq!(home.run(&["keys", "revoke", id]).await.code, Some(0));
    let mut gateway = home.start().await;
    let body = ask("x").to_string();

    let missing = exchange(gateway.address, &request(CHAT, &[], b"not even JSON")).await.unwrap();
    check("no key", &missing, (401, None, Some("invalid_api_key")));
    let unknown = format!("{}x", &good[..good.len() - 1]);
    for (what, key, expected) in [
        ("not one of ours", "sk-proj-abc", "not one of ours"),
        ("a wrong secret", &*unknown, "is wrong"),
        ("a revoked key", &*revoked, "was revoked"),
        ("an expired key", &*expired, "has expired"),
    ] {
        let header = format!("authorization: Bearer {key}");
        let answer = exchange(gateway.address, &request(CHAT, &[&header], body.as_bytes())).await.unwrap();

        check(what, &answer, (401, None, Some("invalid_api_key")));
        let refusal = answer.refusal();
        assert_eq!(refusal.kind, "authentication_error");
        assert!(refusal.message.contains(expected), "{what}: {}", refusal.message);
    }
    gateway.key = other;
    let answer = gateway.chat(&ask("x")).await;
    check("a key for another route", &answer, (403, Some("model"), Some("route_not_allowed")));
    assert!(fake.calls().is_empty(), "nothing of it went upstream");
    gateway.key = good;
    check_answers(&gateway).await;
}

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_id_are_answered_byte_for_byte_alike() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let key = home.create_key(&[]).await;
    let gateway = home.start().await;
    let (id, secret) = (PREFIX.len(), key.rfind('-').unwrap() + 1);
    let mut told = Vec::new();

    for at in [id, secret, secret.midpoint(key.len()), key.len() - 1] {
        let other = if &key[at..=at] == "a" { "b" } else { "a" };
        let wrong = format!("authorization: Bearer {}{other}{}", &key[..at], &key[at + 1..]);
        let answer = exchange(gateway.address, &request(CHAT, &[&wrong], b"{}")).await.unwrap();
        check("a wrong key", &answer, (401, None, Some("invalid_api_key")));
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        headers.remove("date");
        told.push((headers, answer.body));
    }

    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
}

#[tokio::test]
async fn clients_that_dawdle_are_cut_off() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, SHORT_LIMITS));
    let gateway = home.start().await;
    let connect = || TcpStream::connect(gateway.address);

    let mut silent = connect().await.unwrap();
    let head = exchange_on(connect().await.unwrap(), b"POST /v1/chat/completions HTTP/1.1\r\nhost: gate");
    let body = exchange_on(
        connect().await.unwrap(),
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 99\r\n\r\n{\"model\":",
    );
    let mut nothing = Vec::new();
    let (head, body, silent) = tokio::join!(
        within("the head times out", head),
        within("the body times out", body),
        within("a silent connection times out", silent.read_to_end(&mut nothing)),
    );

    assert!(head.is_none_or(|answer| answer.status == 408), "half a head is not answered");
    check("half a body", &body.expect("half a body is answered"), (408, None, Some("body_timeout")));
    assert_eq!(silent.unwrap_or(0), 0);
    check_answers(&gateway).await;
}

#[tokio::test]
async fn a_body_sent_drop_by_drop_counts_as_late() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, SHORT_LIMITS));
    let gateway = home.start().await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream
        .write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 9999\r\n\r\n")
        .await
        .unwrap();
    let (mut read, mut write) = stream.into_split();

    let dripping = async {
        while write.write_all(b" ").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let mut received = Vec::new();
    let answered = within("the gateway answers", async {
        tokio::select! {
            read = read.read_to_end(&mut received) => drop(read),
            () = dripping => {}
        }
    });
    answered.await;

    let text = String::from_utf8_lossy(&received);
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("body_timeout"), "{text}");
}

#[tokio::test]
async fn old_and_foreign_protocols_do_no_harm() {
    let fake = FakeUpstream::start();
    let (_home, gateway) = start(&fake).await;
    let body = ask("x").to_string();
    let old = request("POST /v1/chat/completions HTTP/1.0", &[], body.as_bytes());
    let smuggled = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}   ";

    let old = exchange(gateway.address, &old).await.expect("HTTP/1.0 is answered");
    assert_eq!(old.status, 200, "{}", old.text());
    for foreign in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello".as_slice(),
        b"\x00\xff\x00\xff\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"SSH-2.0-client\r\n\r\n",
        smuggled,
    ] {
        let answer = exchange(gateway.address, foreign).await;
        // No request was read, so the answer has no body; it may have none at all.
        assert!(answer.is_none_or(|answer| answer.status == 400), "{}", foreign.escape_ascii());
    }
    assert_eq!(fake.calls().len(), 1, "only the old one went upstream");
    check_answers(&gateway).await;
}

#[tokio::test]
async fn logs_tell_no_key_and_no_prompt() {
    let fake = FakeUpstream::start();
    let home = Home::new(&config(&fake, ""));
    let key = home.create_key(&[]).await;
    let mut gateway = home.start_with(&["--log", "debug"]).await;
    gateway.key = key.clone();
    for directive in ["", "status=500", "status=400", "chunks=4 cut=2", "html", "broken_json_at=1"] {
        let mut ask = ask(&format!("prompt-5ecret [[fake: {directive}]]"));
        ask["stream"] = directive.contains('=').into();
        gateway.chat(&ask).await;
    }
    let malformed = br#"{"model":"prompt-5ecret","messages":[{"role":"prompt-5ecret"}]}"#;
    let header = format!("authorization: Bearer {key}");
    let answer = exchange(gateway.address, &request(CHAT, &[&header], malformed)).await.unwrap();
    assert_eq!(answer.status, 400);
    gateway.key = format!("{key}x");
    assert_eq!(gateway.chat(&ask("prompt-5ecret")).await.status, 401);

    let (stdout, stderr) = (gateway.stdout.text(), gateway.stderr.until("401").await);

    assert!(stderr.contains("DEBUG"), "the log is at debug level: {stderr}");
    let secret = key.rsplit('-').next().unwrap();
    for (what, secret) in
        [("a key", secret), ("the upstream's key", UPSTREAM_KEY), ("a prompt", "prompt-5ecret")]
    {
        let line = stdout.lines().chain(stderr.lines()).find(|line| line.contains(secret));
        assert_eq!(line, None, "{what} is told");
    }
}
