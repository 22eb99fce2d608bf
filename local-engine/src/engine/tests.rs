//! The engine on its thread, and the step in states that are hard to catch there.

mod leaving;
mod refusals;
mod serving;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_channel::Sender;

use super::*;
use crate::backend::sim::{Faults, Sim, SimBackend};
use crate::request::{Event, Finish, FinishReason};
use crate::sampling::SamplingParams;

fn sim() -> Sim {
    Sim { n_vocab: 64, context: 256, ..Sim::default() }
}

fn parts(faults: Faults) -> EngineParts {
    EngineParts {
        backend: Box::new(SimBackend::with_faults(sim(), faults)),
        vocabulary: Arc::default(),
        stop_ids: Vec::new(),
        draft: None,
    }
}

fn config() -> EngineConfig {
    EngineConfig { n_blocks: Some(64), ..EngineConfig::default() }
}

fn engine(faults: Faults, config: EngineConfig) -> Engine {
    Engine::start(parts(faults), config).unwrap()
}

/// An engine of which each step waits for one message.
fn gated(config: EngineConfig) -> (Engine, Sender<()>) {
    let (sender, receiver) = async_channel::unbounded();
    (engine(Faults { gate: Some(receiver), ..Faults::default() }, config), sender)
}

/// Prompts of different lengths begin alike.
fn request(n_prompt: usize, max_tokens: usize) -> GenerateRequest {
    let prompt: Vec<TokenId> = (0..n_prompt).map(|idx| (idx * 7 % 64) as TokenId).collect();
    GenerateRequest::new(prompt, max_tokens)
}

/// What the model says after such a prompt.
fn answer(n_prompt: usize, n_tokens: usize) -> Vec<TokenId> {
    let mut text = request(n_prompt, 1).prompt.to_vec();
    for _ in 0..n_tokens {
        let row = sim().row_after(&text);
        let best = (0..row.len()).fold(0, |best, token| if row[token] > row[best] { token } else { best });
        text.push(best as TokenId);
    }
    text.split_off(n_prompt)
}

/// Hears it to the end.
fn hear(mut generation: Generation) -> (Vec<TokenId>, Finish) {
    let mut tokens = Vec::new();
    loop {
        match generation.next_blocking().unwrap() {
            Event::Delta(delta) => tokens.extend(delta.tokens.iter().map(|token| token.id)),
            Event::Finished(finish) => {
                assert_eq!(generation.next_blocking(), None, "something follows the end");
                return (tokens, finish);
            }
        }
    }
}

fn is_failed(finish: &Finish, why: &str) -> bool {
    matches!(&finish.reason, FinishReason::Failed(text) if text.contains(why))
}

/// The step by hand, with a clock that is set.
struct Bench {
    core: Core,
    intake: Intake,
    began: Instant,
    now_ms: Arc<AtomicU64>,
}

impl Bench {
    fn new(config: &EngineConfig) -> Self {
        let began = Instant::now();
        let now_ms = Arc::new(AtomicU64::new(0));
        let clock = {
            let now_ms = Arc::clone(&now_ms);
            Box::new(move || began + Duration::from_millis(now_ms.load(Ordering::Relaxed)))
        };
        let (core, intake) = Core::build(parts(Faults::default()), config, clock).unwrap();
        Self { core, intake, began, now_ms }
    }

    fn at_ms(&self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms)
    }

    fn submit(&mut self, request: GenerateRequest) -> Generation {
        let now = self.at_ms(self.now_ms.load(Ordering::Relaxed));
        let (sequence, generation) = self.intake.sequence(request, now).unwrap();
        self.core.enqueue(sequence);
        generation
    }

    fn step(&mut self) -> usize {
        let n_tokens = self.core.step();
        assert_eq!(self.core.audit(), Vec::<String>::new());
        n_tokens
    }

    fn run(&mut self) {
        while !self.core.is_idle() {
            self.step();
        }
    }
}
