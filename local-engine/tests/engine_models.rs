//! Real models in the engine: an answer is the same, to the last bit of its log-probabilities, alone and in
//! a crowd, whole and in chunks, cached, preempted and guessed at.
//!
//! What the answers should be is for the backends' own tests; here they are compared with each other, and
//! under the reference with those of Hugging Face transformers.

#[path = "goldens/fixture.rs"]
#[expect(dead_code, reason = "the rows of logits are for the backends' own tests")]
mod fixture;

use std::sync::Arc;
use std::time::Instant;

use fixture::{Fixture, NAMES};
use local_engine::backend::Backend;
use local_engine::backend::cpu::{Cpu, CpuConfig};
use local_engine::backend::reference::Reference;
use local_engine::engine::{Core, EngineConfig, EngineParts, Generation, Stats};
use local_engine::request::{Event, GenerateRequest, TokenId, TokenOut};
use local_engine::sampling::SamplingParams;
use local_engine::speculate::{SpeculationConfig, SpeculationKind};
use local_engine::weights::checkpoint;

type Open = fn(&Fixture) -> Box<dyn Backend>;

fn reference(fixture: &Fixture) -> Box<dyn Backend> {
    let weights = checkpoint::open(&fixture.dir).expect("the checkpoint is sound");
    Box::new(Reference::new(weights).expect("the model is supported"))
}

fn cpu(fixture: &Fixture) -> Box<dyn Backend> {
    let weights = checkpoint::open(&fixture.dir).expect("the checkpoint is sound");
    let config = CpuConfig { threads: Some(2), ..CpuConfig::default() };
    Box::new(Cpu::new(&weights, &config).expect("the model is supported"))
}

/// How a model is run.
struct Run {
    open: Open,
    config: EngineConfig,
    /// Whether a request waits for the one before to end.
    is_alone: bool,
}

/// The prompt and its beginnings, greedy and warm, each with its answer's length.
fn requests(fixture: &Fixture) -> Vec<GenerateRequest> {
    let len = fixture.prompt.len();
    let request = |(seed, n_prompt): (u64, usize)| GenerateRequest {
        sampling: SamplingParams {
            temperature: if seed == 0 { 0.0 } else { 0.8 },
            seed,
            ..SamplingParams::default()
        },
        logprobs: Some(2),
        ..GenerateRequest::new(&fixture.prompt[..n_prompt], fixture.greedy.len())
    };
    [(0, len), (1, len), (2, len - 1), (3, len / 2), (4, len)].map(request).into()
}

fn run(fixture: &Fixture, how: &Run) -> (Vec<Vec<TokenOut>>, Stats) {
    let parts = EngineParts {
        backend: (how.open)(fixture),
        vocabulary: Arc::default(),
        stop_ids: Vec::new(),
        draft: Some((how.open)(fixture)),
    };
    let (mut core, intake) =
        Core::build(parts, &how.config, Box::new(Instant::now)).expect("the configuration is sound");
    let mut generations = Vec::new();
    for request in requests(fixture) {
        let (sequence, generation) = intake.sequence(request, Instant::now()).expect("it fits");
        core.enqueue(sequence);
        generations.push(generation);
        while how.is_alone && !core.is_idle() {
            core.step();
        }
    }
    while !core.is_idle() {
        core.step();
    }
    assert_eq!(core.audit(), Vec::<String>::new());
    (generations.into_iter().map(hear).collect(), core.meters().stats())
}

fn hear(mut generation: Generation) -> Vec<TokenOut> {
    let mut tokens = Vec::new();
    while let Some(event) = generation.next_blocking() {
        match event {
            Event::Delta(delta) => tokens.extend(delta.tokens),
            Event::Finished(_) => {}
        }
    }
    tokens
}

fn ids(tokens: &[TokenOut]) -> Vec<TokenId> {
    tokens.iter().map(|token| token.id).collect()
}

/// Every way to run a model, beside the plainest.
fn ways(open: Open, n_full: u32) -> Vec<(&'static str, Run)> {
    let crowd = EngineConfig { n_blocks: Some(100), prefix_cache: false, ..EngineConfig::default() };
    let guess = |kind| SpeculationConfig { kind, ..SpeculationConfig::default() };
    let chunked = EngineConfig { max_chunk_tokens: 5, max_step_tokens: 13, max_running: 5, ..crowd.clone() };
    let cached = EngineConfig { prefix_cache: true, ..crowd.clone() };
    // A little more than the longest needs alone.
    let tight = EngineConfig { n_blocks: Some(n_full + 1), watermark: 0.0, ..chunked.clone() };
    let lookup = EngineConfig { speculation: guess(SpeculationKind::Lookup), ..chunked.clone() };
    let draft = EngineConfig { speculation: guess(SpeculationKind::Draft), ..cached.clone() };
    let run = |config, is_alone| Run { open, config, is_alone };
    vec![
        ("in a crowd", run(crowd, false)),
        ("in chunks", run(chunked, false)),
        ("cached", run(cached, true)),
        ("with too few blocks", run(tight, false)),
        ("looked up", run(lookup, false)),
        ("drafted", run(draft, true)),
    ]
}

fn check(name: &str, open: Open) -> Vec<TokenId> {
    let fixture = Fixture::read(name);
    let n_full = (fixture.prompt.len() + fixture.greedy.len()).div_ceil(16) as u32;
    let alone = EngineConfig { n_blocks: Some(n_full), prefix_cache: false, ..EngineConfig::default() };
    let (expected, _) = run(&fixture, &Run { open, config: alone, is_alone: true });

    for (way, how) in ways(open, n_full) {
        let (answers, stats) = run(&fixture, &how);

        assert_eq!(answers, expected, "{name}, {way}");
        let was_cached = stats.n_prefix_hit_tokens > 0;
        assert_eq!(was_cached, how.config.prefix_cache, "{name}, {way}");
        assert_eq!(stats.n_preempted > 0, way == "with too few blocks", "{name}, {way}");
        if how.config.speculation.kind == SpeculationKind::Draft {
            assert_eq!(stats.n_accepted_tokens, stats.n_drafted_tokens, "{name}, {way}");
            assert!(stats.n_accepted_tokens > 0);
        }
    }
    assert_eq!(ids(&expected[0]).len(), fixture.greedy.len());
    ids(&expected[0])
}

#[test]
fn under_the_reference_every_way_to_run_a_model_gives_what_transformers_gives() {
    for name in NAMES {
        assert_eq!(check(name, reference), Fixture::read(name).greedy, "{name}");
    }
}

#[test]
fn on_the_cpu_every_way_to_run_a_model_gives_the_same() {
    for name in NAMES {
        check(name, cpu);
    }
}
