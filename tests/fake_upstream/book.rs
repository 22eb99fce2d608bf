//! The book of calls: what came in, how each call ended, and what it is billed.
//!
//! Keeps no answers. Does not know HTTP beyond headers and bodies as they came.
//!
//! Invariants: a call ends once; it is billed at its end if any of its answer was written; the
//! bill's totals never shrink but by a reset.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::bill::{Bill, BilledCall, Price, PriceList, Usage};

/// How a call ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    Open,
    /// The whole answer was handed to the connection.
    Answered,
    /// An error answer was sent in full.
    Refused {
        status: u16,
    },
    /// The fake cut the answer short, as it was told to.
    CutShort,
    /// The client went away before the answer was written.
    ClientGone,
}

#[derive(Debug, Clone)]
pub struct SeenCall {
    /// Counts from 0 since the start or the last reset.
    pub number: u64,
    pub at: Instant,
    pub at_ms: u64,
    pub path: String,
    pub http_version: http::Version,
    /// Which connection it came on; equal for calls that shared one.
    pub connection: u64,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub model: String,
    pub streamed: bool,
    pub ending: Ending,
    /// Output tokens written so far.
    pub n_written: u64,
}

impl SeenCall {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// What `GET /calls` shows.
    pub fn to_json(&self) -> serde_json::Value {
        let headers = self.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned().into())
        });
        serde_json::json!({
            "number": self.number, "at_ms": self.at_ms, "path": self.path,
            "http_version": format!("{:?}", self.http_version), "connection": self.connection,
            "headers": headers.collect::<serde_json::Map<_, _>>(),
            "body": String::from_utf8_lossy(&self.body), "model": self.model, "streamed": self.streamed,
            "ending": self.ending, "n_written": self.n_written,
        })
    }
}

/// What a call will be billed once it ends.
#[derive(Debug, Clone)]
pub struct Charge {
    pub request_id: String,
    pub model: String,
    pub usage: Usage,
}

struct State {
    n_seen: u64,
    calls: VecDeque<SeenCall>,
    bill: Bill,
    billed: VecDeque<BilledCall>,
    prices: PriceList,
    /// Calls of before a reset must not write into the book of after it.
    volume: u64,
}

/// Names a call in the book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    volume: u64,
    pub number: u64,
}

pub struct Book {
    started: Instant,
    n_kept: usize,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

impl Book {
    pub fn new(n_kept: usize) -> Self {
        let state = State {
            n_seen: 0,
            calls: VecDeque::new(),
            bill: Bill::default(),
            billed: VecDeque::new(),
            prices: PriceList::default(),
            volume: 0,
        };
        Self { started: Instant::now(), n_kept, state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    pub fn now(&self) -> (Instant, u64) {
        let now = Instant::now();
        let at_ms = now.duration_since(self.started).as_millis();
        (now, u64::try_from(at_ms).unwrap_or(u64::MAX))
    }

    /// Enters a call; its `number` is set here.
    pub fn enter(&self, mut call: SeenCall) -> CallId {
        let mut state = self.state.lock();
        let id = CallId { volume: state.volume, number: state.n_seen };
        call.number = id.number;
        state.n_seen += 1;
        if self.n_kept > 0 {
            if state.calls.len() == self.n_kept {
                state.calls.pop_front();
            }
            state.calls.push_back(call);
        }
        drop(state);
        self.tell();
        id
    }

    /// Notes that `n_tokens` more were written.
    pub fn written(&self, id: CallId, n_tokens: u64) {
        if n_tokens == 0 {
            return;
        }
        if let Some(call) = self.state.lock().call(id) {
            call.n_written += n_tokens;
        }
        self.tell();
    }

    /// Ends a call and bills what it was charged, if anything.
    pub fn end(&self, id: CallId, ending: Ending, charge: Option<Charge>) {
        let mut state = self.state.lock();
        if state.volume != id.volume {
            return;
        }
        if let Some(call) = state.call(id) {
            call.ending = ending;
        }
        if let Some(charge) = charge {
            state.charge(id, charge, ending == Ending::Answered);
            while state.billed.len() > self.n_kept {
                state.billed.pop_front();
            }
        }
        drop(state);
        self.tell();
    }

    pub fn calls(&self) -> Vec<SeenCall> {
        self.state.lock().calls.iter().cloned().collect()
    }

    pub fn bill(&self) -> Bill {
        let state = self.state.lock();
        Bill { calls: state.billed.iter().cloned().collect(), ..state.bill.clone() }
    }

    pub fn price(&self, model: &str, price: Price) {
        self.state.lock().prices.set(model, price);
    }

    pub async fn until(&self, wanted: impl Fn(&[SeenCall]) -> bool) -> Vec<SeenCall> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let calls = self.calls();
            if wanted(&calls) {
                return calls;
            }
            changed.changed().await.expect("the book outlives those who wait on it");
        }
    }

    pub fn reset(&self) {
        let mut state = self.state.lock();
        state.volume += 1;
        state.n_seen = 0;
        state.calls.clear();
        state.billed.clear();
        state.bill = Bill::default();
    }

    fn tell(&self) {
        if self.changed.receiver_count() > 0 {
            self.changed.send_replace(());
        }
    }
}

impl State {
    fn call(&mut self, id: CallId) -> Option<&mut SeenCall> {
        if self.volume != id.volume {
            return None;
        }
        let oldest = self.calls.front()?.number;
        let at = usize::try_from(id.number.checked_sub(oldest)?).ok()?;
        self.calls.get_mut(at)
    }

    fn charge(&mut self, id: CallId, charge: Charge, complete: bool) {
        let Charge { request_id, model, usage } = charge;
        let cost_nano_usd = self.prices.of(&model).cost_nano_usd(&usage);
        self.bill.n_calls += 1;
        self.bill.total_nano_usd += cost_nano_usd;
        self.bill.n_prompt_tokens += usage.prompt;
        self.bill.n_completion_tokens += usage.completion;
        self.billed.push_back(BilledCall {
            number: id.number,
            request_id,
            model,
            usage,
            cost_nano_usd,
            complete,
        });
    }
}
