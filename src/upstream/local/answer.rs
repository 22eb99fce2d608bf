//! A local model's answer as it comes: the engine's events become chunks, or one whole object.
//!
//! Decides nothing about the answer but one thing: whether it only declines.
//!
//! Invariants: a stream is given out once its first chunk is known and, where a model may decline, once
//! it is clear that it does or does not; an answer that is dropped frees its place in the engine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::{FutureExt, select_all};
use local_engine::chat::{AnswerPiece, AnswerReader};
use local_engine::engine::Generation;
use local_engine::local_model::LocalModel;
use local_engine::request::{Delta, Event, Finish, FinishReason, TokenOut};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::decline::{Decline, Reading};
use super::price::Throughput;
use super::refuse;
use super::wire::{self, Frame};
use crate::chat::Usage;
use crate::team::UpstreamName;
use crate::telemetry::events::{LocalAnswered, LocalDeclined};
use crate::upstream::answer::{StreamItem, WholeAnswer};
use crate::upstream::clocks::Clocks;
use crate::upstream::error::UpstreamError;
use crate::upstream::outcome::Phase;

/// One of the answers to a call.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) generation: Generation,
    /// None for a completion, whose text is as it is.
    pub(super) reader: Option<AnswerReader>,
    /// The prompt, where the answer has to begin with it.
    pub(super) echo: Option<String>,
}

/// What a stream and a whole answer have in common.
#[derive(Debug)]
pub(super) struct Answering {
    pub(super) frame: Frame,
    /// Held until the answer ends: a reload that drops the model must not cut it off.
    pub(super) model: Arc<LocalModel>,
    /// Answers to each prompt; those to one prompt follow each other.
    pub(super) n_each: usize,
    pub(super) clocks: Clocks,
    pub(super) logprobs: bool,
    pub(super) decline: Option<Decline>,
    pub(super) throughput: Arc<Mutex<Throughput>>,
    pub(super) upstream: UpstreamName,
    pub(super) began: Instant,
}

impl Answering {
    fn tell_declined(&self) {
        LocalDeclined { upstream: self.upstream.as_str() }.emit();
    }

    /// Learns from an answer what a token costs, and counts it.
    fn count(&self, usage: &mut Usage, finish: &Finish, index: usize) {
        let used = &finish.usage;
        let n_computed = used.n_prompt.saturating_sub(used.n_cached);
        self.throughput.lock().see(n_computed, used.n_generated, used.device);
        LocalAnswered {
            upstream: self.upstream.as_str(),
            n_prompt: used.n_prompt,
            n_cached: used.n_cached,
            n_generated: used.n_generated,
            n_drafted: used.n_drafted,
            n_accepted: used.n_accepted,
            queued: used.queued,
            first_token: used.first_token,
            total: self.began.elapsed(),
            device: used.device,
        }
        .emit();
        // A prompt counts once, however many answers it has.
        if index.is_multiple_of(self.n_each) {
            usage.input += used.n_prompt as u64;
            usage.cached_read += used.n_cached as u64;
        }
        usage.output += used.n_generated as u64;
    }
}

/// A choice while it grows.
#[derive(Debug)]
struct Growing {
    generation: Option<Generation>,
    reader: Option<AnswerReader>,
    has_tool_calls: bool,
    /// Tokens whose text has not been given out yet.
    tokens: Vec<TokenOut>,
    n_chars: usize,
}

/// An answer that comes chunk by chunk.
#[derive(Debug)]
pub struct LocalStream {
    answering: Answering,
    choices: Vec<Growing>,
    ready: VecDeque<StreamItem>,
    usage: Usage,
    /// What was said so far, while it is open whether that declines.
    said: Option<String>,
    has_begun: bool,
    is_over: bool,
    declined: bool,
}

impl LocalStream {
    pub(super) async fn begin(answering: Answering, choices: Vec<Choice>) -> Result<Self, UpstreamError> {
        let mut stream = Self {
            said: answering.decline.is_some().then(String::new),
            answering,
            choices: Vec::with_capacity(choices.len()),
            ready: VecDeque::new(),
            usage: Usage::default(),
            has_begun: false,
            is_over: false,
            declined: false,
        };
        for (index, choice) in choices.into_iter().enumerate() {
            stream.choices.push(Growing::of(choice.generation, choice.reader));
            stream.open(index, choice.echo);
        }
        stream.read_ahead().await?;
        Ok(stream)
    }

    pub fn is_declined(&self) -> bool {
        self.declined
    }

    pub async fn next(&mut self) -> Option<Result<StreamItem, UpstreamError>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            if self.is_over {
                return None;
            }
            if let Err(error) = self.read().await {
                self.is_over = true;
                self.choices.clear();
                return Some(Err(error));
            }
        }
    }

    /// Reads until something was said, and until it is clear whether that declines.
    async fn read_ahead(&mut self) -> Result<(), UpstreamError> {
        while !self.has_begun || self.said.is_some() {
            self.read().await?;
            let Some((decline, said)) = self.answering.decline.as_ref().zip(self.said.as_ref()) else {
                continue;
            };
            match decline.read(said, self.is_over) {
                Reading::Open => continue,
                Reading::Answers => {}
                Reading::Declines => {
                    self.declined = true;
                    self.answering.tell_declined();
                }
            }
            self.said = None;
        }
        Ok(())
    }

    /// Takes one event of any choice.
    async fn read(&mut self) -> Result<(), UpstreamError> {
        let phase = if self.has_begun { Phase::Idle } else { Phase::FirstByte };
        let clocks = self.answering.clocks;
        let (index, event) =
            clocks.within(phase, next_event(&mut self.choices)).await.map_err(queued_too_long)?;
        match event {
            Some(Event::Delta(delta)) => self.grow(index, delta),
            Some(Event::Finished(finish)) => return self.finish(index, finish),
            None => return Err(gone(self.has_begun)),
        }
        Ok(())
    }

    /// A chat's first chunk names the role; a completion may begin with its prompt.
    fn open(&mut self, index: usize, echo: Option<String>) {
        if self.answering.frame.is_chat {
            self.say(index, json!({ "role": "assistant", "content": "" }), 0);
        } else if let Some(prompt) = echo {
            let n_chars = prompt.chars().count();
            self.say(index, json!({ "content": prompt }), n_chars);
        }
    }

    fn grow(&mut self, index: usize, delta: Delta) {
        self.has_begun = true;
        let choice = &mut self.choices[index];
        choice.tokens.extend(delta.tokens);
        let pieces = choice.read(&delta.text);
        self.say_pieces(index, pieces);
    }

    fn say_pieces(&mut self, index: usize, pieces: Vec<AnswerPiece>) {
        for piece in pieces {
            let (delta, n_chars) = delta_of(&piece);
            match (&piece, &mut self.said) {
                (AnswerPiece::Content(text), Some(said)) => said.push_str(text),
                // Who calls a tool answers.
                (AnswerPiece::ToolCall(_), said) => *said = None,
                (AnswerPiece::Content(_) | AnswerPiece::Reasoning(_), _) => {}
            }
            self.choices[index].has_tool_calls |= matches!(piece, AnswerPiece::ToolCall(_));
            self.say(index, delta, n_chars);
        }
    }

    fn say(&mut self, index: usize, delta: Value, n_chars: usize) {
        let logprobs = self.take_logprobs(index, n_chars);
        let data = self.answering.frame.chunk(index, delta, logprobs, None);
        self.push(data, None, false, n_chars);
    }

    fn take_logprobs(&mut self, index: usize, n_chars: usize) -> Value {
        let choice = &mut self.choices[index];
        let tokens = std::mem::take(&mut choice.tokens);
        let offset = choice.n_chars;
        choice.n_chars += n_chars;
        if !self.answering.logprobs || tokens.is_empty() {
            return Value::Null;
        }
        let vocabulary = &self.answering.model.vocabulary();
        match self.answering.frame.is_chat {
            true => wire::chat_logprobs(&tokens, vocabulary),
            false => wire::text_logprobs(&tokens, vocabulary, offset),
        }
    }

    fn finish(&mut self, index: usize, finish: Finish) -> Result<(), UpstreamError> {
        check(&finish.reason, self.has_begun)?;
        self.has_begun = true;
        self.answering.count(&mut self.usage, &finish, index);
        let choice = &mut self.choices[index];
        choice.generation = None;
        let pieces = choice.read_rest();
        self.say_pieces(index, pieces);
        let reason = wire::finish_reason(&finish.reason, self.choices[index].has_tool_calls);
        let logprobs = self.take_logprobs(index, 0);
        let data = self.answering.frame.chunk(index, json!({}), logprobs, Some(reason));
        self.push(data, None, true, 0);
        if self.choices.iter().all(|choice| choice.generation.is_none()) {
            let data = self.answering.frame.usage_chunk(&self.usage);
            self.push(data, Some(self.usage), false, 0);
            self.ready.push_back(StreamItem::Done);
            self.is_over = true;
        }
        Ok(())
    }

    fn push(&mut self, data: Bytes, usage: Option<Usage>, has_finish: bool, content_chars: usize) {
        let n_choices = usize::from(usage.is_none());
        self.ready.push_back(StreamItem::Chunk { data, usage, n_choices, has_finish, content_chars });
    }
}

impl Growing {
    fn of(generation: Generation, reader: Option<AnswerReader>) -> Self {
        let generation = Some(generation);
        Self { generation, reader, has_tool_calls: false, tokens: Vec::new(), n_chars: 0 }
    }

    fn read(&mut self, text: &str) -> Vec<AnswerPiece> {
        match &mut self.reader {
            Some(reader) => reader.push(text),
            None if text.is_empty() => Vec::new(),
            None => vec![AnswerPiece::Content(text.to_owned())],
        }
    }

    fn read_rest(&mut self) -> Vec<AnswerPiece> {
        self.reader.as_mut().map(AnswerReader::finish).unwrap_or_default()
    }
}

/// The next event of whichever choice has one.
async fn next_event(choices: &mut [Growing]) -> (usize, Option<Event>) {
    let mut open: Vec<_> = choices
        .iter_mut()
        .enumerate()
        .filter_map(|(index, choice)| Some((index, choice.generation.as_mut()?)))
        .collect();
    match open.as_mut_slice() {
        [] => (0, None),
        [(index, only)] => (*index, only.next().await),
        _ => {
            let waiting = open
                .into_iter()
                .map(|(index, generation)| async move { (index, generation.next().await) }.boxed());
            select_all(waiting).await.0
        }
    }
}

/// A token that does not come is a queue that is too long: no fault of the model's.
fn queued_too_long(error: UpstreamError) -> UpstreamError {
    if let UpstreamError::Timeout { phase: Phase::FirstByte, after_ms } = error {
        return UpstreamError::Busy { reason: format!("no token came within {after_ms} ms") };
    }
    error
}

fn delta_of(piece: &AnswerPiece) -> (Value, usize) {
    match piece {
        AnswerPiece::Content(text) => (json!({ "content": text }), text.chars().count()),
        AnswerPiece::Reasoning(text) => (json!({ "reasoning_content": text }), text.chars().count()),
        AnswerPiece::ToolCall(call) => {
            (json!({ "tool_calls": [wire::tool_call(call)] }), call.arguments.chars().count())
        }
    }
}

/// An answer that ended otherwise than by itself is an error.
fn check(reason: &FinishReason, has_begun: bool) -> Result<(), UpstreamError> {
    match reason {
        FinishReason::Stop | FinishReason::Length => Ok(()),
        FinishReason::Deadline => {
            let detail = "the answer took longer than `total_timeout_ms`".to_owned();
            Err(UpstreamError::Truncated { detail })
        }
        FinishReason::Grammar(why) => Err(refuse::unmet(why)),
        FinishReason::Failed(detail) if has_begun => Err(UpstreamError::Truncated { detail: detail.clone() }),
        FinishReason::Failed(detail) => Err(UpstreamError::Broken { detail: detail.clone() }),
        FinishReason::Aborted => Err(gone(has_begun)),
    }
}

fn gone(has_begun: bool) -> UpstreamError {
    let detail = "the engine was closed".to_owned();
    if has_begun { UpstreamError::Truncated { detail } } else { UpstreamError::Broken { detail } }
}

/// Reads an answer to its end, as one object.
pub(super) async fn whole(answering: Answering, choices: Vec<Choice>) -> Result<WholeAnswer, UpstreamError> {
    let mut growing = Vec::with_capacity(choices.len());
    let mut told: Vec<Told> = Vec::with_capacity(choices.len());
    for choice in choices {
        growing.push(Growing::of(choice.generation, choice.reader));
        let text = choice.echo.unwrap_or_default();
        told.push(Told { n_echoed: text.chars().count(), text, ..Told::default() });
    }
    let mut usage = Usage::default();
    let mut phase = Phase::FirstByte;
    while growing.iter().any(|choice| choice.generation.is_some()) {
        let next = answering.clocks.within(phase, next_event(&mut growing));
        let (index, event) = next.await.map_err(queued_too_long)?;
        phase = Phase::Total;
        let (choice, told) = (&mut growing[index], &mut told[index]);
        match event {
            Some(Event::Delta(delta)) => {
                told.tokens.extend(delta.tokens);
                choice.read(&delta.text).iter().for_each(|piece| told.hear(piece));
            }
            Some(Event::Finished(finish)) => {
                check(&finish.reason, false)?;
                answering.count(&mut usage, &finish, index);
                choice.read_rest().iter().for_each(|piece| told.hear(piece));
                told.reason = wire::finish_reason(&finish.reason, !told.calls.is_empty());
                choice.generation = None;
            }
            None => return Err(gone(false)),
        }
    }
    let declines = |decline: &Decline| decline.read(&told[0].text, true) == Reading::Declines;
    let declined = answering.decline.as_ref().is_some_and(declines);
    if declined {
        answering.tell_declined();
    }
    let choices = told.into_iter().enumerate().map(|(index, told)| told.object(index, &answering)).collect();
    let body = answering.frame.whole(choices, &usage);
    Ok(WholeAnswer { status: 200, body, usage: Some(usage), model: Some(answering.frame.model), declined })
}

/// A choice as it was heard so far.
#[derive(Debug, Default)]
struct Told {
    text: String,
    reasoning: String,
    calls: Vec<Value>,
    tokens: Vec<TokenOut>,
    /// Characters of the prompt that the text begins with.
    n_echoed: usize,
    reason: &'static str,
}

impl Told {
    fn hear(&mut self, piece: &AnswerPiece) {
        match piece {
            AnswerPiece::Content(text) => self.text.push_str(text),
            AnswerPiece::Reasoning(text) => self.reasoning.push_str(text),
            AnswerPiece::ToolCall(call) => match self.calls.get_mut(call.index) {
                Some(known) => {
                    let arguments = known["function"]["arguments"].as_str().unwrap_or_default();
                    known["function"]["arguments"] = json!(format!("{arguments}{}", call.arguments));
                }
                None => self.calls.push(wire::tool_call(call)),
            },
        }
    }

    fn object(self, index: usize, answering: &Answering) -> Value {
        let wants = answering.logprobs;
        if !answering.frame.is_chat {
            let logprobs = || wire::text_logprobs(&self.tokens, &answering.model.vocabulary(), self.n_echoed);
            let logprobs = if wants { logprobs() } else { Value::Null };
            return json!({ "index": index, "text": self.text, "logprobs": logprobs, "finish_reason": self.reason });
        }
        let content =
            if self.text.is_empty() && !self.calls.is_empty() { Value::Null } else { json!(self.text) };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning);
        }
        if !self.calls.is_empty() {
            // Only the pieces of a stream carry an index.
            let calls = self.calls.into_iter().map(|mut call| {
                call.as_object_mut().map(|call| call.remove("index"));
                call
            });
            message["tool_calls"] = calls.collect();
        }
        let logprobs = || wire::chat_logprobs(&self.tokens, &answering.model.vocabulary());
        let logprobs = if wants { logprobs() } else { Value::Null };
        json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": self.reason })
    }
}
