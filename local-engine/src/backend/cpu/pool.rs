//! Threads of the backend's own, on which a step's tasks are shared out.
//!
//! Knows nothing of what it runs, and queues nothing: one job at a time, given by whoever holds the pool.
//! Each thread has a run of neighbouring tasks, because weights are read fastest from front to back; who
//! is done with its own takes from the ends of the others'.
//!
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
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};

use parking_lot::Mutex;

pub(crate) use self::split::{Chunks, Columns, Distinct, Picked, Ranges, Split, Strip};

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
    /// The index of its first task, of a job that was too long for one.
    first: usize,
    n_tasks: usize,
    n_done: AtomicUsize,
    panicked: AtomicBool,
}

/// A cache line of its own, so that what one thread writes does not slow what another reads.
#[repr(align(128))]
struct Line<T>(T);

struct Shared {
    /// For each thread, the caller first, the tasks of its run that nobody has taken.
    runs: Vec<Line<AtomicU64>>,
    /// Counts jobs; changes after all runs have.
    number: Line<AtomicU32>,
    /// Of the job with tasks left; dangling when there are none.
    job: AtomicPtr<Job<'static>>,
    /// One a worker.
    asleep: Vec<Line<AtomicBool>>,
    caller_asleep: AtomicBool,
    caller: Mutex<Option<Thread>>,
    stop: AtomicBool,
}

/// Consecutive tasks of a job, in one word: the job's number, the first and the end.
#[derive(Debug, Clone, Copy)]
struct Run {
    number: u32,
    first: u16,
    end: u16,
}

impl Run {
    fn of_bits(bits: u64) -> Self {
        Self { number: (bits >> 32) as u32, first: (bits >> 16) as u16, end: bits as u16 }
    }

    fn bits(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.first) << 16 | u64::from(self.end)
    }

    /// A task, from the front for its owner and from the back for others, and what is left.
    fn take(self, is_own: bool) -> Option<(u16, Self)> {
        if self.first >= self.end {
            None
        } else if is_own {
            Some((self.first, Self { first: self.first + 1, ..self }))
        } else {
            Some((self.end - 1, Self { end: self.end - 1, ..self }))
        }
    }
}

/// Tasks of a job, at most.
const MAX_TASKS: usize = u16::MAX as usize;

/// The caller's place among the runs.
const CALLER: usize = 0;

impl Pool {
    /// Of so many threads, the caller counted; at least one. Fewer when the system gives no more.
    pub(crate) fn new(n_threads: usize) -> Self {
        let n_workers = n_threads.max(1) - 1;
        let shared = Arc::new(Shared {
            runs: (0..=n_workers).map(|_| Line(AtomicU64::new(0))).collect(),
            number: Line(AtomicU32::new(0)),
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

    /// As `for_each`, on the caller's thread alone: for what takes less than to tell the others.
    pub(crate) fn for_each_here<S: Split>(&mut self, parts: S, mut task: impl FnMut(usize, S::Part)) {
        for part_idx in 0..parts.n_parts() {
            // SAFETY: each index is given once, and `parts` is ours.
            task(part_idx, unsafe { parts.part(part_idx) });
        }
    }

    /// Runs `task` once with each index below `n_tasks`, on all threads.
    pub(crate) fn run(&mut self, n_tasks: usize, task: &(dyn Fn(usize) + Sync)) -> Result<(), TaskPanicked> {
        let mut panicked = false;
        for first in (0..n_tasks).step_by(MAX_TASKS) {
            let n_tasks = MAX_TASKS.min(n_tasks - first);
            let job =
                Job { task, first, n_tasks, n_done: AtomicUsize::new(0), panicked: AtomicBool::new(false) };
            if n_tasks == 1 || self.workers.is_empty() {
                (0..n_tasks).for_each(|task_idx| job.run(task_idx as u16));
            } else {
                self.share(&job);
            }
            panicked |= job.panicked.into_inner();
        }
        if panicked { Err(TaskPanicked) } else { Ok(()) }
    }

    fn share(&mut self, job: &Job<'_>) {
        let shared = &*self.shared;
        shared.job.store(ptr::from_ref(job).cast::<Job<'static>>().cast_mut(), Ordering::Relaxed);
        let number = shared.number.0.load(Ordering::Relaxed).wrapping_add(1);
        let n_runs = shared.runs.len();
        for (idx, run) in shared.runs.iter().enumerate() {
            let border = |idx: usize| (idx * job.n_tasks / n_runs) as u16;
            let of_thread = Run { number, first: border(idx), end: border(idx + 1) };
            run.0.store(of_thread.bits(), Ordering::Release);
        }
        // Sequentially consistent, as is a worker's look after it says that it sleeps: one sees the other.
        shared.number.0.store(number, Ordering::SeqCst);
        for (worker, asleep) in self.workers.iter().zip(&shared.asleep).take(job.n_tasks - 1) {
            if asleep.0.load(Ordering::SeqCst) && asleep.0.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        while let Some((_, task_idx)) = shared.take(CALLER) {
            job.run(task_idx);
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
    fn run(&self, task_idx: u16) {
        let task_idx = self.first + usize::from(task_idx);
        if catch_unwind(AssertUnwindSafe(|| (self.task)(task_idx))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn work(&self, worker_idx: usize) {
        let mut seen = 0;
        while !self.stop.load(Ordering::SeqCst) {
            match self.look(seen) {
                Some(number) => {
                    seen = number;
                    while let Some((job, task_idx)) = self.take(1 + worker_idx) {
                        self.run(job, task_idx);
                    }
                }
                None => self.sleep(worker_idx, seen),
            }
        }
    }

    /// The number of a job that was not seen, unless it is time to sleep.
    fn look(&self, seen: u32) -> Option<u32> {
        for _ in 0..SPINS {
            let number = self.number.0.load(Ordering::Acquire);
            if number != seen {
                return Some(number);
            }
            hint::spin_loop();
        }
        None
    }

    fn sleep(&self, worker_idx: usize, seen: u32) {
        let asleep = &self.asleep[worker_idx].0;
        asleep.store(true, Ordering::SeqCst);
        if self.number.0.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
            thread::park();
        }
        asleep.store(false, Ordering::SeqCst);
    }

    /// Takes a task, of the thread's own run while there are any: its job and its index.
    fn take(&self, thread_idx: usize) -> Option<(*const Job<'static>, u16)> {
        let n_runs = self.runs.len();
        for run_idx in (thread_idx..n_runs).chain(0..thread_idx) {
            let run = &self.runs[run_idx].0;
            let mut seen = run.load(Ordering::Acquire);
            while let Some((task_idx, left)) = Run::of_bits(seen).take(run_idx == thread_idx) {
                match run.compare_exchange_weak(seen, left.bits(), Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return Some((self.job.load(Ordering::Relaxed), task_idx)),
                    Err(now) => seen = now,
                }
            }
        }
        None
    }

    fn run(&self, job: *const Job<'static>, task_idx: u16) {
        // SAFETY: a task of the job was taken and is not done, and until it is the caller does not return;
        // so this is also the job that the task was taken of.
        let job = unsafe { &*job };
        let n_tasks = job.n_tasks;
        job.run(task_idx);
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
