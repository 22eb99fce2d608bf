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
mod load;
mod price;
mod refuse;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use local_engine::chat::{ChatPrompt, ToolChoice};
use local_engine::local_model::LocalModel;
use local_engine::request::{GenerateRequest, Stop, TokenId};
use parking_lot::Mutex;

pub use answer::LocalStream;
pub use config::LocalConfig;
pub(super) use load::Models;

use answer::{Answering, Choice};
use ask::{ChatAsk, LocalAsk, Prompt, Prompts};
use decline::Decline;
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
        let limit = |ms| Duration::from_millis(ms);
        let timeouts = Timeouts {
            connect: limit(config.total_timeout_ms),
            first_byte: limit(config.first_byte_timeout_ms),
            idle: limit(config.total_timeout_ms),
            total: limit(config.total_timeout_ms),
        };
        Ok(Self {
            model: loaded.map_err(NotLoaded)?,
            decline: config.declines_with.as_deref().and_then(Decline::try_new),
            max_output_tokens: config.max_output_tokens.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            timeouts,
            usd_per_hour: config.usd_per_hour,
            throughput: Arc::default(),
            clock,
        })
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
        let choices = self.begin(read, ask.salt).await?;
        let answering = Answering {
            frame: self.frame(ask, model, is_chat),
            vocabulary: self.model.vocabulary(),
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
    async fn begin(&self, ask: LocalAsk, salt: u64) -> Result<Vec<Choice>, UpstreamError> {
        let job = Job {
            model: Arc::clone(&self.model),
            deadline: Instant::now() + self.timeouts.total,
            max_output_tokens: self.max_output_tokens,
            salt,
            fresh_seed: rand::random(),
            now_s: self.clock.now_ms() / 1_000,
        };
        let began = tokio::task::spawn_blocking(move || job.begin(&ask)).await;
        began.map_err(|panic| UpstreamError::Broken { detail: panic.to_string() })?
    }
}

/// What turns a call into generations, without the upstream it came to.
struct Job {
    model: Arc<LocalModel>,
    deadline: Instant,
    max_output_tokens: Option<usize>,
    salt: u64,
    fresh_seed: u64,
    now_s: i64,
}

/// A prompt in tokens, and how its answer is to be read.
struct Prepared {
    tokens: Arc<[TokenId]>,
    chat: Option<ChatPrompt>,
    echo: Option<String>,
}

impl Job {
    fn begin(&self, ask: &LocalAsk) -> Result<Vec<Choice>, UpstreamError> {
        let mut choices = Vec::new();
        for prepared in self.prepare(ask)? {
            for _ in 0..ask.n {
                choices.push(self.submit(ask, &prepared, choices.len() as u64)?);
            }
        }
        Ok(choices)
    }

    fn prepare(&self, ask: &LocalAsk) -> Result<Vec<Prepared>, UpstreamError> {
        match &ask.prompts {
            Prompts::Chat(chat) => Ok(vec![self.prepare_chat(chat)?]),
            Prompts::Texts(prompts) => {
                prompts.iter().map(|prompt| self.prepare_text(prompt, ask.echo)).collect()
            }
        }
    }

    fn prepare_chat(&self, chat: &ChatAsk) -> Result<Prepared, UpstreamError> {
        let no_chat = || refuse::unsupported("the model has no chat template; it takes completions only");
        let chats = self.model.chat().ok_or_else(no_chat)?;
        let request = chat.request(self.now_s, self.fresh_seed).map_err(|bad| refuse::bad_field(&bad))?;
        if !request.tools.is_empty()
            && request.tool_choice != ToolChoice::None
            && chats.tool_format().is_none()
        {
            return Err(refuse::unsupported("the model's chat template knows no tools; leave `tools` out"));
        }
        let mut prompt = chats.prompt(&request).map_err(|error| refuse::chat(&error))?;
        let tokens = std::mem::take(&mut prompt.tokens).into();
        Ok(Prepared { tokens, chat: Some(prompt), echo: None })
    }

    fn prepare_text(&self, prompt: &Prompt, echo: bool) -> Result<Prepared, UpstreamError> {
        let tokens = match prompt {
            Prompt::Text(text) => self.model.encode(text).map_err(|error| refuse::text(&error))?,
            Prompt::Tokens(tokens) => tokens.clone(),
        };
        let echoed = || match prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Tokens(tokens) => self.model.decode(tokens),
        };
        Ok(Prepared { echo: echo.then(echoed), tokens: tokens.into(), chat: None })
    }

    fn submit(&self, ask: &LocalAsk, prepared: &Prepared, choice_no: u64) -> Result<Choice, UpstreamError> {
        let compile = |chat: &ChatPrompt| chat.constraint(self.model.grammars());
        let constraint =
            prepared.chat.as_ref().map(compile).transpose().map_err(|error| refuse::grammar(&error))?;
        let seed = self.fresh_seed.wrapping_add(choice_no);
        let mut sampling = ask.sampling.over(self.model.defaults(), seed);
        // The choices of one call have seeds of their own, from the one that was given.
        sampling.seed = sampling.seed.wrapping_add(choice_no);
        let room = self.model.context().saturating_sub(prepared.tokens.len());
        let asked = ask.max_tokens.unwrap_or(room).min(self.max_output_tokens.unwrap_or(room));
        let request = GenerateRequest {
            prompt: Arc::clone(&prepared.tokens),
            max_tokens: asked.max(1),
            sampling,
            stop: Stop { strings: ask.stop.clone(), tokens: Vec::new(), ignore_eos: ask.ignore_eos },
            constraint: constraint.flatten(),
            logprobs: ask.logprobs,
            salt: self.salt,
            tenant: self.salt,
            priority: 0,
            deadline: Some(self.deadline),
        };
        let generation = self.model.engine().submit(request).map_err(|error| refuse::submit(&error))?;
        let reader = prepared.chat.as_ref().map(|chat| chat.reader.clone());
        Ok(Choice { generation, reader, echo: prepared.echo.clone() })
    }
}
