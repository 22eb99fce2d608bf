//! Follows the journal from behind and hands out posted rows in the order in which they were written.
//!
//! The journal is the only queue there is: a database that is away costs disk, not memory.
//!
//! Invariants: the position moves only when [`Tail::advance`] is told that a batch is in the database.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::record::{Frame, Kind, MAGIC, TextOf};
use super::{Journal, JournalError, segment_path};
use crate::ledger::entry::Entry;

/// Enough for a few hundred rows, and for the largest single record.
const READ_BYTES: usize = (1 << 20) + (1 << 16);
/// A batch with this much text is not filled up further.
const MAX_TEXT_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(in crate::ledger) struct Tail {
    journal: Arc<Journal>,
    at: Position,
    file: Option<(u64, File)>,
}

#[derive(Debug, Clone, Copy)]
struct Position {
    segment: u64,
    offset: u64,
}

/// Rows read, and where reading goes on once they are safe elsewhere.
#[derive(Debug)]
pub(in crate::ledger) struct Batch {
    pub(in crate::ledger) rows: Vec<Entry>,
    /// Of those rows that have one.
    pub(in crate::ledger) texts: Vec<TextOf>,
    n_text_bytes: usize,
    /// A text was read whose row comes next.
    awaits_row: bool,
    next: Position,
}

impl Batch {
    fn at(next: Position) -> Self {
        Self { rows: Vec::new(), texts: Vec::new(), n_text_bytes: 0, awaits_row: false, next }
    }

    fn has_room(&self, max_rows: usize) -> bool {
        self.awaits_row || (self.rows.len() < max_rows && self.n_text_bytes < MAX_TEXT_BYTES)
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<(), serde_json::Error> {
        match frame.kind() {
            Some(Kind::Posted) => {
                self.rows.push(frame.decode()?);
                self.awaits_row = false;
            }
            Some(Kind::Text) => {
                self.texts.push(frame.decode()?);
                self.n_text_bytes += frame.n_bytes();
                self.awaits_row = true;
            }
            Some(Kind::Open | Kind::Progress) | None => {}
        }
        Ok(())
    }
}

impl Tail {
    pub(in crate::ledger) fn new(journal: Arc<Journal>) -> Self {
        let segment = journal.active_segment();
        Self { journal, at: Position { segment, offset: MAGIC.len() as u64 }, file: None }
    }

    /// Up to about `max_rows` posted rows that follow; `None` when there are no more.
    pub(in crate::ledger) fn read(&mut self, max_rows: usize) -> Result<Option<Batch>, JournalError> {
        let mut batch = Batch::at(self.at);
        while batch.has_room(max_rows) {
            let Some((end, sealed)) = self.journal.extent(batch.next.segment) else { break };
            if batch.next.offset < end {
                self.read_chunk(&mut batch, end, max_rows)?;
            } else if sealed {
                batch.next = Position { segment: batch.next.segment + 1, offset: MAGIC.len() as u64 };
            } else {
                break;
            }
        }
        if batch.rows.is_empty() {
            self.advance(&batch)?;
            return Ok(None);
        }
        Ok(Some(batch))
    }

    /// Moves behind `batch`; segments that lie wholly behind are deleted.
    pub(in crate::ledger) fn advance(&mut self, batch: &Batch) -> Result<(), JournalError> {
        let turned = batch.next.segment != self.at.segment;
        self.at = batch.next;
        if turned {
            self.journal.delete_before(self.at.segment)?;
        }
        Ok(())
    }

    fn read_chunk(&mut self, batch: &mut Batch, end: u64, max_rows: usize) -> Result<(), JournalError> {
        let from = batch.next;
        let n_bytes = usize::try_from(end - from.offset).unwrap_or(READ_BYTES).min(READ_BYTES);
        let mut chunk = vec![0; n_bytes];
        let path = segment_path(self.journal.dir(), from.segment);
        let failed = |source| JournalError::Io { path: path.clone(), source };
        self.file(from.segment).map_err(failed)?.read_exact_at(&mut chunk, from.offset).map_err(failed)?;

        let unreadable =
            |offset: u64, reason: String| JournalError::Unreadable { path: path.clone(), offset, reason };
        let mut rest = chunk.as_slice();
        while batch.has_room(max_rows) {
            let Some((frame, after)) = Frame::split(rest) else { break };
            batch.take(&frame).map_err(|e| unreadable(batch.next.offset, e.to_string()))?;
            batch.next.offset += (rest.len() - after.len()) as u64;
            rest = after;
        }
        if batch.next.offset == from.offset {
            return Err(unreadable(from.offset, "the record does not match its checksum".to_owned()));
        }
        Ok(())
    }

    fn file(&mut self, segment: u64) -> std::io::Result<&File> {
        if self.file.as_ref().is_none_or(|(no, _)| *no != segment) {
            self.file = Some((segment, File::open(segment_path(self.journal.dir(), segment))?));
        }
        let (_, file) = self.file.as_ref().expect("it was opened above");
        Ok(file)
    }
}
