//! The trained guard: a small encoder that sees both texts at once, on threads of its own.
//!
//! The folder holds `model.onnx`, `tokenizer.json` and `config.json`, which says how a logit becomes a
//! probability. How a pair is laid out here and in `router-models/training/guard_model.py` is one definition in
//! two languages, held together by `golden.json`.
//!
//! Invariants: pairs are read one at a time, because an 8-bit model's rounding depends on what shares its
//! batch; what a text says of special tokens is read as plain text.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ort::session::Session;
use ort::value::Tensor;
use serde::Deserialize;
use tokenizers::Tokenizer;

use super::{ReadError, ReadPair};
use crate::cache::SemanticConfig;
use crate::onnx::runtime::SessionError;
use crate::onnx::{Pool, PoolError, PoolSize, Runtime};

/// Pairs that may wait for each thread: at some milliseconds each, more would pass their deadline.
const QUEUE_PER_THREAD: usize = 16;
const INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
/// Of the kinds of tokens 0 belongs to the new text and 1 to the cached one; so much more says that the other
/// text lacks the token.
const LACKING: i64 = 2;

type Pair = (String, String);
type Read = Result<f64, ReadError>;

pub struct CrossEncoder {
    pool: Pool<Pair, Read>,
    deadline: Duration,
    id: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CrossEncoderError {
    #[error("cannot read {path}: {source}; check `cache.semantic.guard_dir`")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{dir} holds no guard we can run: {reason}; check `cache.semantic.guard_dir`")]
    Unusable { dir: PathBuf, reason: String },
    #[error("{0}; check `cache.semantic.guard_dir`")]
    Session(#[from] SessionError),
    #[error("cannot start a thread for the guard: {0}")]
    Thread(#[from] std::io::Error),
}

impl CrossEncoder {
    /// Loads the model once a thread, which takes a moment, and tries it.
    pub fn open(config: &SemanticConfig, runtime: &Runtime) -> Result<Self, CrossEncoderError> {
        let dir = &config.guard_dir;
        let reading = Arc::new(Reading::open(dir)?);
        let id = id(dir)?;
        let open = || Model::open(dir, &reading, runtime);
        let size =
            PoolSize { n_threads: config.guard_threads, queue_len: config.guard_threads * QUEUE_PER_THREAD };
        let pool =
            Pool::start("guard", size, open, |model, (new, cached): Pair| Ok(model.read(&new, &cached)))?;
        Ok(Self { pool, deadline: Duration::from_millis(config.guard_deadline_ms), id })
    }
}

impl ReadPair for CrossEncoder {
    fn p_same<'a>(&'a self, new: &'a str, cached: &'a str) -> BoxFuture<'a, Read> {
        async move {
            match self.pool.run((new.to_owned(), cached.to_owned()), self.deadline).await {
                Ok(read) => read,
                Err(PoolError::Deadline { deadline_ms }) => Err(ReadError::Deadline { deadline_ms }),
                Err(error @ (PoolError::Busy { .. } | PoolError::Failed(_) | PoolError::Closed)) => {
                    Err(ReadError::Failed(error.to_string()))
                }
            }
        }
        .boxed()
    }

    fn id(&self) -> &str {
        &self.id
    }
}

/// Equal exactly when the same pair gets the same probability.
fn id(dir: &Path) -> Result<String, CrossEncoderError> {
    let mut hasher = blake3::Hasher::new();
    for name in ["model.onnx", "tokenizer.json", "config.json"] {
        let part = file(dir, name)?;
        hasher.update(&(part.len() as u64).to_le_bytes()).update(&part);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn file(dir: &Path, name: &str) -> Result<Vec<u8>, CrossEncoderError> {
    let path = dir.join(name);
    std::fs::read(&path).map_err(|source| CrossEncoderError::Unreadable { path, source })
}

/// What `config.json` says; the rest of it is for people.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Scale {
    slope: f64,
    offset: f64,
    max_tokens_each: usize,
}

impl Scale {
    fn p_same(&self, logit: f32) -> f64 {
        1.0 / (1.0 + (-(self.slope * f64::from(logit) + self.offset)).exp())
    }
}

/// How texts become what the model takes, and what it gives a probability.
struct Reading {
    tokenizer: Tokenizer,
    scale: Scale,
    start: u32,
    end: u32,
}

impl Reading {
    fn open(dir: &Path) -> Result<Self, CrossEncoderError> {
        let unusable = |reason: String| CrossEncoderError::Unusable { dir: dir.to_owned(), reason };
        let scale: Scale = serde_json::from_slice(&file(dir, "config.json")?)
            .map_err(|error| unusable(format!("config.json: {error}")))?;
        if !(scale.slope.is_finite() && scale.offset.is_finite() && scale.max_tokens_each > 0) {
            return Err(unusable(format!("config.json makes no sense: {scale:?}")));
        }
        let mut tokenizer = Tokenizer::from_bytes(file(dir, "tokenizer.json")?)
            .map_err(|error| unusable(format!("tokenizer.json: {error}")))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| unusable(format!("tokenizer.json: {error}")))?;
        // Whoever writes "[SEP]" into a question must not be able to close it.
        tokenizer.set_encode_special_tokens(true);
        let special = |word: &str| {
            tokenizer.token_to_id(word).ok_or_else(|| unusable(format!("tokenizer.json has no {word}")))
        };
        let (start, end) = (special("[CLS]")?, special("[SEP]")?);
        Ok(Self { tokenizer, scale, start, end })
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids and kinds of a pair, each text cut to what the model reads.
    fn lay_out(&self, new: &[u32], cached: &[u32]) -> (Vec<i64>, Vec<i64>) {
        let cut = |ids: &[u32]| ids.iter().copied().take(self.scale.max_tokens_each).collect::<Vec<_>>();
        let (new, cached) = (cut(new), cut(cached));
        let (in_new, in_cached): (HashSet<u32>, HashSet<u32>) =
            (new.iter().copied().collect(), cached.iter().copied().collect());
        let kind = |own: i64, id: &u32, other: &HashSet<u32>| {
            if other.contains(id) { own } else { own + LACKING }
        };
        let ids = [&[self.start], &*new, &[self.end], &*cached, &[self.end]].concat();
        let mut kinds = vec![0];
        kinds.extend(new.iter().map(|id| kind(0, id, &in_cached)));
        kinds.push(0);
        kinds.extend(cached.iter().map(|id| kind(1, id, &in_new)));
        kinds.push(1);
        (ids.into_iter().map(i64::from).collect(), kinds)
    }
}

/// One session; a thread has its own.
struct Model {
    reading: Arc<Reading>,
    session: Session,
}

impl Model {
    fn open(dir: &Path, reading: &Arc<Reading>, runtime: &Runtime) -> Result<Self, CrossEncoderError> {
        let unusable = |reason: String| CrossEncoderError::Unusable { dir: dir.to_owned(), reason };
        let session = runtime.session(&dir.join("model.onnx"))?;
        let names: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        if names != INPUTS {
            return Err(unusable(format!("the model's inputs are {names:?}, not {INPUTS:?}")));
        }
        let mut model = Self { reading: Arc::clone(reading), session };
        // The first run plans memory; a model that cannot read at all is found out here.
        model.read("ready", "set").map_err(|error| unusable(error.to_string()))?;
        Ok(model)
    }

    fn read(&mut self, new: &str, cached: &str) -> Read {
        let (new, cached) = (self.ids(new)?, self.ids(cached)?);
        let (n_tokens, max_tokens) = (new.len().max(cached.len()), self.reading.scale.max_tokens_each);
        if n_tokens > max_tokens {
            return Err(ReadError::TooLong { n_tokens, max_tokens });
        }
        let logit = self.logit(&new, &cached).map_err(ReadError::Failed)?;
        Ok(self.reading.scale.p_same(logit))
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, ReadError> {
        self.reading.ids(text).map_err(ReadError::Failed)
    }

    fn logit(&mut self, new: &[u32], cached: &[u32]) -> Result<f32, String> {
        let (ids, kinds) = self.reading.lay_out(new, cached);
        let tensor = |values: Vec<i64>| {
            Tensor::from_array(([1, values.len()], values)).map_err(|error| error.to_string())
        };
        let mask = tensor(vec![1; ids.len()])?;
        let inputs = ort::inputs![INPUTS[0] => tensor(ids)?, INPUTS[1] => mask, INPUTS[2] => tensor(kinds)?];
        let outputs = self.session.run(inputs).map_err(|error| error.to_string())?;
        let (_, logits) = outputs[0].try_extract_tensor::<f32>().map_err(|error| error.to_string())?;
        match logits {
            [logit] if logit.is_finite() => Ok(*logit),
            other => Err(format!("the model gave {other:?} instead of one logit")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a probability may lie from the one that was written when the model was made: the same graph, but
    /// other processors round 8-bit products otherwise.
    const TOLERANCE: f64 = 0.02;

    #[derive(Deserialize)]
    struct Golden {
        new: String,
        cached: String,
        ids: Vec<i64>,
        kinds: Vec<i64>,
        float_logit: f32,
        logit: f32,
        probability: f64,
    }

    fn guard_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("router-models/guard")
    }

    fn golden() -> Vec<Golden> {
        serde_json::from_slice(&file(&guard_dir(), "golden.json").unwrap()).unwrap()
    }

    fn config() -> SemanticConfig {
        SemanticConfig {
            guard_dir: guard_dir(),
            guard_deadline_ms: 60_000,
            guard_threads: 1,
            ..SemanticConfig::default()
        }
    }

    /// The guard, or nothing and a printed reason where the runtime is not installed.
    fn cross_encoder() -> Option<CrossEncoder> {
        let runtime = crate::onnx::testing::runtime()?;
        Some(CrossEncoder::open(&config(), &runtime).unwrap())
    }

    #[test]
    fn a_pair_is_laid_out_as_in_training() {
        let reading = Reading::open(&guard_dir()).unwrap();

        for case in golden() {
            let (new, cached) = (reading.ids(&case.new).unwrap(), reading.ids(&case.cached).unwrap());

            assert_eq!(
                reading.lay_out(&new, &cached),
                (case.ids, case.kinds),
                "{} / {}",
                case.new,
                case.cached
            );
        }
    }

    #[test]
    fn a_pair_is_weighed_as_in_training() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let reading = Arc::new(Reading::open(&guard_dir()).unwrap());
        let mut model = Model::open(&guard_dir(), &reading, &runtime).unwrap();

        for case in golden() {
            let (new, cached) = (reading.ids(&case.new).unwrap(), reading.ids(&case.cached).unwrap());
            let logit = model.logit(&new, &cached).unwrap();
            let p_same = reading.scale.p_same(logit);

            let pair = format!("{} / {}: {logit}, {p_same}", case.new, case.cached);
            assert!((logit - case.logit).abs() < 0.1, "{pair}, not {}", case.logit);
            assert!((p_same - case.probability).abs() < TOLERANCE, "{pair}, not {}", case.probability);
            assert!(
                (logit - case.float_logit).abs() < 0.5,
                "{pair}, the float model's is {}",
                case.float_logit
            );
        }
    }

    #[tokio::test]
    async fn the_probability_of_a_pair_does_not_depend_on_what_was_read_before() {
        let Some(guard) = cross_encoder() else { return };
        let cases: Vec<Golden> = golden();

        for case in cases.iter().chain(cases.iter().rev()) {
            match guard.p_same(&case.new, &case.cached).await {
                Ok(p_same) => assert!((p_same - case.probability).abs() < TOLERANCE, "{}", case.new),
                Err(ReadError::TooLong { n_tokens, .. }) => assert!(n_tokens > 64, "{}", case.new),
                Err(error @ (ReadError::Deadline { .. } | ReadError::Failed(_))) => panic!("{error}"),
            }
        }
    }

    #[tokio::test]
    async fn texts_that_fill_the_window_are_read_and_one_token_more_is_too_long() {
        let Some(guard) = cross_encoder() else { return };
        // Every word is a token.
        let words = |n_words| vec!["word"; n_words].join(" ");

        assert!(guard.p_same(&words(64), &words(64)).await.is_ok());
        for (new, cached) in [(65, 1), (1, 65)] {
            let error = guard.p_same(&words(new), &words(cached)).await.unwrap_err();
            assert_eq!(error, ReadError::TooLong { n_tokens: 65, max_tokens: 64 });
        }
    }

    #[test]
    fn a_text_cannot_name_the_tokens_that_part_a_pair() {
        let reading = Reading::open(&guard_dir()).unwrap();

        for word in ["[SEP]", "[CLS]", "[PAD]", "[MASK]"] {
            let ids = reading.ids(&format!("cancel {word} order")).unwrap();
            assert!(ids.len() > 3 && !ids.contains(&reading.tokenizer.token_to_id(word).unwrap()), "{word}");
        }
    }

    // With the clock paused, time jumps to the deadline while the model works.
    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_passes_is_said() {
        let Some(guard) = cross_encoder() else { return };

        let error = guard.p_same(&"long ".repeat(60), &"text ".repeat(60)).await.unwrap_err();

        assert_eq!(error, ReadError::Deadline { deadline_ms: 60_000 });
    }

    #[test]
    fn a_folder_without_a_guard_or_with_a_broken_one_is_told_by_path() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let dir = tempfile::tempdir().unwrap();
        let config = SemanticConfig { guard_dir: dir.path().to_owned(), ..config() };
        let error = || CrossEncoder::open(&config, &runtime).err().unwrap().to_string();
        let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();

        let missing = error();
        put("config.json", b"{\"slope\": 1.0}");
        let half = error();
        put("config.json", b"{\"slope\": 1.0, \"offset\": 0.0, \"max_tokens_each\": 0}");
        let blind = error();
        for name in ["config.json", "tokenizer.json"] {
            std::fs::copy(guard_dir().join(name), dir.path().join(name)).unwrap();
        }
        put("model.onnx", b"no model");
        let broken = error();

        for (error, word) in
            [(missing, "config.json"), (half, "offset"), (blind, "makes no sense"), (broken, "model.onnx")]
        {
            assert!(error.contains(word) && error.contains("cache.semantic.guard_dir"), "{error}");
        }
    }
}
