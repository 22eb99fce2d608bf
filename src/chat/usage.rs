//! Tokens by kind, as an upstream reports them in OpenAI's wire format.
//!
//! Knows no prices.
//!
//! Invariants: parts never exceed their whole after reading; an upstream that says otherwise is
//! clamped, because a price must never be charged on a negative rest.

use serde::{Deserialize, Serialize};

/// What an answer used. `input` and `output` are totals; the other counts are parts of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub input: u64,
    pub cached_read: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    pub audio_input: u64,
    pub audio_output: u64,
}

impl Usage {
    /// Reads an OpenAI `usage` object; `None` when it is `null` or not one.
    pub fn from_openai(json: &str) -> Option<Self> {
        let wire: Option<WireUsage> = serde_json::from_str(json).ok()?;
        wire.map(WireUsage::into_usage)
    }
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(default)]
    completion_tokens_details: Option<OutputDetails>,
}

#[derive(Default, Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default, alias = "cache_write_tokens")]
    cache_creation_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
    #[serde(default)]
    audio_tokens: Option<u64>,
}

impl WireUsage {
    fn into_usage(self) -> Usage {
        let input = self.prompt_tokens_details.unwrap_or_default();
        let output = self.completion_tokens_details.unwrap_or_default();
        let cached_read = input.cached_tokens.unwrap_or(0).min(self.prompt_tokens);
        let uncached = self.prompt_tokens - cached_read;
        let cache_write = input.cache_creation_tokens.unwrap_or(0).min(uncached);
        Usage {
            input: self.prompt_tokens,
            cached_read,
            cache_write,
            output: self.completion_tokens,
            reasoning: output.reasoning_tokens.unwrap_or(0).min(self.completion_tokens),
            audio_input: input.audio_tokens.unwrap_or(0).min(uncached - cache_write),
            audio_output: output.audio_tokens.unwrap_or(0).min(self.completion_tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_token_is_read() {
        let json = r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
            "prompt_tokens_details":{"cached_tokens":60,"cache_creation_tokens":10,"audio_tokens":5},
            "completion_tokens_details":{"reasoning_tokens":30,"audio_tokens":7}}"#;

        let usage = Usage::from_openai(json).unwrap();

        let expected = Usage {
            input: 100,
            cached_read: 60,
            cache_write: 10,
            output: 50,
            reasoning: 30,
            audio_input: 5,
            audio_output: 7,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn parts_larger_than_their_whole_are_clamped() {
        let json = r#"{"prompt_tokens":10,"completion_tokens":1,
            "prompt_tokens_details":{"cached_tokens":60},"completion_tokens_details":{"reasoning_tokens":9}}"#;

        let usage = Usage::from_openai(json).unwrap();

        assert_eq!((usage.cached_read, usage.cache_write, usage.reasoning), (10, 0, 1));
    }

    #[test]
    fn null_and_other_shapes_are_no_usage() {
        for json in ["null", "[]", "{}", "3"] {
            assert_eq!(Usage::from_openai(json), None, "{json}");
        }
    }
}
