//! What is not ready, and why.
//!
//! A part that only degrades answers is told, but does not make the gateway unready: it still answers.

use super::Gateway;

/// One part of the gateway as `/readyz` tells it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Part {
    pub name: String,
    pub ready: bool,
    /// Calls cannot be answered without it.
    pub required: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Part {
    fn new(name: &str, required: bool, state: Result<(), String>) -> Self {
        Self { name: name.to_owned(), ready: state.is_ok(), required, problem: state.err() }
    }
}

impl Gateway {
    pub async fn readiness(&self) -> Vec<Part> {
        let live = self.live();
        let mut parts = vec![
            Part::new("ledger", true, self.ledger.readiness()),
            Part::new("upstreams", false, some_upstream(live.upstreams().count())),
            Part::new("onnxruntime", false, self.problems.runtime.clone().map_or(Ok(()), Err)),
            Part::new("embedder", false, self.problems.embedder.clone().map_or(Ok(()), Err)),
            Part::new("guard", false, self.problems.guard.clone().map_or(Ok(()), Err)),
            Part::new("complexity", false, self.complexity.readiness()),
        ];
        for (name, state) in self.cache.readiness().await.into_iter().filter(|(name, _)| *name != "embedder")
        {
            parts.push(Part::new(&format!("cache.{name}"), false, state));
        }
        for (name, why) in live.not_loaded() {
            parts.push(Part::new(&format!("upstream.{name}"), false, Err(why.clone())));
        }
        if let Some(state) = self.ledger.shared_readiness().await {
            parts.push(Part::new("shared", false, state));
        }
        for name in self.tripped(&live) {
            let problem = "failed repeatedly and is being left alone for a moment".to_owned();
            parts.push(Part::new(&format!("upstream.{name}"), false, Err(problem)));
        }
        parts
    }
}

fn some_upstream(n_on: usize) -> Result<(), String> {
    if n_on > 0 {
        return Ok(());
    }
    Err("no upstream is on: set OPENAI_API_KEY, or configure an `[upstreams.NAME]` without a key".to_owned())
}
