//! Threads of the backend's own, on which a step's tasks are shared out.
//!
//! Knows nothing of what it runs, and queues nothing: one job at a time, given by whoever holds the pool.
//! Who waits looks for a few microseconds and then sleeps, because the cores are shared with a server: a
//! barrier that spins while its peer is not scheduled takes the very time the peer waits for.
//!
//! ```text
//!   a worker:  looking ──a task is left──▶ running ──none is left──▶ looking
//!                 └──────SPINS looks──────▶ asleep ──a job is given──▶ looking
//! ```
//!
//! Invariants: a task runs exactly once; [`Pool::run`] returns after the last of them; a task that
//! panics ends in an error there and harms no thread.
#![expect(unsafe_code, reason = "tasks borrow from the caller's frame, which the threads cannot see")]

mod split;

use std::hint;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};

use parking_lot::Mutex;

pub(crate) use self::split::{Chunks, Columns, Ranges, Split};

/// How often a thread looks before it sleeps: about ten microseconds. To wake a thread takes fifty.
const SPINS: u32 = 400;

/// Why a job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a task of the step panicked; its message is on standard error")]
pub(crate) struct TaskPanicked;

/// The caller and `n - 1` threads.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// One job, in the frame of the caller that waits for it.
struct Job<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    n_tasks: u32,
    n_done: AtomicU32,
    panicked: AtomicBool,
}

/// A cache line of its own, so that what one thread writes does not slow what another reads.
#[repr(align(128))]
struct Line<T>(T);

struct Shared {
    /// The number of the job in the upper half, and how many of its tasks nobody has taken in the lower.
    left: Line<AtomicU64>,
    /// Of the job with tasks left; dangling when there are none.
    job: AtomicPtr<Job<'static>>,
    asleep: Vec<Line<AtomicBool>>,
    caller_asleep: AtomicBool,
    caller: Mutex<Option<Thread>>,
    stop: AtomicBool,
}

const LEFT_MASK: u64 = u32::MAX as u64;

impl Pool {
    /// Of so many threads, the caller counted; at least one. Fewer when the system gives no more.
    pub(crate) fn new(n_threads: usize) -> Self {
        let n_workers = n_threads.max(1) - 1;
        let shared = Arc::new(Shared {
            left: Line(AtomicU64::new(0)),
            job: AtomicPtr::new(ptr::null_mut()),
            asleep: (0..n_workers).map(|_| Line(AtomicBool::new(false))).collect(),
            caller_asleep: AtomicBool::new(false),
            caller: Mutex::new(None),
            stop: AtomicBool::new(false),
        });
        let spawn = |worker_idx: usize| {
            let shared = Arc::clone(&shared);
            let name = format!("engine-cpu-{}", worker_idx + 1);
            thread::Builder::new().name(name).spawn(move || shared.work(worker_idx)).ok()
        };
        let workers = (0..n_workers).map_while(spawn).collect();
        Self { shared, workers }
    }

    pub(crate) fn n_threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task` once for each part, on all threads.
    pub(crate) fn for_each<S: Split>(
        &mut self,
        parts: S,
        task: impl Fn(usize, S::Part) + Sync,
    ) -> Result<(), TaskPanicked> {
        self.run(parts.n_parts(), &|part_idx| {
            // SAFETY: `run` gives each index once, and `parts` is ours, so nobody else takes parts of it.
            task(part_idx, unsafe { parts.part(part_idx) });
        })
    }

    /// Runs `task` once with each index below `n_tasks`, on all threads.
    pub(crate) fn run(&mut self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<(), TaskPanicked> {
        let n_tasks = u32::try_from(n_tasks).expect("there are fewer tasks than numbers in memory");
        let job = Job { task, n_tasks, n_done: AtomicU32::new(0), panicked: AtomicBool::new(false) };
        if n_tasks <= 1 || self.workers.is_empty() {
            (0..n_tasks).for_each(|left| job.run(n_tasks - left));
        } else {
            self.share(&job);
        }
        if job.panicked.into_inner() { Err(TaskPanicked) } else { Ok(()) }
    }

    fn share(&mut self, job: &Job<'_>) {
        let shared = &*self.shared;
        shared.job.store(ptr::from_ref(job).cast::<Job<'static>>().cast_mut(), Ordering::Relaxed);
        let number = (shared.left.0.load(Ordering::Relaxed) | LEFT_MASK).wrapping_add(1);
        // Sequentially consistent, as is a worker's look after it says that it sleeps: one sees the other.
        shared.left.0.store(number | u64::from(job.n_tasks), Ordering::SeqCst);
        let n_wanted = job.n_tasks as usize - 1;
        for (worker, asleep) in self.workers.iter().zip(&shared.asleep).take(n_wanted) {
            if asleep.0.load(Ordering::SeqCst) && asleep.0.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        while let Some((_, left)) = shared.take() {
            job.run(left);
            job.n_done.fetch_add(1, Ordering::SeqCst);
        }
        self.wait(job);
    }

    /// Until the workers have finished what they took.
    fn wait(&self, job: &Job<'_>) {
        let done = || job.n_done.load(Ordering::SeqCst) == job.n_tasks;
        for _ in 0..SPINS {
            if done() {
                return;
            }
            hint::spin_loop();
        }
        *self.shared.caller.lock() = Some(thread::current());
        self.shared.caller_asleep.store(true, Ordering::SeqCst);
        while !done() {
            thread::park();
        }
        self.shared.caller_asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches every panic, so there is none to pass on.
            let _ = worker.join();
        }
    }
}

impl Job<'_> {
    /// Runs the task that was taken when so many were left.
    fn run(&self, left: u32) {
        let task_idx = (self.n_tasks - left) as usize;
        if catch_unwind(AssertUnwindSafe(|| (self.task)(task_idx))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn work(&self, worker_idx: usize) {
        while !self.stop.load(Ordering::SeqCst) {
            if !self.look() {
                self.sleep(worker_idx);
            }
        }
    }

    /// Whether there was a task before it was time to sleep.
    fn look(&self) -> bool {
        for _ in 0..SPINS {
            if let Some((job, left)) = self.take() {
                self.run(job, left);
                return true;
            }
            hint::spin_loop();
        }
        false
    }

    fn sleep(&self, worker_idx: usize) {
        let asleep = &self.asleep[worker_idx].0;
        asleep.store(true, Ordering::SeqCst);
        let has_work = self.left.0.load(Ordering::SeqCst) & LEFT_MASK > 0;
        if !has_work && !self.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        asleep.store(false, Ordering::SeqCst);
    }

    /// Takes a task: its job, and how many were left with it.
    fn take(&self) -> Option<(*const Job<'static>, u32)> {
        let mut seen = self.left.0.load(Ordering::SeqCst);
        while seen & LEFT_MASK > 0 {
            match self.left.0.compare_exchange_weak(seen, seen - 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Some((self.job.load(Ordering::Relaxed), (seen & LEFT_MASK) as u32)),
                Err(now) => seen = now,
            }
        }
        None
    }

    fn run(&self, job: *const Job<'static>, left: u32) {
        // SAFETY: a task of the job was taken and is not done, and until it is the caller does not return;
        // so this is also the job that the task was taken of.
        let job = unsafe { &*job };
        let n_tasks = job.n_tasks;
        job.run(left);
        // From here on the job may be gone.
        if job.n_done.fetch_add(1, Ordering::SeqCst) + 1 == n_tasks
            && self.caller_asleep.load(Ordering::SeqCst)
            && let Some(caller) = &*self.caller.lock()
        {
            caller.unpark();
        }
    }
}

#[cfg(test)]
mod tests;
