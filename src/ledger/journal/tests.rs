//! Tests of the journal alone: torn tails, rotation, bounds and a disk that fails.
//!
//! Invariants: none of its own.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tempfile::TempDir;

use super::record::Frame;
use super::*;
use crate::chat::usage::Usage;
use crate::ledger::entry::{Entry, Outcome};
use crate::ledger::text::CallText;
use crate::money::NanoUsd;
use crate::team::{RouteName, TeamName};

const LIMITS: JournalLimits = JournalLimits { max_bytes: 1 << 20, segment_bytes: 1 << 18 };
const CEILING: NanoUsd = NanoUsd::new(100);

fn draft(n: u8) -> Entry {
    let id = CallId::new(i64::from(n), [n; 10]);
    Entry::draft(id, 1_000, TeamName::from("search"), "/v1/chat/completions", RouteName::from("auto"))
}

fn open(n: u8) -> Framed {
    Framed::open(OpenCallRef { draft: &draft(n), ceiling: CEILING }).unwrap()
}

fn progress(n: u8, cost: i64) -> Framed {
    Framed::progress(&Progress { id: draft(n).id, usage: Usage::default(), cost: NanoUsd::new(cost) })
        .unwrap()
}

fn posted(n: u8, cost: i64) -> Framed {
    Framed::posted(&row(n, cost)).unwrap()
}

fn row(n: u8, cost: i64) -> Entry {
    Entry { cost: Some(NanoUsd::new(cost)), outcome: Outcome::Ok, ..draft(n) }
}

fn start(dir: &Path) -> (Arc<Journal>, Replay) {
    let (journal, replay) = Journal::open(dir, LIMITS).unwrap();
    (Arc::new(journal), replay)
}

/// Every row that a replay yields: what each call costs and how it ended.
fn rows_of(mut replay: Replay) -> BTreeMap<CallId, (i64, Outcome)> {
    let mut rows = Vec::new();
    while let Some(posted) = replay.next_posted().unwrap() {
        rows.extend(posted.rows);
    }
    rows.extend(replay.interrupted());
    let n_rows = rows.len();
    let by_id: BTreeMap<_, _> = rows.iter().map(|row| (row.id, (row.charge().get(), row.outcome))).collect();
    assert_eq!(by_id.len(), n_rows, "a call has one row");
    by_id
}

/// The rows of a journal whose only segment holds `bytes`.
fn replayed(bytes: &[u8]) -> BTreeMap<CallId, (i64, Outcome)> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment_path(dir.path(), 1), bytes).unwrap();
    rows_of(start(dir.path()).1)
}

fn drain(tail: &mut Tail) -> Vec<CallId> {
    let mut ids = Vec::new();
    while let Some(batch) = tail.read(3).unwrap() {
        ids.extend(batch.rows.iter().map(|row| row.id));
        tail.advance(&batch).unwrap();
    }
    ids
}

fn n_segments(dir: &TempDir) -> usize {
    segments(dir.path()).unwrap().len()
}

#[test]
fn a_journal_cut_at_any_byte_yields_what_was_written_whole_before_it() {
    let records = [open(1), open(2), progress(1, 7), posted(2, 5), open(3), progress(3, 9), posted(1, 8)];
    let mut bytes = MAGIC.to_vec();
    let mut ends = vec![];
    for record in &records {
        bytes.extend_from_slice(&record.bytes);
        ends.push(bytes.len());
    }
    let (ok, cut) = (Outcome::Ok, Outcome::Interrupted);
    let [a, b, c] = [1, 2, 3].map(|n| draft(n).id);
    let expected: [&[(CallId, (i64, Outcome))]; 8] = [
        &[],
        &[(a, (100, cut))],
        &[(a, (100, cut)), (b, (100, cut))],
        &[(a, (7, cut)), (b, (100, cut))],
        &[(a, (7, cut)), (b, (5, ok))],
        &[(a, (7, cut)), (b, (5, ok)), (c, (100, cut))],
        &[(a, (7, cut)), (b, (5, ok)), (c, (9, cut))],
        &[(a, (8, ok)), (b, (5, ok)), (c, (9, cut))],
    ];

    for n_bytes in 0..=bytes.len() {
        let n_whole = ends.iter().filter(|end| **end <= n_bytes).count();
        let rows: Vec<_> = replayed(&bytes[..n_bytes]).into_iter().collect();
        assert_eq!(rows, expected[n_whole], "cut at byte {n_bytes} of {}", bytes.len());
    }
}

fn text(n: u8) -> CallText {
    CallText { request: format!("asked {n}"), answer: "é\"\n".to_owned(), ..CallText::default() }
}

#[test]
fn a_text_cut_at_any_byte_is_there_with_its_row_or_neither_is() {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&open(1).bytes);
    let before = bytes.len();
    bytes.extend_from_slice(&posted(1, 5).with_text(&text(1)).unwrap().bytes);

    for n_bytes in before..=bytes.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(segment_path(dir.path(), 1), &bytes[..n_bytes]).unwrap();
        let (_journal, mut replay) = start(dir.path());
        let Replayed { rows, texts } = replay.next_posted().unwrap().unwrap();

        let is_whole = n_bytes == bytes.len();
        assert_eq!(rows.len(), usize::from(is_whole), "cut at byte {n_bytes} of {}", bytes.len());
        assert_eq!(replay.interrupted().len(), usize::from(!is_whole));
        assert!(texts.iter().all(|of| of.id == draft(1).id && of.text == text(1)));
        assert!(!is_whole || texts.len() == 1);
    }
}

#[test]
fn a_text_is_never_read_without_its_row() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = start(dir.path());
    let mut tail = Tail::new(Arc::clone(&journal));
    for n in 1..=9 {
        let record = posted(n, 1);
        let record = if n % 2 == 0 { record.with_text(&text(n)).unwrap() } else { record };
        journal.append(record).unwrap();
    }
    let mut n_texts = 0;

    while let Some(batch) = tail.read(2).unwrap() {
        n_texts += batch.texts.len();
        for of in &batch.texts {
            assert!(batch.rows.iter().any(|row| row.id == of.id));
        }
        tail.advance(&batch).unwrap();
    }

    assert_eq!(n_texts, 4);
}

#[test]
fn only_a_segment_with_a_text_is_sealed_before_it_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = start(dir.path());
    let mut tail = Tail::new(Arc::clone(&journal));
    journal.append(posted(1, 1)).unwrap();
    assert!(journal.is_gone(journal.seal_texts().unwrap()) && n_segments(&dir) == 1);

    journal.append(open(2)).unwrap();
    journal.append(posted(3, 1).with_text(&text(3)).unwrap()).unwrap();
    let sealed = journal.seal_texts().unwrap();

    assert!(!journal.is_gone(sealed) && n_segments(&dir) == 2);
    drain(&mut tail);
    assert!(journal.is_gone(sealed) && n_segments(&dir) == 1);
    let left = fs::read(segment_path(dir.path(), journal.active_segment())).unwrap();
    assert_eq!(memchr::memmem::find(&left, b"asked"), None);
    // The open call was carried over.
    assert_eq!(replayed(&left), BTreeMap::from([(draft(2).id, (100, Outcome::Interrupted))]));
}

#[test]
fn a_journal_with_any_byte_flipped_yields_only_whole_records_before_it() {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&posted(1, 5).bytes);
    let second = bytes.len();
    bytes.extend_from_slice(&posted(2, 6).bytes);
    let first_only = BTreeMap::from([(draft(1).id, (5, Outcome::Ok))]);

    for at in second..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert_eq!(replayed(&flipped), first_only, "byte {at} flipped");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let whole = posted(1, 1).bytes;
        let joined = [whole.as_slice(), bytes.as_slice()].concat();

        let (first, rest) = Frame::split(&joined).unwrap();

        prop_assert_eq!(first.decode::<Entry>().unwrap(), row(1, 1));
        prop_assert!(Frame::split(rest).is_none_or(|(_, after)| after.len() < rest.len()));
    }
}

#[test]
fn a_file_that_is_no_journal_of_this_version_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment_path(dir.path(), 1), b"STIVERJ9 and more").unwrap();

    let (_journal, mut replay) = start(dir.path());
    let refused = replay.next_posted().unwrap_err();

    assert!(matches!(refused, JournalError::Unreadable { offset: 0, .. }), "{refused}");
    assert!(segment_path(dir.path(), 1).exists());
}

#[test]
fn rows_are_handed_out_in_order_across_segments_and_written_segments_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let limits = JournalLimits { segment_bytes: 2_000, ..LIMITS };
    let journal = Arc::new(Journal::open(dir.path(), limits).unwrap().0);
    let mut tail = Tail::new(Arc::clone(&journal));
    for n in 1..=20 {
        journal.append(open(n)).unwrap();
        journal.append(posted(n, 1)).unwrap();
    }
    let (n_before, size_before) = (n_segments(&dir), journal.fill().size_bytes);

    let ids = drain(&mut tail);

    assert_eq!(ids, (1..=20).map(|n| draft(n).id).collect::<Vec<_>>());
    assert!(n_before > 5, "{n_before} segments");
    assert_eq!(n_segments(&dir), 1);
    let on_disk: u64 = segments(dir.path()).unwrap().iter().map(|segment| segment.n_bytes).sum();
    assert_eq!(journal.fill().size_bytes, on_disk);
    assert!(on_disk < size_before);
}

#[test]
fn a_segment_is_kept_until_its_rows_are_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let limits = JournalLimits { segment_bytes: 2_000, ..LIMITS };
    let journal = Arc::new(Journal::open(dir.path(), limits).unwrap().0);
    let mut tail = Tail::new(Arc::clone(&journal));
    for n in 1..=20 {
        journal.append(posted(n, 1)).unwrap();
    }
    let n_before = n_segments(&dir);

    let first = tail.read(100).unwrap().unwrap();
    let again = tail.read(100).unwrap().unwrap();

    assert_eq!((first.rows.len(), again.rows), (20, first.rows.clone()));
    assert_eq!(n_segments(&dir), n_before);
    tail.advance(&first).unwrap();
    assert_eq!(n_segments(&dir), 1);
}

#[test]
fn a_journal_is_full_at_its_bound_and_not_a_byte_before() {
    let dir = tempfile::tempdir().unwrap();
    let record = open(1);
    let n_bytes = (MAGIC.len() + record.bytes.len()) as u64;
    for (max_bytes, is_full) in [(n_bytes + 1, false), (n_bytes, true)] {
        let folder = dir.path().join(max_bytes.to_string());
        let journal = Journal::open(&folder, JournalLimits { max_bytes, ..LIMITS }).unwrap().0;

        journal.append(record.clone()).unwrap();

        assert_eq!(journal.fill().is_full(), is_full, "{n_bytes} of {max_bytes} bytes");
    }
}

#[test]
fn a_disk_that_is_full_leaves_nothing_of_a_record_and_the_next_one_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = start(dir.path());
    journal.append(open(1)).unwrap();
    let whole = Arc::clone(&journal.state.lock().file);
    journal.state.lock().file = Arc::new(OpenOptions::new().append(true).open("/dev/full").unwrap());

    let failed = journal.append(posted(1, 5));
    let after = journal.append(posted(2, 6));

    assert!(matches!(failed, Err(JournalError::Io { .. })));
    assert!(after.is_ok(), "a new segment takes over");
    drop((journal, whole));
    let rows = rows_of(start(dir.path()).1);
    let expected = [(draft(1).id, (100, Outcome::Interrupted)), (draft(2).id, (6, Outcome::Ok))];
    assert_eq!(rows, BTreeMap::from(expected));
}

#[test]
fn the_last_beat_forces_to_disk_whatever_was_appended_before_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = start(dir.path());
    let syncer = Syncer::start(Arc::clone(&journal), std::time::Duration::from_secs(3_600)).unwrap();
    journal.append(open(1)).unwrap();
    let n_before = journal.state.lock().unsynced.len();

    syncer.stop();

    assert!(n_before > 0);
    assert!(journal.state.lock().unsynced.is_empty());
}

#[test]
fn a_closed_journal_takes_no_record_and_leaves_no_file_unless_a_call_is_open() {
    for (n_open, n_files) in [(0, 0), (1, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = start(dir.path());
        journal.append(posted(1, 5)).unwrap();
        for _ in 0..n_open {
            journal.append(open(2)).unwrap();
        }

        assert_eq!(journal.close().unwrap(), n_open);

        assert!(matches!(journal.append(open(3)), Err(JournalError::Closed)));
        assert_eq!(n_segments(&dir), n_files);
        assert_eq!(rows_of(start(dir.path()).1).len(), n_open);
    }
}
