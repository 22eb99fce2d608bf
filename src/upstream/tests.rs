//! One attempt against a server that says exactly the bytes a test wants.

mod failures;
mod multiplexed;
mod server;
mod sockets;

use std::time::Duration;

use bytes::Bytes;

use super::outcome::Phase;
use super::*;
use crate::clock::Clock;
use server::{Server, Step, event, stream_head, whole};

fn client() -> Client {
    // Every test installs it; only the first one's counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::new(Clock::standing_at(1_700_000_000_000))
}

/// An upstream at `server`, with short limits that `more` may replace.
fn upstream(server: &Server, more: &str) -> Upstream {
    upstream_at(server.addr, more)
}

fn upstream_at(addr: std::net::SocketAddr, more: &str) -> Upstream {
    let mut table: toml::Table = toml::from_str(&format!(
        "dialect = 'openai'\nbase_url = 'http://{addr}/v1/'\nmodel = 'gpt-x'\napi_key = 'sk-secret'\n"
    ))
    .unwrap();
    table.extend(toml::from_str::<toml::Table>(more).unwrap());
    let config = table.try_into().unwrap();
    Upstream::remote(UpstreamName::from("test"), &config, &client()).unwrap()
}

async fn send(upstream: &Upstream, stream: bool) -> Result<Answer, UpstreamError> {
    let body = format!(r#"{{"model":"auto","messages":[],"stream":{stream}}}"#);
    let fields = Fields::parse(body.as_bytes()).unwrap();
    let (call_id, team) = (CallId::new(1, [7; 10]), TeamName::from("search"));
    upstream
        .send(&Ask {
            endpoint: Endpoint::Chat,
            fields: &fields,
            stream,
            call_id,
            team: &team,
            scope: None,
            may_pass_on: false,
        })
        .await
}

async fn send_stream(upstream: &Upstream) -> AnswerStream {
    match send(upstream, true).await.unwrap() {
        Answer::Stream(stream) => stream,
        Answer::Whole(whole) => panic!("not a stream: {whole:?}"),
    }
}

/// All a stream gives: the data of its chunks, then how it ended.
async fn read_all(stream: &mut AnswerStream) -> (Vec<String>, Result<(), UpstreamError>) {
    let mut chunks = Vec::new();
    let mut ended = Err(UpstreamError::Empty);
    while let Some(item) = stream.next().await {
        match item {
            Ok(StreamItem::Chunk { data, .. }) => chunks.push(String::from_utf8(data.to_vec()).unwrap()),
            Ok(StreamItem::Done) => ended = Ok(()),
            Err(error) => ended = Err(error),
        }
    }
    (chunks, ended)
}

const HELLO: &str =
    r#"{"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}],"usage":null}"#;
const STOP: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;

#[tokio::test]
async fn a_whole_answer_comes_back_as_it_was_sent() {
    let body =
        r#"{"model":"gpt-x-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2},"x":1.0}"#;
    let mut server =
        Server::start(vec![vec![Step::Read, Step::Write(whole(200, "x-request-id: r1\r\n", body))]]);
    let upstream = upstream(&server, "headers = { x-extra = 'e', user-agent = 'mine' }");

    let Answer::Whole(answer) = send(&upstream, false).await.unwrap() else { panic!("not whole") };

    assert_eq!((answer.status, &answer.body[..]), (200, body.as_bytes()));
    assert_eq!(answer.usage.map(|usage| (usage.input, usage.output)), Some((3, 2)));
    assert_eq!(answer.model.as_deref(), Some("gpt-x-1"));
    let request = server.request().await;
    for part in [
        "POST /v1/chat/completions HTTP/1.1\r\n",
        "\r\nauthorization: Bearer sk-secret\r\n",
        "\r\ncontent-type: application/json\r\n",
        "\r\naccept-encoding: identity\r\n",
        "\r\nx-extra: e\r\n",
        "\r\nuser-agent: mine\r\n",
        "\r\nx-request-id: 00000000-0001-7",
        "\r\n\r\n{\"model\":\"gpt-x\",\"messages\":[],\"stream\":false}",
    ] {
        assert!(request.contains(part), "{part:?} is missing in {request}");
    }
}

#[tokio::test]
async fn a_stream_gives_its_chunks_exactly_and_then_its_end() {
    let server = Server::start(vec![vec![
        Step::Read,
        Step::Write(stream_head()),
        Step::Write(event(HELLO)),
        Step::Write(": keep alive\n\ndata: \n\n".to_owned()),
        Step::Write(event(STOP)),
        Step::Write(event(USAGE)),
        Step::Write(event("[DONE]")),
    ]]);
    let upstream = upstream(&server, "");

    let mut stream = send_stream(&upstream).await;
    let first = stream.next().await.unwrap().unwrap();
    let (rest, ended) = read_all(&mut stream).await;

    let expected = StreamItem::Chunk {
        data: HELLO.into(),
        usage: None,
        n_choices: 1,
        has_finish: false,
        content_chars: 5,
    };
    assert_eq!(first, expected);
    assert_eq!(rest, [STOP, USAGE]);
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn a_stream_that_never_says_done_is_complete_when_every_choice_ended() {
    let two = r#"{"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":null}]}"#;
    for (events, is_complete) in [
        (vec![HELLO, STOP], true),
        (vec![HELLO, STOP, USAGE], true),
        (vec![HELLO], false),
        (vec![HELLO, two, STOP], false),
    ] {
        let mut script = vec![Step::Read, Step::Write(stream_head())];
        script.extend(events.iter().map(|data| Step::Write(event(data))));
        let server = Server::start(vec![script]);

        let mut stream = send_stream(&upstream(&server, "")).await;
        let (chunks, ended) = read_all(&mut stream).await;

        assert_eq!(chunks, events);
        match ended {
            Ok(()) => assert!(is_complete, "{events:?}"),
            Err(error) => {
                assert!(
                    !is_complete && matches!(error, UpstreamError::Truncated { .. }),
                    "{events:?} {error:?}"
                );
            }
        }
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn chunks_that_look_alike_are_told_apart_by_their_text() {
    let texts = ["", "a", r#"\n\"b"#, r"\u00e9", "é"];
    let chunks = texts.map(|text| HELLO.replace("hello", text));
    let mut script = vec![Step::Read, Step::Write(stream_head())];
    script.extend(chunks.iter().map(|data| Step::Write(event(data))));
    script.push(Step::Write([event(STOP), event("[DONE]")].concat()));
    let server = Server::start(vec![script]);

    let mut stream = send_stream(&upstream(&server, "")).await;
    let mut found = Vec::new();
    while let Some(Ok(StreamItem::Chunk { data, content_chars, has_finish: false, .. })) = stream.next().await
    {
        found.push((data, content_chars));
    }

    let expected = chunks.into_iter().map(Bytes::from).zip([0, 1, 3, 1, 1]);
    assert_eq!(found, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn dropping_a_stream_closes_its_connection() {
    let mut server = Server::start(vec![vec![
        Step::Read,
        Step::Write(stream_head()),
        Step::Write(event(HELLO)),
        Step::AwaitClose,
    ]]);

    let stream = send_stream(&upstream(&server, "")).await;
    drop(stream);

    server.closed().await;
}

#[tokio::test]
async fn dropping_a_call_that_still_waits_closes_its_connection() {
    let mut server = Server::start(vec![vec![Step::Read, Step::AwaitClose]]);
    let upstream = upstream(&server, "");

    tokio::select! {
        answer = send(&upstream, false) => panic!("nobody answered: {answer:?}"),
        _ = server.request() => {}
    }

    server.closed().await;
}

#[tokio::test]
async fn a_stream_read_to_its_end_gives_its_connection_back() {
    let chunked = |data: &str| format!("{:x}\r\n{}\r\n", event(data).len(), event(data));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = [
        Step::Read,
        Step::Write(head.to_owned()),
        Step::Write(chunked(HELLO)),
        Step::Write(chunked(STOP)),
        Step::Write(chunked("[DONE]")),
        Step::AwaitGo,
        Step::Write("0\r\n\r\n".to_owned()),
    ];
    // One connection and no other: a second one would never be answered.
    let server = Server::start(vec![[answer.clone(), answer].concat()]);
    let upstream = upstream(&server, "first_byte_timeout_ms = 5000");

    for _ in 0..2 {
        let mut stream = send_stream(&upstream).await;
        while stream.next().await.unwrap().unwrap() != StreamItem::Done {}
        // The body ends only after its last event was given out.
        let (end, ()) = tokio::join!(biased; stream.next(), async { server.go() });
        assert!(end.is_none());
    }
}

#[tokio::test]
async fn http2_is_spoken_where_it_is_known_to_be() {
    let mut server = Server::start(vec![vec![Step::ReadPreface, Step::AwaitClose]]);
    let upstream = upstream(&server, "http2_prior_knowledge = true\nfirst_byte_timeout_ms = 100");

    let error = send(&upstream, false).await.unwrap_err();

    assert!(matches!(error, UpstreamError::Timeout { phase: Phase::FirstByte, .. }), "{error:?}");
    assert_eq!(server.request().await, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
}

#[test]
fn every_mistake_of_a_section_names_its_upstream() {
    let config = toml::from_str("dialect = 'openai'\nbase_url = 'x'\nmodel = ''").unwrap();

    let error = Upstream::remote(UpstreamName::from("house"), &config, &client()).unwrap_err();

    assert_eq!(error.mistakes.len(), 2);
    assert!(error.to_string().starts_with("upstream `house`: `base_url`"), "{error}");
}

#[test]
fn paths_are_appended_to_the_address_and_its_query_stays() {
    for (base, expected) in [
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h", "http://h/chat/completions"),
        ("http://h/openai?api-version=3", "http://h/openai/chat/completions?api-version=3"),
    ] {
        assert_eq!(remote::url_of(&base.parse().unwrap(), Endpoint::Chat).as_str(), expected);
    }
}
