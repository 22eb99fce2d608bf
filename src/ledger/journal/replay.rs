//! What a journal left behind means: rows that were posted, and calls that a crash cut off.
//!
//! Reads segments; writes and deletes nothing.
//!
//! Invariants: every call that was opened yields exactly one row, its own posting where there is one;
//! bytes after a torn frame are reported, not guessed at.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::record::{Frame, Kind, MAGIC, OpenCall, Progress, TextOf};
use super::{JournalError, segment_path};
use crate::ledger::entry::{Entry, Outcome};
use crate::money::NanoUsd;
use crate::team::CallId;

/// Reads old segments one at a time, in the order in which they were written.
#[derive(Debug)]
pub(in crate::ledger) struct Replay {
    dir: PathBuf,
    /// Segments still to be read, the oldest last.
    segments: Vec<u64>,
    open: HashMap<CallId, CutOff>,
    n_torn_bytes: u64,
}

/// Rows as they were posted, and the texts of those that have one.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Replayed {
    pub(in crate::ledger) rows: Vec<Entry>,
    pub(in crate::ledger) texts: Vec<TextOf>,
}

/// A call that was sent and whose end has not been read yet.
#[derive(Debug)]
struct CutOff {
    call: OpenCall,
    progress: Option<Progress>,
}

impl Replay {
    pub(super) fn new(dir: &Path, mut segments: Vec<u64>) -> Self {
        segments.sort_unstable_by(|a, b| b.cmp(a));
        Self { dir: dir.to_owned(), segments, open: HashMap::new(), n_torn_bytes: 0 }
    }

    /// The rows posted in the next segment; `None` after the last.
    pub(in crate::ledger) fn next_posted(&mut self) -> Result<Option<Replayed>, JournalError> {
        let Some(no) = self.segments.pop() else { return Ok(None) };
        let path = segment_path(&self.dir, no);
        let bytes = fs::read(&path).map_err(|source| JournalError::Io { path: path.clone(), source })?;
        self.read_segment(&path, &bytes).map(Some)
    }

    /// The calls cut off by a crash, as rows: charged what was metered, or their ceiling where nothing was.
    pub(in crate::ledger) fn interrupted(self) -> Vec<Entry> {
        let mut rows: Vec<Entry> = self.open.into_values().map(CutOff::into_row).collect();
        rows.sort_unstable_by_key(|row| row.id);
        rows
    }

    pub(in crate::ledger) fn n_torn_bytes(&self) -> u64 {
        self.n_torn_bytes
    }

    fn read_segment(&mut self, path: &Path, bytes: &[u8]) -> Result<Replayed, JournalError> {
        let Some(mut rest) = after_magic(path, bytes)? else {
            self.n_torn_bytes += bytes.len() as u64;
            return Ok(Replayed::default());
        };
        let mut posted = Replayed::default();
        while let Some((frame, after)) = Frame::split(rest) {
            let offset = bytes.len() - rest.len();
            self.apply(&frame, &mut posted).map_err(|reason| JournalError::Unreadable {
                path: path.to_owned(),
                offset: offset as u64,
                reason,
            })?;
            rest = after;
        }
        self.n_torn_bytes += rest.len() as u64;
        Ok(posted)
    }

    fn apply(&mut self, frame: &Frame<'_>, posted: &mut Replayed) -> Result<(), String> {
        let broken = |error: serde_json::Error| error.to_string();
        match frame.kind() {
            Some(Kind::Open) => {
                let call: OpenCall = frame.decode().map_err(broken)?;
                self.open.insert(call.draft.id, CutOff { call, progress: None });
            }
            Some(Kind::Progress) => {
                let progress: Progress = frame.decode().map_err(broken)?;
                if let Some(cut_off) = self.open.get_mut(&progress.id) {
                    cut_off.progress = Some(progress);
                }
            }
            Some(Kind::Posted) => {
                let entry: Entry = frame.decode().map_err(broken)?;
                self.open.remove(&entry.id);
                posted.rows.push(entry);
            }
            Some(Kind::Text) => posted.texts.push(frame.decode().map_err(broken)?),
            None => return Err("a kind of record that this version does not know".to_owned()),
        }
        Ok(())
    }
}

impl CutOff {
    fn into_row(self) -> Entry {
        let OpenCall { draft, ceiling } = self.call;
        let mut row = Entry { estimated: true, outcome: Outcome::Interrupted, ..draft };
        match self.progress {
            Some(progress) => {
                row.usage = progress.usage;
                row.cost = metered_cost(&row, ceiling, progress.cost);
            }
            None => row.cost = metered_cost(&row, ceiling, ceiling),
        }
        row
    }
}

/// A cost that was metered for `draft`; a call with neither a price nor a ceiling stays unpriced.
pub(in crate::ledger) fn metered_cost(draft: &Entry, ceiling: NanoUsd, cost: NanoUsd) -> Option<NanoUsd> {
    let unpriced = draft.cost.is_none() && ceiling == NanoUsd::ZERO && cost == NanoUsd::ZERO;
    (!unpriced).then_some(cost)
}

/// The bytes after the segment's mark; `None` where the mark itself is torn.
fn after_magic<'a>(path: &Path, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, JournalError> {
    if bytes.len() < MAGIC.len() {
        return Ok(None);
    }
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| JournalError::Unreadable {
        path: path.to_owned(),
        offset: 0,
        reason: "it does not begin with the mark of a journal of this version".to_owned(),
    })?;
    Ok(Some(rest))
}
