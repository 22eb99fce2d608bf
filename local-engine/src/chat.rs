//! Chats to prompts, and answers to what a chat client wants to hear.
//!
//! Messages and tools are in OpenAI's form, as JSON values. Knows no HTTP, no models and no engine: a
//! [`ChatPrompt`] has the tokens, the grammar that the answer has to obey, and a reader for its text.
//!
//! What users wrote cannot pass for markup: each text is guarded before the template sees it (see
//! [`crate::tokenizer::Guard`]). A mark that is not a token, as Llama 2's `[/INST]`, is text to the model,
//! too, and cannot be told from a user's.
//!
//! Invariants: a prompt depends on the request and the model's files alone; calls in an answer are read
//! only if the request has tools and allows calls.

mod answer;
mod grammar;
mod messages;
mod options;
mod template;
mod tools;

pub use answer::{AnswerPiece, AnswerReader, ToolCallDelta};
pub use options::{ResponseFormat, ToolChoice};
pub use template::{ChatTemplate, TemplateInput};
pub use tools::ToolFormat;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::grammar::{Constraint, GrammarError, GrammarFactory, GrammarSpec};
use crate::request::TokenId;
use crate::tokenizer::{Tokenizer, TokenizerError};
use answer::Reading;

/// Why there is no prompt.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {reason}")]
    Parse { path: PathBuf, reason: String },
    #[error(
        "{dir}: the model has no chat template; put one into `chat_template.jinja`, or use completions without a chat"
    )]
    NoTemplate { dir: PathBuf },
    /// The caller's request is not one that this model can take.
    #[error("{field}: {reason}")]
    Invalid { field: String, reason: String },
    /// The template itself refused, or does not fit the messages.
    #[error("the model's chat template does not take these messages: {0}")]
    Template(String),
    #[error("{0}")]
    Tokenizer(#[from] TokenizerError),
}

impl ChatError {
    fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }
}

/// One chat to be continued.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    pub messages: Vec<Value>,
    pub tools: Vec<Value>,
    pub tool_choice: ToolChoice,
    /// Whether an answer may have several calls.
    pub parallel_tool_calls: bool,
    pub response_format: ResponseFormat,
    /// End the prompt with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Seconds since 1970, for templates that tell the date.
    pub now_unix_s: Option<i64>,
    /// What else the template knows, such as `enable_thinking`.
    pub template_args: Map<String, Value>,
    /// The ids of calls come from it; another for every request.
    pub id_seed: u64,
}

impl Default for ChatRequest {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            response_format: ResponseFormat::Text,
            add_generation_prompt: true,
            now_unix_s: None,
            template_args: Map::new(),
            id_seed: 0,
        }
    }
}

/// What the engine needs to answer a chat.
#[derive(Debug)]
pub struct ChatPrompt {
    pub tokens: Vec<TokenId>,
    /// What the template made of the chat; the tokens are of this.
    pub text: String,
    /// What the answer has to obey.
    pub grammar: Option<GrammarSpec>,
    /// Whether an answer without the grammar would be wrong; if not, it is only unchecked.
    pub grammar_is_required: bool,
    pub reader: AnswerReader,
}

impl ChatPrompt {
    /// The grammar, compiled; none if it cannot be and need not be.
    pub fn constraint(&self, factory: &GrammarFactory) -> Result<Option<Box<dyn Constraint>>, GrammarError> {
        match self.grammar.as_ref().map(|grammar| factory.compile(grammar)) {
            None => Ok(None),
            Some(Err(_)) if !self.grammar_is_required => Ok(None),
            Some(compiled) => compiled.map(Some),
        }
    }
}

/// A model's way to chat.
#[derive(Debug)]
pub struct Chat {
    tokenizer: Arc<Tokenizer>,
    template: ChatTemplate,
    tools: Option<ToolFormat>,
}

impl Chat {
    /// Reads a model's directory; its tokenizer is there already.
    pub fn load(dir: &Path, tokenizer: Arc<Tokenizer>) -> Result<Self, ChatError> {
        Ok(Self::new(ChatTemplate::load(dir)?, tokenizer))
    }

    pub fn new(template: ChatTemplate, tokenizer: Arc<Tokenizer>) -> Self {
        let tools = if template.knows_tools() { ToolFormat::of(template.source(true)) } else { None };
        Self { tokenizer, template, tools }
    }

    /// How the model writes calls; none if it knows no tools.
    pub fn tool_format(&self) -> Option<ToolFormat> {
        self.tools
    }

    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    pub fn prompt(&self, request: &ChatRequest) -> Result<ChatPrompt, ChatError> {
        let tools = self.tools_of(request)?;
        let mut input = TemplateInput {
            messages: messages::read(&request.messages, self.template.source(!tools.is_empty()), self.tools)?,
            tools: if tools.is_empty() { Vec::new() } else { request.tools.clone() },
            add_generation_prompt: request.add_generation_prompt,
            now_unix_s: request.now_unix_s,
            args: request.template_args.clone(),
        };
        let guard = messages::guard(&mut input, &self.tokenizer);
        let markup = self.template.render(&input)?;
        let tokens = self.tokenizer.encode_markup(&markup, &guard)?;
        let text = guard.unguarded(&markup);
        let thinking = answer::Thinking::of(self.template.source(!tools.is_empty()), &text);
        let format = self.tools.filter(|_| !tools.is_empty());
        let wanted = grammar::of(request, &tools, format, thinking)?;
        let reading = Reading {
            format,
            tool_names: tools.into_iter().map(|tool| tool.name).collect(),
            thinking,
            id_seed: request.id_seed,
        };
        Ok(ChatPrompt {
            tokens,
            text,
            grammar_is_required: wanted.as_ref().is_some_and(|wanted| wanted.is_required),
            grammar: wanted.map(|wanted| wanted.spec),
            reader: AnswerReader::new(reading),
        })
    }

    /// The tools that the answer may call.
    fn tools_of(&self, request: &ChatRequest) -> Result<Vec<tools::Tool>, ChatError> {
        let tools = tools::read(&request.tools)?;
        match &request.tool_choice {
            ToolChoice::None => return Ok(Vec::new()),
            ToolChoice::Auto => {}
            ToolChoice::Required if tools.is_empty() => {
                return Err(ChatError::invalid(
                    "tool_choice",
                    "a call is required, and there are no `tools`",
                ));
            }
            ToolChoice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
                return Err(ChatError::invalid("tool_choice", format!("`{name}` is none of the `tools`")));
            }
            ToolChoice::Required | ToolChoice::Named(_) => {}
        }
        if !tools.is_empty() && self.tools.is_none() {
            let reason = if self.template.knows_tools() {
                "the model's chat template writes calls in a way that is not known here (known are Hermes and Qwen's `<tool_call>`, Llama 3.1's JSON and Mistral's `[TOOL_CALLS]`)"
            } else {
                "the model's chat template knows no tools; leave `tools` out or take another model"
            };
            return Err(ChatError::invalid("tools", reason));
        }
        Ok(tools)
    }
}
