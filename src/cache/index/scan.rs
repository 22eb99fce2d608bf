//! The semantic index of one replica: every vector of the scope compared, exactly.
//!
//! Shares nothing with other replicas. With a folder it survives a restart, by way of the log.
//!
//! Invariants: at most `max_entries` entries and `max_bytes` bytes, the oldest going first; the file
//! replayed from the top gives what is in memory; a failing disk loses nothing but the next restart.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use parking_lot::{Mutex, RwLock};

use super::log::{Log, Record};
use super::{EntryId, Index, IndexEntry, IndexError, Neighbour, Wanted};
use crate::cache::purge::Chosen;

mod partition;
mod shelf;

use shelf::Shelf;

/// A file may hold as much that is dead as alive, and this much more, before it is rewritten.
const DEAD_SLACK_BYTES: u64 = 1 << 20;
const FILE_NAME: &str = "semantic.log";

/// The bounds of the index, and where it is kept.
#[derive(Debug, Clone)]
pub struct ScanConfig {
    pub max_entries: usize,
    pub max_bytes: u64,
    /// The folder of the log; `None` keeps entries in memory only.
    pub dir: Option<PathBuf>,
}

pub struct ScanIndex(Arc<Shared>);

struct Shared {
    /// Always taken before `shelf`, so that the file's order is the order in memory.
    file: Mutex<Kept>,
    shelf: RwLock<Shelf>,
}

enum Kept {
    InMemory,
    InFile(Log),
    /// The file could not be opened; said by `readiness`.
    Failed {
        path: String,
        reason: String,
    },
}

impl ScanIndex {
    /// Reads back what the file holds. A file that cannot be used leaves an index that works, and
    /// says so when asked for its readiness.
    pub fn open(config: &ScanConfig, now_ms: i64) -> Self {
        let mut shelf = Shelf::bounded(config.max_entries, config.max_bytes);
        let kept = match &config.dir {
            None => Kept::InMemory,
            Some(dir) => open_log(&dir.join(FILE_NAME), &mut shelf, now_ms),
        };
        Self(Arc::new(Shared { file: Mutex::new(kept), shelf: RwLock::new(shelf) }))
    }

    /// Changes run off the async threads: an append touches the disk, a rewrite may take long. Tells how
    /// many entries fewer there are.
    fn change(&self, record: Record, now_ms: i64) -> BoxFuture<'_, Result<u64, IndexError>> {
        let shared = Arc::clone(&self.0);
        async move { tokio::task::spawn_blocking(move || shared.change(record, now_ms)).await? }.boxed()
    }
}

fn open_log(path: &std::path::Path, shelf: &mut Shelf, now_ms: i64) -> Kept {
    let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let opened = parent.and_then(|()| {
        Log::open(path, |record| {
            // A vector of another length than its neighbours' comes from another embedder.
            let _ = shelf.apply(record, now_ms);
        })
    });
    match opened {
        Ok((log, 0)) => Kept::InFile(log),
        Ok((log, n_cut)) => {
            tracing::warn!(file = %path.display(), n_bytes = n_cut, "the end of the semantic log was damaged and is cut off");
            Kept::InFile(log)
        }
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "semantic entries will not survive a restart");
            Kept::Failed { path: path.display().to_string(), reason: error.to_string() }
        }
    }
}

impl Shared {
    fn change(&self, record: Record, now_ms: i64) -> Result<u64, IndexError> {
        let mut kept = self.file.lock();
        self.change_in(&mut kept, record, now_ms)
    }

    fn change_in(&self, kept: &mut Kept, record: Record, now_ms: i64) -> Result<u64, IndexError> {
        let n_gone = {
            let mut shelf = self.shelf.write();
            let n_before = shelf.n_entries();
            shelf.apply(record.clone(), now_ms)?;
            n_before.saturating_sub(shelf.n_entries()) as u64
        };
        let Kept::InFile(log) = kept else { return Ok(n_gone) };
        let path = log.path().display().to_string();
        self.write(log, &record).map_err(|source| IndexError::Persist { path, source })?;
        Ok(n_gone)
    }

    fn purge_where(&self, chosen: &Chosen) -> Result<u64, IndexError> {
        let mut kept = self.file.lock();
        let ids: Vec<EntryId> = {
            let shelf = self.shelf.read();
            shelf.answers().filter(|(_, answer)| chosen.takes(answer)).map(|(id, _)| id).collect()
        };
        let mut n_gone = 0;
        for id in ids {
            n_gone += self.change_in(&mut kept, Record::Remove(id), i64::MIN)?;
        }
        Ok(n_gone)
    }

    fn write(&self, log: &mut Log, record: &Record) -> std::io::Result<()> {
        log.append(record)?;
        let shelf = self.shelf.read();
        if log.size_bytes() > 2 * shelf.size_bytes() + DEAD_SLACK_BYTES {
            log.rewrite(shelf.oldest_first().map(Record::Upsert))?;
        }
        Ok(())
    }
}

impl Index for ScanIndex {
    fn upsert(&self, entry: IndexEntry, now_ms: i64) -> BoxFuture<'_, Result<(), IndexError>> {
        self.change(Record::Upsert(entry), now_ms).map_ok(|_| ()).boxed()
    }

    fn nearest<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Vec<Neighbour>, IndexError>> {
        std::future::ready(self.0.shelf.read().nearest(&wanted)).boxed()
    }

    fn answer(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Bytes>, IndexError>> {
        std::future::ready(Ok(self.0.shelf.read().answer(id))).boxed()
    }

    fn remove(&self, id: EntryId) -> BoxFuture<'_, Result<u64, IndexError>> {
        self.change(Record::Remove(id), i64::MIN)
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64, IndexError>> {
        self.change(Record::Purge, i64::MIN)
    }

    fn purge_where<'a>(&'a self, chosen: &'a Chosen) -> BoxFuture<'a, Result<u64, IndexError>> {
        let (shared, chosen) = (Arc::clone(&self.0), chosen.clone());
        async move { tokio::task::spawn_blocking(move || shared.purge_where(&chosen)).await? }.boxed()
    }

    fn size_bytes(&self) -> Option<u64> {
        Some(self.0.shelf.read().size_bytes())
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, IndexError>> {
        std::future::ready(Ok(self.0.shelf.read().n_entries() as u64)).boxed()
    }

    fn readiness(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        let readiness = match &*self.0.file.lock() {
            Kept::InMemory | Kept::InFile(_) => Ok(()),
            Kept::Failed { path, reason } => {
                Err(IndexError::Persist { path: path.clone(), source: std::io::Error::other(reason.clone()) })
            }
        };
        std::future::ready(readiness).boxed()
    }

    fn name(&self) -> &'static str {
        "scan"
    }
}

#[cfg(test)]
mod tests;
