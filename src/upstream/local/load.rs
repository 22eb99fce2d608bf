//! The models of this process: loaded once, shared by all sections that are equal, gone with the last.
//!
//! Loads on the thread it is called on, which may take as long as reading the checkpoint does.

use std::sync::{Arc, Weak};
use std::time::Instant;

use local_engine::local_model::{LocalModel, LocalModelConfig};
use parking_lot::Mutex;

use super::config::LocalConfig;
use super::price::Throughput;

/// Every model that is loaded; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::upstream) struct Models {
    loaded: Arc<Mutex<Vec<Loaded>>>,
}

/// A model, for as long as somebody uses it.
#[derive(Debug)]
struct Loaded {
    config: LocalModelConfig,
    model: Weak<LocalModel>,
    throughput: Arc<Mutex<Throughput>>,
}

/// A model, and what it was seen to do, which outlives a reload.
pub(super) struct Shared {
    pub(super) model: Arc<LocalModel>,
    pub(super) throughput: Arc<Mutex<Throughput>>,
}

impl Models {
    /// The section's model, loaded if it is not there yet; or what is wrong with it.
    pub(super) fn open(&self, section: &LocalConfig) -> Result<Shared, String> {
        let config = section.model_config();
        // Held while loading, so that equal sections do not load it twice.
        let mut loaded = self.loaded.lock();
        loaded.retain(|known| known.model.strong_count() > 0);
        let known = loaded.iter().find(|known| known.config == config);
        let known = known.and_then(|known| Some((known.model.upgrade()?, &known.throughput)));
        if let Some((model, throughput)) = known {
            return Ok(Shared { model, throughput: Arc::clone(throughput) });
        }
        let began = Instant::now();
        tracing::info!(model = section.model(), dir = %config.model_dir.display(), "loading a local model");
        let model = Arc::new(LocalModel::load(&config).map_err(|error| error.to_string())?);
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(model = section.model(), took_ms, "local model loaded");
        let throughput = Arc::default();
        let shared = Shared { model, throughput };
        let throughput = Arc::clone(&shared.throughput);
        loaded.push(Loaded { config, model: Arc::downgrade(&shared.model), throughput });
        Ok(shared)
    }
}
