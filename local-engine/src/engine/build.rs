//! Puts an engine together: what fits what, and how much memory there is for it.
//!
//! Invariants: what comes out needs no further checks.

use std::sync::Arc;

use super::reading::ReadingRules;
use super::step::{Clock, Core, Rules};
use super::{EngineConfig, EngineError, EngineParts, Intake, KvDemand, Meters};
use crate::backend::BLOCK_TOKENS;
use crate::kv::KvCache;
use crate::speculate::{Drafter, SpeculationKind};

impl Core {
    /// The engine without its thread, and the door to it.
    pub fn build(
        mut parts: EngineParts,
        config: &EngineConfig,
        clock: Clock,
    ) -> Result<(Self, Intake), EngineError> {
        if config.speculation.kind != SpeculationKind::Draft {
            parts.draft = None;
        }
        let mistakes = mistakes(&parts, config);
        if !mistakes.is_empty() {
            return Err(EngineError::Config(mistakes));
        }
        let context = parts.backend.context();
        let block_bytes = parts.backend.block_bytes();
        let block_bytes = block_bytes + parts.draft.as_ref().map_or(0, |draft| draft.block_bytes());
        let n_blocks = config.n_blocks(KvDemand { block_bytes, context });
        let n_bytes = n_blocks as usize * BLOCK_TOKENS;
        if n_bytes == 0 {
            let few = format!("`kv_bytes` is less than one block of {block_bytes} bytes; raise it");
            return Err(EngineError::Config(vec![few]));
        }
        parts.backend.alloc_kv(n_blocks as usize)?;
        let n_vocab = n_vocab(&parts);
        let drafter = match parts.draft {
            Some(mut draft) => {
                draft.alloc_kv(n_blocks as usize)?;
                Some(Drafter::new(draft, n_vocab))
            }
            None => None,
        };
        let max_len = context.min(n_bytes);
        let meters = Arc::new(Meters::default());
        let intake = Intake {
            max_len,
            n_vocab,
            max_present: config.max_running + config.max_queue,
            n_present: Arc::clone(&meters.n_unfinished),
            has_prefix_cache: config.prefix_cache,
            speculation: config.speculation.clone(),
            vocabulary: parts.vocabulary,
            stop_ids: parts.stop_ids,
            meters: Arc::clone(&meters),
        };
        let rules = Rules { limits: config.limits(n_blocks), policy: config.policy };
        let reading = ReadingRules { max_len, n_vocab };
        let kv = KvCache::new(n_blocks, config.prefix_cache);
        Ok((Self::new((rules, reading), (parts.backend, drafter), kv, meters, clock), intake))
    }
}

/// Tokens that both models know: vocabularies are filled up to different lengths.
fn n_vocab(parts: &EngineParts) -> usize {
    let draft = parts.draft.as_ref().map_or(usize::MAX, |draft| draft.n_vocab());
    parts.backend.n_vocab().min(draft)
}

fn mistakes(parts: &EngineParts, config: &EngineConfig) -> Vec<String> {
    let mut mistakes = config.mistakes();
    if config.speculation.kind == SpeculationKind::Draft && parts.draft.is_none() {
        mistakes.push("`speculation.kind` is `draft`, and there is no draft model; give one".into());
    }
    let (n_tokens, n_vocab) = (parts.vocabulary.len(), n_vocab(parts));
    if n_vocab < n_tokens.min(parts.backend.n_vocab()) {
        mistakes.push(format!(
            "the draft model knows {n_vocab} tokens and the vocabulary has {n_tokens}; take a draft model of the same family"
        ));
    }
    let contexts = (parts.backend.context(), parts.draft.as_ref().map(|draft| draft.context()));
    if let (context, Some(shorter)) = contexts
        && shorter < context
    {
        mistakes.push(format!(
            "the draft model's context is {shorter} and the model's is {context}; take a draft model with at least that"
        ));
    }
    mistakes
}
