//! What the engine answers and counts.

use std::task::{Context, Poll, Wake, Waker};

use super::*;
use crate::grammar::{Constraint, GrammarError, TokenMask};
use crate::speculate::{SpeculationConfig, SpeculationKind};

#[test]
fn many_callers_each_hear_their_own_answer() {
    let engine = engine(Faults::default(), config());
    let threads: Vec<_> = (1..20)
        .map(|n_prompt| {
            let engine = engine.clone();
            std::thread::spawn(move || (n_prompt, hear(engine.submit(request(n_prompt, 12)).unwrap())))
        })
        .collect();

    for thread in threads {
        let (n_prompt, (tokens, finish)) = thread.join().unwrap();
        assert_eq!((tokens, finish.reason), (answer(n_prompt, 12), FinishReason::Length));
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}

#[test]
fn events_can_be_awaited_without_a_runtime() {
    let engine = engine(Faults::default(), config());
    let mut generation = engine.submit(request(5, 3)).unwrap();

    let mut events = Vec::new();
    while let Some(event) = block_on(generation.next()) {
        events.push(event);
    }

    assert!(matches!(&events[..], [Event::Delta(delta), Event::Finished(_)] if delta.tokens.len() == 3));
}

#[test]
fn a_prompt_that_was_seen_is_not_computed_again_but_for_its_end() {
    let engine = engine(Faults::default(), config());
    let (first, finish) = hear(engine.submit(request(40, 2)).unwrap());
    assert_eq!(finish.usage.n_cached, 0);

    let (second, finish) = hear(engine.submit(request(40, 2)).unwrap());
    engine.close();

    assert_eq!((first, finish.usage.n_cached), (second, 32));
    let stats = engine.stats();
    assert_eq!((stats.n_prompt_tokens, stats.n_prefix_hit_tokens), (80, 32));
    assert_eq!((stats.n_prefilled_tokens, stats.n_generated_tokens), (48, 4));
}

#[test]
fn a_beginning_that_many_ask_for_at_once_is_computed_once() {
    let mut bench = Bench::new(&config());
    let generations: Vec<Generation> = (0..6).map(|idx| bench.submit(request(150 + idx, 3))).collect();
    let other = bench.submit(GenerateRequest { salt: 1, ..request(150, 3) });

    bench.run();

    for (idx, generation) in generations.into_iter().enumerate() {
        assert_eq!(hear(generation).0, answer(150 + idx, 3));
    }
    assert_eq!(hear(other).0, answer(150, 3));
    // Each of the five others hits the nine full blocks, and the other's salt none.
    let stats = bench.core.meters().stats();
    assert_eq!(stats.n_prefix_hit_tokens, 5 * 144);
    assert_eq!(stats.n_prefilled_tokens, 150 + (1..6).map(|idx| 6 + idx).sum::<u64>() + 150);
}

#[test]
fn stats_count_what_happened() {
    let engine = engine(Faults::default(), config());
    let (_, finish) = hear(engine.submit(request(20, 5)).unwrap());
    engine.close();

    let stats = engine.stats();

    assert_eq!((stats.n_running, stats.n_waiting, stats.n_finished, stats.n_steps), (0, 0, 1, 5));
    assert_eq!((stats.n_blocks, stats.n_blocks_used, stats.n_preempted), (64, 0, 0));
    assert_eq!((stats.queue_wait.n_observed(), stats.first_token.n_observed()), (1, 1));
    assert_eq!(stats.inter_token.n_observed(), 4);
    assert!(stats.busy >= stats.overhead && !stats.busy.is_zero());
    assert_eq!((finish.usage.n_prompt, finish.usage.n_generated), (20, 5));
    assert!(finish.usage.first_token.unwrap() >= finish.usage.queued);
    assert!(!finish.usage.device.is_zero() && finish.usage.device <= stats.busy);
}

#[test]
fn the_device_is_charged_by_tokens_computed() {
    let mut bench = Bench::new(&config());
    let [long, short] = [30, 10].map(|n_prompt| bench.submit(request(n_prompt, 1)));
    let now_ms = Arc::clone(&bench.now_ms);
    // The clock moves on by a millisecond whenever it is read.
    let began = bench.began;
    bench
        .core
        .set_clock(Box::new(move || began + Duration::from_millis(now_ms.fetch_add(1, Ordering::Relaxed))));

    bench.run();

    let [long, short] = [long, short].map(|generation| hear(generation).1.usage.device);
    assert_eq!(long + short, Duration::from_millis(1));
    assert_eq!(long, short * 3);
}

#[test]
fn a_prompt_is_computed_in_chunks_beside_those_who_answer() {
    let mut bench = Bench::new(&EngineConfig { max_chunk_tokens: 10, ..config() });
    let first = bench.submit(request(3, 20));
    bench.step();
    let second = bench.submit(request(25, 1));

    let n_tokens: Vec<usize> = (0..4).map(|_| bench.step()).collect();
    bench.run();

    assert_eq!(n_tokens, [11, 11, 6, 1]);
    assert_eq!((hear(first).0, hear(second).0), (answer(3, 20), answer(25, 1)));
}

#[test]
fn who_gives_way_says_the_same_as_if_it_had_not() {
    // Two that together grow beyond the three blocks there are.
    let mut bench = Bench::new(&EngineConfig { n_blocks: Some(3), watermark: 0.0, ..config() });
    let generations = [10, 11].map(|n_prompt| bench.submit(request(n_prompt, 30)));

    bench.run();

    assert!(bench.core.meters().stats().n_preempted > 0);
    let [first, second] = generations.map(|generation| hear(generation).0);
    assert_eq!((first, second), (answer(10, 30), answer(11, 30)));
}

fn drafting(faults: Faults, kind: SpeculationKind) -> (Vec<TokenId>, Finish) {
    let speculation = SpeculationConfig { kind, ..SpeculationConfig::default() };
    let draft = SimBackend::with_faults(sim(), faults);
    let parts = EngineParts { draft: Some(Box::new(draft)), ..parts(Faults::default()) };
    let engine = Engine::start(parts, EngineConfig { speculation, ..config() }).unwrap();
    hear(engine.submit(request(20, 15)).unwrap())
}

#[test]
fn a_draft_model_that_is_right_saves_steps_and_changes_nothing() {
    let (tokens, finish) = drafting(Faults::default(), SpeculationKind::Draft);

    // The first token comes with the prompt; then four guesses and a token at a time.
    assert_eq!(tokens, answer(20, 15));
    assert_eq!((finish.usage.n_drafted, finish.usage.n_accepted), (11, 11));
}

#[test]
fn a_draft_model_that_fails_is_done_without() {
    // It reads the prompt in step 0 and guesses four tokens in steps 1 to 4.
    let failing = Faults { fail_at: Some(4), ..Faults::default() };
    let panicking = Faults { panic_at: Some(5), ..Faults::default() };
    for (faults, n_drafted) in [(failing, 0), (panicking, 4)] {
        let (tokens, finish) = drafting(faults, SpeculationKind::Draft);

        assert_eq!((tokens, finish.reason), (answer(20, 15), FinishReason::Length));
        assert_eq!(finish.usage.n_drafted, n_drafted);
    }
}

#[test]
fn a_draft_model_is_not_asked_unless_it_is_wanted() {
    let (tokens, finish) = drafting(Faults { panic_at: Some(0), ..Faults::default() }, SpeculationKind::Off);

    assert_eq!((tokens, finish.usage.n_drafted), (answer(20, 15), 0));
}

/// Forces one text.
#[derive(Debug)]
struct Fixed(Vec<TokenId>);

impl Constraint for Fixed {
    fn mask(&mut self) -> Result<TokenMask, GrammarError> {
        assert!(self.0[0] != 63, "this grammar panics at token 63");
        Ok(TokenMask::from_words(vec![1 << self.0[0], 0]))
    }

    fn push(&mut self, _token: TokenId) -> Result<(), GrammarError> {
        self.0.remove(0);
        Ok(())
    }

    fn forced(&mut self) -> Vec<TokenId> {
        assert!(self.0 != [62], "this grammar panics before token 62");
        self.0.clone()
    }

    fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

fn forcing(tokens: &[TokenId]) -> GenerateRequest {
    let constraint: Option<Box<dyn Constraint>> = Some(Box::new(Fixed(tokens.to_vec())));
    GenerateRequest { constraint, ..request(20, 50) }
}

#[test]
fn what_a_grammar_forces_comes_in_one_step_after_the_first_token() {
    let engine = engine(Faults::default(), config());

    let (tokens, finish) = hear(engine.submit(forcing(&[3, 1, 4, 1, 5])).unwrap());
    engine.close();

    assert_eq!((tokens, finish.reason), (vec![3, 1, 4, 1, 5], FinishReason::Stop));
    assert_eq!((finish.usage.n_accepted, engine.stats().n_steps), (4, 2));
}

#[test]
fn a_grammar_that_allows_nothing_at_first_ends_the_answer_at_once() {
    let engine = engine(Faults::default(), config());

    let (tokens, finish) = hear(engine.submit(forcing(&[])).unwrap());

    assert_eq!((tokens, finish.reason, finish.usage.n_generated), (vec![], FinishReason::Stop, 0));
}

#[test]
fn a_grammar_that_panics_ends_its_own_answer_only() {
    // In a row of its own, in the midst of what it forces, and when it is asked what it forces.
    for tokens in [&[63][..], &[3, 63], &[3, 4, 62]] {
        let (engine, gate) = gated(config());
        let other = engine.submit(request(40, 4)).unwrap();
        let faulty = engine.submit(forcing(tokens)).unwrap();
        drop(gate);

        assert!(is_failed(&hear(faulty).1, "a fault of its own"), "{tokens:?}");
        assert_eq!(hear(other).0, answer(40, 4));
        engine.close();
        assert_eq!(engine.stats().n_blocks_used, 0);
    }
}
