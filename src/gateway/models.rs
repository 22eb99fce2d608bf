//! The trained models of a gateway, and what is wrong with those that could not be opened.
//!
//! Scores, embeds and compares nothing itself. A model that is missing is no reason not to start.
//!
//! Invariants: a model that is wanted is either there or has a problem that is told.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::embedder::{Embed, Sentence};
use crate::cache::reader::{CrossEncoder, ReadPair};
use crate::complexity::Complexity;
use crate::config::{Config, Environment};
use crate::onnx::{Places, Runtime, RuntimeError};

pub(super) struct Models {
    pub(super) embedder: Option<Arc<dyn Embed>>,
    pub(super) guard: Option<Arc<dyn ReadPair>>,
    pub(super) complexity: Complexity,
    pub(super) problems: Problems,
}

/// Why a part is missing; nothing where it is there, or is not wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct Problems {
    pub(super) runtime: Option<String>,
    pub(super) embedder: Option<String>,
    pub(super) guard: Option<String>,
}

impl Models {
    pub(super) fn open(config: &Config, env: &Environment) -> Self {
        let runtime = Runtime::open(&places(config, env));
        let (embedder, embedder_problem) = parted(embedder(config, runtime.as_ref()));
        let (guard, guard_problem) = match config.cache.semantic.enabled {
            true => parted(guard(config, runtime.as_ref())),
            // Embeddings are an upstream too; the guard has no other use.
            false => (None, None),
        };
        let complexity = Complexity::load(&config.complexity, runtime.as_ref());
        let runtime = runtime.err().map(|error| error.to_string());
        let problems = Problems { runtime, embedder: embedder_problem, guard: guard_problem };
        Self { embedder, guard, complexity, problems }
    }
}

fn parted<T, E>(outcome: Result<T, E>) -> (Option<T>, Option<E>) {
    match outcome {
        Ok(part) => (Some(part), None),
        Err(problem) => (None, Some(problem)),
    }
}

fn places(config: &Config, env: &Environment) -> Places {
    Places {
        configured: config.onnx.library.clone(),
        environment: env.get("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from),
        executable: std::env::current_exe().ok(),
        data_dir: Some(PathBuf::from("target/onnxruntime")),
    }
}

/// The embedder alone, for whoever needs no gateway around it.
pub fn open_embedder(config: &Config, env: &Environment) -> Result<Arc<dyn Embed>, String> {
    let runtime = Runtime::open(&places(config, env)).map_err(|error| error.to_string())?;
    embedder(config, Ok(&runtime))
}

/// The trained guard alone, likewise.
pub fn open_guard(config: &Config, env: &Environment) -> Result<Arc<dyn ReadPair>, String> {
    let runtime = Runtime::open(&places(config, env)).map_err(|error| error.to_string())?;
    guard(config, Ok(&runtime))
}

fn embedder(config: &Config, runtime: Result<&Runtime, &RuntimeError>) -> Result<Arc<dyn Embed>, String> {
    match runtime {
        Ok(runtime) => Sentence::open(&config.cache.semantic, runtime)
            .map(|sentence| Arc::new(sentence) as Arc<dyn Embed>)
            .map_err(|error| error.to_string()),
        Err(_) => Err("it needs ONNX Runtime".to_owned()),
    }
}

fn guard(config: &Config, runtime: Result<&Runtime, &RuntimeError>) -> Result<Arc<dyn ReadPair>, String> {
    match runtime {
        Ok(runtime) => CrossEncoder::open(&config.cache.semantic, runtime)
            .map(|guard| Arc::new(guard) as Arc<dyn ReadPair>)
            .map_err(|error| error.to_string()),
        Err(_) => Err("it needs ONNX Runtime".to_owned()),
    }
}
