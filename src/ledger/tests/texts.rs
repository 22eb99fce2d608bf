//! Texts beside the book: they come with their row or not at all, and go when their time is over.
//!
//! Invariants: what "nowhere" means is looked for in every byte of every file.

use super::crash::{crash, disk_now};
use super::*;

const DAY_MS: i64 = 86_400_000;

fn text_until(delete_after_ms: i64, what: &str) -> CallText {
    CallText {
        request: format!("[{{\"role\":\"user\",\"content\":\"{what} asked\"}}]"),
        answer: format!("[\"{what} answered\"]"),
        delete_after_ms,
        ..CallText::default()
    }
}

fn text(what: &str) -> CallText {
    text_until(NOW_MS + 7 * DAY_MS, what)
}

async fn of(ledger: &Ledger, id: CallId) -> Option<CallText> {
    ledger.flushed().await;
    ledger.texts().of(id).await.unwrap()
}

/// Whether any file of the book, its journal or its log of changes holds these words.
fn holds(book: &Book, words: &str) -> bool {
    let dir = book.config.path.parent().unwrap();
    let mut files: Vec<_> = [dir, &book.config.journal_dir].map(|dir| std::fs::read_dir(dir).unwrap()).into();
    let paths = files.iter_mut().flatten().map(|file| file.unwrap().path()).filter(|path| path.is_file());
    let mut held = paths.map(|path| std::fs::read(path).unwrap_or_default());
    held.any(|bytes| memchr::memmem::find(&bytes, words.as_bytes()).is_some())
}

async fn until_nowhere(book: &Book, words: &str) {
    let looking = tokio::time::timeout(Duration::from_secs(60), async {
        while holds(book, words) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(looking.await.is_ok(), "`{words}` is still in a file");
}

fn sent_with_text(book: &Book, what: &str) -> Hold {
    let mut hold = hold_now(&book.ledger, ask(100, &[])).unwrap();
    hold.keep_text(CallText { answer: String::new(), ..text(what) });
    send(&mut hold);
    hold
}

#[tokio::test]
async fn a_text_is_kept_however_its_call_ends() {
    let book = Book::new().await;
    let answer = text("any").answer;
    let mut posted = sent_with_text(&book, "any");
    posted.answered(answer.clone(), false);
    let voided = sent_with_text(&book, "any");
    let left = sent_with_text(&book, "any");
    let ids = [&posted, &voided, &left].map(|hold| hold.draft().id);

    let entry = ended(&posted, 1);
    posted.post(entry);
    let entry = ended(&voided, 1);
    voided.void(entry);
    drop(left);
    let hit = draft(NOW_MS);
    book.ledger.record_with(hit.clone(), Some(text("hit"))).unwrap();

    assert_eq!(of(&book.ledger, ids[0]).await, Some(text("any")));
    for id in &ids[1..] {
        assert_eq!(of(&book.ledger, *id).await, Some(CallText { answer: String::new(), ..text("any") }));
    }
    assert_eq!(of(&book.ledger, hit.id).await, Some(text("hit")));
    book.close().await;
}

#[tokio::test]
async fn a_call_without_text_has_none_and_a_call_never_sent_leaves_none() {
    let book = Book::new().await;
    let plain = draft(NOW_MS);
    book.ledger.record(plain.clone()).unwrap();
    let mut never_sent = hold_now(&book.ledger, ask(100, &[])).unwrap();
    never_sent.keep_text(text("never"));
    let id = never_sent.draft().id;
    drop(never_sent);

    assert_eq!(of(&book.ledger, plain.id).await, None);
    assert_eq!(of(&book.ledger, id).await, None);
    assert!(!holds(&book, "never asked"));
    book.close().await;
}

#[tokio::test]
async fn a_crash_keeps_a_text_posted_with_its_row_and_no_other() {
    let book = Book::new().await;
    let mut hold = sent_with_text(&book, "whole");
    let open = sent_with_text(&book, "open");
    hold.answered(text("whole").answer, false);
    let (id, open_id) = (hold.draft().id, open.draft().id);
    let entry = ended(&hold, 5);
    hold.post(entry);

    let book = crash(book, vec![open]).await;

    assert_eq!(of(&book.ledger, id).await, Some(text("whole")));
    assert_eq!(of(&book.ledger, open_id).await, None);
    assert_eq!(book.rows().await.len(), 2);
    book.close().await;
}

#[tokio::test]
async fn a_text_that_was_deleted_does_not_come_back_with_its_journal() {
    let book = Book::new().await;
    let row = draft(NOW_MS);
    book.ledger.record_with(row.clone(), Some(text("gone"))).unwrap();
    let (_dir, config) = disk_now(&book).await;
    let saved = tempfile::tempdir().unwrap();
    for name in segment_names(&config.journal_dir) {
        std::fs::copy(config.journal_dir.join(&name), saved.path().join(&name)).unwrap();
    }
    let open = || Ledger::open(&config, book.clock.clone(), TaskTracker::new());
    let first = open().await.unwrap();
    assert!(first.texts().delete(row.id).await.unwrap());
    first.close().await.unwrap();

    for name in segment_names(saved.path()) {
        std::fs::copy(saved.path().join(&name), config.journal_dir.join(&name)).unwrap();
    }
    let again = open().await.unwrap();

    assert_eq!(again.reports().recent(10, None).await.unwrap().len(), 1);
    assert_eq!(of(&again, row.id).await, None);
    again.close().await.unwrap();
    book.close().await;
}

#[tokio::test]
async fn each_text_goes_at_its_own_time() {
    let book = Book::new().await;
    let [short, long] = [draft(NOW_MS), draft(NOW_MS)];
    book.ledger.record_with(short.clone(), Some(text_until(NOW_MS + DAY_MS, "short"))).unwrap();
    book.ledger.record_with(long.clone(), Some(text_until(NOW_MS + 2 * DAY_MS, "long"))).unwrap();

    book.clock.advance(DAY_MS - 1);
    assert!(of(&book.ledger, short.id).await.is_some());
    book.clock.advance(1);

    // Past its time it is not shown, swept or not.
    assert_eq!(of(&book.ledger, short.id).await, None);
    book.ledger.close().await.unwrap();
    let book = Book { ledger: book.open_again().await, ..book };
    until_nowhere(&book, "short asked").await;
    assert!(of(&book.ledger, long.id).await.is_some() && holds(&book, "long asked"));
    assert_eq!(book.rows().await.len(), 2);
    book.close().await;
}

#[tokio::test]
async fn no_text_is_kept_longer_than_rows_are() {
    let book = Book::with(|config| config.retention_days = Some(3)).await;
    let row = draft(NOW_MS);

    book.ledger.record_with(row.clone(), Some(text("row"))).unwrap();

    let kept = of(&book.ledger, row.id).await.unwrap();
    assert_eq!(kept.delete_after_ms, NOW_MS + 3 * DAY_MS);
    book.close().await;
}

#[tokio::test]
async fn what_the_operator_deletes_is_in_no_file_any_more() {
    let book = Book::new().await;
    let rows = [draft(NOW_MS), draft(NOW_MS), draft(NOW_MS)];
    let other = Entry { team: TeamName::from("other"), ..draft(NOW_MS) };
    for row in rows.iter().chain([&other]) {
        let long = text(&"x".repeat(20_000));
        let request = format!("{}{}", long.request, row.team);
        book.ledger.record_with(row.clone(), Some(CallText { request, ..long })).unwrap();
    }

    assert!(book.ledger.texts().delete(rows[0].id).await.unwrap());
    assert!(!book.ledger.texts().delete(rows[0].id).await.unwrap());
    assert_eq!(book.ledger.texts().delete_of(&team()).await.unwrap(), 2);

    until_nowhere(&book, "}]search").await;
    assert_eq!(book.rows().await.len(), 4);
    assert!(of(&book.ledger, other.id).await.is_some());
    assert_eq!(book.ledger.texts().delete_of(&TeamName::from("nobody")).await.unwrap(), 0);
    book.close().await;
}

#[tokio::test]
async fn more_texts_than_a_batch_takes_are_all_written_and_all_deleted() {
    let book = Book::with(|config| config.batch_rows = 7).await;
    for nth in 0..450 {
        let row = draft(NOW_MS);
        // Larger ones end a batch by their bytes.
        let what = "y".repeat(if nth % 10 == 0 { 150_000 } else { 10 });
        book.ledger.record_with(row, (nth % 3 != 1).then(|| text(&what))).unwrap();
    }

    assert_eq!(book.rows().await.len(), 450);
    assert_eq!(book.ledger.texts().delete_of(&team()).await.unwrap(), 300);
    book.close().await;
}

#[tokio::test]
async fn a_text_too_long_for_the_journal_costs_its_row_nothing() {
    let book = Book::new().await;
    let row = draft(NOW_MS);
    let request = "\"".repeat(600_000);

    let posted = book.ledger.record_with(row.clone(), Some(CallText { request, ..text("long") })).unwrap();

    assert!(posted.durable);
    assert_eq!(of(&book.ledger, row.id).await, None);
    assert_eq!(book.rows().await, [row]);
    book.close().await;
}

#[tokio::test]
async fn sums_made_again_leave_texts_alone_and_verify_reads_none() {
    let book = Book::new().await;
    let row = Entry { cost: Some(NanoUsd::new(7)), ..draft(NOW_MS) };
    book.ledger.record_with(row.clone(), Some(text("kept"))).unwrap();
    book.ledger.flushed().await;

    book.ledger.shared.store.rebuild(i64::MIN).await.unwrap();

    assert_eq!(of(&book.ledger, row.id).await, Some(text("kept")));
    assert_eq!(book.rows().await, [row]);
    book.close().await;
}

#[test]
fn a_text_says_nothing_of_itself_in_a_log() {
    let shown = format!("{:?}", text("secret"));

    assert!(!shown.contains("secret") && shown.contains("bytes"), "{shown}");
}
