//! How much the engine may take on at a time.

use serde::Deserialize;

use crate::kv::n_blocks_for;
use crate::scheduler::{Limits, Policy};
use crate::speculate::SpeculationConfig;

/// The engine's section. Every field may be left out.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Blocks of 16 tokens in the KV cache. Default: from `kv_bytes`.
    pub n_blocks: Option<u32>,
    /// Memory for the KV cache, in bytes, a draft model's included. Default: enough for `max_running` full
    /// contexts, and at most 1 GiB.
    pub kv_bytes: Option<u64>,
    /// Sequences computed at a time. Default 32.
    pub max_running: usize,
    /// Requests that may be there beyond `max_running`; more are refused. Default 256.
    pub max_queue: usize,
    /// Tokens in one step, drafts included. A longer step answers more at a time and each less often.
    /// Default 512.
    pub max_step_tokens: usize,
    /// Tokens of one prompt in one step, so that a long prompt does not hold up the others. Default 256.
    pub max_chunk_tokens: usize,
    /// The share of blocks that an admission leaves free for those who are answering. Default 0.01.
    pub watermark: f64,
    /// Who goes first: `fcfs`, `priority`, `fair` or `longest_prefix`. Default `fcfs`.
    pub policy: Policy,
    /// Whether equal beginnings of prompts are computed once. Default true.
    pub prefix_cache: bool,
    /// Guesses at the next tokens. Default off.
    pub speculation: SpeculationConfig,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            n_blocks: None,
            kv_bytes: None,
            max_running: 32,
            max_queue: 256,
            max_step_tokens: 512,
            max_chunk_tokens: 256,
            watermark: 0.01,
            policy: Policy::default(),
            prefix_cache: true,
            speculation: SpeculationConfig::default(),
        }
    }
}

/// What a block costs and a sequence may need.
#[derive(Debug, Clone, Copy)]
pub struct KvDemand {
    /// Over both models.
    pub block_bytes: usize,
    pub context: usize,
}

const DEFAULT_KV_BYTES: u64 = 1 << 30;

impl EngineConfig {
    /// Every mistake, each naming its key.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let counts = [
            ("max_running", self.max_running),
            ("max_step_tokens", self.max_step_tokens),
            ("max_chunk_tokens", self.max_chunk_tokens),
        ];
        for (key, _) in counts.iter().filter(|(_, value)| *value == 0) {
            mistakes.push(format!("`{key}` is 0; it must be at least 1"));
        }
        if self.max_step_tokens < self.max_running {
            let Self { max_step_tokens, max_running, .. } = self;
            mistakes.push(format!(
                "`max_step_tokens` is {max_step_tokens}; it must be at least `max_running`, {max_running}, so that each can go on in every step"
            ));
        }
        if !(0.0..=0.5).contains(&self.watermark) {
            mistakes.push(format!("`watermark` is {}; it must be from 0 to 0.5", self.watermark));
        }
        if self.n_blocks.is_some() && self.kv_bytes.is_some() {
            mistakes.push("`n_blocks` and `kv_bytes` are both given; leave one of them out".into());
        }
        for (key, value) in [("n_blocks", self.n_blocks.map(u64::from)), ("kv_bytes", self.kv_bytes)] {
            if value == Some(0) {
                mistakes.push(format!("`{key}` is 0; it must be at least 1"));
            }
        }
        mistakes.extend(self.speculation.mistakes());
        mistakes
    }

    /// How many blocks there are to be.
    pub fn n_blocks(&self, demand: KvDemand) -> u32 {
        let block_bytes = demand.block_bytes.max(1) as u64;
        let fitting = |bytes: u64| u32::try_from(bytes / block_bytes).unwrap_or(u32::MAX);
        let n_full = n_blocks_for(demand.context).saturating_mul(self.max_running);
        let n_full = u32::try_from(n_full).unwrap_or(u32::MAX);
        match (self.n_blocks, self.kv_bytes) {
            (Some(n_blocks), _) => n_blocks,
            (None, Some(bytes)) => fitting(bytes),
            (None, None) => fitting(DEFAULT_KV_BYTES).min(n_full),
        }
    }

    pub fn limits(&self, n_blocks: u32) -> Limits {
        Limits {
            max_step_tokens: self.max_step_tokens,
            max_chunk_tokens: self.max_chunk_tokens,
            max_running: self.max_running,
            n_watermark: (f64::from(n_blocks) * self.watermark).ceil() as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: serde_json::Value) -> Result<EngineConfig, serde_json::Error> {
        serde_json::from_value(json)
    }

    #[test]
    fn an_empty_section_is_the_default_and_has_no_mistakes() {
        let config = read(serde_json::json!({})).unwrap();

        assert_eq!(config, EngineConfig::default());
        assert_eq!(config.mistakes(), Vec::<String>::new());
    }

    #[test]
    fn every_key_is_read_and_unknown_ones_are_refused() {
        let config = read(serde_json::json!({
            "n_blocks": 7, "max_running": 2, "max_queue": 0, "max_step_tokens": 20, "max_chunk_tokens": 5,
            "watermark": 0.5, "policy": "longest_prefix", "prefix_cache": false,
            "speculation": { "kind": "lookup", "n_draft": 16, "min_match": 3, "max_match": 3, "forced": false },
        }))
        .unwrap();

        assert_eq!((config.n_blocks, config.max_running, config.policy), (Some(7), 2, Policy::LongestPrefix));
        assert_eq!(config.mistakes(), Vec::<String>::new());
        assert!(read(serde_json::json!({ "max_batch": 7 })).is_err());
        assert!(read(serde_json::json!({ "policy": "lottery" })).is_err());
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let config = read(serde_json::json!({
            "n_blocks": 0, "kv_bytes": 0, "max_running": 0, "max_step_tokens": 0, "max_chunk_tokens": 0,
            "watermark": 0.6, "speculation": { "n_draft": 17, "min_match": 1, "max_match": 0 },
        }))
        .unwrap();

        let mistakes = config.mistakes();

        assert_eq!(mistakes.len(), 10, "{mistakes:#?}");
        let narrow = EngineConfig { max_running: 9, max_step_tokens: 8, ..EngineConfig::default() };
        assert_eq!(narrow.mistakes().len(), 1);
        let equal = EngineConfig { max_running: 8, ..narrow };
        assert_eq!(equal.mistakes(), Vec::<String>::new());
    }

    #[test]
    fn blocks_come_from_their_number_their_bytes_or_the_need() {
        let demand = KvDemand { block_bytes: 100, context: 33 };
        let config = EngineConfig { max_running: 4, ..EngineConfig::default() };

        assert_eq!(config.n_blocks(demand), 12);
        assert_eq!(EngineConfig { kv_bytes: Some(999), ..config.clone() }.n_blocks(demand), 9);
        assert_eq!(EngineConfig { n_blocks: Some(5), ..config.clone() }.n_blocks(demand), 5);
        let huge = KvDemand { block_bytes: 1 << 28, context: 1 << 20 };
        assert_eq!(config.n_blocks(huge), 4);
    }

    #[test]
    fn a_watermark_is_rounded_up() {
        let config = EngineConfig { watermark: 0.01, ..EngineConfig::default() };

        assert_eq!([1, 100, 101].map(|n_blocks| config.limits(n_blocks).n_watermark), [1, 1, 2]);
        let none = EngineConfig { watermark: 0.0, ..config };
        assert_eq!(none.limits(1000).n_watermark, 0);
    }
}
