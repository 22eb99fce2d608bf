//! Builds the whole answer out of the chunks of a stream: what a call that was not streamed would have
//! got.
//!
//! Texts, arrays and values stay the bytes they came in; nothing is decoded. Does not judge whether the
//! stream is complete beyond its own text: whoever feeds it knows how the stream ended.
//!
//! Invariants: never holds more than its limit; gives an answer only when every choice has ended.

mod merged;
pub mod transcript;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::members::Members;
use super::shape::{Added, Field, Shapes};
use merged::{How, Merged, OVERHEAD_BYTES, ObjectWriter, Part, Place, Room};

/// Takes chunks in the order they came, and gives the answer they make.
#[derive(Debug)]
pub struct Assembler {
    room: Room,
    /// The fields of the answer, each as it was last given.
    answer: Merged,
    choices: BTreeMap<u32, Merged>,
    shapes: Shapes,
}

impl Assembler {
    /// Gives up when the answer outgrows `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Self {
        let room = Room::of(limit_bytes);
        Self { room, answer: Merged::default(), choices: BTreeMap::new(), shapes: Shapes::default() }
    }

    pub fn push(&mut self, chunk_json: &str) {
        if self.room.left_bytes.is_none() {
            return;
        }
        let added = self.shapes.read(chunk_json.as_bytes());
        if added.and_then(|added| append_to(&mut self.choices, &mut self.room, &added)).is_none() {
            if self.merge(chunk_json).is_none() {
                self.room.left_bytes = None;
            }
            self.shapes.learn(chunk_json.as_bytes());
        }
        if self.room.left_bytes.is_none() {
            self.answer = Merged::default();
            self.choices.clear();
        }
    }

    /// `None` when it gave up, when a chunk could not be read, and when a choice never ended.
    pub fn finish(self) -> Option<Bytes> {
        self.room.left_bytes?;
        let is_ended = |choice: &Merged| choice.last("finish_reason").is_some_and(|json| json != "null");
        if self.choices.is_empty() || !self.choices.values().all(is_ended) {
            return None;
        }
        let mut out = String::with_capacity(512);
        let mut object = ObjectWriter::begin(&mut out);
        for (name, part) in &self.answer.0 {
            let Part::Last(json) = part else { continue };
            match name.as_str() {
                "choices" => write_choices(object.member(name), &self.choices),
                "object" => object.member(name).push_str(&json.replace(".chunk\"", "\"")),
                "usage" if json == "null" => {}
                _ => object.member(name).push_str(json),
            }
        }
        object.end();
        Some(out.into())
    }

    fn merge(&mut self, chunk_json: &str) -> Option<()> {
        let chunk = Members::parse(chunk_json.as_bytes()).ok()?;
        for (name, value) in chunk.iter() {
            match name {
                "choices" => {
                    self.answer.replace(name, "[]", &mut self.room);
                    self.merge_choices(value)?;
                }
                // Random padding against eavesdroppers who measure lengths; no part of the answer.
                "obfuscation" => {}
                _ => self.answer.merge(name, value, How::Last, &mut self.room),
            }
        }
        Some(())
    }

    fn merge_choices(&mut self, choices: &RawValue) -> Option<()> {
        let choices: Option<Vec<Members<'_>>> = serde_json::from_str(choices.get()).ok()?;
        for choice in choices.unwrap_or_default() {
            let idx = index_of(&choice)?;
            let room = &mut self.room;
            let merged = self.choices.entry(idx).or_insert_with(|| {
                room.take(OVERHEAD_BYTES);
                Merged::default()
            });
            for (name, value) in choice.iter() {
                match name {
                    "delta" => merged.merge("message", value, How::Object(Place::Message, 0), room),
                    "text" => merged.merge(name, value, How::Text, room),
                    "logprobs" => merged.merge(name, value, How::Object(Place::Logprobs, 0), room),
                    _ => merged.merge(name, value, How::Last, room),
                }
            }
        }
        Some(())
    }
}

/// Adds text to a field that has some already; all else in the chunk was merged with an earlier one.
fn append_to(choices: &mut BTreeMap<u32, Merged>, room: &mut Room, added: &Added<'_>) -> Option<()> {
    let choice = choices.get_mut(&added.choice_idx)?;
    let part = match added.field {
        Field::Text => choice.get_mut("text")?,
        Field::Content => match choice.get_mut("message")? {
            Part::Object(message) => message.get_mut("content")?,
            Part::Last(_) | Part::Text(_) | Part::Items(_) | Part::Indexed(_) => return None,
        },
    };
    let Part::Text(text) = part else { return None };
    room.take(added.inner.len());
    text.push_str(added.inner);
    Some(())
}

fn index_of(choice: &Members<'_>) -> Option<u32> {
    choice.get("index").map_or(Ok(0), |idx| serde_json::from_str(idx.get())).ok()
}

fn write_choices(out: &mut String, choices: &BTreeMap<u32, Merged>) {
    out.push('[');
    for (n, choice) in choices.values().enumerate() {
        if n > 0 {
            out.push(',');
        }
        write_choice(out, choice);
    }
    out.push(']');
}

fn write_choice(out: &mut String, choice: &Merged) {
    let mut object = ObjectWriter::begin(out);
    for (name, part) in &choice.0 {
        let text = object.member(name);
        let Part::Object(message) = part else {
            part.write(text);
            continue;
        };
        if name != "message" {
            part.write(text);
            continue;
        }
        // Some servers leave out what every message that is not streamed has.
        let mut inner = ObjectWriter::begin(text);
        for (name, json) in [("role", "\"assistant\""), ("content", "null")] {
            if message.get(name).is_none() {
                inner.member(name).push_str(json);
            }
        }
        message.write_into(inner);
    }
    object.end();
}

#[cfg(test)]
mod tests;
