//! The objects of an answer in the making, and how each new value joins what is there.
//!
//! Knows what the fields of a choice mean, and nothing of chunks or of what surrounds the choices.
//!
//! Invariants: whatever is kept was taken out of the room first; a null never replaces anything.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::chat::members::{Members, is_null};

/// Objects within a delta are merged this deep; below, the last one counts.
const MAX_DEPTH: usize = 6;
/// What a name or a choice costs us beside its bytes, about.
pub(super) const OVERHEAD_BYTES: usize = 64;

/// How many bytes may still come; `None` when it was more than that.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) left_bytes: Option<usize>,
}

impl Room {
    pub(super) fn of(limit_bytes: usize) -> Self {
        Self { left_bytes: Some(limit_bytes) }
    }

    pub(super) fn take(&mut self, n_bytes: usize) {
        self.left_bytes = self.left_bytes.and_then(|left| left.checked_sub(n_bytes));
    }

    fn give_back(&mut self, n_bytes: usize) {
        self.left_bytes = self.left_bytes.map(|left| left + n_bytes);
    }
}

/// Where in a choice an object stands, which says what its fields mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Message,
    Logprobs,
    /// A tool call and whatever lies within one.
    Call,
}

/// How a value joins what came before under the same name.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
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
pub(super) enum Part {
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
    pub(super) fn write(&self, out: &mut String) {
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
pub(super) struct Merged(pub(super) Vec<(String, Part)>);

impl Merged {
    pub(super) fn get(&self, name: &str) -> Option<&Part> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, part)| part)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Part> {
        self.0.iter_mut().find(|(known, _)| known == name).map(|(_, part)| part)
    }

    pub(super) fn last(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Part::Last(json) => Some(json),
            Part::Text(_) | Part::Items(_) | Part::Object(_) | Part::Indexed(_) => None,
        }
    }

    pub(super) fn merge(&mut self, name: &str, value: &RawValue, how: How, room: &mut Room) {
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
    pub(super) fn replace(&mut self, name: &str, json: &str, room: &mut Room) {
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

    pub(super) fn write_into(&self, mut object: ObjectWriter<'_>) {
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
pub(super) struct ObjectWriter<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl<'a> ObjectWriter<'a> {
    pub(super) fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, is_first: true }
    }

    /// Writes the name; the value is for the caller to append.
    pub(super) fn member(&mut self, name: &str) -> &mut String {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(',');
        }
        let name = serde_json::to_string(name).expect("a string is JSON");
        self.out.extend([name.as_str(), ":"]);
        self.out
    }

    pub(super) fn end(self) {
        self.out.push('}');
    }
}
