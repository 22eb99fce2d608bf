//! Threads that each own one model and take work from one bounded queue.
//!
//! Does not know what a model is: anything that works through `&mut` fits. It neither grows nor
//! retries, and a result that comes too late is thrown away.
//!
//! Invariants: at most `queue_len` inputs wait; an input whose caller has gone is never worked on; a
//! panic in the work fails that input and leaves the thread alive; dropping the pool ends its threads.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("model pool is busy: {waiting} inputs are waiting; raise its threads")]
    Busy { waiting: usize },
    #[error("model did not answer within {deadline_ms} ms; raise its deadline or its threads")]
    Deadline { deadline_ms: u64 },
    #[error("model failed: {0}")]
    Failed(String),
    #[error("model pool is closed")]
    Closed,
}

/// How many threads a pool has and how many inputs may wait for them. Both are at least 1.
#[derive(Debug, Clone, Copy)]
pub struct PoolSize {
    pub n_threads: usize,
    pub queue_len: usize,
}

struct Job<I, O> {
    input: I,
    reply: oneshot::Sender<Result<O, PoolError>>,
}

struct Queue<I, O> {
    waiting: VecDeque<Job<I, O>>,
    closed: bool,
}

struct Shared<I, O> {
    queue: Mutex<Queue<I, O>>,
    changed: Condvar,
    queue_len: usize,
}

/// A pool that turns an `I` into an `O`. What each thread owns is the business of the closures it was started with.
pub struct Pool<I, O> {
    shared: Arc<Shared<I, O>>,
    threads: Vec<JoinHandle<()>>,
}

impl<I: Send + 'static, O: Send + 'static> Pool<I, O> {
    /// Opens one state a thread with `open`, here and now, so that a broken model is known at the start;
    /// then every thread turns inputs into outputs with `work`.
    pub fn start<S, E, F, W>(name: &str, size: PoolSize, open: F, work: W) -> Result<Self, E>
    where
        S: Send + 'static,
        E: From<std::io::Error>,
        F: Fn() -> Result<S, E>,
        W: Fn(&mut S, I) -> Result<O, String> + Send + Sync + 'static,
    {
        let queue = Queue { waiting: VecDeque::new(), closed: false };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            queue_len: size.queue_len.max(1),
        });
        let work = Arc::new(work);
        // Threads are added one by one so that those already running end if a later one cannot start.
        let mut pool = Self { shared, threads: Vec::new() };
        for _ in 0..size.n_threads.max(1) {
            let (shared, work, mut state) = (Arc::clone(&pool.shared), Arc::clone(&work), open()?);
            let body = move || shared.serve(|input| work(&mut state, input));
            pool.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(body)?);
        }
        Ok(pool)
    }

    /// Waits at most `deadline` for the result, queueing included.
    pub async fn run(&self, input: I, deadline: Duration) -> Result<O, PoolError> {
        let (reply, result) = oneshot::channel();
        self.shared.enqueue(Job { input, reply })?;
        match tokio::time::timeout(deadline, result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(PoolError::Closed),
            Err(_) => {
                let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
                Err(PoolError::Deadline { deadline_ms })
            }
        }
    }
}

impl<I, O> Shared<I, O> {
    fn enqueue(&self, job: Job<I, O>) -> Result<(), PoolError> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Err(PoolError::Closed);
        }
        if queue.waiting.len() >= self.queue_len {
            // Inputs whose caller gave up still stand in line; they must not keep live ones out.
            queue.waiting.retain(|job| !job.reply.is_closed());
        }
        if queue.waiting.len() >= self.queue_len {
            return Err(PoolError::Busy { waiting: queue.waiting.len() });
        }
        queue.waiting.push_back(job);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    fn serve(&self, mut work: impl FnMut(I) -> Result<O, String>) {
        while let Some(job) = self.next() {
            if job.reply.is_closed() {
                continue;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| work(job.input)));
            let result = match outcome {
                Ok(result) => result.map_err(PoolError::Failed),
                Err(_) => Err(PoolError::Failed("it panicked".to_owned())),
            };
            // A caller that has gone meanwhile has no use for the result.
            drop(job.reply.send(result));
        }
    }

    /// The next job, or nothing once the pool is closed.
    fn next(&self) -> Option<Job<I, O>> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return None;
            }
            if let Some(job) = queue.waiting.pop_front() {
                return Some(job);
            }
            self.changed.wait(&mut queue);
        }
    }
}

impl<I, O> Drop for Pool<I, O> {
    /// Waits for the inputs being worked on, at most one a thread; those that wait are told `Closed`.
    fn drop(&mut self) {
        let waiting = {
            let mut queue = self.shared.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.waiting)
        };
        drop(waiting);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // `serve` catches panics in the work, so there is none to pass on.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const PLENTY: Duration = Duration::from_secs(60);

    fn size(n_threads: usize, queue_len: usize) -> PoolSize {
        PoolSize { n_threads, queue_len }
    }

    /// A pool whose work says that it began and then waits to be let go.
    fn gated(queue_len: usize) -> (Pool<u32, u32>, mpsc::Receiver<u32>, mpsc::Sender<()>) {
        let (began, begins) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let pool = Pool::start(
            "gated",
            size(1, queue_len),
            || Ok::<_, std::io::Error>(()),
            move |(), input| {
                began.send(input).unwrap();
                gate.lock().recv().map_err(|error| error.to_string())?;
                Ok(input)
            },
        );
        (pool.unwrap(), begins, go)
    }

    #[tokio::test]
    async fn each_thread_keeps_its_own_state_between_inputs() {
        let open = || Ok::<_, std::io::Error>(0);
        let pool = Pool::start("count", size(1, 4), open, |seen: &mut u32, step: u32| {
            *seen += step;
            Ok(*seen)
        })
        .unwrap();

        let first = pool.run(2, PLENTY).await;
        let second = pool.run(3, PLENTY).await;

        assert_eq!((first, second), (Ok(2), Ok(5)));
    }

    #[tokio::test]
    async fn a_failure_is_the_inputs_alone() {
        let open = || Ok::<_, std::io::Error>(());
        let pool =
            Pool::start(
                "odd",
                size(1, 4),
                open,
                |(), n: u32| {
                    if n % 2 == 1 { Err(format!("{n} is odd")) } else { Ok(n) }
                },
            )
            .unwrap();

        assert_eq!(pool.run(1, PLENTY).await, Err(PoolError::Failed("1 is odd".to_owned())));
        assert_eq!(pool.run(2, PLENTY).await, Ok(2));
    }

    #[tokio::test]
    async fn a_panic_leaves_the_thread_alive() {
        let open = || Ok::<_, std::io::Error>(());
        let pool = Pool::start("panics", size(1, 4), open, |(), n: u32| {
            assert!(n > 0, "nought");
            Ok(n)
        })
        .unwrap();

        assert_eq!(pool.run(0, PLENTY).await, Err(PoolError::Failed("it panicked".to_owned())));
        assert_eq!(pool.run(1, PLENTY).await, Ok(1));
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_at_once_and_takes_more_when_it_drains() {
        let (pool, begins, go) = gated(1);
        let mut working = std::pin::pin!(pool.run(1, PLENTY));
        assert!(futures_util::poll!(&mut working).is_pending());
        begins.recv().unwrap();
        let mut waiting = std::pin::pin!(pool.run(2, PLENTY));
        assert!(futures_util::poll!(&mut waiting).is_pending());

        let refused = pool.run(3, PLENTY).await;

        assert_eq!(refused, Err(PoolError::Busy { waiting: 1 }));
        go.send(()).unwrap();
        go.send(()).unwrap();
        assert_eq!((working.await, waiting.await), (Ok(1), Ok(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_a_deadline_and_those_who_left_are_skipped() {
        let (pool, begins, go) = gated(1);

        let mut late = std::pin::pin!(pool.run(1, Duration::from_millis(20)));
        assert!(futures_util::poll!(&mut late).is_pending());
        begins.recv().unwrap();
        let late = late.await;
        let left = pool.run(2, Duration::from_millis(20)).await;
        let mut stayed = std::pin::pin!(pool.run(3, PLENTY));
        assert!(futures_util::poll!(&mut stayed).is_pending());
        go.send(()).unwrap();
        let next = begins.recv().unwrap();

        assert_eq!(late, Err(PoolError::Deadline { deadline_ms: 20 }));
        assert_eq!(left, Err(PoolError::Deadline { deadline_ms: 20 }));
        assert_eq!(next, 3, "the input that was given up is not worked on");
        go.send(()).unwrap();
    }

    #[tokio::test]
    async fn a_state_that_cannot_be_opened_stops_the_start() {
        let open = || Err::<(), _>(std::io::Error::other("no model"));

        let started = Pool::<u32, u32>::start("broken", size(2, 4), open, |(), n| Ok(n));

        assert_eq!(started.err().unwrap().to_string(), "no model");
    }

    #[tokio::test]
    async fn many_threads_answer_each_caller_with_its_own_result() {
        let open = || Ok::<_, std::io::Error>(());
        let pool = Pool::start("square", size(4, 1_000), open, |(), n: u64| Ok(n * n)).unwrap();

        let squares = futures_util::future::join_all((0..500).map(|n| pool.run(n, PLENTY))).await;

        assert!(squares.iter().zip(0..).all(|(square, n)| *square == Ok(n * n)));
    }
}
