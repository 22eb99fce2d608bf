//! `[upstreams.NAME]` for models that run in the gateway's own process.
//!
//! Says what may be configured and what is wrong with it; opens nothing.

use std::path::PathBuf;

use local_engine::backend::cpu::CpuConfig;
use local_engine::engine::EngineConfig;
use local_engine::local_model::LocalModelConfig;
use local_engine::speculate::SpeculationKind;
use serde::Deserialize;

use super::super::breaker::BreakerConfig;
use super::super::config::{Dialect, Supports};
use super::decline::Decline;

/// Dearer than any machine there is.
const MAX_USD_PER_HOUR: f64 = 10_000.0;

/// A model in the gateway's own process.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// The wire format: `local`.
    pub dialect: Dialect,
    /// A Hugging Face directory: `config.json`, `tokenizer.json` and safetensors, AWQ or float.
    pub model_dir: PathBuf,
    /// A smaller model with the same tokenizer that proposes tokens; needs `speculation = "draft"`.
    /// None by default.
    #[serde(default)]
    pub draft_dir: Option<PathBuf>,
    /// The model's name in answers and rows. Default: the directory's.
    #[serde(default)]
    model: Option<String>,
    /// What an hour of this machine costs, in US dollars: with the measured throughput, the price of a
    /// token. Default 0: the machine is there anyway.
    #[serde(default)]
    pub usd_per_hour: f64,
    /// Words that the model was taught to say first when a question is not its own. Such an answer sends
    /// the call on to the next upstream of the plan, where there is one. The beginning of every answer,
    /// some 80 letters, is held back until it is clear. None by default.
    #[serde(default)]
    pub declines_with: Option<String>,
    /// The greatest number of tokens of prompt and answer together. Default: the model's.
    #[serde(default)]
    pub context_tokens: Option<u64>,
    /// The greatest number of tokens of an answer. Default: what the context leaves.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    /// How long an answer may take from end to end, in milliseconds. Default 600000.
    #[serde(default = "total_timeout_ms")]
    pub total_timeout_ms: u64,
    /// How long the first token may take, queue included, in milliseconds. Default 60000.
    #[serde(default = "first_byte_timeout_ms")]
    pub first_byte_timeout_ms: u64,
    /// When to stop asking, and for how long.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// What the model can do. Images are never read.
    #[serde(default)]
    pub supports: Supports,
    /// Threads, memory and the format of the KV cache.
    #[serde(default)]
    pub cpu: CpuConfig,
    /// Queue, batch, prefix cache and speculation.
    #[serde(default)]
    pub engine: EngineConfig,
}

const fn total_timeout_ms() -> u64 {
    600_000
}

const fn first_byte_timeout_ms() -> u64 {
    60_000
}

impl LocalConfig {
    /// The model's name in answers and rows.
    pub fn model(&self) -> &str {
        let of_dir = || self.model_dir.file_name().and_then(|name| name.to_str());
        self.model.as_deref().or_else(of_dir).unwrap_or("local")
    }

    pub(super) fn model_config(&self) -> LocalModelConfig {
        LocalModelConfig {
            model_dir: self.model_dir.clone(),
            draft_dir: self.draft_dir.clone(),
            context: self.context_tokens.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            cpu: self.cpu.clone(),
            engine: self.engine.clone(),
        }
    }

    /// Every mistake at once, each naming its key and what would be right.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = self.breaker.mistakes();
        if self.cpu.threads == Some(0) {
            mistakes.push("`cpu.threads` is 0; it must be at least 1".to_owned());
        }
        mistakes.extend(self.engine.mistakes().into_iter().map(|mistake| format!("`engine`: {mistake}")));
        let wants_draft = self.engine.speculation.kind == SpeculationKind::Draft;
        if wants_draft != self.draft_dir.is_some() {
            let problem =
                "`draft_dir` and `engine.speculation.kind = \"draft\"` go together; give both or neither";
            mistakes.push(problem.to_owned());
        }
        if self.model_dir.as_os_str().is_empty() {
            mistakes.push("`model_dir` is empty; it must be a Hugging Face directory".to_owned());
        }
        if self.model.as_ref().is_some_and(String::is_empty) {
            mistakes.push("`model` is empty; leave it out for the directory's name".to_owned());
        }
        if !(0.0..=MAX_USD_PER_HOUR).contains(&self.usd_per_hour) {
            mistakes.push(format!(
                "`usd_per_hour` is {}; it must be from 0 to {MAX_USD_PER_HOUR}",
                self.usd_per_hour
            ));
        }
        if self.declines_with.as_ref().is_some_and(|words| Decline::try_new(words).is_none()) {
            mistakes.push("`declines_with` has no letter, so every answer would begin with it".to_owned());
        }
        for (key, value) in [
            ("context_tokens", self.context_tokens),
            ("max_output_tokens", self.max_output_tokens),
            ("total_timeout_ms", Some(self.total_timeout_ms)),
            ("first_byte_timeout_ms", Some(self.first_byte_timeout_ms)),
        ] {
            if value == Some(0) {
                mistakes.push(format!("`{key}` is 0; it must be at least 1"));
            }
        }
        mistakes
    }
}
