//! A model with all that belongs to it: weights on a backend, engine, tokenizer, chat template, grammars.
//!
//! Puts the parts together from a directory; each part is of use without it. Knows no wire format: a chat
//! comes in as messages, and what becomes of the tokens is for whoever submits them.
//!
//! Invariants: the parts of a model that was loaded fit each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::backend::cpu::{Cpu, CpuConfig, Room};
use crate::backend::{Backend, BackendError};
use crate::chat::{Chat, ChatError};
use crate::engine::{Engine, EngineConfig, EngineError, EngineParts};
use crate::grammar::{GrammarError, GrammarFactory};
use crate::model::Hparams;
use crate::request::TokenId;
use crate::sampling::SamplingParams;
use crate::speculate::SpeculationKind;
use crate::tokenizer::{Tokenizer, TokenizerError, Vocabulary};
use crate::weights::{WeightsError, checkpoint};

/// What to load, and how to run it.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalModelConfig {
    /// A Hugging Face directory.
    pub model_dir: PathBuf,
    /// A smaller model with the same vocabulary, for speculation.
    pub draft_dir: Option<PathBuf>,
    /// The greatest number of positions of a sequence; at most the model's, which is the default.
    pub context: Option<usize>,
    pub cpu: CpuConfig,
    pub engine: EngineConfig,
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    #[error("{dir}: {source}")]
    Backend { dir: PathBuf, source: BackendError },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{path}: {what}")]
    Unfit { path: PathBuf, what: String },
    #[error(
        "`speculation.kind` is `draft`, but there is no `draft_dir`; name a smaller model with the same tokenizer"
    )]
    NoDraft,
    #[error(
        "{draft_dir} has {n_draft} tokens and {model_dir} has {n_model}; a draft model needs the same tokenizer"
    )]
    OtherVocabulary { draft_dir: PathBuf, n_draft: usize, model_dir: PathBuf, n_model: usize },
}

/// A model that can answer.
#[derive(Debug)]
pub struct LocalModel {
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
    vocabulary: Arc<Vocabulary>,
    /// None for a model that only continues text.
    chat: Option<Chat>,
    grammars: GrammarFactory,
    defaults: SamplingParams,
    context: usize,
    capacity: usize,
}

impl LocalModel {
    /// Reads a directory and starts its engine; takes as long as the checkpoint is large.
    pub fn load(config: &LocalModelConfig) -> Result<Self, LoadError> {
        let dir = &config.model_dir;
        let room = Room::of(config.cpu.memory_bytes);
        let (backend, hparams) = backend(dir, &room, config)?;
        let tokenizer = Arc::new(Tokenizer::load(dir)?);
        let vocabulary = tokenizer.vocabulary();
        let draft = match (config.engine.speculation.kind, &config.draft_dir) {
            (SpeculationKind::Draft, Some(draft_dir)) => {
                Some(draft(draft_dir, &room, (&vocabulary, config))?)
            }
            (SpeculationKind::Draft, None) => return Err(LoadError::NoDraft),
            (SpeculationKind::Off | SpeculationKind::Lookup, _) => None,
        };
        let grammars = GrammarFactory::new(&tokenizer, &hparams.stop_ids)?;
        let chat = match Chat::load(dir, Arc::clone(&tokenizer)) {
            Ok(chat) => Some(chat),
            Err(ChatError::NoTemplate { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let parts = EngineParts {
            backend: Box::new(backend),
            vocabulary: Arc::clone(&vocabulary),
            stop_ids: hparams.stop_ids.clone(),
            draft,
        };
        let engine = Engine::start(parts, config.engine.clone())?;
        let context = engine.max_len();
        let defaults = defaults(dir, hparams.n_vocab)?;
        if vocabulary.len() > hparams.n_vocab {
            let what = format!(
                "the tokenizer has {} tokens and the model {}; they are of different models",
                vocabulary.len(),
                hparams.n_vocab
            );
            return Err(LoadError::Unfit { path: dir.join("tokenizer.json"), what });
        }
        let capacity = config.engine.max_running.saturating_add(config.engine.max_queue);
        Ok(Self { engine, tokenizer, vocabulary, chat, grammars, defaults, context, capacity })
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn vocabulary(&self) -> Arc<Vocabulary> {
        Arc::clone(&self.vocabulary)
    }

    /// How the model wants to be sampled where a request does not say.
    pub fn defaults(&self) -> &SamplingParams {
        &self.defaults
    }

    /// The most requests that can be there at once.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The greatest number of positions of a sequence.
    pub fn context(&self) -> usize {
        self.context
    }

    /// How the model chats; none if it only continues text.
    pub fn chat(&self) -> Option<&Chat> {
        self.chat.as_ref()
    }

    pub fn grammars(&self) -> &GrammarFactory {
        &self.grammars
    }

    /// A text that is to be continued.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>, TokenizerError> {
        self.tokenizer.encode(text, true)
    }

    pub fn decode(&self, tokens: &[TokenId]) -> String {
        let bytes: Vec<u8> = tokens
            .iter()
            .flat_map(|token| self.vocabulary.bytes(*token).unwrap_or_default())
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn backend(dir: &Path, room: &Room, config: &LocalModelConfig) -> Result<(Cpu, Hparams), LoadError> {
    let mut weights = checkpoint::open(dir)?;
    let context = config.context.unwrap_or(usize::MAX).min(weights.hparams.context);
    weights.hparams.context = context;
    let cpu = Cpu::within(room, &weights, &config.cpu)
        .map_err(|source| LoadError::Backend { dir: dir.to_owned(), source })?;
    Ok((cpu, weights.hparams))
}

fn draft(
    draft_dir: &Path,
    room: &Room,
    (vocabulary, config): (&Vocabulary, &LocalModelConfig),
) -> Result<Box<dyn Backend>, LoadError> {
    let (backend, hparams) = backend(draft_dir, room, config)?;
    let n_draft = Tokenizer::load(draft_dir)?.vocabulary().len();
    if n_draft != vocabulary.len() || hparams.n_vocab < n_draft {
        return Err(LoadError::OtherVocabulary {
            draft_dir: draft_dir.to_owned(),
            n_draft,
            model_dir: config.model_dir.clone(),
            n_model: vocabulary.len(),
        });
    }
    Ok(Box::new(backend))
}

/// What `generation_config.json` says of sampling.
#[derive(Debug, Default, Deserialize)]
struct GenerationConfig {
    do_sample: Option<bool>,
    temperature: Option<f32>,
    top_k: Option<usize>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
}

/// A model that says nothing is sampled at temperature 1, as OpenAI's are.
fn defaults(dir: &Path, n_vocab: usize) -> Result<SamplingParams, LoadError> {
    let path = dir.join("generation_config.json");
    let unfit = |what: String| LoadError::Unfit { path: path.clone(), what };
    let read: GenerationConfig = match std::fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| unfit(error.to_string()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => GenerationConfig::default(),
        Err(error) => return Err(unfit(error.to_string())),
    };
    let temperature = match read.do_sample {
        Some(false) => 0.0,
        Some(true) | None => read.temperature.unwrap_or(1.0),
    };
    let defaults = SamplingParams {
        temperature,
        top_k: read.top_k.unwrap_or(0),
        top_p: read.top_p.unwrap_or(1.0),
        min_p: read.min_p.unwrap_or(0.0),
        repetition_penalty: read.repetition_penalty.unwrap_or(1.0),
        ..SamplingParams::default()
    };
    let mistakes = defaults.check(n_vocab);
    if mistakes.is_empty() { Ok(defaults) } else { Err(unfit(mistakes.join("; "))) }
}
