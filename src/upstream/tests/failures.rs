//! Everything an upstream can do wrong, each told apart.

use super::*;
use crate::upstream::outcome::{Blame, Retry};

/// The error of a call to a server that answers with `text` and closes.
async fn error_of(text: &str, stream: bool) -> UpstreamError {
    let server = Server::start(vec![vec![Step::Read, Step::Write(text.to_owned())]]);
    send(&upstream(&server, ""), stream).await.unwrap_err()
}

#[tokio::test]
async fn another_content_type_is_no_answer() {
    let html = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
    for (text, stream, found) in [
        (html.to_owned(), false, "text/html"),
        (html.to_owned(), true, "text/html"),
        (whole(200, "", "{}"), true, "application/json"),
        (stream_head(), false, "text/event-stream; charset=utf-8"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned(), false, "none"),
    ] {
        let UpstreamError::ContentType { found: is, .. } = error_of(&text, stream).await else {
            panic!("{text} is taken")
        };
        assert_eq!(is, found);
    }
}

#[tokio::test]
async fn an_empty_answer_is_no_answer() {
    for (text, stream) in [
        (whole(200, "", ""), false),
        (whole(200, "", " \n"), false),
        (stream_head(), true),
        (format!("{}: only a comment\n\n", stream_head()), true),
        (format!("{}{}", stream_head(), event("[DONE]")), true),
    ] {
        let error = error_of(&text, stream).await;
        assert!(matches!(error, UpstreamError::Empty), "{text}: {error:?}");
    }
}

#[tokio::test]
async fn a_body_cut_off_is_truncated() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    for text in [
        format!("{head}content-length: 100\r\n\r\n{{\"choices\":[]}}"),
        format!("{head}transfer-encoding: chunked\r\n\r\ne\r\n{{\"choices\":[]}}\r\n"),
        format!("{head}\r\n{{\"choices\":[{{"),
    ] {
        let error = error_of(&text, false).await;
        assert!(matches!(error, UpstreamError::Truncated { .. }), "{text}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_not_json_is_malformed() {
    for (text, stream) in [
        (whole(200, "", "<html>"), false),
        (whole(200, "", "[]"), false),
        (format!("{}{}", stream_head(), event("{nonsense}")), true),
        (format!("{}{}{}", stream_head(), event(r#"{"choices":["#), event("[DONE]")), true),
    ] {
        let error = error_of(&text, stream).await;
        assert!(matches!(error, UpstreamError::Malformed { .. }), "{text}: {error:?}");
    }
}

#[tokio::test]
async fn a_stream_cut_off_at_any_place_is_never_complete() {
    let text = [event(HELLO), event(STOP)].concat();
    let chunk_ends = event(HELLO).len();
    for kept in [chunk_ends, chunk_ends + 3, chunk_ends + 20, text.len() - 4] {
        let server = Server::start(vec![vec![
            Step::Read,
            Step::Write(stream_head()),
            Step::Write(text[..kept].to_owned()),
        ]]);

        let mut stream = send_stream(&upstream(&server, "")).await;
        let (chunks, ended) = read_all(&mut stream).await;

        assert_eq!(chunks, [HELLO]);
        assert!(matches!(ended, Err(UpstreamError::Truncated { .. })), "at {kept}: {ended:?}");
    }
}

#[tokio::test]
async fn a_chunked_stream_without_its_last_chunk_is_truncated_even_after_every_choice_ended() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let body = [event(HELLO), event(STOP)].concat();
    let server =
        Server::start(vec![vec![Step::Read, Step::Write(format!("{head}{:x}\r\n{body}\r\n", body.len()))]]);

    let (chunks, ended) = read_all(&mut send_stream(&upstream(&server, "")).await).await;

    assert_eq!(chunks.len(), 2);
    assert!(matches!(ended, Err(UpstreamError::Truncated { .. })), "{ended:?}");
}

#[tokio::test]
async fn an_error_in_place_of_an_answer_is_reported_with_its_body() {
    let body = r#"{"error":{"message":"too much","type":"rate_limit_error","code":"x"}}"#;
    for (text, stream) in [
        (whole(200, "", body), false),
        (format!("{}{}", stream_head(), event(body)), true),
        (format!("{}event: error\ndata: {body}\n\n", stream_head()), true),
    ] {
        let UpstreamError::Reported { report, body: kept } = error_of(&text, stream).await else {
            panic!("{text} is taken for an answer")
        };
        assert_eq!((report.message.as_str(), &kept[..]), ("too much", body.as_bytes()));
    }
    let named = format!("{}event: error\ndata: {{\"message\":\"m\"}}\n\n", stream_head());
    assert_eq!(error_of(&named, true).await.detail(), Some("m"));
}

#[tokio::test]
async fn an_error_in_the_middle_of_a_stream_ends_it() {
    let server = Server::start(vec![vec![
        Step::Read,
        Step::Write(
            [stream_head(), event(HELLO), event(r#"{"error":{"message":"m"}}"#), event("[DONE]")].concat(),
        ),
    ]]);

    let mut stream = send_stream(&upstream(&server, "")).await;
    let (chunks, ended) = read_all(&mut stream).await;

    assert_eq!(chunks, [HELLO]);
    assert!(matches!(ended, Err(UpstreamError::Reported { .. })), "{ended:?}");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_refusal_keeps_what_the_upstream_said() {
    let body = r#"{"error":{"message":"bad","type":"invalid_request_error","param":"n","code":"c"}}"#;
    let error = error_of(&whole(422, "", body), true).await;

    let (status, content_type, kept) = error.for_caller().unwrap();
    assert_eq!((status, content_type, &kept[..]), (422, Some("application/json"), body.as_bytes()));
    assert_eq!((error.verdict().blame, error.verdict().retry), (Blame::Caller, Retry::Never));

    let error = error_of(&whole(429, "retry-after: 2\r\nx-should-retry: false\r\n", "{}"), false).await;
    assert_eq!(error.verdict().retry_after, Some(Duration::from_secs(2)));
    assert_eq!(error.verdict().retry, Retry::Next);

    let date = "retry-after: Tue, 14 Nov 2023 22:13:30 GMT\r\n";
    let error = error_of(&whole(503, date, "{}"), false).await;
    assert_eq!(error.verdict().retry_after, Some(Duration::from_secs(10)));
}

#[tokio::test]
async fn an_upstreams_word_about_our_key_is_not_for_callers() {
    let body = r#"{"error":{"message":"Incorrect API key: sk-sec**"}}"#;

    let error = error_of(&whole(401, "", body), false).await;

    assert!(error.for_caller().is_none());
    assert!(!error.to_string().contains("sk-"), "{error}");
    assert_eq!(error.verdict().blame, Blame::Gateway);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let text = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";

    let error = error_of(text, false).await;

    assert!(matches!(&error, UpstreamError::Refused(refusal) if refusal.status == 302), "{error:?}");
}

#[tokio::test]
async fn of_a_refusals_body_the_first_part_is_kept() {
    for (length, kept) in [(MAX_ERROR_BYTES, MAX_ERROR_BYTES), (MAX_ERROR_BYTES + 1, MAX_ERROR_BYTES)] {
        let UpstreamError::Refused(refusal) = error_of(&whole(500, "", &"x".repeat(length)), false).await
        else {
            panic!("a 500 is taken for an answer")
        };
        assert_eq!(refusal.body.len(), kept);
    }
}

#[tokio::test]
async fn an_answer_at_the_limit_is_taken_and_one_byte_more_is_not() {
    let body = r#"{"choices":[]}"#;
    for (limit_bytes, is_taken) in [(body.len(), true), (body.len() - 1, false)] {
        let server = Server::start(vec![vec![Step::Read, Step::Write(whole(200, "", body))]]);
        let upstream = upstream(&server, &format!("max_answer_bytes = {limit_bytes}"));

        match send(&upstream, false).await {
            Ok(_) => assert!(is_taken),
            Err(error) => assert!(!is_taken && matches!(error, UpstreamError::TooLong { .. }), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_no_connection() {
    // Bound, so that nobody else gets the port, and not listening.
    let bound = bound_socket();
    let upstream = upstream_at(bound.local_addr().unwrap(), "");

    let error = send(&upstream, false).await.unwrap_err();

    assert!(matches!(error, UpstreamError::Connect { .. }), "{error:?}");
    assert!(error.detail().unwrap().contains("refused"), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_answer_may_be_tried_again() {
    for last in [Step::Reset, Step::Write(String::new())] {
        let server = Server::start(vec![vec![Step::Read, last]]);

        let error = send(&upstream(&server, ""), false).await.unwrap_err();

        assert!(matches!(error, UpstreamError::Broken { .. }), "{error:?}");
        assert_eq!(error.verdict().retry, Retry::Same);
        assert!(!format!("{error:?}").contains("127.0.0.1"), "{error:?}");
    }
}

/// Expects a call to a server that writes `texts` and then falls silent to end in this phase.
async fn check_timeout(texts: &[String], stream: bool, limits: &str, expected: (Phase, u64)) {
    let mut script = vec![Step::Read];
    script.extend(texts.iter().cloned().map(Step::Write));
    script.push(Step::AwaitClose);
    let mut server = Server::start(vec![script]);
    let upstream = upstream(&server, limits);

    let error = match send(&upstream, stream).await {
        Ok(Answer::Stream(mut stream)) => read_all(&mut stream).await.1.unwrap_err(),
        Ok(Answer::Whole(whole)) => panic!("{whole:?} is whole"),
        Err(error) => error,
    };

    let UpstreamError::Timeout { phase, after_ms } = error else { panic!("{error:?} is no timeout") };
    assert_eq!((phase, after_ms), expected, "{texts:?}");
    server.closed().await;
}

#[tokio::test]
async fn each_limit_ends_the_call_in_its_own_phase() {
    let first_byte = "first_byte_timeout_ms = 60";
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n".to_owned();
    let comment = ": alive\n\n".to_owned();
    for stream in [false, true] {
        check_timeout(&[], stream, first_byte, (Phase::FirstByte, 60)).await;
        check_timeout(&[], stream, "total_timeout_ms = 50", (Phase::Total, 50)).await;
    }
    check_timeout(std::slice::from_ref(&head), false, first_byte, (Phase::FirstByte, 60)).await;
    // A comment is not an event, and a stream that only says it is alive has not begun.
    check_timeout(&[stream_head(), comment], true, first_byte, (Phase::FirstByte, 60)).await;

    let idle = "idle_timeout_ms = 40";
    check_timeout(&[head, "{".to_owned()], false, idle, (Phase::Idle, 40)).await;
    check_timeout(&[stream_head(), event(HELLO)], true, idle, (Phase::Idle, 40)).await;
    let total = "total_timeout_ms = 90";
    check_timeout(&[stream_head(), event(HELLO)], true, total, (Phase::Total, 90)).await;
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_ends_in_its_own_phase() {
    // A listener whose queue is full drops what would open a connection.
    let listener = bound_socket();
    rustix::net::listen(&listener, 0).unwrap();
    let addr = listener.local_addr().unwrap();
    let queued: Vec<_> = (0..3)
        .map_while(|_| std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(50)).ok())
        .collect();
    assert!(queued.len() < 3, "the queue never fills");
    let upstream = upstream_at(addr, "connect_timeout_ms = 50");

    let error = send(&upstream, false).await.unwrap_err();

    assert!(matches!(error, UpstreamError::Timeout { phase: Phase::Connect, after_ms: 50 }), "{error:?}");
}

/// A socket with an address of its own that does not listen.
fn bound_socket() -> std::net::TcpListener {
    use rustix::net::{AddressFamily, SocketType, bind, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket.into()
}
