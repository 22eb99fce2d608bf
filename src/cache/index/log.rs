//! The file behind the scan index: records appended one after another, each with its checksum.
//!
//! Not durable against a loss of power: nothing is synced, because what is lost is only cached.
//!
//! Invariants: reading stops at the first record that is not whole and cuts the file there, so that
//! whatever is appended later is read back; a failed append leaves no part of its record behind.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};

use super::{EntryId, IndexEntry};
use crate::chat::Fingerprint;
use crate::money::NanoUsd;

const MAGIC: &[u8; 8] = b"stvsem1\n";
/// Length and checksum.
const FRAME_BYTES: usize = 8;
const MAX_RECORD_BYTES: usize = 64 << 20;

const UPSERT: u8 = 1;
const REMOVE: u8 = 2;
const PURGE: u8 = 3;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Record {
    Upsert(IndexEntry),
    Remove(EntryId),
    Purge,
}

pub(super) struct Log {
    path: PathBuf,
    file: File,
    size_bytes: u64,
}

impl Log {
    /// Opens or creates the file, hands every whole record to `replay` in order, and tells how many
    /// bytes were cut off after the last of them.
    pub(super) fn open(path: &Path, mut replay: impl FnMut(Record)) -> io::Result<(Self, u64)> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let found_bytes = file.metadata()?.len();
        let mut whole_bytes = 0;
        let mut reader = BufReader::new(&file);
        let mut magic = [0; MAGIC.len()];
        if reader.read_exact(&mut magic).is_ok() && magic == *MAGIC {
            whole_bytes = MAGIC.len() as u64;
            while let Some((record, n_bytes)) = read_record(&mut reader)? {
                whole_bytes += n_bytes as u64;
                replay(record);
            }
        }
        let mut log = Self { path: path.to_owned(), file, size_bytes: whole_bytes };
        log.file.set_len(whole_bytes)?;
        log.file.seek(SeekFrom::Start(whole_bytes))?;
        if whole_bytes == 0 {
            log.file.write_all(MAGIC)?;
            log.size_bytes = MAGIC.len() as u64;
        }
        Ok((log, found_bytes - whole_bytes))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let frame = encode(record);
        match self.file.write_all(&frame) {
            Ok(()) => {
                self.size_bytes += frame.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.size_bytes)?;
                self.file.seek(SeekFrom::Start(self.size_bytes))?;
                Err(error)
            }
        }
    }

    /// Puts a file with only `records` in the place of this one, at once or not at all.
    pub(super) fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        let mut writer = BufWriter::new(File::create(&beside)?);
        writer.write_all(MAGIC)?;
        let mut size_bytes = MAGIC.len() as u64;
        for record in records {
            let frame = encode(&record);
            writer.write_all(&frame)?;
            size_bytes += frame.len() as u64;
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        // Before the rename, or a crash could leave an empty file under the old name.
        file.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        self.file = file;
        self.size_bytes = size_bytes;
        Ok(())
    }
}

/// The bytes an entry takes in the file.
pub(super) fn upsert_bytes(entry: &IndexEntry) -> u64 {
    let fixed = FRAME_BYTES + 1 + 32 + 32 + 8 + 4 + 4;
    (fixed + entry.vector.len() * 4 + entry.text.len() + entry.answer.len()) as u64
}

fn encode(record: &Record) -> Vec<u8> {
    let mut frame = vec![0; FRAME_BYTES];
    match record {
        Record::Upsert(entry) => encode_entry(&mut frame, entry),
        Record::Remove(id) => {
            frame.put_u8(REMOVE);
            frame.put_slice(id.question().as_bytes());
        }
        Record::Purge => frame.put_u8(PURGE),
    }
    let n_bytes = u32::try_from(frame.len() - FRAME_BYTES).expect("an entry is smaller than 4 GiB");
    let checksum = crc32fast::hash(&frame[FRAME_BYTES..]);
    frame[..4].copy_from_slice(&n_bytes.to_le_bytes());
    frame[4..FRAME_BYTES].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn encode_entry(frame: &mut Vec<u8>, entry: &IndexEntry) {
    frame.put_u8(UPSERT);
    frame.put_slice(entry.id.question().as_bytes());
    frame.put_slice(entry.scope.as_bytes());
    frame.put_i64_le(entry.expires_at_ms);
    frame.put_u32_le(u32::try_from(entry.vector.len()).expect("a vector has fewer than 2^32 dimensions"));
    entry.vector.iter().for_each(|value| frame.put_f32_le(*value));
    frame.put_u32_le(u32::try_from(entry.text.len()).expect("a question is smaller than 4 GiB"));
    frame.put_slice(entry.text.as_bytes());
    frame.put_slice(&entry.answer);
}

/// The next record and the bytes it took; `None` at the end or where a record is not whole.
fn read_record(reader: &mut impl Read) -> io::Result<Option<(Record, usize)>> {
    let Some(head) = read_whole(reader, FRAME_BYTES)? else { return Ok(None) };
    let mut head = Bytes::from(head);
    let (n_bytes, checksum) = (head.get_u32_le() as usize, head.get_u32_le());
    if n_bytes == 0 || n_bytes > MAX_RECORD_BYTES {
        return Ok(None);
    }
    let Some(body) = read_whole(reader, n_bytes)? else { return Ok(None) };
    if crc32fast::hash(&body) != checksum {
        return Ok(None);
    }
    Ok(decode(Bytes::from(body)).map(|record| (record, FRAME_BYTES + n_bytes)))
}

fn read_whole(reader: &mut impl Read, n_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(n_bytes as u64).read_to_end(&mut bytes)?;
    Ok((bytes.len() == n_bytes).then_some(bytes))
}

fn decode(mut body: Bytes) -> Option<Record> {
    match body.try_get_u8().ok()? {
        UPSERT => decode_entry(body).map(Record::Upsert),
        REMOVE => fingerprint(&mut body).map(|question| Record::Remove(EntryId::of(question))),
        PURGE => Some(Record::Purge),
        _ => None,
    }
}

fn decode_entry(mut body: Bytes) -> Option<IndexEntry> {
    let id = EntryId::of(fingerprint(&mut body)?);
    let scope = fingerprint(&mut body)?;
    let expires_at_ms = body.try_get_i64_le().ok()?;
    let n_dims = body.try_get_u32_le().ok()? as usize;
    let vector: Option<Vec<f32>> = (0..n_dims).map(|_| body.try_get_f32_le().ok()).collect();
    let n_text = body.try_get_u32_le().ok()? as usize;
    if body.len() < n_text {
        return None;
    }
    let text = body.split_to(n_text);
    Some(IndexEntry {
        id,
        group: id.own_group(),
        worth: NanoUsd::ZERO,
        scope,
        vector: vector?.into(),
        text: Arc::from(std::str::from_utf8(&text).ok()?),
        answer: body,
        expires_at_ms,
    })
}

fn fingerprint(body: &mut Bytes) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    body.try_copy_to_slice(&mut bytes).ok()?;
    Some(Fingerprint::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u8) -> IndexEntry {
        let id = EntryId::of(Fingerprint::new([n; 32]));
        IndexEntry {
            id,
            group: id.own_group(),
            worth: NanoUsd::ZERO,
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
            log.append(&record).unwrap();
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

            log.append(&Record::Upsert(entry(3))).unwrap();
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
        log.append(&Record::Upsert(entry(6))).unwrap();

        let (read, _, _) = replay(&path);
        assert_eq!(read, [Record::Upsert(entry(5)), Record::Upsert(entry(6))]);
        assert_eq!(log.size_bytes(), MAGIC.len() as u64 + upsert_bytes(&entry(5)) + upsert_bytes(&entry(6)));
    }
}
