//! A JSON object read in place: its names and values are slices of the text.
//!
//! For answers, of which many small ones pass; requests, which live longer, are [`super::Fields`].
//! Does not refuse a name that occurs twice: the first one is found.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(super) fn parse(json: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// The members of a value, if it is an object.
    pub(super) fn of(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let idx = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(idx).1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (&**name, *value))
    }

    /// Where in `json`, the text this was read from, the name stands, quotes left out.
    /// `None` also where it is written with escapes, because then it stands nowhere as it is.
    pub(super) fn place_of_name(&self, json: &[u8], name: &str) -> Option<Range<usize>> {
        self.0.iter().find(|(known, _)| known == name).and_then(|(known, _)| match known {
            Cow::Borrowed(text) => Some(place_in(json, text)),
            Cow::Owned(_) => None,
        })
    }
}

/// Where `part`, a slice of `whole`, stands in it.
pub(super) fn place_in(whole: &[u8], part: &str) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

pub(super) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            members.push((name, value));
        }
        Ok(members)
    }
}
