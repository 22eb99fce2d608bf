//! Measures the semantic cache's two models: how long one run takes, and what batches would gain.
//!
//! Checks nothing and reads no text: token ids are made up. Run it as
//! `cargo run --release --example model_speed -- EMBEDDER.onnx GUARD.onnx [N_RUNS]`.
//!
//! Invariants: what is compared is run in turns; processor time is of the whole process, all threads added.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hdrhistogram::Histogram;
use ort::session::Session;
use ort::value::Tensor;
use rustix::time::{ClockId, clock_gettime};
use stiver::onnx::{Places, Runtime};

type Failure = Box<dyn Error + Send + Sync>;

const N_WARM_UP: usize = 20;
const CLS: i64 = 101;
const SEP: i64 = 102;

/// Waits and processor time of one thing measured, both in microseconds a run.
struct Times {
    clock: Histogram<u64>,
    processor: Histogram<u64>,
}

impl Times {
    fn new() -> Result<Self, Failure> {
        Ok(Self { clock: Histogram::new(3)?, processor: Histogram::new(3)? })
    }

    fn told(&self, n_texts: usize) -> String {
        let of =
            |times: &Histogram<u64>, share| times.value_at_quantile(share) as f64 / 1_000.0 / n_texts as f64;
        format!(
            "clock p50 {:6.2} p99 {:6.2} ms, processor p50 {:6.2} p99 {:6.2} ms",
            of(&self.clock, 0.5),
            of(&self.clock, 0.99),
            of(&self.processor, 0.5),
            of(&self.processor, 0.99)
        )
    }
}

fn session(runtime: &Runtime, path: &Path, n_threads: usize) -> Result<Session, Failure> {
    let failed = |error: String| Failure::from(format!("{}: {error}", path.display()));
    Session::builder(&runtime.environment())
        .map_err(|error| failed(error.to_string()))?
        .with_intra_threads(n_threads)
        .map_err(|error| failed(error.to_string()))?
        .with_intra_op_spinning(false)
        .map_err(|error| failed(error.to_string()))?
        .commit_from_memory(&std::fs::read(path)?)
        .map_err(|error| failed(error.to_string()))
}

/// Token ids that no two texts share, so that batches cannot profit from repeats.
fn text(n_tokens: usize, seed: usize) -> Vec<i64> {
    let word = |idx: usize| 1_000 + i64::try_from((seed * 7_919 + idx * 104_729) % 28_000).unwrap_or(0);
    let mut ids = vec![CLS];
    ids.extend((2..n_tokens).map(word));
    ids.push(SEP);
    ids
}

/// Runs texts of equal length together and returns the output's first values.
fn run(session: &mut Session, texts: &[Vec<i64>]) -> Result<Vec<f32>, Failure> {
    let shape = [texts.len(), texts[0].len()];
    let ids = texts.concat();
    let tensor = |values: Vec<i64>| Tensor::from_array((shape, values));
    let (mask, kinds) = (tensor(vec![1; ids.len()])?, tensor(vec![0; ids.len()])?);
    let inputs =
        ort::inputs!["input_ids" => tensor(ids)?, "attention_mask" => mask, "token_type_ids" => kinds];
    let outputs = session.run(inputs)?;
    let (_, values) = outputs[0].try_extract_tensor::<f32>()?;
    Ok(values.to_vec())
}

fn processor_us() -> u64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(spent.tv_sec * 1_000_000 + spent.tv_nsec / 1_000).unwrap_or(0)
}

fn timed(times: &mut Times, session: &mut Session, texts: &[Vec<i64>]) -> Result<Vec<f32>, Failure> {
    let (began, spent) = (Instant::now(), processor_us());
    let values = run(session, texts)?;
    times.clock.record(u64::try_from(began.elapsed().as_micros())?)?;
    times.processor.record(processor_us() - spent)?;
    Ok(values)
}

/// One text a run, for each length, by the number of threads.
fn singles(
    out: &mut impl Write,
    name: &str,
    sessions: &mut [(usize, Session)],
    (lengths, n_runs): (&[usize], usize),
) -> Result<(), Failure> {
    for &n_tokens in lengths {
        let mut all = Vec::new();
        for _ in 0..sessions.len() {
            all.push(Times::new()?);
        }
        for idx in 0..N_WARM_UP + n_runs {
            for ((_, session), times) in sessions.iter_mut().zip(&mut all) {
                if idx == N_WARM_UP {
                    *times = Times::new()?;
                }
                timed(times, session, &[text(n_tokens, idx)])?;
            }
        }
        for ((n_threads, _), times) in sessions.iter().zip(&all) {
            writeln!(out, "{name}, {n_tokens:>3} tokens, {n_threads} thread(s): {}", times.told(1))?;
        }
    }
    Ok(())
}

/// The mean of the tokens' vectors, of length one.
fn pooled(hidden: &[f32], n_tokens: usize) -> Vec<f64> {
    let n_dims = hidden.len() / n_tokens;
    let mut mean = vec![0.0; n_dims];
    for token in hidden.chunks(n_dims) {
        mean.iter_mut().zip(token).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let length = mean.iter().map(|value| value * value).sum::<f64>().sqrt();
    mean.iter().map(|value| value / length).collect()
}

/// Batches of texts of equal length against the same texts one by one: time a text, and how far vectors move.
fn batches(
    out: &mut impl Write,
    session: &mut Session,
    n_tokens: usize,
    n_runs: usize,
) -> Result<(), Failure> {
    for n_texts in [1, 4, 8] {
        let (mut alone, mut together, mut least) = (Times::new()?, Times::new()?, 1.0_f64);
        for idx in 0..n_runs / n_texts {
            let texts: Vec<_> =
                (0..n_texts).map(|text_idx| text(n_tokens, idx * n_texts + text_idx)).collect();
            let of_batch = timed(&mut together, session, &texts)?;
            for (text, part) in texts.iter().zip(of_batch.chunks(of_batch.len() / n_texts)) {
                let of_one = timed(&mut alone, session, std::slice::from_ref(text))?;
                let (a, b) = (pooled(&of_one, n_tokens), pooled(part, n_tokens));
                least = least.min(a.iter().zip(&b).map(|(a, b)| a * b).sum());
            }
        }
        writeln!(out, "embedder, {n_tokens} tokens, alone:         {}", alone.told(1))?;
        writeln!(out, "embedder, {n_tokens} tokens, {n_texts} together, each: {}", together.told(n_texts))?;
        writeln!(out, "  least cosine between a text's vectors: {least:.5}")?;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [embedder, guard, rest @ ..] = &*args else {
        return Err("usage: model_speed EMBEDDER.onnx GUARD.onnx [N_RUNS]".into());
    };
    let n_runs = rest.first().map_or(Ok(500), |text| text.parse())?;
    let places = Places { data_dir: Some(PathBuf::from("target/onnxruntime")), ..Places::default() };
    let runtime = Runtime::open(&places)?;
    let mut out = std::io::stdout().lock();
    let open = |path: &str| -> Result<Vec<(usize, Session)>, Failure> {
        [1, 2].into_iter().map(|n| Ok((n, session(&runtime, Path::new(path), n)?))).collect()
    };
    let mut embedders = open(embedder)?;
    singles(&mut out, "embedder", &mut embedders, (&[8, 16, 32, 64], n_runs))?;
    // Two texts and the three tokens around them.
    singles(&mut out, "guard", &mut open(guard)?, (&[35, 67, 131], n_runs))?;
    for n_tokens in [16, 32] {
        batches(&mut out, &mut embedders[0].1, n_tokens, n_runs)?;
    }
    Ok(())
}
