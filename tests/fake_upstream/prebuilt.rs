//! Answers rendered once and sent to every call alike, so that the fake is cheap under load.
//!
//! For measuring only: the calls are neither in the book nor on the bill, and what a prompt says is
//! not read. A call whose script asks for waits or faults is answered the usual way.
//!
//! Invariants: a prebuilt answer has the shape the call asked for: its model, streamed or not, with
//! usage or without.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use serde::Deserialize;

use super::behaviour::{Behaviour, Fault, Travel};
use super::request::{Ask, Endpoint};

/// What tells one prebuilt answer from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shape {
    model: String,
    stream: bool,
    include_usage: bool,
}

/// The little that is read of a request.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow)]
    model: Cow<'a, str>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<UsageGlance>,
}

#[derive(Deserialize)]
struct UsageGlance {
    #[serde(default)]
    include_usage: bool,
}

/// The frames of an answer: one for a whole answer, one an event for a stream.
#[derive(Debug, Clone)]
pub struct Ready {
    pub frames: Arc<[Bytes]>,
    pub stream: bool,
}

#[derive(Default)]
pub struct Shelf(RwLock<HashMap<Shape, Ready>>);

impl Shelf {
    /// The answer for this body, if one of its shape was made before.
    pub fn answer_to(&self, body: &[u8]) -> Option<Ready> {
        let glance: Glance<'_> = serde_json::from_slice(body).ok()?;
        let include_usage = glance.stream_options.is_some_and(|options| options.include_usage);
        let shape = Shape { model: glance.model.into_owned(), stream: glance.stream, include_usage };
        self.0.read().get(&shape).cloned()
    }

    /// Keeps an answer for later calls, where nothing but words was scripted.
    pub fn keep(&self, ask: &Ask, behaviour: &Behaviour, frames: impl FnOnce() -> Vec<Bytes>) {
        let plain = behaviour.travel == Travel::default() && behaviour.fault == Fault::None;
        if !plain || ask.endpoint != Endpoint::Chat || !ask.suffix.is_empty() {
            return;
        }
        let shape = Shape { model: ask.model.clone(), stream: ask.stream, include_usage: ask.include_usage };
        let ready = Ready { frames: frames().into(), stream: ask.stream };
        self.0.write().insert(shape, ready);
    }
}
