//! The engine under requests that come when they come: time to the first token, time between tokens.
//!
//! Prompts share a beginning, as a system prompt is shared; lengths are drawn once, the same for
//! every setting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use local_engine::backend::Backend;
use local_engine::backend::cpu::KvFormat;
use local_engine::engine::{Engine, EngineConfig, EngineParts, Generation};
use local_engine::request::{Event, GenerateRequest, Stop, TokenId};
use local_engine::tokenizer::Vocabulary;
use serde_json::{Value, json};

use crate::arguments::{Arguments, Shape};
use crate::throughput;

/// So few that the 99th percentile of first tokens is nearly the longest.
const N_REQUESTS: usize = 96;
const SHARED_PROMPT: usize = 192;
const MAX_PROMPT: u64 = 640;
const MAX_ANSWER: u64 = 48;

/// One request of the trace.
struct Arrival {
    after: Duration,
    prompt: Arc<[TokenId]>,
    n_answer: usize,
}

pub(crate) fn measure(shape: Shape, arguments: &Arguments) -> Value {
    let settings = [
        ("chunks of 128, prefix cache", 128, true),
        ("whole prompts, prefix cache", usize::MAX, true),
        ("chunks of 128, no prefix cache", 128, false),
        ("whole prompts, no prefix cache", usize::MAX, false),
    ];
    let mut report = json!({});
    let rate = arguments.rate.unwrap_or(if shape == Shape::Half { 1.5 } else { 0.3 });
    println!("{N_REQUESTS} requests, {rate} a second; {SHARED_PROMPT} tokens of each prompt are shared");
    for (name, max_chunk_tokens, prefix_cache) in settings {
        let trace = trace(rate);
        let engine = engine(shape, arguments, max_chunk_tokens, prefix_cache);
        let mut heard = run(&engine, &trace);
        let hits = engine.stats().n_prefix_hit_tokens as f64 / engine.stats().n_prompt_tokens.max(1) as f64;
        engine.close();
        let [first_50, first_99] = percentiles(&mut heard.first_token_s);
        let [between_50, between_99] = percentiles(&mut heard.between_s);
        println!(
            "{name:<32}first token p50 {:.0} ms, p99 {:.0} ms; between tokens p50 {:.1} ms, p99 {:.0} ms; {:.0} % cached",
            first_50 * 1e3,
            first_99 * 1e3,
            between_50 * 1e3,
            between_99 * 1e3,
            hits * 100.0
        );
        report[name] = json!({
            "ttft_p50_s": first_50, "ttft_p99_s": first_99, "inter_token_p50_s": between_50,
            "inter_token_p99_s": between_99, "prefix_hit_share": hits, "rate": rate,
        });
    }
    report
}

fn engine(shape: Shape, arguments: &Arguments, max_chunk_tokens: usize, prefix_cache: bool) -> Engine {
    let backend = throughput::backend(shape, arguments, KvFormat::Int8);
    let bytes = |token: usize| token.to_le_bytes().into();
    let vocabulary = Arc::new(Vocabulary::new((0..backend.n_vocab()).map(bytes).collect(), Vec::new()));
    let max_chunk_tokens = max_chunk_tokens.min(1_024);
    let config = EngineConfig {
        n_blocks: Some(2_048),
        max_step_tokens: max_chunk_tokens.max(256) + 64,
        max_chunk_tokens,
        prefix_cache,
        ..EngineConfig::default()
    };
    let parts = EngineParts { backend: Box::new(backend), vocabulary, stop_ids: Vec::new(), draft: None };
    Engine::start(parts, config).unwrap()
}

/// Gaps of a Poisson process, and lengths, from a fixed seed.
fn trace(rate: f64) -> Vec<Arrival> {
    let mut state = 7_u64;
    let mut at = Duration::ZERO;
    let one = |idx: usize| {
        let gap_s = -(1.0 - draw(&mut state) as f64 / 2_f64.powi(53)).ln() / rate;
        at += Duration::from_secs_f64(gap_s);
        let n_own = 16 + draw(&mut state) % (MAX_PROMPT - SHARED_PROMPT as u64);
        let shared = 0..SHARED_PROMPT as TokenId;
        let own = (0..n_own as TokenId).map(|token| 1_000 + token * 7 % 9_000 + idx as TokenId);
        let n_answer = 8 + (draw(&mut state) % MAX_ANSWER) as usize;
        Arrival { after: at, prompt: shared.chain(own).collect(), n_answer }
    };
    (0..N_REQUESTS).map(one).collect()
}

/// 53 bits of splitmix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 11
}

#[derive(Default)]
struct Heard {
    first_token_s: Vec<f64>,
    between_s: Vec<f64>,
}

fn run(engine: &Engine, trace: &[Arrival]) -> Heard {
    let began = Instant::now();
    let listeners: Vec<_> = trace
        .iter()
        .map(|arrival| {
            std::thread::sleep(arrival.after.saturating_sub(began.elapsed()));
            let submitted = Instant::now();
            let generation = engine.submit(request(arrival)).unwrap();
            std::thread::spawn(move || listen(generation, submitted))
        })
        .collect();
    let mut all = Heard::default();
    for listener in listeners {
        let heard = listener.join().unwrap();
        all.first_token_s.extend(heard.first_token_s);
        all.between_s.extend(heard.between_s);
    }
    all
}

fn listen(mut generation: Generation, submitted: Instant) -> Heard {
    let mut heard = Heard::default();
    let mut last = None;
    while let Some(event) = generation.next_blocking() {
        let Event::Delta(_) = event else { continue };
        let now = Instant::now();
        match last.replace(now) {
            None => heard.first_token_s.push((now - submitted).as_secs_f64()),
            Some(before) => heard.between_s.push((now - before).as_secs_f64()),
        }
    }
    heard
}

fn request(arrival: &Arrival) -> GenerateRequest {
    GenerateRequest {
        stop: Stop { ignore_eos: true, ..Stop::default() },
        ..GenerateRequest::new(Arc::clone(&arrival.prompt), arrival.n_answer)
    }
}

/// The 50th and the 99th.
fn percentiles(values: &mut [f64]) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    [at(0.50), at(0.99)]
}
