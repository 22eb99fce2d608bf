//! Models that answer in the gateway's own process.
//!
//! Reads and writes OpenAI's wire format around the engine, and does no arithmetic of its own but the
//! price. What a model cannot do is refused the way a remote upstream would refuse it, so that a plan
//! goes on to its next attempt by the same rules.
//!
//! Invariants: equal sections share one model, through reloads, too; nothing here blocks the
//! threads that serve calls: prompts are rendered and models loaded elsewhere.

mod answer;
mod ask;
mod config;
mod decline;
mod job;
mod load;
mod price;
mod refuse;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use local_engine::local_model::LocalModel;
use parking_lot::Mutex;

pub use answer::LocalStream;
pub use config::LocalConfig;
pub(super) use load::Models;

use answer::{Answering, Choice};
use ask::LocalAsk;
use decline::Decline;
use job::Job;
use price::Throughput;
use wire::Frame;

use super::answer::{Answer, AnswerStream};
use super::clocks::{Clocks, Timeouts};
use super::{Ask, UpstreamError};
use crate::chat::Endpoint;
use crate::clock::Clock;
use crate::pricing::Price;
use crate::team::UpstreamName;
use crate::telemetry::events::LocalLoad;

/// A model and what a call of it costs.
#[derive(Debug)]
pub(super) struct Local {
    model: Arc<LocalModel>,
    decline: Option<Decline>,
    max_output_tokens: Option<usize>,
    timeouts: Timeouts,
    usd_per_hour: f64,
    throughput: Arc<Mutex<Throughput>>,
    clock: Clock,
}

/// Why a local model cannot be used; an operator can mend it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct NotLoaded(String);

impl Local {
    /// Takes the model that is there already, or loads it on a thread of its own.
    pub(super) async fn open(config: &LocalConfig, models: &Models, clock: Clock) -> Result<Self, NotLoaded> {
        let (models, section) = (models.clone(), config.clone());
        let loading = tokio::task::spawn_blocking(move || models.open(&section));
        let loaded = loading.await.map_err(|panic| NotLoaded(format!("loading it broke off: {panic}")))?;
        let loaded = loaded.map_err(NotLoaded)?;
        let limit = |ms| Duration::from_millis(ms);
        let timeouts = Timeouts {
            connect: limit(config.total_timeout_ms),
            first_byte: limit(config.first_byte_timeout_ms),
            idle: limit(config.total_timeout_ms),
            total: limit(config.total_timeout_ms),
        };
        Ok(Self {
            model: loaded.model,
            decline: config.declines_with.as_deref().and_then(Decline::try_new),
            max_output_tokens: config.max_output_tokens.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            timeouts,
            usd_per_hour: config.usd_per_hour,
            throughput: loaded.throughput,
            clock,
        })
    }

    pub(super) fn context_tokens(&self) -> u64 {
        self.model.context() as u64
    }

    pub(super) fn report_load(&self, upstream: &str) {
        let stats = self.model.engine().stats();
        LocalLoad {
            upstream,
            n_running: stats.n_running,
            n_waiting: stats.n_waiting,
            n_blocks_used: stats.n_blocks_used,
            n_blocks: stats.n_blocks,
            n_preempted: stats.n_preempted,
        }
        .emit();
    }

    pub(super) fn price(&self) -> Price {
        self.throughput.lock().price(self.usd_per_hour)
    }

    pub(super) async fn send(
        &self,
        ask: &Ask<'_>,
        name: &UpstreamName,
        model: &str,
    ) -> Result<Answer, UpstreamError> {
        let clocks = Clocks::start(self.timeouts);
        if ask.endpoint == Endpoint::Embeddings {
            return Err(refuse::unsupported("local models do not embed texts"));
        }
        let read = LocalAsk::read(ask.endpoint, ask.fields).map_err(|bad| refuse::bad_field(&bad))?;
        let (logprobs, is_chat) = (read.logprobs.is_some(), ask.endpoint == Endpoint::Chat);
        let n_each = read.n as usize;
        let choices = self.begin(read, ask).await?;
        let answering = Answering {
            frame: self.frame(ask, model, is_chat),
            model: Arc::clone(&self.model),
            n_each,
            clocks,
            logprobs,
            // Of several answers each may decline or not.
            decline: self.decline.clone().filter(|_| is_chat && choices.len() == 1),
            throughput: Arc::clone(&self.throughput),
            upstream: name.clone(),
            began: Instant::now(),
        };
        if ask.stream {
            let stream = LocalStream::begin(answering, choices).await?;
            return Ok(Answer::Stream(AnswerStream::Local(Box::new(stream))));
        }
        let whole = answer::whole(answering, choices).await?;
        Ok(Answer::Whole(Box::new(whole)))
    }

    fn frame(&self, ask: &Ask<'_>, model: &str, is_chat: bool) -> Frame {
        let kind = if is_chat { "chatcmpl" } else { "cmpl" };
        Frame {
            id: format!("{kind}-{}", ask.call_id),
            created_s: self.clock.now_ms() / 1_000,
            model: model.to_owned(),
            is_chat,
        }
    }

    /// Renders the prompts away from the threads that serve calls, and submits them.
    async fn begin(&self, read: LocalAsk, ask: &Ask<'_>) -> Result<Vec<Choice>, UpstreamError> {
        let job = Job {
            model: Arc::clone(&self.model),
            deadline: Instant::now() + self.timeouts.total,
            max_output_tokens: self.max_output_tokens,
            salt: ask.team.salt(ask.scope),
            tenant: ask.team.salt(None),
            may_pass_on: ask.may_pass_on,
            may_decline: self.decline.is_some(),
            fresh_seed: rand::random(),
            now_s: self.clock.now_ms() / 1_000,
        };
        let began = tokio::task::spawn_blocking(move || job.begin(&read)).await;
        // A panic's own words may quote the prompt.
        let broken = || UpstreamError::Broken { detail: "rendering the prompt broke off".to_owned() };
        began.map_err(|_| broken())?
    }
}
