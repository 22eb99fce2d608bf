//! `[upstreams.NAME]` for upstreams that are called over HTTP.
//!
//! Says what may be configured and what is wrong with it; opens nothing.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::super::backoff::{Backoff, BackoffConfig};
use super::super::breaker::BreakerConfig;
use super::super::config::{Dialect, Supports};

/// One place that can answer: dialect, address, key and model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteConfig {
    /// The wire format: `openai`.
    pub dialect: Dialect,
    /// The address that paths such as `/chat/completions` are appended to; a query is kept.
    pub base_url: String,
    /// Sent as `authorization: Bearer …`. None by default.
    #[serde(default)]
    pub api_key: Option<SecretString>,
    /// The model's name at this upstream.
    pub model: String,
    /// More headers to send, by name; they override ours. None by default.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretString>,
    /// How long a connection may take to come about, in milliseconds. Default 5000.
    #[serde(default = "connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// How long the answer, or the first event of a stream, may take to begin, in milliseconds.
    /// Default 60000.
    #[serde(default = "minute_ms")]
    pub first_byte_timeout_ms: u64,
    /// How long an answer that has begun may fall silent, in milliseconds. Default 60000.
    #[serde(default = "minute_ms")]
    pub idle_timeout_ms: u64,
    /// How long one attempt may take from end to end, in milliseconds. Default 600000.
    #[serde(default = "total_timeout_ms")]
    pub total_timeout_ms: u64,
    /// How often this upstream is asked again before the next one is. Default 2.
    #[serde(default = "max_retries")]
    pub max_retries: u32,
    /// The greatest length of a whole answer, in bytes. Default 134217728 (128 MiB).
    #[serde(default = "max_answer_bytes")]
    pub max_answer_bytes: usize,
    /// The waits between attempts.
    #[serde(default)]
    pub backoff: BackoffConfig,
    /// When to stop asking, and for how long.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// The greatest number of tokens of prompt and answer together. Unlimited by default.
    #[serde(default)]
    pub context_tokens: Option<u64>,
    /// The greatest number of tokens of an answer. Unlimited by default.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    /// What the model can do.
    #[serde(default)]
    pub supports: Supports,
    /// Speak HTTP/2 from the first byte, for servers without TLS that do. With TLS the two sides agree
    /// by themselves. Default false.
    #[serde(default)]
    pub http2_prior_knowledge: bool,
}

const fn connect_timeout_ms() -> u64 {
    5_000
}

const fn minute_ms() -> u64 {
    60_000
}

const fn total_timeout_ms() -> u64 {
    600_000
}

const fn max_retries() -> u32 {
    2
}

const fn max_answer_bytes() -> usize {
    128 << 20
}

/// A configuration found to be right, in the form that calls need.
#[derive(Debug)]
pub(in crate::upstream) struct Checked {
    pub(in crate::upstream) base_url: reqwest::Url,
    pub(in crate::upstream) headers: HeaderMap,
    pub(in crate::upstream) backoff: Backoff,
}

impl RemoteConfig {
    /// Every mistake at once, each naming its key and what would be right.
    pub fn mistakes(&self) -> Vec<String> {
        self.check().err().unwrap_or_default()
    }

    pub(in crate::upstream) fn check(&self) -> Result<Checked, Vec<String>> {
        let mut mistakes = self.breaker.mistakes();
        let mut keep = |mistake: String| mistakes.push(mistake);
        let base_url = self.read_base_url().map_err(&mut keep).ok();
        let headers = self.read_headers(&mut keep);
        let backoff =
            Backoff::try_new(&self.backoff).map_err(|error| keep(format!("`backoff`: {error}"))).ok();
        if self.model.is_empty() {
            keep("`model` is empty; it must be the model's name at this upstream".to_owned());
        }
        for (key, value) in [
            ("connect_timeout_ms", Some(self.connect_timeout_ms)),
            ("first_byte_timeout_ms", Some(self.first_byte_timeout_ms)),
            ("idle_timeout_ms", Some(self.idle_timeout_ms)),
            ("total_timeout_ms", Some(self.total_timeout_ms)),
            ("max_answer_bytes", u64::try_from(self.max_answer_bytes).ok()),
            ("context_tokens", self.context_tokens),
            ("max_output_tokens", self.max_output_tokens),
        ] {
            if value == Some(0) {
                keep(format!("`{key}` is 0; it must be at least 1"));
            }
        }
        match (base_url, backoff) {
            (Some(base_url), Some(backoff)) if mistakes.is_empty() => {
                Ok(Checked { base_url, headers, backoff })
            }
            _ => Err(mistakes),
        }
    }

    fn read_base_url(&self) -> Result<reqwest::Url, String> {
        let url = reqwest::Url::parse(&self.base_url).map_err(|error| {
            format!("`base_url` is not an address: {error}; it must be like `https://api.openai.com/v1`")
        })?;
        match url.scheme() {
            "https" | "http" if url.has_host() => Ok(url),
            scheme => Err(format!("`base_url` has scheme `{scheme}`; it must be `https` or `http`")),
        }
    }

    fn read_headers(&self, keep: &mut impl FnMut(String)) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static("stiver"));
        if let Some(key) = &self.api_key {
            match secret_value(&format!("Bearer {}", key.expose_secret())) {
                Some(value) if !key.expose_secret().is_empty() => {
                    headers.insert(header::AUTHORIZATION, value);
                }
                Some(_) => keep("`api_key` is empty; give a key or leave it out".to_owned()),
                None => keep("`api_key` holds characters that a header cannot; check its source".to_owned()),
            }
        }
        for (name, value) in &self.headers {
            match (name.parse::<HeaderName>(), secret_value(value.expose_secret())) {
                (Ok(name), Some(value)) => {
                    headers.insert(name, value);
                }
                (Ok(_), None) => keep(format!("`headers.{name}` holds characters that a header cannot")),
                (Err(_), _) => keep(format!("`headers.{name}` is not a header's name")),
            }
        }
        headers
    }
}

/// A header that no log shows.
fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> Result<RemoteConfig, toml::de::Error> {
        let required = "dialect = 'openai'\nbase_url = 'https://api.openai.com/v1'\nmodel = 'gpt-x'\n";
        toml::from_str(&format!("{required}{more}"))
    }

    #[test]
    fn the_least_configuration_has_the_defaults_that_are_written_above() {
        let config = config("").unwrap();

        assert!(config.mistakes().is_empty());
        assert_eq!((config.connect_timeout_ms, config.first_byte_timeout_ms), (5_000, 60_000));
        assert_eq!((config.idle_timeout_ms, config.total_timeout_ms), (60_000, 600_000));
        assert_eq!((config.max_retries, config.max_answer_bytes), (2, 134_217_728));
        assert_eq!(config.supports, Supports { vision: true, tools: true, stream_usage: true });
        assert!(!config.http2_prior_knowledge);
    }

    #[test]
    fn an_unknown_key_is_refused_at_every_depth() {
        for more in
            ["modle = 'x'", "supports = { visoin = true }", "breaker = { open = 1 }", "backoff = { x = 1 }"]
        {
            assert!(config(more).unwrap_err().to_string().contains("unknown field"), "{more}");
        }
        assert!(toml::from_str::<RemoteConfig>("dialect = 'soap'").unwrap_err().to_string().contains("soap"));
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let mut config = config(
            "api_key = ''\nidle_timeout_ms = 0\nheaders = { 'a b' = 'x', ok = \"x\\ny\" }\nbackoff = { jitter = 2 }",
        )
        .unwrap();
        config.base_url = "ftp://x".to_owned();
        config.model.clear();

        let mistakes = config.mistakes().join("\n");

        for key in ["api_key", "idle_timeout_ms", "headers.a b", "headers.ok", "jitter", "base_url", "model"]
        {
            assert!(mistakes.contains(&format!("`{key}`")), "{key} is missing in:\n{mistakes}");
        }
    }

    #[test]
    fn secrets_show_in_no_debug_output() {
        let config = config("api_key = 'sk-secret'\nheaders = { x-key = 'hidden' }").unwrap();

        let shown = format!("{config:?} {:?}", config.check().unwrap());

        assert!(!shown.contains("sk-secret") && !shown.contains("hidden"), "{shown}");
    }
}
