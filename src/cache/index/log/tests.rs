//! The file, cut and damaged at any byte, and as earlier versions wrote it.

use bytes::{BufMut, Bytes};
use proptest::prelude::*;

use super::super::{EntryId, IndexEntry};
use super::*;
use crate::cache::answer::sample_answer;
use crate::cache::risk::GroupKey;
use crate::chat::Fingerprint;
use crate::money::NanoUsd;

fn entry(n: u8) -> IndexEntry {
    let id = EntryId::of(Fingerprint::new([n; 32]));
    IndexEntry {
        id,
        group: GroupKey(u64::MAX - u64::from(n)),
        worth: NanoUsd::new(i64::from(n) - 3),
        scope: Fingerprint::new([9; 32]),
        vector: vec![0.6, 0.8].into(),
        text: format!("question {n} é").into(),
        answer: Bytes::from(format!("answer {n}")),
        expires_at_ms: i64::from(n) * 1_000,
    }
}

fn records() -> Vec<Record> {
    let second = EntryId::of(Fingerprint::new([2; 32]));
    vec![Record::Upsert(entry(1)), Record::Upsert(entry(2)), Record::Remove(second), Record::Purge]
}

fn frames(records: &[Record]) -> Vec<u8> {
    let mut frames = Vec::new();
    records.iter().for_each(|record| encode(record, &mut frames));
    frames
}

fn replay(path: &Path) -> (Vec<Record>, Log, u64) {
    let mut read = Vec::new();
    let (log, n_cut) = Log::open(path, |record| read.push(record)).unwrap();
    (read, log, n_cut)
}

/// A file with all records, and where each of them ends.
fn written(path: &Path) -> Vec<u64> {
    let (_, mut log, _) = replay(path);
    let mut ends = vec![log.size_bytes()];
    for record in records() {
        log.append(&frames(&[record])).unwrap();
        ends.push(log.size_bytes());
    }
    ends
}

#[test]
fn what_was_appended_is_read_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    written(&path);

    let (read, log, n_cut) = replay(&path);

    assert_eq!(read, records());
    assert_eq!((n_cut, log.size_bytes()), (0, std::fs::metadata(&path).unwrap().len()));
}

#[test]
fn cut_at_any_byte_the_whole_records_before_it_are_read_and_more_can_follow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let ends = written(&path);
    let whole = std::fs::read(&path).unwrap();

    for n_bytes in 0..=whole.len() {
        std::fs::write(&path, &whole[..n_bytes]).unwrap();
        let n_whole = ends.iter().filter(|end| **end <= n_bytes as u64).count().saturating_sub(1);

        let (read, mut log, _) = replay(&path);
        assert_eq!(read, records()[..n_whole], "cut at {n_bytes}");

        log.append(&frames(&[Record::Upsert(entry(3))])).unwrap();
        let (read, _, n_cut) = replay(&path);
        assert_eq!(read.last(), Some(&Record::Upsert(entry(3))), "cut at {n_bytes}");
        assert_eq!((read.len(), n_cut), (n_whole + 1, 0));
    }
}

#[test]
fn a_flipped_bit_anywhere_ends_the_reading_before_its_record() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let ends = written(&path);
    let whole = std::fs::read(&path).unwrap();

    for idx in MAGIC.len()..whole.len() {
        let mut damaged = whole.clone();
        damaged[idx] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let n_before = ends.iter().filter(|end| **end <= idx as u64).count() - 1;

        let (read, _, n_cut) = replay(&path);

        assert_eq!(read, records()[..n_before], "flipped at {idx}");
        assert!(n_cut > 0);
    }
}

#[test]
fn a_file_of_another_kind_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::fs::write(&path, b"something else entirely").unwrap();

    let (read, _, n_cut) = replay(&path);

    assert_eq!((read.len(), n_cut), (0, 23));
    assert_eq!(std::fs::read(&path).unwrap(), MAGIC);
}

#[test]
fn a_rewritten_file_holds_only_what_it_was_given_and_can_be_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    written(&path);
    let (_, mut log, _) = replay(&path);

    log.rewrite([Record::Upsert(entry(5))].into_iter()).unwrap();
    log.append(&frames(&[Record::Upsert(entry(6))])).unwrap();

    let (read, _, _) = replay(&path);
    assert_eq!(read, [Record::Upsert(entry(5)), Record::Upsert(entry(6))]);
    assert_eq!(log.size_bytes(), MAGIC.len() as u64 + upsert_bytes(&entry(5)) + upsert_bytes(&entry(6)));
}

#[test]
fn records_appended_together_are_read_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (_, mut log, _) = replay(&path);

    log.append(&frames(&records())).unwrap();

    assert_eq!(replay(&path).0, records());
}

/// An entry as written before entries had a group and a worth.
fn bare(entry: &IndexEntry) -> Vec<u8> {
    let mut body = vec![1];
    body.put_slice(entry.id.question().as_bytes());
    body.put_slice(entry.scope.as_bytes());
    body.put_i64_le(entry.expires_at_ms);
    body.put_u32_le(u32::try_from(entry.vector.len()).unwrap());
    entry.vector.iter().for_each(|value| body.put_f32_le(*value));
    body.put_u32_le(u32::try_from(entry.text.len()).unwrap());
    body.put_slice(entry.text.as_bytes());
    body.put_slice(&entry.answer);
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let n_bytes = u32::try_from(body.len()).unwrap();
    [&n_bytes.to_le_bytes()[..], &crc32fast::hash(body).to_le_bytes(), body].concat()
}

#[test]
fn entries_of_earlier_versions_are_their_own_group_and_worth_what_their_answer_cost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let priced = IndexEntry { answer: sample_answer("{}", 5).encode(), ..entry(1) };
    std::fs::write(&path, [&MAGIC[..], &bare(&priced), &bare(&entry(2))].concat()).unwrap();

    let (read, _, n_cut) = replay(&path);

    let expected = [(priced, NanoUsd::new(5_600)), (entry(2), NanoUsd::ZERO)]
        .map(|(entry, worth)| Record::Upsert(IndexEntry { group: entry.id.own_group(), worth, ..entry }));
    assert_eq!((read.as_slice(), n_cut), (expected.as_slice(), 0));
}

#[test]
fn a_sound_frame_around_no_record_ends_the_reading() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut short = bare(&entry(1))[FRAME_BYTES..].to_vec();
    // More dimensions than there are bytes.
    short[73..77].copy_from_slice(&u32::MAX.to_le_bytes());

    for body in [&[9][..], &[2, 0, 0], &short, &[4], &[1, 7]] {
        std::fs::write(&path, [&MAGIC[..], &framed(body), &frames(&[Record::Purge])].concat()).unwrap();

        let (read, _, n_cut) = replay(&path);

        assert_eq!(read, []);
        assert!(n_cut > 0, "{body:?}");
    }
}

proptest! {
    #[test]
    fn whatever_stands_in_a_sound_frame_is_read_or_refused(
        tag in 0u8..6,
        body in prop::collection::vec(any::<u8>(), 0..200),
        n_dims in 0u32..20,
    ) {
        let mut body = [vec![tag], body].concat();
        for at in [73, 89] {
            if body.len() >= at + 4 {
                body[at..at + 4].copy_from_slice(&n_dims.to_le_bytes());
            }
        }

        if let Some(record) = record::decode(&body) {
            let mut again = Vec::new();
            encode(&record, &mut again);
            prop_assert!(record::decode(&again[FRAME_BYTES..]).is_some());
        }
    }
}
