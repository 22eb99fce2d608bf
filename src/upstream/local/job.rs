//! A call on its way to the engine: prompts become tokens, choices become generations.
//!
//! Runs on a thread that may take its time: templates are rendered and grammars compiled here.
//!
//! Invariants: nothing is submitted that could never all be taken; a call that is refused halfway
//! leaves nothing running.

use std::sync::Arc;
use std::time::Instant;

use local_engine::chat::{ChatPrompt, ToolChoice};
use local_engine::local_model::LocalModel;
use local_engine::request::{GenerateRequest, Stop, TokenId};

use super::answer::Choice;
use super::ask::{ChatAsk, LocalAsk, Prompt, Prompts};
use super::refuse;
use crate::upstream::UpstreamError;

/// What a completion writes that does not say how much; OpenAI's number.
const COMPLETION_TOKENS: usize = 16;

/// What turns a call into generations, without the upstream it came to.
pub(super) struct Job {
    pub(super) model: Arc<LocalModel>,
    pub(super) deadline: Instant,
    pub(super) max_output_tokens: Option<usize>,
    /// Whose beginnings of prompts may be remembered together.
    pub(super) salt: u64,
    /// Whose turn is counted.
    pub(super) tenant: u64,
    /// Another upstream can be asked, so that what this model does badly need not be done here.
    pub(super) may_pass_on: bool,
    /// The model says so when a question is not its own.
    pub(super) may_decline: bool,
    pub(super) fresh_seed: u64,
    pub(super) now_s: i64,
}

/// A prompt in tokens, and how its answer is to be read.
struct Prepared {
    tokens: Arc<[TokenId]>,
    chat: Option<ChatPrompt>,
    echo: Option<String>,
}

impl Job {
    pub(super) fn begin(&self, ask: &LocalAsk) -> Result<Vec<Choice>, UpstreamError> {
        self.check_passing_on(ask)?;
        let prepared = self.prepare(ask)?;
        let (n_choices, capacity) = (prepared.len() * ask.n as usize, self.model.capacity());
        if n_choices > capacity {
            return Err(refuse::too_many(n_choices, capacity));
        }
        let mut choices = Vec::with_capacity(n_choices);
        for prepared in prepared {
            for _ in 0..ask.n {
                choices.push(self.submit(ask, &prepared, choices.len() as u64)?);
            }
        }
        Ok(choices)
    }

    /// A model that may decline cannot where a form is forced, in one of several answers, or in a text
    /// that is no answer. Whoever else can be asked will do better.
    fn check_passing_on(&self, ask: &LocalAsk) -> Result<(), UpstreamError> {
        let can_decline = match &ask.prompts {
            Prompts::Chat(chat) => ask.n == 1 && !chat.forces_a_form(),
            Prompts::Texts(_) => false,
        };
        if self.may_decline && self.may_pass_on && !can_decline {
            return Err(refuse::unsupported("the model could not say so if the question is not its own"));
        }
        Ok(())
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
        let mut sampling = ask.sampling.over(self.model.defaults(), self.fresh_seed);
        // The choices of one call have seeds of their own, from the one that it has.
        sampling.seed = sampling.seed.wrapping_add(choice_no);
        let max_tokens = self.max_tokens(ask, prepared)?;
        let request = GenerateRequest {
            prompt: Arc::clone(&prepared.tokens),
            max_tokens,
            sampling,
            stop: Stop { strings: ask.stop.clone(), tokens: Vec::new(), ignore_eos: ask.ignore_eos },
            constraint: constraint.flatten(),
            logprobs: ask.logprobs,
            salt: self.salt,
            tenant: self.tenant,
            priority: 0,
            deadline: Some(self.deadline),
        };
        let generation = self.model.engine().submit(request).map_err(|error| refuse::submit(&error))?;
        let reader = prepared.chat.as_ref().map(|chat| chat.reader.of_choice(choice_no));
        Ok(Choice { generation, reader, echo: prepared.echo.clone() })
    }

    /// What the context leaves. Where another model may have more room, a caller who asked for more than
    /// that is sent on.
    fn max_tokens(&self, ask: &LocalAsk, prepared: &Prepared) -> Result<usize, UpstreamError> {
        let room = self.model.context().saturating_sub(prepared.tokens.len());
        let cap = self.max_output_tokens.unwrap_or(usize::MAX);
        let default = if prepared.chat.is_some() { room } else { COMPLETION_TOKENS };
        let wanted = ask.max_tokens.unwrap_or(default).min(cap);
        if wanted > room && self.may_pass_on {
            return Err(refuse::context_length(prepared.tokens.len(), wanted, self.model.context()));
        }
        Ok(wanted.min(room).max(1))
    }
}
