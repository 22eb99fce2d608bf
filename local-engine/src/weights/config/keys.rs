//! Reads keys of a JSON object, and says of a value that cannot be which key it stands at.
//!
//! Knows no key by name.
//!
//! Invariants: `null` is as if the key were not there, as transformers has it.

use std::path::Path;

use serde_json::{Map, Value};

use crate::weights::WeightsError;

#[derive(Debug, Clone)]
pub(super) struct Keys<'a> {
    path: &'a Path,
    /// What stands before a key in errors: the sections it lies in.
    section: String,
    map: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(path: &'a Path, map: &'a Map<String, Value>) -> Self {
        Self { path, section: String::new(), map }
    }

    pub(super) fn wrong(&self, key: &str, what: impl Into<String>) -> WeightsError {
        let (path, key) = (self.path.to_owned(), format!("{}{key}", self.section));
        WeightsError::Config { path, key, what: what.into() }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key stands there at all, be it with `null`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// A whole number from 1 to `max`.
    pub(super) fn count(&self, key: &str, max: usize) -> Result<Option<usize>, WeightsError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        match count.filter(|count| (1..=max).contains(count)) {
            Some(count) => Ok(Some(count)),
            None => Err(self.wrong(key, format!("is {value}, and must be a whole number from 1 to {max}"))),
        }
    }

    pub(super) fn needed_count(&self, key: &str, max: usize) -> Result<usize, WeightsError> {
        self.count(key, max)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    /// A number above zero, and not so far from 1 that computing with it in f32 would overflow.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, WeightsError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64().filter(|number| (1e-30..=1e30).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(key, format!("is {value}, and must be a number from 1e-30 to 1e30"))),
        }
    }

    pub(super) fn needed_number(&self, key: &str) -> Result<f64, WeightsError> {
        self.number(key)?.ok_or_else(|| self.wrong(key, "is missing"))
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, WeightsError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(key, format!("is {value}, and must be true or false")))
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, WeightsError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let text =
            value.as_str().ok_or_else(|| self.wrong(key, format!("is {value}, and must be a text")))?;
        Ok(Some(text))
    }

    pub(super) fn section(&self, key: &str) -> Result<Option<Self>, WeightsError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.wrong(key, "must be an object"))?;
        Ok(Some(Self { path: self.path, section: format!("{}{key}.", self.section), map }))
    }

    /// All keys, each an object.
    pub(super) fn sections(&self) -> Result<Vec<Self>, WeightsError> {
        let sections: Result<Vec<Option<Self>>, _> = self.map.keys().map(|key| self.section(key)).collect();
        Ok(sections?.into_iter().flatten().collect())
    }
}
