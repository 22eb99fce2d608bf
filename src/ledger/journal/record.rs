//! The bytes of the journal: how a record is framed, and how frames are told from a torn tail.
//!
//! Touches no files.
//!
//! Invariants: a frame is a length, a checksum over the rest, a kind and JSON; reading stops at the first
//! frame that is cut short or does not match its checksum, and never panics on any bytes.

use serde::{Deserialize, Serialize};

use super::JournalError;
use crate::chat::usage::Usage;
use crate::ledger::entry::Entry;
use crate::ledger::text::CallText;
use crate::money::NanoUsd;
use crate::team::CallId;

/// The first bytes of every segment. The digit is the version of the format.
pub(super) const MAGIC: &[u8; 8] = b"STIVERJ1";
const HEADER_BYTES: usize = 8;
/// A length above this is taken for garbage, so that a torn length cannot ask for gigabytes.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A call is about to be sent; repeated, with the new draft and nothing metered, for each attempt.
    Open,
    /// What was metered so far.
    Progress,
    /// The call has ended: this is its row.
    Posted,
    /// The text of a call; its row follows, in the same write.
    Text,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::ledger) struct OpenCall {
    pub(in crate::ledger) draft: Entry,
    pub(in crate::ledger) ceiling: NanoUsd,
}

/// The same as [`OpenCall`], written without a copy.
#[derive(Serialize)]
pub(in crate::ledger) struct OpenCallRef<'a> {
    pub(in crate::ledger) draft: &'a Entry,
    pub(in crate::ledger) ceiling: NanoUsd,
}

/// A text and the call that it is of.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(in crate::ledger) struct TextOf {
    pub(in crate::ledger) id: CallId,
    pub(in crate::ledger) text: CallText,
}

/// The same as [`TextOf`], written without a copy.
#[derive(Serialize)]
struct TextOfRef<'a> {
    id: CallId,
    text: &'a CallText,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ledger) struct Progress {
    pub(in crate::ledger) id: CallId,
    pub(in crate::ledger) usage: Usage,
    pub(in crate::ledger) cost: NanoUsd,
}

/// A record ready for one `write(2)`.
#[derive(Debug, Clone)]
pub(in crate::ledger) struct Framed {
    pub(super) id: CallId,
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
    pub(super) has_text: bool,
}

impl Framed {
    pub(in crate::ledger) fn open(call: OpenCallRef<'_>) -> Result<Self, JournalError> {
        Self::encode(Kind::Open, call.draft.id, &call)
    }

    pub(in crate::ledger) fn progress(progress: &Progress) -> Result<Self, JournalError> {
        Self::encode(Kind::Progress, progress.id, progress)
    }

    pub(in crate::ledger) fn posted(entry: &Entry) -> Result<Self, JournalError> {
        Self::encode(Kind::Posted, entry.id, entry)
    }

    /// The same record with the text of its call in front, so that one write holds both.
    pub(in crate::ledger) fn with_text(&self, text: &CallText) -> Result<Self, JournalError> {
        let mut whole = Self::encode(Kind::Text, self.id, &TextOfRef { id: self.id, text })?;
        whole.bytes.extend_from_slice(&self.bytes);
        Ok(Self { kind: self.kind, has_text: true, ..whole })
    }

    fn encode<T: Serialize>(kind: Kind, id: CallId, record: &T) -> Result<Self, JournalError> {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend_from_slice(&[0; HEADER_BYTES]);
        bytes.push(kind.tag());
        serde_json::to_writer(&mut bytes, record).map_err(JournalError::Encode)?;
        let n_payload = bytes.len() - HEADER_BYTES;
        if n_payload > MAX_PAYLOAD_BYTES {
            return Err(JournalError::TooLarge { n_bytes: n_payload, max_bytes: MAX_PAYLOAD_BYTES });
        }
        let checksum = crc32fast::hash(&bytes[HEADER_BYTES..]);
        let length = u32::try_from(n_payload).expect("a payload is at most a mebibyte");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        Ok(Self { id, kind, bytes, has_text: false })
    }
}

impl Kind {
    fn tag(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Progress => 2,
            Self::Posted => 3,
            Self::Text => 4,
        }
    }

    fn from_tag(tag: u8) -> Option<Self> {
        [Self::Open, Self::Progress, Self::Posted, Self::Text].into_iter().find(|kind| kind.tag() == tag)
    }
}

/// One whole frame, its checksum verified.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    tag: u8,
    json: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Takes the first frame off `bytes`; `None` where it is torn or absent.
    pub(super) fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *header;
        let n_payload = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if n_payload > MAX_PAYLOAD_BYTES || n_payload > rest.len() {
            return None;
        }
        let (payload, rest) = rest.split_at(n_payload);
        if crc32fast::hash(payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return None;
        }
        let (tag, json) = payload.split_first()?;
        Some((Self { tag: *tag, json }, rest))
    }

    /// `None` for a kind that this version does not know.
    pub(super) fn kind(&self) -> Option<Kind> {
        Kind::from_tag(self.tag)
    }

    pub(super) fn n_bytes(&self) -> usize {
        self.json.len()
    }

    pub(super) fn decode<T: Deserialize<'a>>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.json)
    }
}
