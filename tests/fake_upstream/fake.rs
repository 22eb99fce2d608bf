//! A fake upstream that speaks OpenAI's wire format, for tests, benchmarks and trying things by hand.
//!
//! It has no model: an answer is a function of the request and of a script. It shares no code with
//! the gateway, so that its bill is a second opinion on what a call cost. It does not speak other
//! dialects and does not check keys beyond their presence.
//!
//! Invariants: a streamed answer and a whole one are rendered from the same deltas, so their usage
//! is equal; every call that was answered is on the bill once, with the tokens that were written.
//!
//! # Steering it
//!
//! A script is a list of settings, `key` or `key=value`. It is found, later ones winning, in
//! [`Script::always`], [`Script::model`], the model name behind an `@` (`gpt-4o@chunks=3,cut=1`),
//! the last user text or prompt (`[[fake: status=429 retry_after=1]]`), and [`Script::next`].
//!
//! | setting | what it does |
//! |---|---|
//! | `text="…"` `chunks=N` | the answer's words; the number of content deltas, which are its output tokens |
//! | `parallel=N` `tools=off` | tool calls to make when tools are offered (1); answer in words instead |
//! | `reasoning=N` `refusal` `unknown` `finish=…` | reasoning deltas first; a refusal; a field no client knows; the finish reason |
//! | `usage=empty-choices` | a last chunk without choices if `include_usage` asks for it (the default) |
//! | `usage=finish` `last-content` `every` `absent` | usage in the finish chunk, in the last content chunk, cumulative in every chunk, nowhere |
//! | `prompt=N` `completion=N` `cached=N` `cache_write=N` `audio_in=N` `audio_out=N` | token counts |
//! | `headers_ms=N` `first_byte_ms=N` `interval_ms=N` | waits before the headers, before the first byte of the body, between deltas |
//! | `split=N` `trickle_ms=N` `crlf` `comments` `multi_data` | writes of N bytes; a byte every N ms; line ends; comment lines; an event over two `data:` lines |
//! | `pause_at=K` | stop after K deltas until [`FakeUpstream::release`] |
//! | `status=N` `message="…"` | an error answer with OpenAI's body |
//! | `retry_after=S` `retry_after_ms=N` `should_retry=B` `header=NAME:VALUE` | headers of any answer |
//! | `hang=headers` `hang=body` | never send the headers; send them and then nothing |
//! | `cut=K` `end_at=K` `no_done` `error_at=K` | reset the connection, end cleanly, leave `[DONE]` out, send an error event: after K deltas |
//! | `broken_json_at=K` `garbage_at=K` | an event that is not JSON, a line that is not SSE: after K deltas |
//! | `html` `empty` `truncated` | a web page with status 200; no body; half of the body |
//! | `fail_first=N` | the fault above only for the first N calls with this model and text |

pub mod answer;
pub mod behaviour;
pub mod bill;
pub mod book;
pub mod chat_wire;
pub mod completions_wire;
pub mod embedding;
pub mod fault;
pub mod hand;
pub mod player;
pub mod prebuilt;
pub mod reply;
pub mod request;
pub mod schema;
pub mod script;
pub mod server;
pub mod socket;
pub mod sse;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::bill::{Bill, BilledCall, Price, Usage};
pub use self::book::{Ending, SeenCall};
pub use self::script::Script;
use self::server::Shared;

/// How a fake upstream is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on; port 0 picks a free one.
    pub address: SocketAddr,
    /// Whether a call needs an `authorization` header. Default true.
    pub requires_key: bool,
    /// How many calls are kept for [`FakeUpstream::calls`] and the bill's lines; its totals count all.
    pub n_kept: usize,
    /// Whether equal shapes of chat calls get the first one's answer; see [`prebuilt`]. Default false.
    pub prebuilt: bool,
    /// What `GET /v1/models` lists.
    pub models: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let models = ["gpt-4o", "gpt-4o-mini", "gpt-3.5-turbo-instruct", "text-embedding-3-small"];
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            requires_key: true,
            n_kept: usize::MAX,
            prebuilt: false,
            models: models.map(String::from).to_vec(),
        }
    }
}

/// A running fake upstream; dropping it closes its port and its connections.
pub struct FakeUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl FakeUpstream {
    /// Starts on a free port of this machine. Must be called within a tokio runtime.
    pub fn start() -> Self {
        Self::start_with(Options::default()).expect("a free port of the loopback address can be bound")
    }

    pub fn start_with(options: Options) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(options.address)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(options));
        let tracker = TaskTracker::new();
        let stop = CancellationToken::new();
        tracker.spawn(server::accept(listener, shared.clone(), tracker.clone(), stop.clone()));
        Ok(Self { address, shared, tracker, stop })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What an OpenAI client takes as `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Adds a script; panics when a setting is unknown, so that no test passes by a typing error.
    pub fn script(&self, script: Script) {
        self.shared.scripts.lock().add(script).expect("the settings are in the table of this module");
    }

    /// Every call seen, oldest first.
    pub fn calls(&self) -> Vec<SeenCall> {
        self.shared.book.calls()
    }

    pub fn bill(&self) -> Bill {
        self.shared.book.bill()
    }

    /// Sets the price of a model in nano-dollars per million tokens.
    pub fn price(&self, model: &str, price: Price) {
        self.shared.book.price(model, price);
    }

    /// Waits until the calls seen so far satisfy `wanted`, without polling a clock.
    pub async fn until(&self, wanted: impl Fn(&[SeenCall]) -> bool) -> Vec<SeenCall> {
        self.shared.book.until(wanted).await
    }

    /// Lets every call go on that waits at its `pause_at`.
    pub fn release(&self) {
        self.shared.gate.release();
    }

    /// Forgets scripts, calls and the bill; keeps prices, port and connections.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Closes the port and all connections, and waits until that is done.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Waits until somebody stops it.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
