//! What stands in the file behind the scan index: one change a record, behind its length and checksum.
//!
//! Opens no file.
//!
//! Invariants: what [`encode`] wrote, [`decode`] reads back equal; whatever bytes come, reading them
//! neither panics nor takes more memory than a few times their number.

use bytes::{Buf, BufMut, Bytes};

use super::super::{EntryId, IndexEntry};
use crate::cache::answer::StoredAnswer;
use crate::cache::risk::GroupKey;
use crate::chat::Fingerprint;
use crate::money::NanoUsd;

/// Length and checksum.
pub(super) const FRAME_BYTES: usize = 8;

/// An entry without group and worth, as earlier versions wrote them.
const UPSERT_BARE: u8 = 1;
const REMOVE: u8 = 2;
const PURGE: u8 = 3;
const UPSERT: u8 = 4;

#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Record {
    Upsert(IndexEntry),
    Remove(EntryId),
    Purge,
}

/// The bytes an entry takes in the file.
pub(in super::super) fn upsert_bytes(entry: &IndexEntry) -> u64 {
    let fixed = FRAME_BYTES + 1 + 32 + 32 + 8 + 8 + 8 + 4 + 4;
    (fixed + entry.vector.len() * 4 + entry.text.len() + entry.answer.len()) as u64
}

/// Appends the record with its frame.
pub(in super::super) fn encode(record: &Record, frames: &mut Vec<u8>) {
    let start = frames.len();
    frames.put_bytes(0, FRAME_BYTES);
    match record {
        Record::Upsert(entry) => encode_entry(frames, entry),
        Record::Remove(id) => {
            frames.put_u8(REMOVE);
            frames.put_slice(id.question().as_bytes());
        }
        Record::Purge => frames.put_u8(PURGE),
    }
    let (frame, body) = frames[start..].split_at_mut(FRAME_BYTES);
    let n_bytes = u32::try_from(body.len()).expect("an entry is smaller than 4 GiB");
    frame[..4].copy_from_slice(&n_bytes.to_le_bytes());
    frame[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
}

fn encode_entry(frame: &mut Vec<u8>, entry: &IndexEntry) {
    frame.reserve(upsert_bytes(entry) as usize);
    frame.put_u8(UPSERT);
    frame.put_slice(entry.id.question().as_bytes());
    frame.put_slice(entry.scope.as_bytes());
    frame.put_i64_le(entry.expires_at_ms);
    frame.put_u64_le(entry.group.0);
    frame.put_i64_le(entry.worth.get());
    frame.put_u32_le(u32::try_from(entry.vector.len()).expect("a vector has fewer than 2^32 dimensions"));
    entry.vector.iter().for_each(|value| frame.put_f32_le(*value));
    frame.put_u32_le(u32::try_from(entry.text.len()).expect("a question is smaller than 4 GiB"));
    frame.put_slice(entry.text.as_bytes());
    frame.put_slice(&entry.answer);
}

/// Reads a record without its frame.
pub(super) fn decode(mut body: &[u8]) -> Option<Record> {
    let body = &mut body;
    match body.try_get_u8().ok()? {
        UPSERT => decode_entry(body, true).map(Record::Upsert),
        UPSERT_BARE => decode_entry(body, false).map(Record::Upsert),
        REMOVE => fingerprint(body).map(|question| Record::Remove(EntryId::of(question))),
        PURGE => Some(Record::Purge),
        _ => None,
    }
}

fn decode_entry(body: &mut &[u8], has_worth: bool) -> Option<IndexEntry> {
    let id = EntryId::of(fingerprint(body)?);
    let scope = fingerprint(body)?;
    let expires_at_ms = body.try_get_i64_le().ok()?;
    let known = if has_worth {
        Some((GroupKey(body.try_get_u64_le().ok()?), NanoUsd::new(body.try_get_i64_le().ok()?)))
    } else {
        None
    };
    let n_dims = body.try_get_u32_le().ok()? as usize;
    let (floats, _) = body.split_off(..n_dims.checked_mul(4)?)?.as_chunks::<4>();
    let n_text = body.try_get_u32_le().ok()? as usize;
    let text = std::str::from_utf8(body.split_off(..n_text)?).ok()?;
    let answer = Bytes::copy_from_slice(body);
    let (group, worth) = known.unwrap_or_else(|| (id.own_group(), cost_of(&answer)));
    Some(IndexEntry {
        id,
        scope,
        vector: floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        text: text.into(),
        group,
        worth,
        answer,
        expires_at_ms,
    })
}

fn cost_of(answer: &Bytes) -> NanoUsd {
    StoredAnswer::decode(answer).ok().and_then(|answer| answer.cost).unwrap_or(NanoUsd::ZERO)
}

fn fingerprint(body: &mut &[u8]) -> Option<Fingerprint> {
    let mut bytes = [0; 32];
    body.try_copy_to_slice(&mut bytes).ok()?;
    Some(Fingerprint::new(bytes))
}
