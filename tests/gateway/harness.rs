//! A gateway in this process, on a free port and in a folder of its own, that checks how it was left.
//!
//! Serves through the same functions as `stiver serve`. Starts no upstream; a test brings its fakes.
//!
//! Invariants: a [`TestGateway`] must be finished; finishing waits for every open call, then fails if
//! money is still held, a row is not in the database, or a team's concurrency slot is taken.

pub mod answer;
pub mod process;
pub mod setup;
pub mod stack;

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::Value;
use stiver::gateway::Gateway;
use stiver::ledger::budget::Window;
use stiver::ledger::entry::Entry;
use stiver::money::NanoUsd;
use stiver::server::{routes, serve};
use stiver::team::TeamName;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::answer::{Answer, OpenAnswer, chat, chat_stream, error_of, nano_usd};
pub use self::process::Process;
pub use self::setup::{
    Folder, NOW_MS, Setup, default_prices, endpoints, have_models, key_of, price, route, team, upstream,
    upstream_at,
};

pub const CHAT: &str = "/v1/chat/completions";
pub const COMPLETIONS: &str = "/v1/completions";
pub const EMBEDDINGS: &str = "/v1/embeddings";

/// Far beyond what anything takes, so that only a hang runs into it.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct TestGateway {
    gateway: Arc<Gateway>,
    folder: Folder,
    url: String,
    client: reqwest::Client,
    stop: CancellationToken,
    server: TaskTracker,
    is_finished: bool,
}

impl TestGateway {
    /// Starts with the default prices and without models.
    pub async fn start(toml: &str) -> Self {
        Setup::of(toml).start().await
    }

    async fn serve(gateway: Arc<Gateway>, folder: Folder) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port can be bound");
        let address = listener.local_addr().expect("a bound socket has an address");
        let config = gateway.live().config.server.clone();
        let app = routes(Arc::clone(&gateway), &config);
        let (stop, server) = (CancellationToken::new(), TaskTracker::new());
        let stopped = stop.clone();
        server.spawn(async move { serve(listener, app, &config, stopped).await });
        server.close();
        let client = plain_client();
        Self { gateway, folder, url: format!("http://{address}"), client, stop, server, is_finished: false }
    }

    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// What outlives the gateway: the book, the journal and the semantic entries.
    pub fn folder(&self) -> Folder {
        Arc::clone(&self.folder)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[]).await
    }

    pub async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.client.get(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Answer::read(request.send().await.expect("the gateway answers")).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body, &[]).await
    }

    /// Posts with more headers.
    pub async fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        self.post_text(path, body.to_string(), headers).await
    }

    pub async fn delete_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send_by(Method::DELETE, path, None, headers).await
    }

    /// Sends by any method.
    pub async fn send_by(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        Answer::read(request.send().await.expect("the gateway answers")).await
    }

    /// Posts a body byte for byte.
    pub async fn post_text(&self, path: &str, body: String, headers: &[(&str, &str)]) -> Answer {
        Answer::read(self.send(path, body, headers).await).await
    }

    /// Posts and reads the head only; dropping what comes back hangs up.
    pub async fn open(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> OpenAnswer {
        OpenAnswer::new(self.send(path, body.to_string(), headers).await)
    }

    async fn send(&self, path: &str, body: String, headers: &[(&str, &str)]) -> reqwest::Response {
        send(&self.client, &format!("{}{path}", self.url), body, headers).await
    }

    /// Every row of the book so far, in no particular order.
    pub async fn rows(&self) -> Vec<Entry> {
        self.gateway.ledger.flushed().await;
        self.gateway.ledger.reports().recent(100_000, None).await.expect("the book can be read")
    }

    /// The row of the call that was answered so.
    pub async fn row_of(&self, answer: &Answer) -> Entry {
        let id = answer.header("x-request-id");
        let found = self.rows().await.into_iter().find(|row| row.id.to_string() == id);
        found.unwrap_or_else(|| panic!("the book has no row {id}"))
    }

    /// Waits for what has no signal of its own.
    pub async fn eventually(&self, what: &str, holds: impl AsyncFn(&Gateway) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !holds(&self.gateway).await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "in vain: {what}");
    }

    /// Waits until answers given so far can be found by likeness.
    pub async fn until_entries(&self, n_entries: u64) {
        let has_entries =
            async |gateway: &Gateway| gateway.cache.stats().await.n_semantic_entries == Some(n_entries);
        self.eventually("the semantic cache has its entries", has_entries).await;
    }

    /// Does what SIGTERM does to the server: nothing new is accepted, open calls go on.
    pub fn stop_accepting(&self) {
        self.stop.cancel();
    }

    /// Lets every open call end, checks that nothing was left behind, and gives the rows of the book.
    pub async fn finish(mut self) -> Vec<Entry> {
        self.is_finished = true;
        self.stop.cancel();
        let served = tokio::time::timeout(PATIENCE, self.server.wait()).await;
        assert!(served.is_ok(), "a call is still open");
        let rows = self.rows().await;
        self.check_nothing_is_held();
        self.gateway.close().await.expect("the book closes with every row written");
        assert_eq!(self.journal_files(), Vec::<String>::new(), "the journal is not empty");
        rows
    }

    /// For a gateway whose database or journal was broken on purpose: money and slots are checked only.
    pub async fn abandon(mut self) {
        self.is_finished = true;
        self.stop.cancel();
        let served = tokio::time::timeout(PATIENCE, self.server.wait()).await;
        assert!(served.is_ok(), "a call is still open");
        self.check_nothing_is_held();
        // How the book closes without its disk is not what such a test is about.
        let _ = self.gateway.close().await;
    }

    fn check_nothing_is_held(&self) {
        let ring = self.gateway.live().key_ring();
        let mut teams: Vec<TeamName> = ring.teams().map(|team| team.name.clone()).collect();
        teams.push(TeamName::from("default"));
        for team in teams {
            for window in Window::ALL {
                let held = self.gateway.ledger.balance(&team, window).held;
                assert_eq!(held, NanoUsd::ZERO, "team `{team}` has money held per {window}");
            }
            assert_eq!(self.gateway.limiter.in_flight(&team), 0, "team `{team}` has a slot taken");
        }
    }

    fn journal_files(&self) -> Vec<String> {
        let files = std::fs::read_dir(&self.gateway.live().config.ledger.journal_dir);
        let names = files.expect("the journal has a folder").filter_map(|file| Some(file.ok()?.file_name()));
        names.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".wal")).collect()
    }
}

async fn send(
    client: &reqwest::Client,
    url: &str,
    body: String,
    headers: &[(&str, &str)],
) -> reqwest::Response {
    let mut request = client.post(url).header("content-type", "application/json").body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let sent = tokio::time::timeout(PATIENCE, request.send()).await;
    sent.expect("the gateway answers in time").expect("the gateway answers")
}

fn plain_client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("a plain client can be built")
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if !self.is_finished && !std::thread::panicking() {
            panic!("a test ended without `finish`, so nobody checked what it left behind");
        }
    }
}
