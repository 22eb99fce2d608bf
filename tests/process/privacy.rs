//! What a prompt and an answer leave behind: nothing, unless the operator has a team's text kept.
//!
//! Looks at every byte of every file below the gateway's folder, of its output and of its metrics, with the log at
//! its loudest.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_upstream::{FakeUpstream, Script};
use crate::harness::{Answer, Gateway, Home, MODEL, ask, ask_streamed, config, within};

const ASKED: &str = "canary-of-the-prompt-7f3a";
const ANSWERED: &str = "canary-of-the-answer-91c2";
/// Eleven settings, whole and streamed, twice; a call with tools and one with a system prompt.
const N_ROWS: usize = 11 * 2 * 2 + 2;

/// Calls of every kind and ending, each with a word of its own on either side.
async fn traffic(fake: &FakeUpstream, gateway: &Gateway) {
    let settings = [
        "",
        "chunks=8",
        "status=500",
        "status=400",
        "status=429",
        "chunks=8 cut=3",
        "chunks=8 error_at=2",
        "chunks=8 end_at=3",
        "garbage_at=2",
        "html",
        "refusal=on",
    ];
    for (nth, setting) in settings.into_iter().enumerate() {
        fake.script(Script::always(&format!("text={ANSWERED} {setting}")));
        for body in [ask(&format!("{ASKED} {nth}")), ask_streamed(&format!("{ASKED} streamed {nth}"))] {
            // The second is answered by a cache, where there is one.
            for _ in 0..2 {
                gateway.chat(&body).await;
            }
        }
    }
    fake.script(Script::always(&format!("text={ANSWERED}")));
    let tool = json!({"type": "function", "function": {"name": ASKED, "parameters": {"type": "object"}}});
    let mut with_tool = ask(ASKED);
    with_tool["tools"] = json!([tool]);
    let system = json!({"role": "system", "content": ASKED});
    let with_system = json!({"model": MODEL, "messages": [system, {"role": "user", "content": ASKED}]});
    let malformed = [
        json!({"model": MODEL, "messages": [{"role": ASKED, "content": ASKED}]}),
        json!({"model": MODEL, "messages": [{"role": "user", "content": {"text": ASKED}}]}),
        json!({"model": MODEL, "messages": ASKED}),
        json!({"model": MODEL, "messages": [{"role": "user", "content": ASKED}], "temperature": ASKED}),
    ];
    for body in [with_tool, with_system].into_iter().chain(malformed) {
        gateway.chat(&body).await;
    }
    let broken = format!("{{\"model\": \"{MODEL}\", \"messages\": \"{ASKED}");
    let sent = gateway.http.post(gateway.url("/v1/chat/completions")).bearer_auth(&gateway.key).body(broken);
    assert_eq!(sent.send().await.expect("the gateway answers").status(), 400);
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is ours") {
        let path = entry.expect("the folder is ours").path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Files that hold either word, and how many there are at all.
fn files_with_words(home: &Home) -> (Vec<PathBuf>, usize) {
    let mut files = Vec::new();
    files_below(home.path(), &mut files);
    let n_files = files.len();
    let holds = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        [ASKED, ANSWERED].iter().any(|word| bytes.windows(word.len()).any(|part| part == word.as_bytes()))
    };
    files.retain(holds);
    (files, n_files)
}

/// Every row, once the last one has come to the database.
async fn calls_when_written(gateway: &Gateway) -> Answer {
    loop {
        let calls = gateway.get("/admin/v1/calls?limit=1000").await;
        let rows: Value = calls.json();
        if rows["data"].as_array().is_some_and(|rows| rows.len() == N_ROWS) {
            return calls;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A gateway that logs all it can, with its exact cache on or off.
fn loud(fake: &FakeUpstream, cache: &str, more: &str) -> Home {
    let whole = config(fake, more).replacen("enabled = false", cache, 1);
    Home::new(&whole.replacen("breaker =", "max_retries = 0\nbreaker =", 1)).with("STIVER_LOG", "trace")
}

#[tokio::test]
async fn a_prompt_and_its_answer_leave_no_word_behind() {
    let fake = FakeUpstream::start();
    for cache in ["enabled = false", "enabled = true"] {
        let home = loud(&fake, cache, "");
        let gateway = home.start().await;

        traffic(&fake, &gateway).await;

        let metrics = gateway.get("/metrics").await;
        let calls = within("all rows are in the database", calls_when_written(&gateway)).await;
        // While it runs, its journal is there; after a kill, so is what had not reached the database.
        let (running, n_files) = files_with_words(&home);
        let (stdout, stderr) = (gateway.stdout.text(), gateway.stderr.text());
        gateway.kill().await;
        let (killed, _) = files_with_words(&home);
        assert!(n_files > 3, "{n_files} files");
        assert_eq!((running, killed), (Vec::new(), Vec::new()), "a file holds what was said");
        assert!(stderr.contains("TRACE") || stderr.contains("DEBUG"), "the log is not loud: {stderr}");
        let places =
            [("stdout", stdout), ("the log", stderr), ("metrics", metrics.text()), ("calls", calls.text())];
        for (place, text) in places {
            for word in [ASKED, ANSWERED] {
                let line = text.lines().find(|line| line.contains(word));
                assert_eq!(line, None, "in {place}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_team_has_kept_is_in_its_table_and_journal_and_in_no_log() {
    let fake = FakeUpstream::start();
    let home = loud(&fake, "enabled = false", "[teams.tests]\ntext = { keep = true }\n");
    let key = home.create_key(&[]).await;
    let mut gateway = home.start().await;
    gateway.key = key;

    traffic(&fake, &gateway).await;

    let metrics = gateway.get("/metrics").await;
    let (kept, _) = files_with_words(&home);
    let (stdout, stderr) = (gateway.stdout.text(), gateway.stderr.text());
    gateway.stop().await;
    for text in [stdout, stderr, metrics.text()] {
        assert!(!text.contains(ASKED) && !text.contains(ANSWERED), "{text}");
    }
    let is_of_the_ledger = |path: &PathBuf| path.starts_with(home.path().join("data"));
    assert!(!kept.is_empty() && kept.iter().all(is_of_the_ledger), "{kept:?}");
    let (left, _) = files_with_words(&home);
    assert_eq!(left, [home.path().join("data/ledger.sqlite")], "an orderly end leaves no journal");
}
