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
pub mod local;
pub mod openai;
pub mod outcome;
mod remote;

use crate::chat::{Endpoint, Fields};
use crate::pricing::Price;
use crate::team::{CallId, TeamName, UpstreamName};

pub use answer::{Answer, AnswerStream, StreamItem, WholeAnswer};
pub use client::{Client, ClientError};
pub use config::{Dialect, Supports, UpstreamConfig};
pub use error::{Refusal, UpstreamError};
pub use local::LocalConfig;
pub use remote::RemoteConfig;

use backoff::{Backoff, BackoffConfig};
use breaker::BreakerConfig;
use local::Local;
use remote::Remote;

/// The most of an error's body that is kept to be passed on.
pub const MAX_ERROR_BYTES: usize = 64 << 10;

/// One call to make.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub endpoint: Endpoint,
    /// The client's fields as they came; the model is replaced on the way out.
    pub fields: &'a Fields,
    pub stream: bool,
    /// Goes along as `x-request-id`, so that both sides' logs can be joined.
    pub call_id: CallId,
    /// Whose call it is: a local model takes turns by team, and remembers prompts by team and scope.
    pub team: &'a TeamName,
    pub scope: Option<&'a str>,
    /// Somebody else can be asked if this upstream does not want to answer.
    pub may_pass_on: bool,
}

/// One place that can answer.
#[derive(Debug)]
pub struct Upstream {
    pub name: UpstreamName,
    pub model: String,
    pub max_retries: u32,
    pub backoff: Backoff,
    pub breaker: BreakerConfig,
    place: Place,
}

/// How a place is reached.
#[derive(Debug)]
enum Place {
    Remote(Box<Remote>),
    Local(Box<Local>),
}

/// Why an upstream cannot be used: every mistake in its section.
#[derive(Debug, Clone, thiserror::Error)]
#[error("upstream `{name}`: {}", .mistakes.join("; "))]
pub struct InvalidUpstream {
    pub name: UpstreamName,
    pub mistakes: Vec<String>,
}

impl Upstream {
    /// Prepares the connection, or loads the model.
    pub async fn open(
        name: UpstreamName,
        config: &UpstreamConfig,
        client: &Client,
    ) -> Result<Self, InvalidUpstream> {
        match config {
            UpstreamConfig::Remote(remote) => Self::remote(name, remote, client),
            UpstreamConfig::Local(local) => Self::local(name, local, client).await,
        }
    }

    async fn local(
        name: UpstreamName,
        config: &LocalConfig,
        client: &Client,
    ) -> Result<Self, InvalidUpstream> {
        let invalid = |mistakes| InvalidUpstream { name: name.clone(), mistakes };
        let mistakes = config.mistakes();
        if !mistakes.is_empty() {
            return Err(invalid(mistakes));
        }
        let opened = Local::open(config, &client.models, client.clock.clone()).await;
        let local = opened.map_err(|problem| invalid(vec![problem.to_string()]))?;
        let backoff = Backoff::try_new(&BackoffConfig::default()).expect("the default is valid");
        Ok(Self {
            model: config.model().to_owned(),
            // What a model in this process refused it refuses again.
            max_retries: 0,
            backoff,
            breaker: config.breaker,
            place: Place::Local(Box::new(local)),
            name,
        })
    }

    fn remote(name: UpstreamName, config: &RemoteConfig, client: &Client) -> Result<Self, InvalidUpstream> {
        let invalid = |mistakes| InvalidUpstream { name: name.clone(), mistakes };
        let checked = config.check().map_err(invalid)?;
        let backoff = checked.backoff;
        let remote = Remote::try_new(config, checked, client).map_err(|mistake| invalid(vec![mistake]))?;
        Ok(Self {
            model: config.model.clone(),
            max_retries: config.max_retries,
            backoff,
            breaker: config.breaker,
            place: Place::Remote(Box::new(remote)),
            name,
        })
    }

    /// Whether it computes in this process.
    pub fn is_local(&self) -> bool {
        match &self.place {
            Place::Remote(_) => false,
            Place::Local(_) => true,
        }
    }

    /// The greatest number of positions, where the model is here to be asked.
    pub fn own_context_tokens(&self) -> Option<u64> {
        match &self.place {
            Place::Remote(_) => None,
            Place::Local(local) => Some(local.context_tokens()),
        }
    }

    /// What its tokens cost where they are computed in this process.
    pub fn own_price(&self) -> Option<Price> {
        match &self.place {
            Place::Remote(_) => None,
            Place::Local(local) => Some(local.price()),
        }
    }

    /// Tells the metrics how busy a model in this process is.
    pub fn report_load(&self) {
        match &self.place {
            Place::Remote(_) => {}
            Place::Local(local) => local.report_load(self.name.as_str()),
        }
    }

    /// Makes one attempt. A stream is given out once its first event is here and is sound, so that
    /// whoever gets an error may still ask somebody else.
    pub async fn send(&self, ask: &Ask<'_>) -> Result<Answer, UpstreamError> {
        match &self.place {
            Place::Remote(remote) => remote.send(ask, &self.model).await,
            Place::Local(local) => local.send(ask, &self.name, &self.model).await,
        }
    }
}

#[cfg(test)]
mod tests;
