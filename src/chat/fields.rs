//! A JSON object whose values stay the bytes they were read as.
//!
//! Deliberately no tree: a field nobody acts on is copied, never parsed and printed again, so
//! numbers, escapes and unknown fields pass through untouched.
//!
//! Invariants: order is kept; no key occurs twice.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// The fields of a JSON object, in order.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<(String, Box<RawValue>)>);

impl Fields {
    pub fn parse(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// The field as a `T`: `None` when absent or `null`, an error when of another type.
    pub fn read<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Option<serde_json::Result<T>> {
        let raw = self.get(name).filter(|raw| raw.get() != "null")?;
        Some(serde_json::from_str(raw.get()))
    }

    /// Puts a value in the place of the old one, or at the end.
    pub fn set(&mut self, name: &str, value: Box<RawValue>) {
        match self.0.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub fn set_json<T: Serialize>(&mut self, name: &str, value: &T) {
        let raw =
            serde_json::value::to_raw_value(value).expect("our values have string keys and finite numbers");
        self.set(name, raw);
    }

    pub fn remove(&mut self, name: &str) -> Option<Box<RawValue>> {
        let idx = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(idx).1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_str(), &**value))
    }

    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("raw fields are valid JSON")
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields: Vec<(String, Box<RawValue>)> = Vec::with_capacity(12);
        while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if fields.iter().any(|(known, _)| *known == key) {
                return Err(de::Error::custom(format_args!("field `{key}` is given twice")));
            }
            fields.push((key, value));
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_pass_through_byte_for_byte_and_in_order() {
        let json = r#"{"z":1.50,"a":{"deep":1e400,"s":"\u00e9\/"},"n":123456789012345678901234567890}"#;

        let fields = Fields::parse(json.as_bytes()).unwrap();

        assert_eq!(String::from_utf8(fields.to_json()).unwrap(), json);
    }

    #[test]
    fn a_field_given_twice_is_refused_by_name() {
        let error = Fields::parse(br#"{"model":"a","model":"b"}"#).unwrap_err();

        assert!(error.to_string().contains("`model` is given twice"), "{error}");
    }

    #[test]
    fn a_set_field_keeps_its_place() {
        let mut fields = Fields::parse(br#"{"model":"a","x":1}"#).unwrap();

        fields.set_json("model", &"b");
        fields.set_json("y", &2);

        assert_eq!(fields.to_json(), br#"{"model":"b","x":1,"y":2}"#);
    }
}
