//! What calls said, for teams that have it kept: who sees it, when it goes, and that no other team's is there.

use serde_json::{Value, json};
use stiver::clock::Clock;
use stiver::config::Environment;
use stiver::ledger::entry::Entry;
use stiver::team::CallId;

use crate::fake_upstream::{Ending, FakeUpstream, Script};
use crate::harness::stack::is_embedded;
use crate::harness::{
    Answer, CHAT, COMPLETIONS, EMBEDDINGS, NOW_MS, Setup, TestGateway, chat, chat_stream, endpoints, key_of,
    team,
};

const ADMIN_KEY: &str = "operator-0123456789-abcdef";
const ADMIN: (&str, &str) = ("authorization", "Bearer operator-0123456789-abcdef");
const EVIL: &str = "\"'></pre><script>alert(1)</script><img src=x onerror=alert(1)>&amp;";
const DAY_MS: i64 = 86_400_000;

/// Team `open` has its text kept, team `shut` has not.
fn toml(fake: &FakeUpstream) -> String {
    format!("[admin]\nkey = \"{ADMIN_KEY}\"\n{}", endpoints(fake))
        + &team("open", "text = { keep = true, days = 2, max_bytes = 1_024 }")
        + &team("shut", "")
}

async fn ask_at(gateway: &TestGateway, team: &str, path: &str, body: &Value) -> Answer {
    let (name, key) = key_of(team);
    gateway.post_with(path, body, &[(name, key.as_str())]).await
}

async fn ask(gateway: &TestGateway, team: &str, body: &Value) -> Answer {
    ask_at(gateway, team, CHAT, body).await
}

async fn told(gateway: &TestGateway, id: &str, header: (&str, &str)) -> Value {
    gateway.gateway().ledger.flushed().await;
    let answer = gateway.get_with(&format!("/admin/v1/calls/{id}"), &[header]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["text"].clone()
}

async fn text_of(gateway: &TestGateway, answer: &Answer) -> Value {
    told(gateway, answer.header("x-request-id"), ADMIN).await
}

/// A side of a text as the JSON it holds.
fn side(text: &Value, name: &str) -> Value {
    let json = text[name].as_str().unwrap_or_else(|| panic!("no `{name}`: {text}"));
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

async fn page_of(gateway: &TestGateway, id: &str, header: (&str, &str)) -> Answer {
    gateway.gateway().ledger.flushed().await;
    gateway.get_with(&format!("/dashboard/calls/{id}"), &[header]).await
}

async fn kept(gateway: &TestGateway, row: &Entry) -> bool {
    gateway.gateway().ledger.texts().of(row.id).await.expect("texts can be read").is_some()
}

#[tokio::test]
async fn whole_streamed_and_cached_answers_are_kept_as_they_were_given() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;

    let whole = ask(&gateway, "open", &chat("gpt-4o", "What is it?")).await;
    let hit = ask(&gateway, "open", &chat("gpt-4o", "What is it?")).await;
    let streamed_hit = ask(&gateway, "open", &chat_stream("gpt-4o", "What is it?")).await;
    let streamed = ask(&gateway, "open", &chat_stream("gpt-4o-mini", "Tell \"me\"\n more")).await;

    assert_eq!((hit.header("x-stiver-path"), streamed_hit.header("x-stiver-path")), ("exact", "exact"));
    for answer in [&whole, &hit, &streamed_hit] {
        let text = text_of(&gateway, answer).await;
        assert_eq!(side(&text, "request"), json!([{"role": "user", "content": "What is it?"}]));
        assert_eq!(side(&text, "answer")[0]["content"], whole.says());
        assert_eq!((&text["request_is_cut"], &text["answer_is_cut"]), (&json!(false), &json!(false)));
        assert_eq!(text["delete_after"], "2025-10-17T12:00:00Z");
    }
    let text = text_of(&gateway, &streamed).await;
    assert_eq!(side(&text, "request")[0]["content"], "Tell \"me\"\n more");
    assert_eq!(side(&text, "answer")[0]["content"], streamed.says());
    assert_eq!(side(&text, "answer")[0]["role"], "assistant");
    gateway.finish().await;
}

#[tokio::test]
async fn tool_calls_prompts_and_inputs_are_kept_too() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}});

    for is_streamed in [false, true] {
        let mut body = chat("gpt-4o", "What is the weather?");
        (body["tools"], body["stream"]) = (json!([tool]), json!(is_streamed));
        let answer = ask(&gateway, "open", &body).await;
        let said = side(&text_of(&gateway, &answer).await, "answer");
        assert_eq!(said[0]["tool_calls"][0]["function"]["name"], "weather", "{said}");
        let arguments = said[0]["tool_calls"][0]["function"]["arguments"].as_str().expect("a text");
        assert!(
            serde_json::from_str::<Value>(arguments).is_ok_and(|json| json["city"].is_string()),
            "{said}"
        );
    }
    let body = json!({"model": "gpt-3.5-turbo-instruct", "prompt": ["one", "two"], "stream": true});
    let completed = text_of(&gateway, &ask_at(&gateway, "open", COMPLETIONS, &body).await).await;
    assert_eq!(side(&completed, "request"), json!(["one", "two"]));
    assert!(side(&completed, "answer")[1].as_str().is_some_and(|text| text.contains("two")), "{completed}");
    let body = json!({"model": "text-embedding-3-small", "input": "a vector"});
    let embedded = text_of(&gateway, &ask_at(&gateway, "open", EMBEDDINGS, &body).await).await;
    assert_eq!((side(&embedded, "request"), &embedded["answer"]), (json!("a vector"), &json!("")));
    gateway.finish().await;
}

#[tokio::test]
async fn an_answer_cut_off_keeps_what_was_given_and_a_call_that_failed_its_prompt() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    fake.script(Script::next(1, "chunks=10 pause_at=4 usage=every"));
    let (name, key) = key_of("open");
    let mut left = gateway.open(CHAT, &chat_stream("gpt-4o", "one"), &[(name, &key)]).await;
    left.read_contents(4).await;
    let id = left.header("x-request-id").to_owned();
    drop(left);
    fake.until(|calls| calls[0].ending == Ending::ClientGone).await;
    let has_ended = async |gateway: &stiver::gateway::Gateway| {
        let call = CallId::parse(&id).expect("it is an id");
        gateway.ledger.reports().call(call).await.expect("the book can be read").is_some()
    };
    gateway.eventually("the call that was left has its row", has_ended).await;

    let text = told(&gateway, &id, ADMIN).await;
    let said = side(&text, "answer")[0]["content"].as_str().expect("a text").to_owned();
    assert!(said.starts_with("gpt-4o heard: one") && !said.contains("word9"), "{said}");

    fake.script(Script::always("chunks=6 cut=3"));
    let cut = ask(&gateway, "open", &chat_stream("gpt-4o", "two")).await;
    assert!(!cut.text().contains("[DONE]"));
    let text = text_of(&gateway, &cut).await;
    assert!(
        side(&text, "answer")[0]["content"].as_str().is_some_and(|said| said.starts_with("gpt-4o")),
        "{text}"
    );
    fake.script(Script::always("status=400"));
    let failed = ask(&gateway, "open", &chat("gpt-4o", "three")).await;
    assert_eq!(failed.status, 400);
    let text = text_of(&gateway, &failed).await;
    assert_eq!((side(&text, "request")[0]["content"].as_str(), &text["answer"]), (Some("three"), &json!("")));
    gateway.finish().await;
}

#[tokio::test]
async fn a_side_is_whole_up_to_the_limit_and_cut_between_characters_above_it() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let n_bytes_left = 1_024 - json!([{"role": "user", "content": ""}]).to_string().len();

    for (content, is_cut) in [
        ("x".repeat(n_bytes_left), false),
        ("x".repeat(n_bytes_left + 1), true),
        // Of these two one has its limit within a sign.
        ("é".repeat(5_000), true),
        (format!("x{}", "é".repeat(5_000)), true),
    ] {
        let body = json!([{"role": "user", "content": content}]).to_string();
        let answer = ask(&gateway, "open", &chat("gpt-4o", &content)).await;
        let text = text_of(&gateway, &answer).await;

        assert_eq!(text["request"], body[..body.floor_char_boundary(1_024)], "{}", body.len());
        assert_eq!(text["request_is_cut"], is_cut);
    }
    fake.script(Script::always(&format!("text={}", "ä".repeat(3_000))));
    for body in [chat("gpt-4o-mini", "long"), chat_stream("gpt-4o-mini", "long and streamed")] {
        let text = text_of(&gateway, &ask(&gateway, "open", &body).await).await;

        assert_eq!(text["answer_is_cut"], true);
        assert!((1_023..=1_024).contains(&text["answer"].as_str().expect("a text").len()));
    }
    gateway.finish().await;
}

#[tokio::test]
async fn a_team_that_did_not_opt_in_has_nothing_kept() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;

    for team in ["open", "shut"] {
        for body in [chat("gpt-4o", "Hello"), chat("gpt-4o", "Hello"), chat_stream("gpt-4o", "Hello there")] {
            assert_eq!(ask(&gateway, team, &body).await.status, 200);
        }
    }

    for row in gateway.rows().await {
        assert_eq!(kept(&gateway, &row).await, row.team.as_str() == "open", "{row:?}");
        let page = page_of(&gateway, &row.id.to_string(), ADMIN).await;
        let says = if row.team.as_str() == "open" { "What was asked and answered" } else { "keep = true" };
        assert!(page.text().contains(says), "{}", page.text());
    }
    gateway.finish().await;
}

#[tokio::test]
async fn opting_out_counts_from_the_reload_on() {
    let fake = FakeUpstream::start();
    let gateway = Setup::of(&toml(&fake)).splits("").start().await;
    let before = ask(&gateway, "open", &chat("gpt-4o", "before")).await;
    let file = gateway.folder().path().join("stiver.toml");
    let written = std::fs::read_to_string(&file).expect("the folder can be read");
    std::fs::write(&file, written.replace("keep = true", "keep = false")).expect("the folder can be written");

    assert_eq!(gateway.gateway().reload(&Environment::default()).await, Vec::<String>::new());
    let after = ask(&gateway, "open", &chat("gpt-4o", "after")).await;

    assert!(text_of(&gateway, &before).await.is_object(), "what was kept stays for its days");
    assert_eq!(text_of(&gateway, &after).await, Value::Null);
    std::fs::write(&file, written.replace("days = 2", "days = 0")).expect("the folder can be written");
    let problems = gateway.gateway().reload(&Environment::default()).await;
    assert!(problems.len() == 1 && problems[0].contains("teams.open.text.days"), "{problems:?}");
    gateway.finish().await;
}

#[tokio::test]
async fn a_text_goes_after_its_days_though_its_team_is_gone() {
    let fake = FakeUpstream::start();
    let clock = Clock::standing_at(NOW_MS);
    let setup = Setup::of(&toml(&fake)).clock(&clock);
    let folder = setup.folder();
    let gateway = setup.start().await;
    let answer = ask(&gateway, "open", &chat("gpt-4o", "for two days")).await;
    let id = answer.header("x-request-id").to_owned();
    gateway.finish().await;

    let without = format!("[admin]\nkey = \"{ADMIN_KEY}\"\n{}", endpoints(&fake)) + &team("shut", "");
    let later = Setup::of(&without).clock(&clock).in_folder(folder.clone());
    clock.advance(2 * DAY_MS - 1);
    let gateway = later.clone().start().await;
    assert!(told(&gateway, &id, ADMIN).await.is_object());
    gateway.finish().await;
    clock.advance(1);
    let gateway = later.start().await;

    assert_eq!(told(&gateway, &id, ADMIN).await, Value::Null);
    if is_embedded() {
        gateway.eventually("the text is in no file", async |_| !holds(folder.path(), "for two days")).await;
    }
    gateway.finish().await;
}

/// Whether a file below the folder holds these words.
fn holds(folder: &std::path::Path, words: &str) -> bool {
    let entries = std::fs::read_dir(folder).expect("the folder can be read").filter_map(Result::ok);
    entries.map(|entry| entry.path()).any(|path| {
        if path.is_dir() {
            return holds(&path, words);
        }
        // A file of the journal may go meanwhile.
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(words.len()).any(|window| window == words.as_bytes())
    })
}

#[tokio::test]
async fn the_operator_deletes_a_text_or_a_teams_and_nobody_else_does() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let (name, key) = key_of("open");
    let mut ids = Vec::new();
    for nth in 0..3 {
        let answer = ask(&gateway, "open", &chat("gpt-4o", &format!("secret words {nth}"))).await;
        ids.push(answer.header("x-request-id").to_owned());
    }
    let delete = async |path: &str, headers: &[(&str, &str)]| gateway.delete_with(path, headers).await;
    let one = format!("/admin/v1/calls/{}/text", ids[0]);

    for path in [one.as_str(), "/admin/v1/teams/open/text"] {
        assert_eq!(delete(path, &[]).await.status, 401);
        assert_eq!(delete(path, &[(name, &key)]).await.error().1, "operator_only");
        let foreign = delete(path, &[ADMIN, ("origin", "http://evil.example")]).await;
        assert_eq!((foreign.status, foreign.error().1.as_str()), (403, "foreign_origin"));
    }
    assert!(told(&gateway, &ids[0], (name, &key)).await.is_object(), "a team sees its own");
    assert_eq!(delete("/admin/v1/calls/x/text", &[ADMIN]).await.status, 404);
    for n_deleted in [1, 0] {
        let answer = delete(&one, &[ADMIN]).await;
        assert_eq!((answer.status, &answer.json()["n_deleted"]), (200, &json!(n_deleted)));
    }
    assert_eq!(told(&gateway, &ids[0], ADMIN).await, Value::Null);
    assert!(told(&gateway, &ids[1], ADMIN).await.is_object());
    let answer = delete("/admin/v1/teams/open/text", &[ADMIN]).await;
    assert_eq!((answer.status, answer.json()["n_deleted"].as_i64()), (200, Some(2)), "{}", answer.text());
    assert_eq!(delete("/admin/v1/teams/nobody/text", &[ADMIN]).await.json()["n_deleted"], 0);

    let (_, other) = key_of("shut");
    let path = format!("/admin/v1/calls/{}", ids[1]);
    assert_eq!(gateway.get_with(&path, &[("authorization", &other)]).await.status, 404);
    assert!(!is_embedded() || !holds(gateway.folder().path(), "secret words"), "it is in a file still");
    assert_eq!(gateway.finish().await.len(), 3, "rows stay");
}

#[tokio::test]
async fn whatever_was_said_is_text_on_the_page_and_in_no_table() {
    let fake = FakeUpstream::start();
    let gateway = TestGateway::start(&toml(&fake)).await;
    let mut body = chat("gpt-4o", EVIL);
    let call = json!({"id": EVIL, "type": "function", "function": {"name": EVIL, "arguments": EVIL}});
    body["messages"].as_array_mut().expect("messages").extend([
        json!({"role": "assistant", "content": null, "tool_calls": [call]}),
        json!({"role": "tool", "tool_call_id": EVIL, "content": [{"type": "text", "text": EVIL}]}),
        json!({"role": "user", "content": EVIL}),
    ]);
    let long = format!("{EVIL}{}", "x".repeat(2_000));
    let mut ids = Vec::new();
    for body in [body, chat("gpt-4o-mini", &long), chat_stream("gpt-4o", EVIL)] {
        let answer = ask(&gateway, "open", &body).await;
        assert!(answer.status == 200 && answer.text().contains("<script>alert(1)"), "{}", answer.text());
        ids.push(answer.header("x-request-id").to_owned());
    }

    let (name, key) = key_of("open");
    for id in &ids {
        for header in [ADMIN, (name, key.as_str())] {
            let page = page_of(&gateway, id, header).await;
            assert_eq!(page.status, 200);
            let text = page.text();
            for part in ["<script>alert", "<img", "'></pre>"] {
                assert!(!text.contains(part), "{part} is in {text}");
            }
            assert!(text.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count() >= 2, "{text}");
        }
    }
    for path in ["calls", "calls?format=csv", "spend?by=team&format=csv"] {
        let joint = if path.contains('?') { '&' } else { '?' };
        let table = gateway.get_with(&format!("/admin/v1/{path}{joint}to=2025-10-16"), &[ADMIN]).await;
        assert!(table.status == 200 && !table.text().contains("alert"), "{}", table.text());
    }
    let list = gateway.get_with("/dashboard/calls?range=24h&q=alert", &[ADMIN]).await;
    assert!(!list.text().contains("/dashboard/calls/01"), "a search does not look into texts");
    gateway.finish().await;
}
