//! An answer's text as it comes becomes thoughts, content and calls of tools.
//!
//! Knows no tokens; checks no arguments. What looks like a call and is none is content.
//!
//! ```text
//! Start ── <think> ──► Thought ── </think> ──► Begin ──► Text ── mark ──► Call ⇄ Between
//!   └───────────────────────────────────────────┘          ▲               │
//!                                                           └── no call ────┘
//! ```
//!
//! Invariants: pieces, joined by kind and call, do not depend on where the text was cut; nothing of a text
//! without marks is lost.

mod call;

use std::sync::Arc;

use super::ToolFormat;
use call::{CallText, Progress};

const OPEN_THOUGHT: &str = "<think>";
const CLOSE_THOUGHT: &str = "</think>";

/// Whether answers begin with thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    Never,
    /// The model may open them.
    May,
    /// The prompt has opened them.
    Open,
}

impl Thinking {
    /// By the template, which takes old thoughts out or puts in none, and the end of the prompt.
    pub(super) fn of(template: &str, prompt: &str) -> Self {
        let end = prompt.trim_end();
        if end.ends_with(OPEN_THOUGHT) {
            Self::Open
        } else if end.ends_with(CLOSE_THOUGHT) || !template.contains(CLOSE_THOUGHT) {
            Self::Never
        } else {
            Self::May
        }
    }
}

/// How an answer is to be read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// None if no calls are to be looked for.
    pub(super) format: Option<ToolFormat>,
    pub(super) tool_names: Arc<[String]>,
    pub(super) thinking: Thinking,
    pub(super) id_seed: u64,
}

/// Something that an answer has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerPiece {
    Content(String),
    /// What the model thinks before it answers.
    Reasoning(String),
    ToolCall(ToolCallDelta),
}

/// A call begins, or its arguments go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCallDelta {
    pub index: usize,
    /// With the first delta of a call.
    pub id: Option<String>,
    /// With the first delta of a call.
    pub name: Option<String>,
    /// More of the arguments' JSON.
    pub arguments: String,
}

#[derive(Debug, Clone)]
enum Stage {
    Start,
    Thought,
    /// Space after thoughts is dropped.
    AfterThought,
    /// Where a call without a mark would begin.
    Begin,
    Text,
    /// In a call; how it was introduced, in case it is none.
    Call(Box<CallText>, String),
    /// Behind a call.
    Between,
    /// Space after a list of calls is dropped.
    AfterCalls,
    /// Content to the end.
    Rest,
}

/// Reads one answer.
#[derive(Debug, Clone)]
pub struct AnswerReader {
    reading: Reading,
    stage: Stage,
    /// What is not decided yet.
    held: String,
    n_calls: usize,
}

impl AnswerReader {
    pub(super) fn new(reading: Reading) -> Self {
        let stage = match reading.thinking {
            Thinking::Never => Stage::Begin,
            Thinking::May => Stage::Start,
            Thinking::Open => Stage::Thought,
        };
        Self { reading, stage, held: String::new(), n_calls: 0 }
    }

    /// For one of several answers to the same prompt: its calls have ids of their own.
    pub fn of_choice(&self, choice_no: u64) -> Self {
        let mut reader = self.clone();
        reader.reading.id_seed = reader.reading.id_seed.wrapping_add(choice_no);
        reader
    }

    /// More of the answer's text.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPiece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.advance(&mut pieces) {}
        pieces
    }

    /// The answer is over: what was held back.
    pub fn finish(&mut self) -> Vec<AnswerPiece> {
        let mut pieces = Vec::new();
        let held = std::mem::take(&mut self.held);
        match std::mem::replace(&mut self.stage, Stage::Rest) {
            Stage::Thought => add(&mut pieces, AnswerPiece::Reasoning(held)),
            Stage::Start | Stage::Begin | Stage::Text | Stage::Rest => {
                add(&mut pieces, AnswerPiece::Content(held))
            }
            Stage::Call(call, mark) if !call.is_call() => {
                add(&mut pieces, AnswerPiece::Content(mark + call.raw()))
            }
            Stage::AfterThought | Stage::AfterCalls | Stage::Call(..) | Stage::Between => {}
        }
        pieces
    }

    /// How many calls the answer has so far; more than none makes the reason of its end `tool_calls`.
    pub fn n_tool_calls(&self) -> usize {
        self.n_calls
    }

    /// Takes from what is held; false if more text is needed to decide.
    fn advance(&mut self, pieces: &mut Vec<AnswerPiece>) -> bool {
        match &mut self.stage {
            Stage::Start => self.open_thought(),
            Stage::Thought => self.think(pieces),
            Stage::AfterThought => self.drop_space(Stage::Begin),
            Stage::AfterCalls => self.drop_space(self.text_stage()),
            Stage::Begin => self.begin(),
            Stage::Text => self.look_for_mark(pieces),
            Stage::Call(..) => self.read_call(pieces),
            Stage::Between => self.look_for_next(),
            Stage::Rest => {
                add(pieces, AnswerPiece::Content(std::mem::take(&mut self.held)));
                false
            }
        }
    }

    fn go_if(&mut self, decided: bool, stage: Stage) -> bool {
        if decided {
            self.stage = stage;
        }
        decided
    }

    fn drop_space(&mut self, next: Stage) -> bool {
        self.held = self.held.trim_start().to_owned();
        self.go_if(!self.held.is_empty(), next)
    }

    /// Text in which calls may begin, or may not: without a mark they only begin an answer.
    fn text_stage(&self) -> Stage {
        match self.reading.format {
            Some(ToolFormat::Hermes | ToolFormat::Mistral) => Stage::Text,
            Some(ToolFormat::Llama) | None => Stage::Rest,
        }
    }

    fn open_thought(&mut self) -> bool {
        let text = self.held.trim_start();
        match text.strip_prefix(OPEN_THOUGHT) {
            Some(rest) => {
                self.held = rest.to_owned();
                self.go_if(true, Stage::Thought)
            }
            None => self.go_if(!OPEN_THOUGHT.starts_with(text), Stage::Begin),
        }
    }

    fn think(&mut self, pieces: &mut Vec<AnswerPiece>) -> bool {
        let (thought, is_closed) = self.take_until(CLOSE_THOUGHT);
        add(pieces, AnswerPiece::Reasoning(thought));
        self.go_if(is_closed, Stage::AfterThought)
    }

    fn begin(&mut self) -> bool {
        match self.reading.format {
            None | Some(ToolFormat::Hermes | ToolFormat::Mistral) => self.go_if(true, self.text_stage()),
            Some(ToolFormat::Llama) => {
                let mark = ToolFormat::Llama.mark();
                let text = self.held.trim_start();
                let unmarked = text.strip_prefix(mark).unwrap_or(text);
                if unmarked.trim_start().starts_with('{') {
                    let n_before = self.held.len() - unmarked.len();
                    let before = self.held.drain(..n_before).collect();
                    let call = CallText::unannounced(Arc::clone(&self.reading.tool_names));
                    return self.go_if(true, Stage::Call(Box::new(call), before));
                }
                let is_open =
                    mark.starts_with(text) || (text.starts_with(mark) && unmarked.trim().is_empty());
                self.go_if(!is_open, Stage::Rest)
            }
        }
    }

    fn look_for_mark(&mut self, pieces: &mut Vec<AnswerPiece>) -> bool {
        let mark = self.reading.format.map_or("", ToolFormat::mark);
        let (text, is_found) = self.take_until(mark);
        add(pieces, AnswerPiece::Content(text));
        self.go_if(is_found, Stage::Call(Box::default(), mark.to_owned()))
    }

    fn read_call(&mut self, pieces: &mut Vec<AnswerPiece>) -> bool {
        let Stage::Call(call, mark) = &mut self.stage else {
            return false;
        };
        let was_call = call.is_call();
        let format = self.reading.format.unwrap_or(ToolFormat::Hermes);
        let is_list = format == ToolFormat::Mistral && mark.ends_with(']');
        let (n_read, progress) = call.read(&self.held, is_list);
        self.held.drain(..n_read);
        if progress == Progress::Broken && !call.is_call() {
            // A call may begin in what was not one; only the mark is certain to be text.
            let (mark, raw) = (mark.clone(), call.raw().to_owned());
            self.held.insert_str(0, &raw);
            add(pieces, AnswerPiece::Content(mark));
            return self.go_if(true, self.text_stage());
        }
        if call.is_call() {
            self.n_calls += usize::from(!was_call);
            let index = self.n_calls - 1;
            let mut delta =
                ToolCallDelta { index, arguments: call.take_arguments(), ..ToolCallDelta::default() };
            if !was_call {
                delta.id = Some(format.id(self.reading.id_seed, index));
                delta.name = call.name().cloned();
            }
            if !was_call || !delta.arguments.is_empty() {
                pieces.push(AnswerPiece::ToolCall(delta));
            }
        }
        self.go_if(progress != Progress::Open, Stage::Between)
    }

    fn look_for_next(&mut self) -> bool {
        let text = self.held.trim_start();
        let (closes, opens): (&[&str], &str) = match self.reading.format {
            Some(ToolFormat::Hermes) | None => (&["</tool_call>"], "<tool_call>"),
            Some(ToolFormat::Mistral) => (&[], ","),
            Some(ToolFormat::Llama) => (&[], ";"),
        };
        if let Some(rest) = closes.iter().find_map(|close| text.strip_prefix(close)) {
            self.held = rest.to_owned();
            return true;
        }
        if let Some(rest) = text.strip_prefix(opens) {
            self.held = rest.to_owned();
            return self.go_if(true, Stage::Call(Box::default(), opens.to_owned()));
        }
        let may_come = |mark: &str| mark.starts_with(text);
        if text.is_empty() || closes.iter().any(|close| may_come(close)) || may_come(opens) {
            return false;
        }
        if let (Some(ToolFormat::Mistral), Some(rest)) = (self.reading.format, text.strip_prefix(']')) {
            self.held = rest.to_owned();
            return self.go_if(true, Stage::AfterCalls);
        }
        self.held = text.to_owned();
        self.go_if(true, self.text_stage())
    }

    /// Takes what stands before a mark, and the mark; or as much as certainly is not part of one.
    fn take_until(&mut self, mark: &str) -> (String, bool) {
        if let Some(at) = self.held.find(mark) {
            let rest = self.held.split_off(at + mark.len());
            let mut before = std::mem::replace(&mut self.held, rest);
            before.truncate(at);
            return (before, true);
        }
        let may_begin = |at: &usize| self.held.is_char_boundary(*at) && mark.starts_with(&self.held[*at..]);
        let earliest = self.held.len().saturating_sub(mark.len());
        let at = (earliest..self.held.len()).find(may_begin).unwrap_or(self.held.len());
        let rest = self.held.split_off(at);
        (std::mem::replace(&mut self.held, rest), false)
    }
}

fn add(pieces: &mut Vec<AnswerPiece>, piece: AnswerPiece) {
    let is_empty = match &piece {
        AnswerPiece::Content(text) | AnswerPiece::Reasoning(text) => text.is_empty(),
        AnswerPiece::ToolCall(_) => false,
    };
    if !is_empty {
        pieces.push(piece);
    }
}

#[cfg(test)]
mod tests;
