//! Scores how much a prompt needs the strong model, in [0, 1], before anything is called.
//!
//! Does not choose a tier, know a price or read an answer; it sees one text. It never fails: what the
//! classifier cannot answer in time the heuristic answers, and the result says which and why.
//!
//! Invariants: a score is finite and in [0, 1]; scoring takes at most the deadline, plus microseconds for
//! the heuristic; what is read of a text is bounded whatever its length (see `capped`).

mod classifier;
mod heuristic;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::onnx::{Pool, PoolError, PoolSize, Runtime, RuntimeError};

/// Inputs that may wait for one thread. At well under a millisecond each they are done within the deadline.
const QUEUE_PER_THREAD: usize = 32;

/// How a prompt's complexity is scored.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComplexityConfig {
    /// Folder with `model.onnx` and `tokenizer.json`. Default: none, and the heuristic scores everything.
    pub model_dir: Option<PathBuf>,
    /// Longest wait for the classifier, in milliseconds. Default: 20.
    pub deadline_ms: u64,
    /// Threads that score, each with a model of its own. Default: 1.
    pub threads: usize,
}

impl Default for ComplexityConfig {
    fn default() -> Self {
        Self { model_dir: None, deadline_ms: 20, threads: 1 }
    }
}

/// A score and where it came from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Complexity in [0, 1].
    pub score: f32,
    pub source: ScoreSource,
}

/// Who gave a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreSource {
    Classifier,
    Heuristic(WhyNot),
}

/// Why the classifier gave no score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNot {
    /// There is no runtime, or no model; [`Complexity::readiness`] says what is missing.
    NoModel,
    Busy,
    Deadline,
    Failed,
}

impl ScoreSource {
    /// One word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classifier => "classifier",
            Self::Heuristic(WhyNot::NoModel) => "heuristic-no-model",
            Self::Heuristic(WhyNot::Busy) => "heuristic-busy",
            Self::Heuristic(WhyNot::Deadline) => "heuristic-deadline",
            Self::Heuristic(WhyNot::Failed) => "heuristic-failed",
        }
    }
}

/// Why the classifier could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ComplexityError {
    #[error("complexity.model_dir is not set")]
    NotConfigured,
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Session(#[from] crate::onnx::runtime::SessionError),
    #[error("cannot read tokenizer {}: {why}", .path.display())]
    Tokenizer { path: PathBuf, why: String },
    #[error("model {} is not a complexity model: {why}", .path.display())]
    Unfit { path: PathBuf, why: String },
    #[error("cannot start a scoring thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// The scorer of a gateway.
pub struct Complexity {
    classifier: Result<Pool<String, f32>, ComplexityError>,
    deadline: Duration,
}

impl Complexity {
    /// Starts the classifier, or the heuristic alone where that cannot be done.
    pub fn load(config: &ComplexityConfig, runtime: Result<&Runtime, &RuntimeError>) -> Self {
        let deadline = Duration::from_millis(config.deadline_ms);
        Self { classifier: start(config, runtime), deadline }
    }

    /// Says what is missing where the classifier does not score.
    pub fn readiness(&self) -> Result<(), String> {
        match &self.classifier {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("complexity is scored by the heuristic alone: {error}")),
        }
    }

    /// The complexity of one text.
    pub async fn score(&self, text: &str) -> Scored {
        let text = capped(text);
        let why_not = match &self.classifier {
            Ok(pool) => match pool.run(text.clone(), self.deadline).await {
                Ok(score) => return Scored { score, source: ScoreSource::Classifier },
                Err(PoolError::Busy { .. }) => WhyNot::Busy,
                Err(PoolError::Deadline { .. }) => WhyNot::Deadline,
                Err(PoolError::Failed(_) | PoolError::Closed) => WhyNot::Failed,
            },
            Err(_) => WhyNot::NoModel,
        };
        Scored { score: heuristic::score(&text), source: ScoreSource::Heuristic(why_not) }
    }
}

fn start(
    config: &ComplexityConfig,
    runtime: Result<&Runtime, &RuntimeError>,
) -> Result<Pool<String, f32>, ComplexityError> {
    let model_dir = config.model_dir.as_deref().ok_or(ComplexityError::NotConfigured)?;
    let runtime = runtime.map_err(Clone::clone)?;
    let size = PoolSize { n_threads: config.threads, queue_len: QUEUE_PER_THREAD * config.threads.max(1) };
    let open = || classifier::Classifier::open(runtime, model_dir);
    Pool::start("complexity", size, open, |classifier, text: String| classifier.score(&text))
}

/// Characters read of one text. About a thousand tokens of English.
const CHARS_MAX: usize = 4096;

/// A text that is longer keeps its first and last halves, for the task stands at one end or the other.
fn capped(text: &str) -> String {
    if text.len() <= CHARS_MAX || text.chars().nth(CHARS_MAX).is_none() {
        return text.to_owned();
    }
    let half = CHARS_MAX / 2;
    let head_end = text.char_indices().nth(half).map_or(text.len(), |(at, _)| at);
    let tail_start = text.char_indices().nth_back(half - 1).map_or(0, |(at, _)| at);
    format!("{}\n{}", &text[..head_end], &text[tail_start..])
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use hdrhistogram::Histogram;
    use serde::Deserialize;

    use super::*;
    use crate::onnx::Places;

    fn model_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("router-models/complexity")
    }

    fn config() -> ComplexityConfig {
        // Unoptimised tokenizing on a shared machine may take long; the deadline has tests of its own.
        ComplexityConfig { model_dir: Some(model_dir()), deadline_ms: 10_000, threads: 1 }
    }

    fn loaded() -> Option<Complexity> {
        let runtime = crate::onnx::testing::runtime()?;
        let complexity = Complexity::load(&config(), Ok(&runtime));
        assert_eq!(complexity.readiness(), Ok(()));
        Some(complexity)
    }

    #[derive(Deserialize)]
    struct Prompts {
        held_out: HeldOut,
    }

    #[derive(Deserialize)]
    struct HeldOut {
        easy: Vec<String>,
        hard: Vec<String>,
    }

    fn held_out() -> HeldOut {
        let text = include_str!("../router-models/training/prompts.json");
        serde_json::from_str::<Prompts>(text).unwrap().held_out
    }

    #[test]
    fn a_short_text_is_read_whole() {
        for n in [0, 1, CHARS_MAX - 1, CHARS_MAX] {
            let text = "é".repeat(n);

            assert_eq!(capped(&text), text);
        }
    }

    #[test]
    fn a_long_text_keeps_both_its_ends() {
        let text = format!("{}{}", "é".repeat(CHARS_MAX / 2), "z".repeat(CHARS_MAX / 2 + 1));

        let kept = capped(&text);

        assert_eq!(kept, format!("{}\n{}", "é".repeat(CHARS_MAX / 2), "z".repeat(CHARS_MAX / 2)));
    }

    #[tokio::test]
    async fn without_a_runtime_the_heuristic_scores_and_says_why() {
        let missing = crate::onnx::Runtime::open(&Places::default()).unwrap_err();

        let complexity = Complexity::load(&config(), Err(&missing));

        assert_eq!(complexity.score("Say hello").await.source, ScoreSource::Heuristic(WhyNot::NoModel));
        assert!(complexity.readiness().unwrap_err().contains("scripts/fetch-onnxruntime.sh"));
    }

    #[tokio::test]
    async fn without_a_model_folder_the_heuristic_scores_and_says_why() {
        let missing = crate::onnx::Runtime::open(&Places::default()).unwrap_err();

        let complexity = Complexity::load(&ComplexityConfig::default(), Err(&missing));

        assert_eq!(complexity.score("Say hello").await.source, ScoreSource::Heuristic(WhyNot::NoModel));
        assert!(complexity.readiness().unwrap_err().contains("complexity.model_dir"));
    }

    #[tokio::test]
    async fn an_empty_model_folder_is_named() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let folder = tempfile::tempdir().unwrap();
        let config = ComplexityConfig { model_dir: Some(folder.path().to_path_buf()), ..config() };

        let complexity = Complexity::load(&config, Ok(&runtime));

        let reason = complexity.readiness().unwrap_err();
        assert!(reason.contains(&folder.path().display().to_string()), "{reason}");
    }

    #[tokio::test]
    async fn a_model_of_another_kind_is_refused() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("router-models/embedder");
        let config = ComplexityConfig { model_dir: Some(other), ..config() };

        let complexity = Complexity::load(&config, Ok(&runtime));

        let reason = complexity.readiness().unwrap_err();
        assert!(reason.contains("not a complexity model"), "{reason}");
    }

    #[tokio::test]
    async fn a_deadline_that_has_passed_falls_back() {
        let Some(runtime) = crate::onnx::testing::runtime() else { return };
        let complexity = Complexity::load(&ComplexityConfig { deadline_ms: 0, ..config() }, Ok(&runtime));

        let scored = complexity.score(&"long text ".repeat(400)).await;

        assert_eq!(scored.source, ScoreSource::Heuristic(WhyNot::Deadline));
        assert!((0.0..=1.0).contains(&scored.score));
    }

    #[tokio::test]
    async fn everyday_prompts_stay_below_the_usual_cut_and_hard_ones_above() {
        let Some(complexity) = loaded() else { return };
        let HeldOut { easy, hard } = held_out();

        for text in easy {
            let scored = complexity.score(&text).await;
            assert!(scored.score < 0.25, "{} for {text}", scored.score);
            assert_eq!(scored.source, ScoreSource::Classifier);
        }
        for text in hard {
            let scored = complexity.score(&text).await;
            assert!(scored.score > 0.45, "{} for {text}", scored.score);
        }
    }

    /// Prints the times that the card quotes and judges none, because a busy machine would.
    #[tokio::test]
    #[expect(clippy::print_stderr, reason = "the figures are for the card")]
    async fn prompts_of_any_length_are_scored_by_the_classifier() {
        let Some(complexity) = loaded() else { return };
        for n_words in [14, 126, 510] {
            let text = "why do tides follow the moon around ".repeat(n_words / 7 + 1);
            let mut times_us = Histogram::<u64>::new(3).unwrap();
            for _ in 0..300 {
                let began = Instant::now();
                let scored = complexity.score(&text).await;
                times_us.record(u64::try_from(began.elapsed().as_micros()).unwrap()).unwrap();
                assert_eq!(scored.source, ScoreSource::Classifier);
            }
            let (p50, p99) = (times_us.value_at_quantile(0.5), times_us.value_at_quantile(0.99));
            eprintln!("{n_words} words: p50 {p50} us, p99 {p99} us");
        }
    }
}
