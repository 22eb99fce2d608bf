//! Follows the journal from behind and hands out posted rows in the order in which they were written.
//!
//! The journal is the only queue there is: a database that is away costs disk, not memory.
//!
//! Invariants: the position moves only when [`Tail::advance`] is told that a batch is in the database.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::record::{Frame, Kind, MAGIC};
use super::{Journal, JournalError, segment_path};
use crate::ledger::entry::Entry;

/// Enough for a few hundred rows, and for the largest single record.
const READ_BYTES: usize = (1 << 20) + (1 << 16);

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
    next: Position,
}

impl Tail {
    pub(in crate::ledger) fn new(journal: Arc<Journal>) -> Self {
        let segment = journal.active_segment();
        Self { journal, at: Position { segment, offset: MAGIC.len() as u64 }, file: None }
    }

    /// Up to about `max_rows` posted rows that follow; `None` when there are no more.
    pub(in crate::ledger) fn read(&mut self, max_rows: usize) -> Result<Option<Batch>, JournalError> {
        let mut batch = Batch { rows: Vec::new(), next: self.at };
        while batch.rows.len() < max_rows {
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
        while batch.rows.len() < max_rows {
            let Some((frame, after)) = Frame::split(rest) else { break };
            if frame.kind() == Some(Kind::Posted) {
                let row = frame.decode().map_err(|e| unreadable(batch.next.offset, e.to_string()))?;
                batch.rows.push(row);
            }
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
