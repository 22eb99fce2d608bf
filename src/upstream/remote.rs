//! An upstream reached over HTTP: one request out, one answer back.
//!
//! Knows addresses, headers and time limits; whether to ask again is not decided here.

mod config;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::answer::{self, Answer, AnswerStream, RemoteStream, WholeAnswer};
use super::client::{Client, Transport};
use super::clocks::{Clocks, Timeouts};
use super::openai::{self, StreamMode};
use super::outcome::{self, Phase};
use super::{Ask, UpstreamError};
use crate::chat::{Endpoint, Fields};
use crate::clock::Clock;

pub use config::RemoteConfig;

use config::Checked;

/// The greatest length of one event of a stream: images and audio come as single events.
const MAX_EVENT_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Remote {
    pool: reqwest::Client,
    clock: Clock,
    chat_url: reqwest::Url,
    completions_url: reqwest::Url,
    embeddings_url: reqwest::Url,
    headers: HeaderMap,
    timeouts: Timeouts,
    max_answer_bytes: usize,
    stream_usage: bool,
}

impl Remote {
    pub(super) fn try_new(config: &RemoteConfig, checked: Checked, client: &Client) -> Result<Self, String> {
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
        let pool = client.pool(transport).map_err(|error| error.to_string())?;
        let url = |endpoint| url_of(&checked.base_url, endpoint);
        Ok(Self {
            pool,
            clock: client.clock.clone(),
            chat_url: url(Endpoint::Chat),
            completions_url: url(Endpoint::Completions),
            embeddings_url: url(Endpoint::Embeddings),
            headers: checked.headers,
            timeouts,
            max_answer_bytes: config.max_answer_bytes,
            stream_usage: config.supports.stream_usage,
        })
    }

    pub(super) async fn send(&self, ask: &Ask<'_>, model: &str) -> Result<Answer, UpstreamError> {
        let clocks = Clocks::start(self.timeouts);
        let attempt = self.pool.execute(self.request(ask, model));
        let response = clocks
            .within(Phase::FirstByte, attempt)
            .await?
            .map_err(|error| UpstreamError::of_request(error, self.timeouts.connect))?;
        if !outcome::is_success(response.status()) {
            return Err(answer::refusal(response, &clocks, self.clock.now_ms()).await);
        }
        if ask.stream {
            let stream =
                RemoteStream::begin(response, clocks, MAX_EVENT_BYTES, n_choices(ask.fields)).await?;
            return Ok(Answer::Stream(AnswerStream::Remote(Box::new(stream))));
        }
        let whole = WholeAnswer::read(response, clocks, self.max_answer_bytes).await?;
        Ok(Answer::Whole(Box::new(whole)))
    }

    fn request(&self, ask: &Ask<'_>, model: &str) -> reqwest::Request {
        let url = match ask.endpoint {
            Endpoint::Chat => &self.chat_url,
            Endpoint::Completions => &self.completions_url,
            Endpoint::Embeddings => &self.embeddings_url,
        };
        let mode = match (ask.stream, self.stream_usage) {
            (false, _) => StreamMode::Whole,
            (true, true) => StreamMode::StreamWithUsage,
            (true, false) => StreamMode::Stream,
        };
        let mut request = reqwest::Request::new(reqwest::Method::POST, url.clone());
        *request.headers_mut() = self.headers.clone();
        let call_id = HeaderValue::from_str(&ask.call_id.to_string()).expect("a UUID is ASCII");
        request.headers_mut().insert(HeaderName::from_static("x-request-id"), call_id);
        *request.body_mut() = Some(openai::to_wire(ask.fields, model, mode).into());
        request
    }
}

pub(super) fn url_of(base: &reqwest::Url, endpoint: Endpoint) -> reqwest::Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), endpoint.path()));
    url
}

/// How many choices have to end before a stream may; prompts in the plural only add to it.
fn n_choices(fields: &Fields) -> u32 {
    fields.read("n").and_then(Result::ok).unwrap_or(1)
}
