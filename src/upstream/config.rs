//! `[upstreams.NAME]`: a section's keys depend on its dialect.
//!
//! Says what may be configured and what is wrong with it; opens nothing.

use secrecy::ExposeSecret;
use serde::Deserialize;

use super::local::LocalConfig;
use super::remote::RemoteConfig;

/// The wire format an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    Openai,
    /// A model in the gateway's own process.
    Local,
}

/// One place that can answer, as it is configured.
#[derive(Debug, Clone)]
pub enum UpstreamConfig {
    Remote(RemoteConfig),
    Local(LocalConfig),
}

impl UpstreamConfig {
    /// The model's name in prices, rows and answers.
    pub fn model(&self) -> &str {
        match self {
            Self::Remote(remote) => &remote.model,
            Self::Local(local) => local.model(),
        }
    }

    /// Its key is there but empty: its environment variable is not set.
    pub fn is_off(&self) -> bool {
        match self {
            Self::Remote(remote) => remote.api_key.as_ref().is_some_and(|key| key.expose_secret().is_empty()),
            Self::Local(_) => false,
        }
    }

    /// Whether it computes in this process.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    pub fn supports(&self) -> Supports {
        match self {
            Self::Remote(remote) => remote.supports,
            Self::Local(local) => Supports { vision: false, ..local.supports },
        }
    }

    pub fn context_tokens(&self) -> Option<u64> {
        match self {
            Self::Remote(remote) => remote.context_tokens,
            Self::Local(local) => local.context_tokens,
        }
    }

    pub fn max_output_tokens(&self) -> Option<u64> {
        match self {
            Self::Remote(remote) => remote.max_output_tokens,
            Self::Local(local) => local.max_output_tokens,
        }
    }

    /// Every mistake at once, each naming its key and what would be right.
    pub fn mistakes(&self) -> Vec<String> {
        match self {
            Self::Remote(remote) => remote.mistakes(),
            Self::Local(local) => local.mistakes(),
        }
    }
}

/// `[upstreams.NAME.supports]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Supports {
    /// Takes images, audio and files. Default true.
    pub vision: bool,
    /// Calls tools. Default true.
    pub tools: bool,
    /// Takes `stream_options.include_usage`; without it a streamed call's tokens are estimated.
    /// Default true.
    pub stream_usage: bool,
}

impl Default for Supports {
    fn default() -> Self {
        Self { vision: true, tools: true, stream_usage: true }
    }
}
