//! Builds the whole answer out of the chunks of a stream: what a call that was not streamed would have
//! got.
//!
//! Texts, arrays and values stay the bytes they came in; nothing is decoded. Does not judge whether the
//! stream is complete beyond its own text: whoever feeds it knows how the stream ended.
//!
//! Invariants: never holds more than its limit; gives an answer only when every choice has ended.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::members::{Members, is_null};
use super::shape::{Added, Field, Shapes};

/// Objects within a delta are merged this deep; below, the last one counts.
const MAX_DEPTH: usize = 6;
/// What a name or a choice costs us beside its bytes, about.
const OVERHEAD_BYTES: usize = 64;

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
        let room = Room { left_bytes: Some(limit_bytes) };
        Self { room, answer: Merged::default(), choices: BTreeMap::new(), shapes: Shapes::default() }
    }

    pub fn push(&mut self, chunk_json: &str) {
        if self.room.left_bytes.is_none() {
            return;
        }
        let added = self.shapes.read(chunk_json.as_bytes());
        if added.and_then(|added| self.append(&added)).is_none() {
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

    /// Adds text to a field that has some already; all else in the chunk was merged with an earlier one.
    fn append(&mut self, added: &Added<'_>) -> Option<()> {
        let choice = self.choices.get_mut(&added.choice_idx)?;
        let part = match added.field {
            Field::Text => choice.get_mut("text")?,
            Field::Content => match choice.get_mut("message")? {
                Part::Object(message) => message.get_mut("content")?,
                Part::Last(_) | Part::Text(_) | Part::Items(_) | Part::Indexed(_) => return None,
            },
        };
        let Part::Text(text) = part else { return None };
        self.room.take(added.inner.len());
        text.push_str(added.inner);
        Some(())
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
            let idx = choice.get("index").map_or(Ok(0), |idx| serde_json::from_str(idx.get())).ok()?;
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

/// How many bytes may still come; `None` when it was more than that.
#[derive(Debug)]
struct Room {
    left_bytes: Option<usize>,
}

impl Room {
    fn take(&mut self, n_bytes: usize) {
        self.left_bytes = self.left_bytes.and_then(|left| left.checked_sub(n_bytes));
    }

    fn give_back(&mut self, n_bytes: usize) {
        self.left_bytes = self.left_bytes.map(|left| left + n_bytes);
    }
}

/// Where in a choice an object stands, which says what its fields mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Message,
    Logprobs,
    /// A tool call and whatever lies within one.
    Call,
}

/// How a value joins what came before under the same name.
#[derive(Debug, Clone, Copy)]
enum How {
    Last,
    Text,
    Items,
    Object(Place, usize),
    /// An array whose objects say which one they add to.
    Indexed(usize),
}

impl How {
    fn of(place: Place, depth: usize, name: &str, json: &str) -> Self {
        let is_name = matches!(name, "role" | "id" | "type" | "name" | "format");
        match (json.as_bytes().first(), place) {
            (Some(b'"'), Place::Message | Place::Call) if !is_name => Self::Text,
            (Some(b'['), Place::Message) if name == "tool_calls" => Self::Indexed(depth),
            (Some(b'['), _) => Self::Items,
            (Some(b'{'), Place::Message | Place::Call) if depth < MAX_DEPTH => {
                Self::Object(Place::Call, depth + 1)
            }
            (_, _) => Self::Last,
        }
    }
}

/// One field of the answer in the making.
#[derive(Debug)]
enum Part {
    /// The value as it was last given.
    Last(String),
    /// The inside of a string, escapes and all.
    Text(String),
    /// The inside of an array.
    Items(String),
    Object(Merged),
    Indexed(BTreeMap<u64, Merged>),
}

impl Part {
    fn write(&self, out: &mut String) {
        match self {
            Self::Last(json) => out.push_str(json),
            Self::Text(inner) => out.extend(["\"", inner, "\""]),
            Self::Items(inner) => out.extend(["[", inner, "]"]),
            Self::Object(merged) => merged.write_into(ObjectWriter::begin(out)),
            Self::Indexed(calls) => {
                out.push('[');
                for (n, call) in calls.values().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    call.write_into(ObjectWriter::begin(out));
                }
                out.push(']');
            }
        }
    }
}

/// An object in the making, its fields in the order they first came.
#[derive(Debug, Default)]
struct Merged(Vec<(String, Part)>);

impl Merged {
    fn get(&self, name: &str) -> Option<&Part> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, part)| part)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Part> {
        self.0.iter_mut().find(|(known, _)| known == name).map(|(_, part)| part)
    }

    fn last(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Part::Last(json) => Some(json),
            Part::Text(_) | Part::Items(_) | Part::Object(_) | Part::Indexed(_) => None,
        }
    }

    fn merge(&mut self, name: &str, value: &RawValue, how: How, room: &mut Room) {
        let json = value.get();
        if is_null(value) {
            // A null adds nothing to what is there.
            if self.get(name).is_none() {
                self.replace(name, json, room);
            }
            return;
        }
        match how {
            How::Last => self.replace(name, json, room),
            How::Text => self.append_text(name, json, room),
            How::Items => self.append_items(name, json, room),
            How::Object(place, depth) => self.merge_object(name, value, (place, depth), room),
            How::Indexed(depth) => self.merge_indexed(name, value, depth, room),
        }
    }

    fn append_text(&mut self, name: &str, json: &str, room: &mut Room) {
        let Some(inner) = inner_of(json, '"', '"') else { return self.replace(name, json, room) };
        room.take(inner.len());
        let part = self.part(name, room);
        if let Part::Text(text) = part {
            text.push_str(inner);
        } else {
            *part = Part::Text(inner.to_owned());
        }
    }

    fn append_items(&mut self, name: &str, json: &str, room: &mut Room) {
        let Some(inner) = inner_of(json, '[', ']') else { return self.replace(name, json, room) };
        room.take(inner.len() + 1);
        let part = self.part(name, room);
        if let Part::Items(items) = part {
            let comma = if inner.is_empty() || items.is_empty() { "" } else { "," };
            items.extend([comma, inner]);
        } else {
            *part = Part::Items(inner.to_owned());
        }
    }

    fn merge_object(&mut self, name: &str, value: &RawValue, at: (Place, usize), room: &mut Room) {
        let Some(members) = Members::of(value) else { return self.replace(name, value.get(), room) };
        let part = self.part(name, room);
        if !matches!(part, Part::Object(_)) {
            *part = Part::Object(Self::default());
        }
        if let Part::Object(merged) = part {
            merged.merge_members(&members, at, room);
        }
    }

    fn merge_indexed(&mut self, name: &str, value: &RawValue, depth: usize, room: &mut Room) {
        let Ok(calls) = serde_json::from_str::<Vec<Members<'_>>>(value.get()) else {
            return self.replace(name, value.get(), room);
        };
        let part = self.part(name, room);
        if !matches!(part, Part::Indexed(_)) {
            *part = Part::Indexed(BTreeMap::new());
        }
        let Part::Indexed(by_idx) = part else { return };
        for (n, mut call) in calls.into_iter().enumerate() {
            let said = call.take("index").and_then(|idx| serde_json::from_str(idx.get()).ok());
            let idx = said.unwrap_or(n as u64);
            by_idx.entry(idx).or_default().merge_members(&call, (Place::Call, depth + 1), room);
        }
    }

    fn merge_members(&mut self, members: &Members<'_>, (place, depth): (Place, usize), room: &mut Room) {
        for (name, value) in members.iter() {
            self.merge(name, value, How::of(place, depth, name, value.get()), room);
        }
    }

    /// Puts `json` in the place of what was there.
    fn replace(&mut self, name: &str, json: &str, room: &mut Room) {
        let part = self.part(name, room);
        if let Part::Last(old) = part {
            if old == json {
                return;
            }
            room.give_back(old.len());
        }
        room.take(json.len());
        *part = Part::Last(json.to_owned());
    }

    /// The part of this name; a new one holds nothing yet.
    fn part(&mut self, name: &str, room: &mut Room) -> &mut Part {
        let idx = self.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| {
            room.take(name.len() + OVERHEAD_BYTES);
            self.0.push((name.to_owned(), Part::Last(String::new())));
            self.0.len() - 1
        });
        &mut self.0[idx].1
    }

    fn write_into(&self, mut object: ObjectWriter<'_>) {
        for (name, part) in &self.0 {
            part.write(object.member(name));
        }
        object.end();
    }
}

fn inner_of(json: &str, open: char, close: char) -> Option<&str> {
    let inner = json.strip_prefix(open)?.strip_suffix(close)?;
    Some(if open == '[' { inner.trim_ascii() } else { inner })
}

/// Writes the members of an object one by one.
struct ObjectWriter<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl<'a> ObjectWriter<'a> {
    fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, is_first: true }
    }

    /// Writes the name; the value is for the caller to append.
    fn member(&mut self, name: &str) -> &mut String {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(',');
        }
        let name = serde_json::to_string(name).expect("a string is JSON");
        self.out.extend([name.as_str(), ":"]);
        self.out
    }

    fn end(self) {
        self.out.push('}');
    }
}

#[cfg(test)]
mod tests;
