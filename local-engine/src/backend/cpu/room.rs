//! How much memory there is for weights and KV caches, and how much of it is spoken for.
//!
//! Allocates nothing. What is left of it is not known to anyone else: two rooms do not see each other.
//!
//! Invariants: all that was taken from a room is at most what it had.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::backend::BackendError;

/// Memory for models that run beside each other, such as one and its draft; clones share it.
#[derive(Debug, Clone)]
pub struct Room(Arc<AtomicU64>);

impl Room {
    /// So many bytes, or as many as there are.
    pub fn of(memory_bytes: Option<u64>) -> Self {
        let available = available_bytes().unwrap_or(u64::MAX);
        Self(Arc::new(AtomicU64::new(memory_bytes.unwrap_or(u64::MAX).min(available))))
    }

    /// Takes all of it or nothing; `what` is for the error.
    pub(crate) fn take(&self, needed_bytes: u64, what: &'static str) -> Result<(), BackendError> {
        let left = |bytes: u64| bytes.checked_sub(needed_bytes);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_) => Ok(()),
            Err(available_bytes) => Err(BackendError::OutOfMemory { what, needed_bytes, available_bytes }),
        }
    }

    pub(crate) fn give_back(&self, n_bytes: u64) {
        self.0.fetch_add(n_bytes, Ordering::Relaxed);
    }
}

/// What the system would give without swapping, and the process's control group without killing it; none
/// where neither says.
pub(crate) fn available_bytes() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let of_system = read("/proc/meminfo").and_then(|text| of_meminfo(&text));
    let of_group =
        read("/proc/self/cgroup").and_then(|text| of_control_groups(&text, Path::new("/sys/fs/cgroup")));
    of_system.into_iter().chain(of_group).min()
}

fn of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The files of a version of control groups.
struct Version {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: what the kernel keeps of files and would drop.
    droppable: &'static str,
}

const V1: Version = Version {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    droppable: "total_inactive_file",
};
const V2: Version = Version { limit: "memory.max", usage: "memory.current", droppable: "inactive_file" };

/// The least that any of the groups that hold the process leaves it. A container may not see the folder it
/// is said to be in, but its own limit at the top.
fn of_control_groups(memberships: &str, mounted_at: &Path) -> Option<u64> {
    let of_line = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (version, top) = match controllers {
            "" => (V2, mounted_at.to_owned()),
            _ if controllers.split(',').any(|name| name == "memory") => (V1, mounted_at.join("memory")),
            _ => return None,
        };
        let path = Path::new(path.trim_start_matches('/'));
        path.ancestors().filter_map(|group| left_in(&top.join(group), &version)).min()
    };
    memberships.lines().filter_map(of_line).min()
}

fn left_in(group: &Path, version: &Version) -> Option<u64> {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    // A group without a limit says `max`, or in the first version more than any machine has.
    let (limit, usage) = (number(version.limit)?, number(version.usage)?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let droppable = stat.lines().find_map(|line| line.strip_prefix(version.droppable)?.trim().parse().ok());
    Some(limit.saturating_sub(usage.saturating_sub(droppable.unwrap_or(0))))
}

#[cfg(test)]
mod tests;
