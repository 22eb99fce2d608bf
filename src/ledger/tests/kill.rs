//! A process of its own keeps a book and is killed; what it said it had sent and posted must be there.
//!
//! Invariants: the test plays both parts. In the folder that the parent made, it finds its mark and is
//! the child; anywhere else it is the parent.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;

const MARK: &str = "the-child-works-here";
const N_THREADS: usize = 3;
const NAME: &str = "ledger::tests::kill::a_process_that_is_killed_leaves_one_row_for_every_call_it_sent";

/// What the child said before it died: each call it sent, and the cost of those it posted.
#[derive(Default)]
struct Said {
    n_lines: usize,
    sent: HashMap<String, Option<i64>>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        if let ["sent", id] = words.as_slice() {
            self.sent.entry((*id).to_owned()).or_default();
        } else if let ["posted", id, cost] = words.as_slice() {
            self.sent.insert((*id).to_owned(), Some(cost.parse().unwrap()));
        } else {
            return;
        }
        self.n_lines += 1;
    }
}

fn say(line: &str) {
    // One write a line, so that a kill cannot leave half of one before another.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn call_for_ever(ledger: &Ledger) {
    for cost in 0.. {
        let mut ask = ask(1_000, &[]);
        ask.entry_draft.id = CallId::new(NOW_MS, rand::random());
        let mut hold = hold_now(ledger, ask).unwrap();
        let id = hold.draft().id;
        if cost % 2 == 0 {
            hold.keep_text(CallText {
                request: id.to_string(),
                delete_after_ms: i64::MAX,
                ..CallText::default()
            });
        }
        send(&mut hold);
        say(&format!("sent {id}\n"));
        if cost % 3 == 0 {
            hold.progress(used(1), NanoUsd::new(7));
        }
        let cost = cost % 1_000;
        let entry = ended(&hold, cost);
        hold.answered(cost.to_string(), false);
        hold.post(entry);
        say(&format!("posted {id} {cost}\n"));
    }
}

async fn be_the_child() {
    let mut config = config_in(Path::new("."));
    config.segment_bytes = 64 << 10;
    let ledger = Ledger::open(&config, Clock::standing_at(NOW_MS), TaskTracker::new()).await.unwrap();
    std::thread::scope(|threads| {
        for _ in 0..N_THREADS {
            threads.spawn(|| call_for_ever(&ledger));
        }
    });
}

fn start_child(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a child work until `n_lines` were said in all, and kills it; what else it said is heard too.
fn run_and_kill(dir: &Path, n_lines: usize, said: &mut Said) {
    let mut child = start_child(dir);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while said.n_lines < n_lines
        && let Some(line) = lines.next()
    {
        said.hear(&line.unwrap());
    }
    let n_heard = said.n_lines;
    child.kill().unwrap();
    lines.map_while(Result::ok).for_each(|line| said.hear(&line));
    child.wait().unwrap();
    assert!(n_heard >= n_lines, "the child ended by itself after {n_heard} lines");
}

async fn check(dir: &Path, said: &Said, n_kills: usize) {
    let config = config_in(dir);
    let ledger = Ledger::open(&config, Clock::standing_at(NOW_MS), TaskTracker::new()).await.unwrap();
    let rows = ledger.reports().recent(1_000_000, None).await.unwrap();
    let by_id: HashMap<_, _> = rows.iter().map(|row| (row.id.to_string(), row)).collect();
    assert_eq!(by_id.len(), rows.len());
    for (id, posted) in &said.sent {
        let row = by_id.get(id).unwrap_or_else(|| panic!("{id} was sent and has no row"));
        match posted {
            Some(cost) => {
                assert_eq!((row.charge().get(), row.outcome), (*cost, Outcome::Ok));
                let text = ledger.texts().of(row.id).await.unwrap();
                let said = text.map(|text| (text.request, text.answer));
                assert_eq!(said, (cost % 2 == 0).then(|| (id.clone(), cost.to_string())));
            }
            // Cut off, or posted a moment before the child could say so.
            None => assert!(row.outcome == Outcome::Ok || [7, 1_000].contains(&row.charge().get())),
        }
    }
    // A child may die between journalling a call and saying so, once a thread.
    assert!(rows.len() - said.sent.len() <= N_THREADS * n_kills);
    let spent = ledger.balance(&team(), Window::Day).spent;
    assert_eq!(spent, rows.iter().map(Entry::charge).sum());
    ledger.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_leaves_one_row_for_every_call_it_sent() {
    if Path::new(MARK).exists() {
        return be_the_child().await;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(MARK), "").unwrap();
    let mut said = Said::default();

    for (n_kills, n_lines) in (1..).zip([1, 50, 400, 3_000]) {
        run_and_kill(dir.path(), n_lines, &mut said);
        check(dir.path(), &said, n_kills).await;
    }
}
