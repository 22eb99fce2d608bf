//! Lives through a trace, and checks everything that can be checked on the way and at the end.

use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use local_engine::backend::sim::{Faults, Sim, SimBackend};
use local_engine::backend::{BLOCK_TOKENS, Backend, BackendError, Chunk, Logits};
use local_engine::engine::{Core, EngineParts, Generation, Intake};
use local_engine::request::{Event, Finish, FinishReason, SubmitError, TokenOut};
use local_engine::speculate::SpeculationKind;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::oracle::{Expected, expected, text_of};
use crate::trace::{Arrival, DraftModel, END, Leaves, Trace, vocabulary};

/// What happened, over all traces.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Coverage {
    n_preempted: u64,
    n_hit_tokens: u64,
    n_accepted: u64,
    n_rejected: u64,
    n_aborted: u64,
    n_late: u64,
    n_failed: u64,
    n_refused: u64,
    n_generated: u64,
}

impl Coverage {
    pub(crate) fn named(&self) -> [(&'static str, u64, u64); 9] {
        [
            ("preemptions", self.n_preempted, 500),
            ("tokens from the prefix cache", self.n_hit_tokens, 10_000),
            ("guesses that held", self.n_accepted, 5000),
            ("guesses that did not", self.n_rejected, 5000),
            ("aborts", self.n_aborted, 200),
            ("deadlines", self.n_late, 200),
            ("failures", self.n_failed, 200),
            ("refusals", self.n_refused, 200),
            ("tokens", self.n_generated, 50_000),
        ]
    }
}

impl Coverage {
    fn count(&mut self, reason: &FinishReason) {
        match reason {
            FinishReason::Aborted => self.n_aborted += 1,
            FinishReason::Deadline => self.n_late += 1,
            FinishReason::Failed(_) => self.n_failed += 1,
            FinishReason::Stop | FinishReason::Length | FinishReason::Grammar(_) => {}
        }
    }
}

impl Add for Coverage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            n_preempted: self.n_preempted + other.n_preempted,
            n_hit_tokens: self.n_hit_tokens + other.n_hit_tokens,
            n_accepted: self.n_accepted + other.n_accepted,
            n_rejected: self.n_rejected + other.n_rejected,
            n_aborted: self.n_aborted + other.n_aborted,
            n_late: self.n_late + other.n_late,
            n_failed: self.n_failed + other.n_failed,
            n_refused: self.n_refused + other.n_refused,
            n_generated: self.n_generated + other.n_generated,
        }
    }
}

/// A backend that tells how many tokens its last step had.
struct Counted {
    backend: SimBackend,
    n_tokens: Arc<AtomicUsize>,
}

impl Backend for Counted {
    fn n_vocab(&self) -> usize {
        self.backend.n_vocab()
    }

    fn context(&self) -> usize {
        self.backend.context()
    }

    fn block_bytes(&self) -> usize {
        self.backend.block_bytes()
    }

    fn alloc_kv(&mut self, n_blocks: usize) -> Result<(), BackendError> {
        self.backend.alloc_kv(n_blocks)
    }

    fn forward(&mut self, chunks: &[Chunk<'_>], logits: &mut Logits) -> Result<(), BackendError> {
        self.n_tokens.store(chunks.iter().map(|chunk| chunk.tokens.len()).sum(), Relaxed);
        self.backend.forward(chunks, logits)
    }
}

/// A request under way.
struct Live<'a> {
    arrival: &'a Arrival,
    came_at: usize,
    /// None once the caller has dropped it.
    generation: Option<Generation>,
    tokens: Vec<TokenOut>,
    text: String,
    finish: Option<Finish>,
}

/// An engine under test.
struct Bench<'a> {
    trace: &'a Trace,
    core: Core,
    intake: Intake,
    /// Steps so far; a step takes a millisecond.
    now: Arc<AtomicU64>,
    began: Instant,
    n_step_tokens: Arc<AtomicUsize>,
    max_len: usize,
    live: Vec<Live<'a>>,
    n_refused: u64,
}

pub(crate) fn run(trace: &Trace) -> Result<Coverage, TestCaseError> {
    let mut bench = Bench::new(trace);
    let last_arrival = trace.arrivals.iter().map(|arrival| arrival.at_step).max().unwrap_or(0);
    let mut n_idle_steps = 0;
    for step in 0.. {
        bench.arrive(step)?;
        bench.leave(step);
        let n_tokens = bench.step(step)?;
        n_idle_steps = if n_tokens > 0 || bench.core.is_idle() { 0 } else { n_idle_steps + 1 };
        prop_assert!(n_idle_steps < 2, "step {} does nothing again although there is work", step);
        prop_assert!(step < 20_000, "it does not end");
        if step >= last_arrival && bench.core.is_idle() {
            break;
        }
    }
    bench.finish()
}

impl<'a> Bench<'a> {
    fn new(trace: &'a Trace) -> Self {
        let began = Instant::now();
        let now = Arc::new(AtomicU64::new(0));
        let n_step_tokens = Arc::new(AtomicUsize::new(0));
        let faults = Faults { fail_at: trace.fail_at, ..Faults::default() };
        let backend = SimBackend::with_faults(trace.sim.clone(), faults);
        let backend = Counted { backend, n_tokens: Arc::clone(&n_step_tokens) };
        let parts = EngineParts {
            backend: Box::new(backend),
            vocabulary: Arc::new(vocabulary()),
            stop_ids: vec![END],
            draft: Some(Box::new(draft(trace))),
        };
        let clock = {
            let now = Arc::clone(&now);
            Box::new(move || began + Duration::from_millis(now.load(Relaxed)))
        };
        let (core, intake) = Core::build(parts, &trace.config, clock).expect("the configuration is sound");
        let n_blocks = trace.config.n_blocks.expect("every trace says how many") as usize;
        let max_len = trace.sim.context.min(n_blocks * BLOCK_TOKENS);
        Self { trace, core, intake, now, began, n_step_tokens, max_len, live: Vec::new(), n_refused: 0 }
    }

    fn arrive(&mut self, step: usize) -> Result<(), TestCaseError> {
        for arrival in self.trace.arrivals.iter().filter(|arrival| arrival.at_step == step) {
            let mut request = arrival.request();
            if let Leaves::Deadline(n_steps) = arrival.leaves {
                request.deadline = Some(self.began + Duration::from_millis((step + n_steps) as u64));
            }
            let n_prompt = request.prompt.len();
            match self.intake.sequence(request, self.began + Duration::from_millis(step as u64)) {
                Ok((sequence, generation)) => {
                    prop_assert!(n_prompt < self.max_len);
                    self.core.enqueue(sequence);
                    let (tokens, text) = (Vec::new(), String::new());
                    let generation = Some(generation);
                    self.live.push(Live { arrival, came_at: step, generation, tokens, text, finish: None });
                }
                Err(error) => {
                    prop_assert_eq!(error, SubmitError::PromptTooLong { n_prompt, context: self.max_len });
                    self.n_refused += 1;
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, step: usize) {
        for live in &mut self.live {
            match live.arrival.leaves {
                Leaves::Aborts(n_steps) if live.came_at + n_steps == step => {
                    live.generation.iter().for_each(Generation::abort);
                }
                Leaves::Drops(n_steps) if live.came_at + n_steps == step => live.generation = None,
                Leaves::Never | Leaves::Aborts(_) | Leaves::Drops(_) | Leaves::Deadline(_) => {}
            }
        }
    }

    fn step(&mut self, step: usize) -> Result<usize, TestCaseError> {
        self.now.store(step as u64, Relaxed);
        self.n_step_tokens.store(0, Relaxed);
        let n_tokens = self.core.step();
        let faults = self.core.audit();
        prop_assert!(faults.is_empty(), "after step {}: {:#?}", step, faults);
        let max_step_tokens = self.trace.config.max_step_tokens;
        let n_step_tokens = self.n_step_tokens.load(Relaxed);
        prop_assert!(n_step_tokens <= max_step_tokens, "{} tokens in step {}", n_step_tokens, step);
        self.live.iter_mut().for_each(Live::hear);
        Ok(n_tokens)
    }

    fn finish(mut self) -> Result<Coverage, TestCaseError> {
        let stats = self.core.meters().stats();
        prop_assert_eq!((stats.n_blocks_used, stats.n_running, stats.n_waiting), (0, 0, 0));
        let mut coverage = Coverage {
            n_preempted: stats.n_preempted,
            n_hit_tokens: stats.n_prefix_hit_tokens,
            n_accepted: stats.n_accepted_tokens,
            n_rejected: stats.n_drafted_tokens - stats.n_accepted_tokens,
            n_refused: self.n_refused,
            ..Coverage::default()
        };
        let answers: Vec<Expected> =
            self.live.iter().map(|live| expected(&self.trace.sim, live.arrival, self.max_len)).collect();
        for (idx, live) in self.live.iter_mut().enumerate() {
            live.hear();
            live.check(&answers[idx])?;
            coverage.n_generated += live.tokens.len() as u64;
        }
        for (idx, live) in self.live.iter().enumerate() {
            let Some(finish) = &live.finish else { continue };
            coverage.count(&finish.reason);
            self.check_guesses(live.arrival, finish)?;
            self.check_hits(idx, &answers, finish.usage.n_cached)?;
        }
        Ok(coverage)
    }

    /// Of the guesses of the model itself all hold: it sees what the model sees, or a page is wrong. What
    /// ends an answer in the middle of guesses cannot be foreseen, and a guesser does not count repetitions
    /// among its own guesses.
    fn check_guesses(&self, arrival: &Arrival, finish: &Finish) -> Result<(), TestCaseError> {
        let Trace { config, draft, .. } = self.trace;
        let is_plain = arrival.sampling.repetition_penalty == 1.0
            && arrival.stop_strings.is_empty()
            && arrival.pattern.is_none()
            && !matches!(finish.reason, FinishReason::Failed(_) | FinishReason::Grammar(_));
        if config.speculation.kind == SpeculationKind::Draft && *draft == DraftModel::Same && is_plain {
            prop_assert_eq!(finish.usage.n_accepted, finish.usage.n_drafted);
        }
        prop_assert!(finish.usage.n_accepted <= finish.usage.n_drafted);
        Ok(())
    }

    /// What came from the cache is the beginning of another text of the same salt, in whole blocks.
    fn check_hits(&self, idx: usize, answers: &[Expected], n_cached: usize) -> Result<(), TestCaseError> {
        let own = self.live[idx].arrival;
        let text = own.prompt();
        let others = self.live.iter().zip(answers).enumerate().filter(|(other_idx, (other, _))| {
            *other_idx != idx && other.arrival.salt == own.salt && self.trace.config.prefix_cache
        });
        let n_alike = |(_, (other, answer)): (usize, (&Live<'_>, &Expected))| {
            let other = other.arrival.prompt().into_iter().chain(answer.tokens.iter().map(|token| token.id));
            other.zip(&text).take_while(|(a, b)| a == *b).count()
        };
        let n_most = others.map(n_alike).max().unwrap_or(0);
        prop_assert!(n_cached <= n_most && n_cached < text.len(), "{} cached, {} alike", n_cached, n_most);
        prop_assert_eq!(n_cached % BLOCK_TOKENS, 0);
        Ok(())
    }
}

fn draft(trace: &Trace) -> SimBackend {
    let seed = match trace.draft {
        DraftModel::Same => trace.sim.seed,
        DraftModel::Similar => !trace.sim.seed,
    };
    let faults = Faults { fail_at: trace.draft_fail_at, ..Faults::default() };
    SimBackend::with_faults(Sim { seed, ..trace.sim.clone() }, faults)
}

impl Live<'_> {
    /// Takes the events that are there.
    fn hear(&mut self) {
        while let Some(event) = self.generation.as_mut().and_then(Generation::try_next) {
            match event {
                Event::Delta(delta) => {
                    self.tokens.extend(delta.tokens);
                    self.text.push_str(&delta.text);
                }
                Event::Finished(finish) => self.finish = Some(finish),
            }
        }
    }

    /// Whoever ended by itself has the whole answer; whoever was ended has the beginning of it.
    fn check(&self, answer: &Expected) -> Result<(), TestCaseError> {
        let Some(finish) = &self.finish else {
            prop_assert!(self.generation.is_none(), "a caller who listens was not told of the end");
            prop_assert!(answer.tokens.starts_with(&self.tokens));
            return Ok(());
        };
        let usage = finish.usage;
        let may_be_ended = match &finish.reason {
            FinishReason::Stop | FinishReason::Length | FinishReason::Grammar(_) => false,
            FinishReason::Aborted => matches!(self.arrival.leaves, Leaves::Aborts(_)),
            FinishReason::Deadline => matches!(self.arrival.leaves, Leaves::Deadline(_)),
            FinishReason::Failed(why) => why.contains("simulated device"),
        };
        if may_be_ended {
            prop_assert!(answer.tokens.starts_with(&self.tokens), "{:?}", finish);
            prop_assert_eq!(&self.text, &text_of(&self.tokens, &self.arrival.stop_strings));
        } else {
            prop_assert_eq!(&finish.reason, &answer.reason);
            prop_assert_eq!(&self.tokens, &answer.tokens);
            prop_assert_eq!(&self.text, &answer.text);
        }
        prop_assert_eq!(usage.n_prompt, self.arrival.prompt().len());
        // A token that ended the answer is counted and not shown.
        prop_assert!((0..2).contains(&(usage.n_generated - self.tokens.len())));
        Ok(())
    }
}
