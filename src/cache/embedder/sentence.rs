//! A sentence model from a folder, or from the Hugging Face hub by name, on threads of its own.
//!
//! The folder holds `model.onnx` and the four JSON files of its tokenizer, as any sentence encoder
//! exported for fastembed does. Fetches nothing unless built with the feature `hub` and told a name.
//!
//! Invariants: texts are embedded one at a time, because an 8-bit model's rounding depends on what
//! shares its batch; a text the model would cut short has no vector.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fastembed::{InitOptionsUserDefined, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Embed, EmbedError, of_length_one};
use crate::cache::{Pooling, SemanticConfig};
use crate::onnx::{Pool, PoolError, PoolSize, Runtime};

/// Inputs that may wait for each thread: at some milliseconds each, more would pass their deadline.
const QUEUE_PER_THREAD: usize = 16;
/// The window of the models we know; a tokenizer that says less is believed.
const MAX_TOKENS: usize = 256;

/// One thread never has anybody to spin for.
const NO_SPINNING: (&str, &str) = ("session.intra_op.allow_spinning", "0");

type Embedded = Result<Arc<[f32]>, EmbedError>;

pub struct Sentence {
    pool: Pool<String, Embedded>,
    deadline: Duration,
    id: String,
    n_dims: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum SentenceError {
    #[error("cannot read {path}: {source}; check `cache.semantic.model_dir`")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{dir} holds no sentence model we can run: {reason}; check `cache.semantic.model_dir`")]
    Unusable { dir: PathBuf, reason: String },
    #[error(
        "no model {name} from the hub: {reason}; check `cache.semantic.model`, or unset it and use `model_dir`"
    )]
    Hub { name: String, reason: String },
    #[error("cannot start a thread for the embedder: {0}")]
    Thread(#[from] std::io::Error),
}

impl Sentence {
    /// Loads the model once a thread, which takes a moment, and tries it.
    pub fn open(config: &SemanticConfig, runtime: &Runtime) -> Result<Self, SentenceError> {
        let dir = &config.model_dir;
        let source = match &config.model {
            Some(name) => Source::Hub(name),
            None => Source::Folder(Files::read(dir)?),
        };
        let open = || match &source {
            Source::Hub(name) => fetch(name, dir, runtime),
            Source::Folder(files) => files.load(dir, config.pooling, runtime),
        };
        let id = match &source {
            Source::Hub(name) => format!("hub:{}", name.to_ascii_lowercase()),
            Source::Folder(files) => files.id(config.pooling),
        };
        let n_dims =
            try_out(&mut open()?).map_err(|reason| SentenceError::Unusable { dir: dir.clone(), reason })?;
        let size = PoolSize { n_threads: config.threads, queue_len: config.threads * QUEUE_PER_THREAD };
        let pool = Pool::start("embedder", size, open, |model, text: String| Ok(embed(model, &text)))?;
        Ok(Self { pool, deadline: Duration::from_millis(config.deadline_ms), id, n_dims })
    }
}

impl Embed for Sentence {
    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Embedded> {
        async move {
            match self.pool.run(text.to_owned(), self.deadline).await {
                Ok(embedded) => embedded,
                Err(PoolError::Deadline { deadline_ms }) => Err(EmbedError::Deadline { deadline_ms }),
                Err(error @ (PoolError::Busy { .. } | PoolError::Failed(_) | PoolError::Closed)) => {
                    Err(EmbedError::Failed(error.to_string()))
                }
            }
        }
        .boxed()
    }

    fn id(&self) -> &str {
        &self.id
    }

    fn n_dims(&self) -> usize {
        self.n_dims
    }
}

enum Source<'a> {
    Folder(Files),
    Hub(&'a str),
}

/// Fetches a model into `dir` unless it is there already. Blocks.
#[cfg(feature = "hub")]
fn fetch(name: &str, dir: &Path, runtime: &Runtime) -> Result<TextEmbedding, SentenceError> {
    let failed = |reason: String| SentenceError::Hub { name: name.to_owned(), reason };
    let model: fastembed::EmbeddingModel = name.parse().map_err(failed)?;
    let options = fastembed::TextInitOptions::new(model)
        .with_environment(runtime.environment())
        .with_cache_dir(dir.to_owned())
        .with_show_download_progress(false)
        .with_max_length(MAX_TOKENS)
        .with_intra_threads(1)
        .with_session_config(NO_SPINNING.0, NO_SPINNING.1);
    TextEmbedding::try_new(options).map_err(|error| failed(error.to_string()))
}

#[cfg(not(feature = "hub"))]
fn fetch(name: &str, _: &Path, _: &Runtime) -> Result<TextEmbedding, SentenceError> {
    let reason = "this build cannot fetch models; build with `--features hub`".to_owned();
    Err(SentenceError::Hub { name: name.to_owned(), reason })
}

/// Everything a model is made of.
struct Files {
    onnx: Vec<u8>,
    tokenizer: TokenizerFiles,
}

impl Files {
    fn read(dir: &Path) -> Result<Self, SentenceError> {
        let file = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|source| SentenceError::Unreadable { path, source })
        };
        Ok(Self {
            onnx: file("model.onnx")?,
            tokenizer: TokenizerFiles {
                tokenizer_file: file("tokenizer.json")?,
                config_file: file("config.json")?,
                special_tokens_map_file: file("special_tokens_map.json")?,
                tokenizer_config_file: file("tokenizer_config.json")?,
            },
        })
    }

    /// Equal exactly when the same text gets the same vector.
    fn id(&self, pooling: Pooling) -> String {
        let mut hasher = blake3::Hasher::new();
        let pooling = match pooling {
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
        };
        let tokenizer = &self.tokenizer;
        let parts = [&self.onnx, &tokenizer.tokenizer_file, &tokenizer.tokenizer_config_file];
        for part in parts.into_iter().map(Vec::as_slice).chain([pooling.as_bytes()]) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        hasher.finalize().to_hex().to_string()
    }

    fn load(&self, dir: &Path, pooling: Pooling, runtime: &Runtime) -> Result<TextEmbedding, SentenceError> {
        let pooling = match pooling {
            Pooling::Mean => fastembed::Pooling::Mean,
            Pooling::Cls => fastembed::Pooling::Cls,
        };
        let model =
            UserDefinedEmbeddingModel::new(self.onnx.clone(), self.tokenizer.clone()).with_pooling(pooling);
        let options = InitOptionsUserDefined::new()
            .with_environment(runtime.environment())
            .with_max_length(MAX_TOKENS)
            .with_intra_threads(1)
            .with_session_config(NO_SPINNING.0, NO_SPINNING.1);
        TextEmbedding::try_new_from_user_defined(model, options)
            .map_err(|error| SentenceError::Unusable { dir: dir.to_owned(), reason: error.to_string() })
    }
}

fn try_out(model: &mut TextEmbedding) -> Result<usize, String> {
    let vector = embed(model, "Is this thing on?").map_err(|error| error.to_string())?;
    Ok(vector.len())
}

fn embed(model: &mut TextEmbedding, text: &str) -> Embedded {
    let failed = |error: String| EmbedError::Failed(error);
    let encoding = model.tokenizer.encode_fast(text, true).map_err(|error| failed(error.to_string()))?;
    let n_beyond: usize = encoding.get_overflowing().iter().map(|rest| rest.len()).sum();
    if n_beyond > 0 {
        let max_tokens = encoding.len();
        return Err(EmbedError::TooLong { n_tokens: max_tokens + n_beyond, max_tokens });
    }
    let mut vectors = model.embed([text], None).map_err(|error| failed(error.to_string()))?;
    let vector = vectors.pop().ok_or_else(|| failed("the model gave no vector".to_owned()))?;
    of_length_one(vector).ok_or_else(|| failed("the model gave a vector without a direction".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::guard::{self, Verdict};

    fn config() -> SemanticConfig {
        let model_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("router-models/embedder");
        SemanticConfig { model_dir, deadline_ms: 60_000, threads: 1, ..SemanticConfig::default() }
    }

    /// The model, or nothing and a printed reason where the runtime is not installed.
    fn sentence() -> Option<Sentence> {
        let runtime = crate::onnx::testing::runtime()?;
        Some(Sentence::open(&config(), &runtime).unwrap())
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[tokio::test]
    async fn a_paraphrase_is_nearer_than_another_subject() {
        let Some(sentence) = sentence() else { return };

        let password = sentence.embed("How do I reset my password?").await.unwrap();
        let again = sentence.embed("I forgot my password, how can I reset it?").await.unwrap();
        let capital = sentence.embed("What is the capital of France?").await.unwrap();

        assert!(cosine(&password, &again) > 0.7);
        assert!(cosine(&password, &capital) < 0.3);
        assert_eq!(password.len(), sentence.n_dims());
        assert!((cosine(&password, &password) - 1.0).abs() < 1e-5);
    }

    #[tokio::test]
    async fn the_guard_refuses_what_the_model_takes_for_alike() {
        let Some(sentence) = sentence() else { return };
        // Of the held-out pairs of Quora questions that are the same, a third lie below it.
        let bar = 0.86;

        for (a, b) in [
            ("turn on dark mode", "turn off dark mode"),
            ("flights from Oslo to Rome", "flights from Rome to Oslo"),
            ("transfer 10 dollars to Ann", "transfer 100 dollars to Ann"),
            ("status of order AB-1234", "status of order AB-1235"),
        ] {
            let similarity = cosine(&sentence.embed(a).await.unwrap(), &sentence.embed(b).await.unwrap());

            assert!(similarity > bar, "{a} and {b}: {similarity}");
            assert_ne!(guard::compare(a, b), Verdict::Same, "{a} and {b}");
        }
    }

    #[tokio::test]
    async fn a_text_that_fills_the_window_is_embedded_and_one_token_more_is_too_long() {
        let Some(sentence) = sentence() else { return };
        // Every word is a token, and two more mark the beginning and the end.
        let words = |n_words| vec!["word"; n_words].join(" ");

        assert!(sentence.embed(&words(MAX_TOKENS - 2)).await.is_ok());
        let error = sentence.embed(&words(MAX_TOKENS - 1)).await.unwrap_err();
        assert!(matches!(error, EmbedError::TooLong { max_tokens: MAX_TOKENS, .. }), "{error}");
    }

    // With the clock paused, time jumps to the deadline while the model works.
    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_passes_is_said() {
        let Some(sentence) = sentence() else { return };

        let error = sentence.embed(&"a long text ".repeat(60)).await.unwrap_err();

        assert_eq!(error, EmbedError::Deadline { deadline_ms: 60_000 });
    }

    #[test]
    fn pooling_is_part_of_the_id() {
        let files = Files {
            onnx: b"model".to_vec(),
            tokenizer: TokenizerFiles {
                tokenizer_file: Vec::new(),
                config_file: Vec::new(),
                special_tokens_map_file: Vec::new(),
                tokenizer_config_file: Vec::new(),
            },
        };

        assert_ne!(files.id(Pooling::Mean), files.id(Pooling::Cls));
        assert_eq!(files.id(Pooling::Mean), files.id(Pooling::Mean));
    }

    #[test]
    fn a_model_that_cannot_be_fetched_is_told_by_name() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let config = SemanticConfig { model: Some("NoSuchModel".to_owned()), ..config() };

        let error = Sentence::open(&config, &runtime).err().unwrap().to_string();

        assert!(error.contains("NoSuchModel") && error.contains("cache.semantic.model"), "{error}");
    }

    #[test]
    fn a_folder_without_a_model_is_told_by_path() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let dir = tempfile::tempdir().unwrap();
        let config = SemanticConfig { model_dir: dir.path().to_owned(), ..config() };

        let error = Sentence::open(&config, &runtime).err().unwrap().to_string();

        assert!(error.contains("model.onnx") && error.contains("model_dir"), "{error}");
    }
}
