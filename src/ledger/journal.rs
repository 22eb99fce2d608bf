//! The write-ahead journal: what was sent and what was posted, on this machine's disk before anything else.
//!
//! Knows nothing of SQL or budgets. One `write(2)` a record, so that a record survives `kill -9` once
//! [`Journal::append`] has returned; `fsync` follows within `fsync_interval_ms`, which bounds what a power
//! cut may take.
//!
//! Invariants: one process holds the directory; a record is appended whole or, after a failed write, cut
//! off again; a segment is deleted only when every row in it is in the database, oldest first, and calls
//! still open were carried over into a younger one before.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

mod record;
mod replay;
mod sync;
mod tail;

pub(super) use record::{Framed, OpenCallRef, Progress, TextOf};
pub(super) use replay::{Replay, Replayed, metered_cost};
pub(super) use sync::Syncer;
pub(super) use tail::{Batch, Tail};

use self::record::{Kind, MAGIC};
use crate::team::CallId;

/// What went wrong with the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(
        "journal directory `{}` is in use by another process; give each process a `journal_dir` of its own",
        dir.display()
    )]
    Locked { dir: PathBuf },
    #[error("journal file `{}`: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "journal file `{}` at byte {offset}: {reason}; start the version that wrote it, or move the file away",
        path.display()
    )]
    Unreadable { path: PathBuf, offset: u64, reason: String },
    #[error("a journal record of {n_bytes} bytes is larger than {max_bytes}; send fewer or shorter tags")]
    TooLarge { n_bytes: usize, max_bytes: usize },
    #[error("a journal record cannot be encoded: {0}")]
    Encode(serde_json::Error),
    #[error("the journal is closed")]
    Closed,
}

/// The bounds a journal keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct JournalLimits {
    pub(super) max_bytes: u64,
    pub(super) segment_bytes: u64,
}

/// What the journal's files hold now, and at how much new calls are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalFill {
    pub size_bytes: u64,
    pub max_bytes: u64,
}

impl JournalFill {
    /// Whether new calls must wait. Calls in flight may still append, so that none of them is lost.
    pub fn is_full(&self) -> bool {
        self.size_bytes >= self.max_bytes
    }
}

#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    limits: JournalLimits,
    lock: File,
    size_bytes: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    active: Segment,
    file: Arc<File>,
    /// Bytes of the active segment that are not calls carried over into it.
    n_fresh_bytes: u64,
    sealed: VecDeque<Segment>,
    /// Files written to since the last `fsync`.
    unsynced: Vec<Arc<File>>,
    open: HashMap<CallId, Carried>,
    /// Texts of calls stand in the active segment.
    has_text: bool,
    /// A failed write could not be cut off again: the next record needs a new segment.
    is_torn: bool,
    is_closed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    no: u64,
    n_bytes: u64,
}

/// The records of a call still open, to be repeated in the next segment.
#[derive(Debug)]
struct Carried {
    open: Vec<u8>,
    progress: Option<Vec<u8>>,
}

impl Journal {
    /// Locks `dir` and starts a new segment; what older ones hold comes back as a [`Replay`].
    pub(super) fn open(dir: &Path, limits: JournalLimits) -> Result<(Self, Replay), JournalError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| JournalError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let lock = lock(dir)?;
        let sealed = segments(dir).map_err(failed(dir))?;
        let no = sealed.back().map_or(1, |last| last.no + 1);
        let file = create_segment(dir, no).map_err(failed(&segment_path(dir, no)))?;
        let replay = Replay::new(dir, sealed.iter().map(|segment| segment.no).collect());

        let active = Segment { no, n_bytes: MAGIC.len() as u64 };
        let size_bytes = active.n_bytes + sealed.iter().map(|segment| segment.n_bytes).sum::<u64>();
        let state = State {
            active,
            unsynced: with_its_name(dir, &file),
            file,
            n_fresh_bytes: 0,
            sealed,
            open: HashMap::new(),
            has_text: false,
            is_torn: false,
            is_closed: false,
        };
        let size_bytes = AtomicU64::new(size_bytes);
        Ok((Self { dir: dir.to_owned(), limits, lock, size_bytes, state: Mutex::new(state) }, replay))
    }

    /// Appends one record. On return it survives `kill -9`; on an error nothing of it is left.
    pub(super) fn append(&self, record: Framed) -> Result<(), JournalError> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(JournalError::Closed);
        }
        if state.is_torn || state.n_fresh_bytes + record.bytes.len() as u64 > self.limits.segment_bytes {
            self.rotate(&mut state)?;
        }
        let n_bytes = state.write(&record.bytes).map_err(|source| self.failed(state.active.no, source))?;
        state.n_fresh_bytes += n_bytes;
        state.has_text |= record.has_text;
        self.size_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        state.remember(record);
        Ok(())
    }

    pub(super) fn fill(&self) -> JournalFill {
        let size_bytes = self.size_bytes.load(Ordering::Relaxed);
        JournalFill { size_bytes, max_bytes: self.limits.max_bytes }
    }

    /// Deletes the segments before `no`. The caller knows that their rows are in the database.
    pub(super) fn delete_before(&self, no: u64) -> Result<(), JournalError> {
        // What was carried over must be on the platter before its first copy goes.
        self.sync()?;
        loop {
            let Some(oldest) = self.state.lock().sealed.front().copied().filter(|oldest| oldest.no < no)
            else {
                return Ok(());
            };
            let gone = fs::remove_file(segment_path(&self.dir, oldest.no));
            gone.map_err(|source| self.failed(oldest.no, source))?;
            self.state.lock().sealed.pop_front();
            self.size_bytes.fetch_sub(oldest.n_bytes, Ordering::Relaxed);
        }
    }

    /// Ends the active segment where texts stand in it, so that they go as soon as their rows are written.
    /// Returns the youngest segment that can hold a text.
    pub(super) fn seal_texts(&self) -> Result<u64, JournalError> {
        let mut state = self.state.lock();
        if state.has_text && !state.is_closed {
            self.rotate(&mut state)?;
        }
        Ok(if state.has_text { state.active.no } else { state.active.no - 1 })
    }

    /// Whether every segment up to `no` was deleted.
    pub(super) fn is_gone(&self, no: u64) -> bool {
        let state = self.state.lock();
        state.active.no > no && state.sealed.front().is_none_or(|oldest| oldest.no > no)
    }

    /// Forces to disk what was appended so far.
    pub(super) fn sync(&self) -> Result<(), JournalError> {
        let files = std::mem::take(&mut self.state.lock().unsynced);
        for (idx, file) in files.iter().enumerate() {
            if let Err(source) = file.sync_data() {
                self.state.lock().unsynced.extend_from_slice(&files[idx..]);
                return Err(JournalError::Io { path: self.dir.clone(), source });
            }
        }
        Ok(())
    }

    /// Ends the journal after its last row was written: nothing is left unless calls are still open.
    /// Returns how many are; the next start posts them as interrupted.
    pub(super) fn close(&self) -> Result<usize, JournalError> {
        let (n_open, last) = {
            let mut state = self.state.lock();
            if state.is_closed {
                return Ok(0);
            }
            self.rotate(&mut state)?;
            state.is_closed = true;
            (state.open.len(), state.active)
        };
        self.delete_before(last.no)?;
        if n_open == 0 {
            let gone = fs::remove_file(segment_path(&self.dir, last.no));
            gone.map_err(|source| self.failed(last.no, source))?;
        }
        self.unlock();
        Ok(n_open)
    }

    /// Ends the journal with everything still in it, for the next start to read.
    pub(super) fn abandon(&self) -> Result<(), JournalError> {
        self.state.lock().is_closed = true;
        self.sync()?;
        self.unlock();
        Ok(())
    }

    fn unlock(&self) {
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(%error, "the journal's lock could not be released; it goes with the process");
        }
    }

    fn rotate(&self, state: &mut State) -> Result<(), JournalError> {
        let no = state.active.no + 1;
        let started = start_segment(&self.dir, no, &state.open);
        let (file, n_bytes) = match started {
            Ok(started) => started,
            Err(source) => {
                let error = self.failed(no, source);
                // A half-written segment must not be found by a later start in front of a whole one.
                drop(fs::remove_file(segment_path(&self.dir, no)));
                if state.is_torn {
                    return Err(error);
                }
                tracing::error!(%error, "no new journal segment; the old one goes on growing");
                state.n_fresh_bytes = 0;
                return Ok(());
            }
        };
        state.sealed.push_back(state.active);
        state.active = Segment { no, n_bytes };
        state.unsynced.extend(with_its_name(&self.dir, &file));
        state.file = file;
        state.n_fresh_bytes = 0;
        state.has_text = false;
        state.is_torn = false;
        self.size_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn active_segment(&self) -> u64 {
        self.state.lock().active.no
    }

    /// How far a segment may be read, and whether it is complete; `None` where there is none.
    fn extent(&self, no: u64) -> Option<(u64, bool)> {
        let state = self.state.lock();
        if state.active.no == no {
            return Some((state.active.n_bytes, false));
        }
        state.sealed.iter().find(|segment| segment.no == no).map(|segment| (segment.n_bytes, true))
    }

    fn failed(&self, no: u64, source: io::Error) -> JournalError {
        JournalError::Io { path: segment_path(&self.dir, no), source }
    }
}

impl State {
    fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if let Err(error) = (&*self.file).write_all(bytes) {
            self.is_torn = self.file.set_len(self.active.n_bytes).is_err();
            return Err(error);
        }
        if self.unsynced.last().is_none_or(|file| !Arc::ptr_eq(file, &self.file)) {
            self.unsynced.push(Arc::clone(&self.file));
        }
        self.active.n_bytes += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }

    fn remember(&mut self, record: Framed) {
        match record.kind {
            Kind::Open => {
                self.open.insert(record.id, Carried { open: record.bytes, progress: None });
            }
            Kind::Progress => {
                if let Some(carried) = self.open.get_mut(&record.id) {
                    carried.progress = Some(record.bytes);
                }
            }
            Kind::Posted => {
                self.open.remove(&record.id);
            }
            // A text never comes alone: its row's record has it in front.
            Kind::Text => {}
        }
    }
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("lock");
    let failed = |source| JournalError::Io { path: path.clone(), source };
    let file = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The segments in `dir`, oldest first.
fn segments(dir: &Path) -> io::Result<VecDeque<Segment>> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir)? {
        let file = file?;
        let name = file.file_name();
        let no = name.to_str().and_then(|name| name.strip_suffix(".wal")).and_then(|no| no.parse().ok());
        if let Some(no) = no {
            found.push(Segment { no, n_bytes: file.metadata()?.len() });
        }
    }
    found.sort_unstable_by_key(|segment| segment.no);
    Ok(found.into())
}

fn segment_path(dir: &Path, no: u64) -> PathBuf {
    dir.join(format!("{no:08}.wal"))
}

fn create_segment(dir: &Path, no: u64) -> io::Result<Arc<File>> {
    let file = OpenOptions::new().create_new(true).append(true).open(segment_path(dir, no))?;
    (&file).write_all(MAGIC)?;
    Ok(Arc::new(file))
}

/// What must be forced to disk for a new segment: its bytes, and the directory that names it.
fn with_its_name(dir: &Path, file: &Arc<File>) -> Vec<Arc<File>> {
    File::open(dir).map(Arc::new).into_iter().chain([Arc::clone(file)]).collect()
}

/// A new segment that begins with the calls still open.
fn start_segment(dir: &Path, no: u64, open: &HashMap<CallId, Carried>) -> io::Result<(Arc<File>, u64)> {
    let file = create_segment(dir, no)?;
    let mut carried = Vec::new();
    for call in open.values() {
        carried.extend_from_slice(&call.open);
        carried.extend_from_slice(call.progress.as_deref().unwrap_or_default());
    }
    (&*file).write_all(&carried)?;
    Ok((file, (MAGIC.len() + carried.len()) as u64))
}

#[cfg(test)]
mod tests;
