//! The semantic index of one replica: every vector of the scope compared, exactly.
//!
//! Shares nothing with other replicas. With a folder it survives a restart, by way of the log.
//!
//! Invariants: at most `max_entries` entries and `max_bytes` bytes, the expired going first and then
//! whoever saves least for its bytes; the file replayed from the top gives what is in memory, because
//! what has to go stands in it, too; a failing disk loses nothing but the next restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use parking_lot::RwLock;
use tokio::sync::OwnedMutexGuard;

use super::log::{Log, Record, encode};
use super::{EntryId, Index, IndexEntry, IndexError, Neighbour, Wanted};
use crate::cache::purge::Chosen;
use crate::chat::Fingerprint;

mod codes;
mod dot;
mod eviction;
mod partition;
mod rounded;
mod shelf;

use shelf::Shelf;

/// A file may hold as much that is dead as alive, and this much more, before it is rewritten.
const DEAD_SLACK_BYTES: u64 = 1 << 20;
const FILE_NAME: &str = "semantic.log";
/// Larger scopes are compared off the async threads: a tenth of a millisecond with AVX-512, and six
/// times that without.
const INLINE_SCAN_BYTES: usize = 4 << 20;
/// Entries removed under one lock, so that lookups need not wait for a large purge.
const REMOVED_AT_ONCE: usize = 256;

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
    shelf: RwLock<Shelf>,
    /// Always taken before `shelf` is written, so that the file's order is the order in memory. An async
    /// lock: while the disk stalls, one blocking thread waits for it and not one for each change.
    file: Arc<tokio::sync::Mutex<Kept>>,
    failed: Option<Failed>,
}

enum Kept {
    InMemory,
    InFile(Log),
}

/// Why the file could not be opened; said by `readiness`.
struct Failed {
    path: String,
    reason: String,
}

/// A change on its way to memory and then to the file.
type Turn = OwnedMutexGuard<Kept>;

impl ScanIndex {
    /// Reads back what the file holds. A file that cannot be used leaves an index that works, and
    /// says so when asked for its readiness.
    pub fn open(config: &ScanConfig, now_ms: i64) -> Self {
        let mut shelf = Shelf::bounded(config.max_entries, config.max_bytes);
        let (kept, failed) = match &config.dir {
            None => (Kept::InMemory, None),
            Some(dir) => match open_log(&dir.join(FILE_NAME), &mut shelf, now_ms) {
                Ok(log) => (Kept::InFile(log), None),
                Err(failed) => (Kept::InMemory, Some(failed)),
            },
        };
        let file = Arc::new(tokio::sync::Mutex::new(kept));
        Self(Arc::new(Shared { shelf: RwLock::new(shelf), file, failed }))
    }

    /// Changes run off the async threads: an append touches the disk, a rewrite may take long.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Shared, Turn) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, IndexError> {
        let shared = Arc::clone(&self.0);
        let turn = Arc::clone(&shared.file).lock_owned().await;
        tokio::task::spawn_blocking(move || change(&shared, turn)).await?
    }
}

fn open_log(path: &Path, shelf: &mut Shelf, now_ms: i64) -> Result<Log, Failed> {
    let mut n_evicted = 0;
    let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    let opened = parent.and_then(|()| Log::open(path, |record| n_evicted += replay(shelf, record, now_ms)));
    let (mut log, n_cut) = opened.map_err(|error| {
        tracing::warn!(file = %path.display(), %error, "semantic entries will not survive a restart");
        Failed { path: path.display().to_string(), reason: error.to_string() }
    })?;
    if n_cut > 0 {
        tracing::warn!(file = %path.display(), n_bytes = n_cut, "the end of the semantic log was damaged and is cut off");
    }
    shelf.remove_expired(now_ms);
    // The bounds were wider, or an earlier version wrote it: what went now is nowhere in the file.
    if n_evicted > 0
        && let Err(error) = log.rewrite(shelf.oldest_first().map(Record::Upsert))
    {
        tracing::warn!(file = %path.display(), %error, "the semantic log keeps entries that are beyond its bounds");
    }
    Ok(log)
}

/// Tells how many others had to go.
fn replay(shelf: &mut Shelf, record: Record, now_ms: i64) -> usize {
    match record {
        // A vector of another length than its neighbours' comes from another embedder.
        Record::Upsert(entry) => shelf.upsert(entry, now_ms).map_or(0, |upserted| upserted.gone.len()),
        Record::Remove(id) => {
            shelf.remove(id);
            0
        }
        Record::Purge => {
            shelf.purge();
            0
        }
    }
}

impl Shared {
    fn upsert(&self, mut turn: Turn, entry: IndexEntry, now_ms: i64) -> Result<(), IndexError> {
        let mut frame = Vec::new();
        let record = Record::Upsert(entry);
        if matches!(*turn, Kept::InFile(_)) {
            encode(&record, &mut frame);
        }
        let Record::Upsert(entry) = record else { return Ok(()) };
        let upserted = self.shelf.write().upsert(entry, now_ms)?;
        // Before the entry, for there to be room for it when they are replayed.
        let mut frames = Vec::new();
        upserted.gone.into_iter().for_each(|id| encode(&Record::Remove(id), &mut frames));
        if upserted.is_kept {
            frames.append(&mut frame);
        }
        self.write(&mut turn, &frames)
    }

    fn remove(&self, turn: &mut Turn, ids: &[EntryId]) -> Result<u64, IndexError> {
        let mut n_gone = 0;
        for ids in ids.chunks(REMOVED_AT_ONCE) {
            let mut frames = Vec::new();
            let mut shelf = self.shelf.write();
            for id in ids.iter().filter(|id| shelf.remove(**id)) {
                encode(&Record::Remove(*id), &mut frames);
                n_gone += 1;
            }
            drop(shelf);
            self.write(turn, &frames)?;
        }
        Ok(n_gone)
    }

    fn purge(&self, mut turn: Turn) -> Result<u64, IndexError> {
        let n_gone = self.shelf.write().purge();
        let mut frame = Vec::new();
        encode(&Record::Purge, &mut frame);
        self.write(&mut turn, &frame)?;
        Ok(n_gone as u64)
    }

    fn purge_where(&self, mut turn: Turn, chosen: &Chosen) -> Result<u64, IndexError> {
        let ids: Vec<EntryId> = {
            let shelf = self.shelf.read();
            shelf.answers().filter(|(_, answer)| chosen.takes(answer)).map(|(id, _)| id).collect()
        };
        self.remove(&mut turn, &ids)
    }

    /// Appends to the file, where there is one, and rewrites it when most of it is dead.
    fn write(&self, turn: &mut Turn, frames: &[u8]) -> Result<(), IndexError> {
        let Kept::InFile(log) = &mut **turn else { return Ok(()) };
        if frames.is_empty() {
            return Ok(());
        }
        let written = log.append(frames).and_then(|()| {
            let shelf = self.shelf.read();
            if log.size_bytes() <= 2 * shelf.file_bytes() + DEAD_SLACK_BYTES {
                return Ok(());
            }
            log.rewrite(shelf.oldest_first().map(Record::Upsert))
        });
        written.map_err(|source| IndexError::Persist { path: log.path().display().to_string(), source })
    }
}

/// A question that can be taken to another thread.
struct Asked {
    scope: Fingerprint,
    vector: Vec<f32>,
    k: usize,
    min_similarity: f32,
    now_ms: i64,
}

impl Asked {
    fn of(wanted: &Wanted<'_>) -> Self {
        let Wanted { scope, vector, k, min_similarity, now_ms } = *wanted;
        Self { scope: *scope, vector: vector.to_vec(), k, min_similarity, now_ms }
    }

    fn wanted(&self) -> Wanted<'_> {
        let Self { scope, vector, k, min_similarity, now_ms } = self;
        Wanted { scope, vector, k: *k, min_similarity: *min_similarity, now_ms: *now_ms }
    }
}

impl Index for ScanIndex {
    fn upsert(&self, entry: IndexEntry, now_ms: i64) -> BoxFuture<'_, Result<(), IndexError>> {
        self.change(move |shared, turn| shared.upsert(turn, entry, now_ms)).boxed()
    }

    fn nearest<'a>(&'a self, wanted: Wanted<'a>) -> BoxFuture<'a, Result<Vec<Neighbour>, IndexError>> {
        let shelf = self.0.shelf.read();
        if shelf.scan_bytes(wanted.scope) <= INLINE_SCAN_BYTES {
            return std::future::ready(shelf.nearest(&wanted)).boxed();
        }
        drop(shelf);
        let (shared, asked) = (Arc::clone(&self.0), Asked::of(&wanted));
        tokio::task::spawn_blocking(move || shared.shelf.read().nearest(&asked.wanted()))
            .map_err(IndexError::from)
            .and_then(std::future::ready)
            .boxed()
    }

    fn answer(&self, id: EntryId) -> BoxFuture<'_, Result<Option<Bytes>, IndexError>> {
        // Not behind a change that itself waits for a long scan; so for all that takes no time.
        std::future::ready(Ok(self.0.shelf.read_recursive().answer(id))).boxed()
    }

    fn touch(&self, id: EntryId) {
        self.0.shelf.read_recursive().touch(id);
    }

    fn remove(&self, id: EntryId) -> BoxFuture<'_, Result<u64, IndexError>> {
        self.change(move |shared, mut turn| shared.remove(&mut turn, &[id])).boxed()
    }

    fn purge(&self) -> BoxFuture<'_, Result<u64, IndexError>> {
        self.change(Shared::purge).boxed()
    }

    fn purge_where<'a>(&'a self, chosen: &'a Chosen) -> BoxFuture<'a, Result<u64, IndexError>> {
        let chosen = chosen.clone();
        self.change(move |shared, turn| shared.purge_where(turn, &chosen)).boxed()
    }

    fn size_bytes(&self) -> Option<u64> {
        Some(self.0.shelf.read_recursive().size_bytes())
    }

    fn count(&self) -> BoxFuture<'_, Result<u64, IndexError>> {
        std::future::ready(Ok(self.0.shelf.read_recursive().n_entries() as u64)).boxed()
    }

    fn readiness(&self) -> BoxFuture<'_, Result<(), IndexError>> {
        let readiness = match &self.0.failed {
            None => Ok(()),
            Some(Failed { path, reason }) => {
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
