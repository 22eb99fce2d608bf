//! Sends one call to one place that can answer, and reads what it says.
//!
//! One attempt and no more: which upstream, whether again and when are for `dispatch`, which
//! asks the verdict of an error. Knows no teams, prices or caches.
//!
//! Invariants: an answer given out has begun: nothing that goes wrong before its first event looks like
//! an answer; a stream that ends early is an error, never an end; a dropped answer cancels its call.

mod answer;
pub mod backoff;
pub mod breaker;
mod client;
mod clocks;
mod config;
mod error;
pub mod event_stream;
pub mod openai;
pub mod outcome;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::chat::{Endpoint, Fields};
use crate::clock::Clock;
use crate::team::{CallId, UpstreamName};

pub use answer::{Answer, AnswerStream, StreamItem, WholeAnswer};
pub use client::{Client, ClientError};
pub use config::{Dialect, Supports, UpstreamConfig};
pub use error::{Refusal, UpstreamError};

use backoff::Backoff;
use breaker::BreakerConfig;
use client::Transport;
use clocks::{Clocks, Timeouts};
use openai::StreamMode;
use outcome::Phase;

/// The most of an error's body that is kept to be passed on.
pub const MAX_ERROR_BYTES: usize = 64 << 10;
/// The greatest length of one event of a stream: images and audio come as single events.
const MAX_EVENT_BYTES: usize = 16 << 20;

/// One call to make.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub endpoint: Endpoint,
    /// The client's fields as they came; the model is replaced on the way out.
    pub fields: &'a Fields,
    pub stream: bool,
    /// Goes along as `x-request-id`, so that both sides' logs can be joined.
    pub call_id: CallId,
}

/// One place that can answer.
#[derive(Debug)]
pub struct Upstream {
    pub name: UpstreamName,
    pub model: String,
    pub max_retries: u32,
    pub backoff: Backoff,
    pub breaker: BreakerConfig,
    pub context_tokens: Option<u64>,
    pub max_output_tokens: Option<u64>,
    pub supports: Supports,
    pool: reqwest::Client,
    clock: Clock,
    chat_url: reqwest::Url,
    completions_url: reqwest::Url,
    embeddings_url: reqwest::Url,
    headers: HeaderMap,
    timeouts: Timeouts,
    max_answer_bytes: usize,
}

/// Why an upstream cannot be used: every mistake in its section.
#[derive(Debug, Clone, thiserror::Error)]
#[error("upstream `{name}`: {}", .mistakes.join("; "))]
pub struct InvalidUpstream {
    pub name: UpstreamName,
    pub mistakes: Vec<String>,
}

impl Upstream {
    pub fn try_new(
        name: UpstreamName,
        config: &UpstreamConfig,
        client: &Client,
    ) -> Result<Self, InvalidUpstream> {
        let invalid = |mistakes| InvalidUpstream { name: name.clone(), mistakes };
        let checked = config.check().map_err(invalid)?;
        let timeouts = Timeouts {
            connect: Duration::from_millis(config.connect_timeout_ms),
            first_byte: Duration::from_millis(config.first_byte_timeout_ms),
            idle: Duration::from_millis(config.idle_timeout_ms),
            total: Duration::from_millis(config.total_timeout_ms),
        };
        let transport = Transport {
            connect_timeout: timeouts.connect,
            http2_prior_knowledge: config.http2_prior_knowledge,
            is_tls: checked.base_url.scheme() == "https",
        };
        let pool = client.pool(transport).map_err(|error| invalid(vec![error.to_string()]))?;
        let url = |endpoint| url_of(&checked.base_url, endpoint);
        Ok(Self {
            model: config.model.clone(),
            max_retries: config.max_retries,
            backoff: checked.backoff,
            breaker: config.breaker,
            context_tokens: config.context_tokens,
            max_output_tokens: config.max_output_tokens,
            supports: config.supports,
            pool,
            clock: client.clock.clone(),
            chat_url: url(Endpoint::Chat),
            completions_url: url(Endpoint::Completions),
            embeddings_url: url(Endpoint::Embeddings),
            headers: checked.headers,
            timeouts,
            max_answer_bytes: config.max_answer_bytes,
            name,
        })
    }

    /// Makes one attempt. A stream is given out once its first event is here and is sound, so that
    /// whoever gets an error may still ask somebody else.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Answer, UpstreamError> {
        let clocks = Clocks::start(self.timeouts);
        let attempt = self.pool.execute(self.request(ask));
        let response = clocks
            .within(Phase::FirstByte, attempt)
            .await?
            .map_err(|error| UpstreamError::of_request(error, self.timeouts.connect))?;
        if !outcome::is_success(response.status()) {
            return Err(answer::refusal(response, &clocks, self.clock.now_ms()).await);
        }
        if ask.stream {
            let stream = AnswerStream::begin(response, clocks, MAX_EVENT_BYTES, n_choices(ask.fields));
            return Ok(Answer::Stream(Box::new(stream.await?)));
        }
        let whole = WholeAnswer::read(response, clocks, self.max_answer_bytes).await?;
        Ok(Answer::Whole(Box::new(whole)))
    }

    fn request(&self, ask: &Ask<'_>) -> reqwest::Request {
        let url = match ask.endpoint {
            Endpoint::Chat => &self.chat_url,
            Endpoint::Completions => &self.completions_url,
            Endpoint::Embeddings => &self.embeddings_url,
        };
        let mode = match (ask.stream, self.supports.stream_usage) {
            (false, _) => StreamMode::Whole,
            (true, true) => StreamMode::StreamWithUsage,
            (true, false) => StreamMode::Stream,
        };
        let mut request = reqwest::Request::new(reqwest::Method::POST, url.clone());
        *request.headers_mut() = self.headers.clone();
        let call_id = HeaderValue::from_str(&ask.call_id.to_string()).expect("a UUID is ASCII");
        request.headers_mut().insert(HeaderName::from_static("x-request-id"), call_id);
        *request.body_mut() = Some(openai::to_wire(ask.fields, &self.model, mode).into());
        request
    }
}

fn url_of(base: &reqwest::Url, endpoint: Endpoint) -> reqwest::Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), endpoint.path()));
    url
}

/// How many choices have to end before a stream may; prompts in the plural only add to it.
fn n_choices(fields: &Fields) -> u32 {
    fields.read("n").and_then(Result::ok).unwrap_or(1)
}

#[cfg(test)]
mod tests;
